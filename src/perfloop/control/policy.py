"""How often and how far a law may move its number."""

from __future__ import annotations

from typing import Final, Self

import msgspec

from perfloop.model.value import Value, require


class AdjustmentPolicy(Value, frozen=True, kw_only=True):
    """The bounds of one number and the pace of its law."""

    lowest: int = 1
    highest: int = 256
    interval_s: float = 0.1
    """How long a Window is, so how often the law is asked; it gathers over as many as it needs."""
    calls: int = 16
    """How many calls end in a Window at least; with slow calls it becomes as long as that takes."""
    cool_down_s: float = 3.0
    """How long a number that was found is left alone before a step beside it is tried again."""
    smoothing: float = 0.2
    """Weight of the newest Window in averages, in (0, 1]; for the laws that average."""

    def __post_init__(self) -> None:
        require(
            1 <= self.lowest <= self.highest, f"bounds of {self.lowest} to {self.highest}; the least is 1"
        )
        require(self.interval_s > 0, f"interval_s is {self.interval_s}; it must be above 0")
        require(self.calls >= 1, f"calls is {self.calls}; a Window without any says nothing")
        require(self.cool_down_s >= 0, f"cool_down_s is {self.cool_down_s}; it must not be below 0")
        require(0 < self.smoothing <= 1, f"smoothing is {self.smoothing}; it must be above 0 and at most 1")

    def clamp(self, number: float) -> int:
        """The nearest whole number within the bounds."""
        return max(self.lowest, min(self.highest, round(number)))

    def capped(self, highest: int) -> Self:
        """The same with a highest that may only be lower."""
        capped = max(1, min(self.highest, highest))
        return msgspec.structs.replace(self, lowest=min(self.lowest, capped), highest=capped)


SECONDS: Final = AdjustmentPolicy(interval_s=1.0)
"""The pace of laws that move with each Window."""
