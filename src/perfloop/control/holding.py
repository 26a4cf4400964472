"""While a limit holds: whether the sink changed, and when to look beside it again."""

from __future__ import annotations

import enum
import math
import statistics
from collections import deque
from typing import Final

from perfloop.control.bracket import Direction
from perfloop.control.estimate import log_rate
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.window import Window

RECENT: Final = 3
"""Windows whose median is held against those before."""
REMEMBERED: Final = 50
LEAST_BEFORE: Final = 5
LEAST_SHIFT: Final = 0.15
"""Of the logarithm: smaller shifts are left to the looks beside the limit."""
SHIFT_ERRORS: Final = 5.0
"""Standard deviations between the medians."""
PAUSE_OVER_LOOK: Final = 3.0
"""A look is followed by a pause of at least this many times its length."""
FIRST_PAUSE: Final = 1 / 3
"""Of the cool-down, before the first look after a move: what stalls made look bad is tried again soon."""
DOWNWARD: Final = frozenset({2, 4, 10})
RARELY: Final = 27
"""Looks downward only mend a wrong turn: they are the 2nd, 4th and 10th after a move, then each 27th."""


class Shift(enum.Enum):
    """How the throughput at an unmoved limit changed."""

    FELL = "fell"
    ROSE = "rose"


class Holding:
    """Watches one limit. A sink that lost capacity shows by itself, one that gained only to who looks."""

    __slots__ = ("_limit", "_look_at_s", "_look_began_s", "_looks", "_policy", "_rates")

    def __init__(self, policy: AdjustmentPolicy) -> None:
        self._policy = policy
        self._rates: deque[float] = deque(maxlen=REMEMBERED)
        self._limit = 0
        self._looks = 0
        self._look_began_s: float | None = None
        self._look_at_s = math.inf

    def begin(self, now_s: float, limit: int) -> None:
        """A search or a look beside the limit ended."""
        if limit != self._limit:
            self._limit, self._looks = limit, 0
            self._rates.clear()
        look_s = now_s - self._look_began_s if self._look_began_s is not None else 0.0
        self._look_began_s = None
        share = 1.0 if self._looks else FIRST_PAUSE
        self._look_at_s = now_s + max(share * self._policy.cool_down_s, PAUSE_OVER_LOOK * look_s)

    def forget(self) -> None:
        """Something else was moved: what was seen holds no longer."""
        self._rates.clear()

    def see(self, window: Window) -> Shift | None:
        """Take one telling Window; whether the throughput is another than before."""
        self._rates.append(log_rate(window))
        rates = list(self._rates)
        before, recent = rates[:-RECENT], rates[-RECENT:]
        if len(before) < LEAST_BEFORE:
            return None
        middle = statistics.median(before)
        deviation = 1.4826 * statistics.median(abs(rate - middle) for rate in before)
        shift = statistics.median(recent) - middle
        if abs(shift) < max(LEAST_SHIFT, SHIFT_ERRORS * deviation * math.sqrt(math.pi / 2 / RECENT)):
            return None
        self._rates.clear()
        self._limit = 0
        return Shift.FELL if shift < 0 else Shift.ROSE

    def look(self, now_s: float) -> Direction | None:
        """The side to look at now, if it is time."""
        if now_s < self._look_at_s:
            return None
        self._looks += 1
        self._look_began_s = now_s
        if self._limit > self._policy.lowest and (self._looks in DOWNWARD or self._looks % RARELY == 0):
            return Direction.DOWN
        if self._limit < self._policy.highest:
            return Direction.UP
        self.begin(now_s, self._limit)
        return None
