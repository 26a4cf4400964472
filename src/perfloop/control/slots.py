"""How many calls at once in open loop: enough that items need not wait for a free one.

In open loop as much comes out as comes in, whatever the limit, so that a law of throughput sees nothing. What
too few slots cost is time: so the limit grows by half while calls are late and items are over their budget,
and a step after which they took no less in two Windows is taken back: the first may hold what had queued up
before, or a moment in which the host stood still. A slot that is there and not used costs nothing, and
a sink that is worse off with more of them shows it at once. Pure: Windows come in.
"""

from __future__ import annotations

import math
from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob, Outcome
from perfloop.control.window import Window

STEP: Final = 1.5
GAIN: Final = 0.95
"""Of the 99th percentile before, which a step has to come below."""
CEILING_S: Final = 30.0
"""How long no step is tried after one that was taken back."""


class Slots:
    """Takes Windows of items' times, as `Linger` does."""

    __slots__ = ("_before", "_budget_s", "_closed_until_s", "_has_doubt", "_highest", "limit", "log")

    def __init__(self, p99_budget_s: float, *, highest: int) -> None:
        self.limit = 1
        self.log = AdjustmentLog()
        self._budget_s = p99_budget_s
        self._highest = highest
        self._before: tuple[int, float] | None = None
        self._has_doubt = False
        self._closed_until_s = -math.inf

    @property
    def is_on_trial(self) -> bool:
        """Whether a step was taken of which it is not known yet what it brought."""
        return self._before is not None

    def update(self, window: Window, *, is_late: bool) -> Adjustment | None:
        """The Adjustment, if the limit moved. `is_late` says that most calls waited for a slot."""
        p99_s = window.latency_p99_s
        if window.latencies is None:
            return None
        before, has_doubt = self._before, self._has_doubt
        self._has_doubt = before is not None and not has_doubt and p99_s > GAIN * before[1]
        if self._has_doubt:
            return None
        self._before = None
        if before is not None and p99_s > GAIN * before[1]:
            self._closed_until_s = window.ended_at_s + CEILING_S
            self.log.settle(Outcome.UNDONE, window)
            fact = f"p99 went from {before[1] * 1e3:.1f} to {p99_s * 1e3:.1f} ms"
            return self._move(window, before[0], f"back: {fact}", Outcome.KEPT)
        self.log.settle(Outcome.KEPT, window)
        more = min(self._highest, max(self.limit + 1, round(STEP * self.limit)))
        is_over = p99_s > self._budget_s and is_late
        if not is_over or more == self.limit or window.ended_at_s < self._closed_until_s:
            return None
        self._before = (self.limit, p99_s)
        fact = f"p99 is {p99_s * 1e3:.1f} ms, the budget {self._budget_s * 1e3:.1f} ms"
        return self._move(window, more, f"calls wait for a free slot and {fact}", Outcome.PENDING)

    def _move(self, window: Window, to: int, reason: str, outcome: Outcome) -> Adjustment:
        before, self.limit = self.limit, to
        return self.log.moved(window, Knob.LIMIT, before=before, after=to, reason=reason, outcome=outcome)
