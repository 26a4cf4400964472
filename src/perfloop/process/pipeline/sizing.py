"""How many items a worker takes at once: handing over must be cheap, and nobody waits long. Pure."""

from __future__ import annotations

from typing import Final

LARGEST_STEP: Final = 8
"""What few calls said is trusted this far."""
SAME: Final = 2.0
"""The size is left alone until it is off by this factor: laws compare latencies of calls of one size."""
WEIGHT: Final = 0.1
"""Of the newest call, in the average time of an item."""
COSTLY: Final = 0.05
"""Share of a call's time that handing it over may take before calls become longer than they aim to be."""
LONGEST: Final = 5.0
"""Times the aim, beyond which they do not."""


class ChunkSize:
    """Aims at calls of `target_s`, by an item's average time; at longer ones where handing over is slow."""

    __slots__ = ("_highest", "_item_s", "_overhead_s", "_target_s", "size")

    def __init__(self, target_s: float, highest: int) -> None:
        self.size = 1
        self._target_s = target_s
        self._highest = highest
        self._item_s: float | None = None
        self._overhead_s = 0.0

    def observe(self, items: int, took_s: float, overhead_s: float = 0.0) -> None:
        """A call with so many items took so long, and handing it over and back so much more."""
        seen_s = took_s / items
        self._item_s = seen_s if self._item_s is None else self._item_s + WEIGHT * (seen_s - self._item_s)
        self._overhead_s += WEIGHT * (overhead_s - self._overhead_s)
        target_s = min(LONGEST * self._target_s, max(self._target_s, self._overhead_s / COSTLY))
        wanted = self._highest
        if self._item_s * self._highest > target_s:
            wanted = max(1, int(target_s / self._item_s))
        if wanted == self._highest and self.size != wanted and wanted <= LARGEST_STEP * self.size:
            self.size = wanted
        elif not self.size / SAME < wanted < self.size * SAME:
            self.size = max(1, min(wanted, LARGEST_STEP * self.size))
