"""What the memory tier holds: entries in their queues, the cells of their tags, the ghosts of other sizes.

Pure; the tier that owns it holds its lock around every call.
"""

from __future__ import annotations

from typing import Final

from perfloop.cache.entry import Entry, entry_bytes
from perfloop.cache.ghosts import GhostCaches, sampling_rate
from perfloop.cache.object_size import object_bytes
from perfloop.cache.policy import CachePolicy
from perfloop.cache.s3fifo import S3Fifo
from perfloop.cache.tag_cells import TagCells
from perfloop.cache.tallies import Tallies

USUAL_ENTRY_BYTES: Final = 2_000
"""How many entries a number of bytes may hold, for the size of the ghosts' sample."""


class Shelf:
    """Bounded by entries or by bytes: the entries' costs are what counts."""

    __slots__ = ("by_bytes", "cells", "ghosts", "queues", "tallies", "too_large")

    def __init__(self, limit: int, *, by_bytes: bool, with_ghosts: bool, tallies: Tallies) -> None:
        self.tallies = tallies
        self.queues: S3Fifo[Entry] = S3Fifo(limit)
        self.cells = TagCells()
        rate = sampling_rate(max(1, limit // USUAL_ENTRY_BYTES) if by_bytes else limit)
        self.ghosts = GhostCaches(limit, self.cells, rate, self._wake) if with_ghosts else None
        self.by_bytes = by_bytes
        self.too_large = 0

    def entry(
        self, key: str, value: object, policy: CachePolicy, tags: tuple[str, ...], size_bytes: int | None
    ) -> Entry:
        """A new entry, without its times; needs no lock."""
        entry = Entry(key, value, policy, self.tallies.of(key))
        entry.sampled = self.samples(key)
        if self.by_bytes:
            entry.cost = entry_bytes(key, object_bytes(value) if size_bytes is None else size_bytes, tags)
        return entry

    def samples(self, key: str) -> bool:
        """Whether the ghosts have to hear of each request for this key."""
        return self.ghosts is not None and self.ghosts.samples(key)

    def find(self, key: str) -> Entry | None:
        return self.queues.nodes.get(key)

    def tags_of(self, key: str) -> tuple[str, ...]:
        """Of what is kept for a key."""
        entry = self.find(key)
        return () if entry is None else entry.tags

    def put(self, entry: Entry, tags: tuple[str, ...], now_s: float, oldest_birth: int | None) -> list[Entry]:
        """Take an entry in, in the place of that with its key; returns what went for it.

        An entry without a life only takes the old one out; one that is too large goes itself.
        """
        old = self.find(entry.key)
        if entry.life_s <= 0:
            return [] if old is None else [self.renew(old, oldest_birth)]
        entry.cells = self.cells.join(tags)
        gone = self.queues.admit(entry) if old is None else self.queues.replace(entry)
        if entry.queue is None:
            self.too_large += 1
        else:
            entry.tally.stored(entry)
            for left in gone:
                left.tally.evicted(left, now_s)
                if self.tallies.compares:
                    self.tallies.forget(left.key)
            if entry.sampled and self.ghosts is not None:
                self.ghosts.admit(entry, oldest_birth)
        if old is not None:
            old.tally.renewed(old)
            gone.append(old)
        for left in gone:
            self.cells.leave(left.cells, oldest_birth)
        return gone

    def renew(self, entry: Entry, oldest_birth: int | None) -> Entry:
        """Take an entry out for a later value that is not kept."""
        entry.tally.renewed(entry)
        return self._remove(entry, oldest_birth)

    def expire(self, entry: Entry, oldest_birth: int | None) -> Entry:
        """Take an entry out that is past all use; the ghosts see to theirs when it is asked for."""
        entry.tally.expired(entry)
        return self._remove(entry, oldest_birth)

    def drop(self, entry: Entry, now_s: float, oldest_birth: int | None) -> Entry:
        """Take an entry out that is invalid; the ghosts see to theirs."""
        entry.tally.invalidate(entry, now_s)
        self.tallies.forget(entry.key)
        return self._remove(entry, oldest_birth)

    def _remove(self, entry: Entry, oldest_birth: int | None) -> Entry:
        self.queues.remove(entry)
        self.cells.leave(entry.cells, oldest_birth)
        return entry

    def ask_ghosts(
        self, key: str, served: Entry | None, now_s: float, cleared: int, oldest_birth: int | None
    ) -> None:
        """Count a request for a sampled key, for which this entry was served, or none."""
        if self.ghosts is None:
            return
        self.ghosts.request(key, now_s, cleared, oldest_birth)
        # What went from the queues in the meantime may have been invalidated.
        if served is not None and served.queue is not None:
            self.ghosts.admit(served, oldest_birth)
            if self.ghosts.is_settled(key):
                served.rest()

    def _wake(self, key: str) -> None:
        entry = self.find(key)
        if entry is not None:
            entry.tell_hits()

    def invalidate(self, key: str, now_s: float, oldest_birth: int | None) -> Entry | None:
        """Take a key out everywhere; returns its entry, if there was one."""
        entry = self.find(key)
        if self.samples(key) and self.ghosts is not None:
            self.ghosts.remove(key, oldest_birth)
        return None if entry is None else self.drop(entry, now_s, oldest_birth)
