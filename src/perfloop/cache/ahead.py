"""Entries that were loaded ahead and whose end is not known yet.

The memory tier calls nobody when an entry leaves, since it holds its lock then. So the entries are looked
at instead, a few with each load: one that left its queue before anybody asked for it was wasted.
"""

from __future__ import annotations

from collections import deque

from perfloop.cache.entry import Entry


class AheadEntries:
    """A queue of entries; safe for threads, since each step on the deque is one."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Watch an entry that was just stored."""
        self._entries.append(entry)

    def wasted(self, most: int) -> int:
        """Look at up to `most` entries, longest not looked at first; how many of them left without use."""
        wasted = 0
        for _ in range(min(most, len(self._entries))):
            try:
                entry = self._entries.popleft()
            except IndexError:  # another thread was faster
                break
            if entry.ahead is None:
                continue
            if entry.queue is None:
                wasted += 1
            else:
                self._entries.append(entry)
        return wasted
