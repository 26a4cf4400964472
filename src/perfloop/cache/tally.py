"""What happened to the keys of one template, or to all keys where nobody asks by template.

Each entry knows its tally, so that a hit is counted for its template at the price of counting it at all: one
step of an iterator. The iterator is of limited length. When it has ended the next hit is a sample, told with
the key, and a new one begins, of a length that is drawn. In between a hit costs nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import repeat
from math import inf
from operator import length_hint
from typing import Final

from perfloop.cache.entry import Entry
from perfloop.metrics.counter import Counter

ENDLESS: Final = sys.maxsize


class Tally:
    """Counts of one template. `misses` and `stale` count anywhere, all but `hits` under the tier's lock."""

    __slots__ = (
        "_run",
        "cost",
        "entries",
        "evicted_age_s",
        "evicted_unread",
        "evictions",
        "expirations",
        "expired_unread",
        "hits",
        "invalidated",
        "invalidated_age_s",
        "invalidated_unread",
        "misses",
        "renewals",
        "stale",
        "template",
        "unsampled",
    )

    def __init__(self, template: str = "", length: int = ENDLESS) -> None:
        self.template = template
        self.hits: Iterator[None] = repeat(None, length)
        """One step for each, by ``for _ in tally.hits: break``; where it has ended, `Tallies.sampled`."""
        # With what was before it and its length, in one piece: who reads meanwhile finds one state.
        self._run = (0, length, self.hits)
        self.unsampled = Counter()
        """Hits for which there was no step, and no time to begin again."""
        self.misses = Counter()
        self.stale = Counter()
        self.entries = self.cost = 0
        self.evictions = self.evicted_unread = 0
        self.expirations = self.expired_unread = 0
        self.invalidated = self.invalidated_unread = self.renewals = 0
        self.evicted_age_s = self.invalidated_age_s = 0.0

    @property
    def hit_count(self) -> int:
        """All hits so far."""
        before, length, hits = self._run
        return before + length - length_hint(hits) + int(self.unsampled.value)

    @property
    def requests(self) -> int:
        """All that were answered, with or without a value."""
        return self.hit_count + int(self.misses.value + self.stale.value)

    def begin_again(self, length: int) -> int:
        """Replace an iterator that has ended; returns how many hits it was, or 0 if another was faster."""
        before, ended, hits = self._run
        if length_hint(hits):
            return 0
        following = repeat(None, length)
        self._run = (before + ended, length, following)
        self.hits = following
        return ended

    def stored(self, entry: Entry) -> None:
        self.entries += 1
        self.cost += entry.cost

    def evicted(self, entry: Entry, now_s: float) -> None:
        """It went for want of room."""
        self.entries -= 1  # in place of calls: whatever comes in when the tier is full puts one out
        self.cost -= entry.cost
        self.evictions += 1
        if entry.visits == 0 and not entry.was_visited:
            self.evicted_unread += 1
        if entry.life_s != inf:
            self.evicted_age_s += now_s - entry.fresh_until_s + entry.life_s

    def expired(self, entry: Entry) -> None:
        """It was of no use any more."""
        self._left(entry)
        self.expirations += 1
        self.expired_unread += entry.is_unread

    def invalidate(self, entry: Entry, now_s: float) -> None:
        """Its key or a tag of it was invalidated."""
        self._left(entry)
        self.invalidated += 1
        self.invalidated_unread += entry.is_unread
        self.invalidated_age_s += entry.age_s(now_s)

    def renewed(self, entry: Entry) -> None:
        """A later value takes its place."""
        self._left(entry)
        self.renewals += 1

    def empty(self) -> None:
        """All entries are gone, and nobody knows how; in a forked child."""
        self.entries = self.cost = 0

    def _left(self, entry: Entry) -> None:
        self.entries -= 1
        self.cost -= entry.cost
