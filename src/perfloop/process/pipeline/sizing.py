"""How many items a worker takes at once: handing over must be cheap, and nobody waits long. Pure."""

from __future__ import annotations

from typing import Final

LARGEST_STEP: Final = 8
"""What few calls said is trusted this far."""
SAME: Final = 2.0
"""The size is left alone until it is off by this factor: laws compare latencies of calls of one size."""
WEIGHT: Final = 0.1
"""Of the newest call, in the average time of an item."""


class ChunkSize:
    """Aims at calls of `target_s`, by the average time an item takes."""

    __slots__ = ("_highest", "_item_s", "_target_s", "size")

    def __init__(self, target_s: float, highest: int) -> None:
        self.size = 1
        self._target_s = target_s
        self._highest = highest
        self._item_s: float | None = None

    def observe(self, items: int, took_s: float) -> None:
        """A call with so many items took so long."""
        seen_s = took_s / items
        self._item_s = seen_s if self._item_s is None else self._item_s + WEIGHT * (seen_s - self._item_s)
        wanted = self._highest
        if self._item_s * self._highest > self._target_s:
            wanted = max(1, int(self._target_s / self._item_s))
        if wanted == self._highest and self.size != wanted and wanted <= LARGEST_STEP * self.size:
            self.size = wanted
        elif not self.size / SAME < wanted < self.size * SAME:
            self.size = max(1, min(wanted, LARGEST_STEP * self.size))
