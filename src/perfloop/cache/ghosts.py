"""What another capacity would do for the hit ratio, measured on a sample of the keys while the cache runs.

Source: Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC Construction with SHARDS", FAST 2015, and their
"Cache Modeling and Optimization using Miniature Simulations", ATC 2017. A key belongs to the sample by its
hash, so that all requests for it do or none. A cache of `rate` times the capacity that sees only the sample
misses like the whole one. Misses are held against the requests that the sample should have had: whether the
few hottest keys fall into it then does not matter.

Each ghost cache is an S3-FIFO without values. What it holds ends as in the tier, by time, key and tag, as
otherwise more room would seem to help where short lives are the limit. Pure; the tier that owns it holds its
lock around every call.

A hit changes nothing in a ghost cache that counts as many visits of the key as it ever does. Once that is so
in all of them, the tier's hits of the key need not be told, until one of them takes a visit away: it then
says so by `wake`. What is told is bounded by what the ghosts evict, then, and not by how hot a key is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from perfloop.cache.entry import Entry
from perfloop.cache.s3fifo import MOST_VISITS, Node, S3Fifo
from perfloop.cache.tag_cells import TagCell, TagCells
from perfloop.model.value import Value

CAPACITY_RATIOS: Final = (0.5, 1.0, 2.0, 4.0)
SAMPLED_ENTRIES: Final = 1024
"""Entries of the sample at the capacity that the cache has: the ghosts hold 7.5 times as many."""
HIGHEST_RATE: Final = 0.125
"""A hit on a sampled key that is told costs some microseconds more, a miss some tens."""
HASHES: Final = 1 << 32
"""`spatial_hash` is below this."""
_GOLDEN: Final = 0x9E3779B97F4A7C15


class CapacityEstimate(Value, frozen=True, kw_only=True):
    """What one capacity would do, since the tier was made."""

    capacity_ratio: float
    """Of the capacity that the tier has."""
    capacity: int
    """In the tier's unit, entries or bytes."""
    hit_ratio: float
    gain_points: float
    """Points of hit ratio more than the estimate for the capacity that it has; negative for fewer."""
    sampled_misses: int
    """What the estimate rests on: below some hundreds it says little."""


class GhostCaches:
    """One ghost cache for each of CAPACITY_RATIOS.

    Args:
        capacity: of the tier, in entries or bytes.
        cells: the tier's.
        rate: share of the keys that are sampled, in (0, 1].
        wake: is called with a key of which hits have to be told again.
    """

    def __init__(self, capacity: int, cells: TagCells, rate: float, wake: Callable[[str], None]) -> None:
        self.rate = rate
        self._capacity = capacity
        self._threshold = int(rate * HASHES)
        self._ghosts = [
            _GhostCache(max(1, int(capacity * rate * ratio)), cells, wake) for ratio in CAPACITY_RATIOS
        ]

    def samples(self, key: str) -> bool:
        """Whether the key belongs to the sample, the same in every process."""
        return spatial_hash(key) < self._threshold

    def request(self, key: str, now_s: float, cleared: int, oldest_birth: int | None) -> None:
        """Count a request for a sampled key as a hit or a miss in each ghost."""
        for ghost in self._ghosts:
            ghost.request(key, now_s, cleared, oldest_birth)

    def is_settled(self, key: str) -> bool:
        """Whether hits of this key change nothing in any ghost for now."""
        return all(ghost.is_settled(key) for ghost in self._ghosts)

    def admit(self, entry: Entry, oldest_birth: int | None) -> None:
        """Take a sampled entry, which the tier stored or served, into the ghosts that lack it."""
        for ghost in self._ghosts:
            ghost.admit(entry, oldest_birth)

    def remove(self, key: str, oldest_birth: int | None) -> None:
        """Forget a key that was invalidated."""
        for ghost in self._ghosts:
            ghost.remove(key, oldest_birth)

    def estimates(self, requests: int) -> tuple[CapacityEstimate, ...]:
        """For each capacity, given all requests that the tier had; none before the first."""
        expected = requests * self.rate
        if expected < 1:
            return ()
        hit_ratios = [max(0.0, 1.0 - ghost.misses / expected) for ghost in self._ghosts]
        own = hit_ratios[CAPACITY_RATIOS.index(1.0)]
        return tuple(
            CapacityEstimate(
                capacity_ratio=ratio,
                capacity=int(self._capacity * ratio),
                hit_ratio=hit_ratio,
                gain_points=100 * (hit_ratio - own),
                sampled_misses=ghost.misses,
            )
            for ratio, hit_ratio, ghost in zip(CAPACITY_RATIOS, hit_ratios, self._ghosts, strict=True)
        )


def spatial_hash(key: str) -> int:
    """Where a key lies, evenly, the same in every process: below a threshold it belongs to a sample."""
    mixed = zlib.crc32(key.encode("utf-8", "surrogatepass")) * _GOLDEN
    return (mixed >> 32) & (HASHES - 1)


def sampling_rate(capacity: int) -> float:
    """The share of keys that gives about SAMPLED_ENTRIES in a tier of so many entries."""
    return min(HIGHEST_RATE, SAMPLED_ENTRIES / capacity)


class _GhostEntry(Node):
    __slots__ = ("_left", "_name", "_wake", "born", "cells", "fresh_until_s")

    born: int
    cells: tuple[TagCell, ...]
    fresh_until_s: float

    def __init__(self, key: str, cost: int, wake: Callable[[str], None]) -> None:
        self._left = 0
        self._wake = wake
        self._name = key
        super().__init__(key, cost)

    @property
    def visits(self) -> int:
        return self._left

    @visits.setter
    def visits(self, visits: int) -> None:
        if visits < self._left:
            self._wake(self._name)
        self._left = visits


class _GhostCache:
    __slots__ = ("_cells", "_queues", "_wake", "misses")

    def __init__(self, capacity: int, cells: TagCells, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._queues: S3Fifo[_GhostEntry] = S3Fifo(capacity)
        self._cells = cells
        self.misses = 0

    def request(self, key: str, now_s: float, cleared: int, oldest_birth: int | None) -> None:
        found = self._queues.nodes.get(key)
        if found is None:
            self.misses += 1
        elif now_s >= found.fresh_until_s or not _holds(found, cleared):
            self.misses += 1
            self.remove(key, oldest_birth)
        elif found.visits < MOST_VISITS:
            found.visits += 1

    def is_settled(self, key: str) -> bool:
        found = self._queues.nodes.get(key)
        return found is not None and found.visits == MOST_VISITS

    def admit(self, entry: Entry, oldest_birth: int | None) -> None:
        queues = self._queues
        found = queues.nodes.get(entry.key)
        if found is not None and found.born == entry.born and found.fresh_until_s == entry.fresh_until_s:
            return
        ghost = _GhostEntry(entry.key, entry.cost, self._wake)
        ghost.born = entry.born
        ghost.fresh_until_s = entry.fresh_until_s
        ghost.cells = self._cells.join(entry.tags)
        gone = queues.admit(ghost) if found is None else [*queues.replace(ghost), found]
        for left in gone:
            self._cells.leave(left.cells, oldest_birth)

    def remove(self, key: str, oldest_birth: int | None) -> None:
        found = self._queues.nodes.get(key)
        if found is not None:
            self._queues.remove(found)
            self._cells.leave(found.cells, oldest_birth)


def _holds(ghost: _GhostEntry, cleared: int) -> bool:
    return ghost.born >= cleared and all(cell.number <= ghost.born for cell in ghost.cells)
