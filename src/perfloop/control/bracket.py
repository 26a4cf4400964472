"""Where to look next for the largest limit that still pays: doubling, then halves."""

from __future__ import annotations

import enum
from typing import Final

from perfloop.control.policy import AdjustmentPolicy

KNEE: Final = 0.5
"""Per cent more items for one per cent more calls from which on a larger limit pays."""
STRAIGHT: Final = 0.8
"""A step that brought less than this may have gone over the knee."""
RESOLUTION: Final = 0.03
"""Of the limit: nearer than this, or than 1, nothing is looked for."""


class Direction(enum.Enum):
    """Where the search began to look."""

    UP = "up"
    DOWN = "down"


class Bracket:
    """`anchor` is the best limit so far, `ceiling` the least that is known not to pay.

    Steps double as long as they are accepted, up to the anchor itself upward and a third of it downward.
    Upward that is twice the calls, which noise hides far less than half as many again. Once both ends are
    known the gap is halved. Where the last step up paid but may have gone over the knee, it is looked at from
    the other side.
    """

    __slots__ = ("_direction", "_floor", "_policy", "_step", "anchor", "ceiling")

    def __init__(self, policy: AdjustmentPolicy, anchor: int, direction: Direction, step: int) -> None:
        self._policy = policy
        self._direction = direction
        self._step = step
        self._floor: int | None = None
        self.anchor = anchor
        self.ceiling: int | None = None

    def propose(self) -> int | None:
        """The limit to try next; None where the search is over."""
        if self._direction is Direction.DOWN:
            lower = max(self._policy.lowest, self.anchor - min(self._step, max(1, self.anchor // 3)))
            if lower < self.anchor:
                return lower
            self._turn_up()
        if self.ceiling is None:
            upper = min(self._policy.highest, self.anchor + min(self._step, self.anchor))
            return upper if upper > self.anchor else None
        if self.ceiling - self.anchor <= resolution(self.anchor):
            return self._look_back()
        return (self.anchor + self.ceiling) // 2

    def judge(self, trial: int, gain: float) -> None:
        """Take what came of a trial: the elasticity between trial and anchor."""
        pays = gain >= KNEE
        if self._direction is Direction.DOWN:
            if pays:
                self._turn_up()
            else:
                self.ceiling, self.anchor = self.anchor, trial
                self._step *= 2
        elif pays:
            self._floor = self.anchor if gain < STRAIGHT else None
            self.anchor = trial
            self._step *= 2
        else:
            self.ceiling = trial

    def _look_back(self) -> int | None:
        floor, self._floor = self._floor, None
        if floor is None or self.anchor - floor <= resolution(self.anchor):
            return None
        self._direction = Direction.DOWN
        self._step = max(1, (self.anchor - floor) // 2)
        return max(floor, self.anchor - self._step)

    def _turn_up(self) -> None:
        self._direction = Direction.UP
        if self.ceiling is None:
            self.ceiling = self.anchor


def resolution(limit: int) -> int:
    """The least difference between limits that matters."""
    return max(1, round(RESOLUTION * limit))
