"""What the tier in the process tells of itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import repeat
from operator import length_hint
from typing import Final

from perfloop.cache.entry import Entry, entry_bytes
from perfloop.cache.object_size import object_bytes
from perfloop.cache.policy import Freshness
from perfloop.cache.shelf import Shelf
from perfloop.metrics.counter import Counter
from perfloop.model.value import Value

MEASURED_ENTRIES: Final = 100
"""Where entries bound the tier, the statistics measure so many of them and take the others to be alike."""


class MemoryStatistics(Value, frozen=True, kw_only=True):
    """What one tier did since it was made, and what it holds."""

    hits: int
    misses: int
    stale: int
    """Found past its life or unchecked: neither a hit nor a miss."""
    evictions: int
    expirations: int
    invalidated: int
    """Entries that went because their key or a tag of them was invalidated."""
    refused: int
    """Stores that an invalidation during the load overtook."""
    too_large: int
    """Stores of a value that is larger than the whole tier."""
    entries: int
    size_bytes: int
    """Of the entries with their keys, tags and ghosts; from a sample where entries bound the tier."""
    tags: int
    ghosts: int
    flights: int


class MemoryCounts:
    """What happened since the tier was made; all but hits, misses and stale are counted under its lock."""

    __slots__ = ("expirations", "hits", "invalidated", "misses", "refused", "stale")

    def __init__(self) -> None:
        self.hits: Iterator[None] = repeat(None, sys.maxsize)
        """One step for each hit, by ``for _ in hits: break``: the path of a hit has no time for a call."""
        self.misses = Counter()
        self.stale = Counter()
        self.expirations = self.invalidated = self.refused = 0

    def found(self, freshness: Freshness) -> None:
        """Count one request by what was found for it."""
        if freshness is Freshness.FRESH or freshness is Freshness.DUE:
            for _ in self.hits:
                break
        elif freshness is Freshness.EXPIRED:
            self.misses.inc()
        else:
            self.stale.inc()

    @property
    def requests(self) -> int:
        """All that were answered, with or without a value."""
        return self._hits_so_far + int(self.misses.value + self.stale.value)

    @property
    def _hits_so_far(self) -> int:
        return sys.maxsize - length_hint(self.hits)

    def statistics(self, shelf: Shelf, flights: int) -> MemoryStatistics:
        """The counts with what the shelf holds now."""
        entries = list(shelf.queues.nodes.values())
        return MemoryStatistics(
            hits=self._hits_so_far,
            misses=int(self.misses.value),
            stale=int(self.stale.value),
            evictions=shelf.evictions,
            expirations=self.expirations,
            invalidated=self.invalidated,
            refused=self.refused,
            too_large=shelf.too_large,
            entries=len(entries),
            size_bytes=shelf.queues.cost if shelf.by_bytes else _estimated_bytes(entries),
            tags=len(shelf.cells),
            ghosts=shelf.queues.ghosts,
            flights=flights,
        )


def _estimated_bytes(entries: list[Entry]) -> int:
    if not entries:
        return 0
    sample = entries[:: max(1, len(entries) // MEASURED_ENTRIES)]
    sizes = [entry_bytes(entry.key, object_bytes(entry.value), entry.tags) for entry in sample]
    return sum(sizes) * len(entries) // len(sizes)
