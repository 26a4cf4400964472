"""How long items wait for company: as few calls as the latency budget allows.

Source: our own, from measurements in open loop (docs/explain/controllers.md): taking whatever is queued, with
a large cap, needs no tuned size at any rate; what is left to choose is the wait. The item that waited longest
takes the linger plus what the sink takes, so that the linger is what the budget leaves. Lingering that joins
hardly any items, as at a few items a second, costs latency and saves nothing: it is given up.
"""

from __future__ import annotations

import math
from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Evidence, Knob, Outcome
from perfloop.control.window import Window
from perfloop.model.value import require

HEADROOM: Final = 0.95
"""Share of the budget that is aimed at."""
CALLS_A_LOOK: Final = 100
"""Calls from which a 99th percentile is taken; a look joins as many Windows as that takes."""
LONGEST_LOOK_S: Final = 5.0
RISE: Final = 0.5
"""Share of what the budget leaves that is added; what it lacks is taken away whole."""
DEAD_BAND: Final = 0.04
"""Of the budget: differences too small to act upon."""
LEAST_COMPANY: Final = 1.25
"""Items a call that lingering has to bring at least."""
RETRY_S: Final = 30.0
"""How long lingering that brought no company is left off."""


class Linger:
    """Takes Windows of a Tally whose calls begin when their oldest item came, and end with the sink's answer.

    `p99_budget_s` is for that time, which is the longest that any item of the call took.
    """

    __slots__ = ("_budget_s", "_calls", "_items", "_p99_s", "_resting_until_s", "_since_s", "linger_s", "log")

    def __init__(self, p99_budget_s: float, *, start_s: float = 0.0) -> None:
        require(p99_budget_s > 0, f"p99_budget_s is {p99_budget_s}; it must be above 0")
        require(0 <= start_s <= p99_budget_s, f"start_s is {start_s}; it must be within the budget")
        self.linger_s = start_s
        self.log = AdjustmentLog()
        self._budget_s = p99_budget_s
        self._resting_until_s = -math.inf
        self._since_s = -math.inf
        self._calls = self._items = 0
        self._p99_s = 0.0

    def update(self, window: Window) -> Adjustment | None:
        """Take the next Window; the Adjustment, if the linger moved."""
        if window.latencies is None or window.started_at_s < self._since_s:
            return None
        self._calls += window.completions
        self._items += window.items
        self._p99_s += window.completions * window.latency_p99_s
        if math.isinf(self._since_s):
            self._since_s = window.started_at_s
        if self._calls < CALLS_A_LOOK and window.ended_at_s < self._since_s + LONGEST_LOOK_S:
            return None
        p99_s, company = self._p99_s / self._calls, self._items / self._calls
        self._calls, self._items, self._p99_s = 0, 0, 0.0
        self._since_s = window.ended_at_s
        return self._look(window, p99_s, company)

    def _look(self, window: Window, p99_s: float, company: float) -> Adjustment | None:
        self.log.settle(Outcome.KEPT, window)
        now_s = window.ended_at_s
        if self.linger_s > 0 and company < LEAST_COMPANY and p99_s <= self._budget_s:
            self._resting_until_s = now_s + RETRY_S
            self.log.settle(Outcome.UNDONE, window)
            return self._move(
                window, 0.0, f"lingering brought {company:.2f} items a call, not worth the wait"
            )
        spare_s = HEADROOM * self._budget_s - p99_s
        if abs(spare_s) <= DEAD_BAND * self._budget_s or (spare_s > 0 and now_s < self._resting_until_s):
            return None
        wanted_s = self.linger_s + (RISE * spare_s if spare_s > 0 else spare_s)
        bounded_s = max(0.0, min(HEADROOM * self._budget_s, wanted_s))
        fact = f"p99 {p99_s * 1e3:.1f} ms with {company:.1f} items a call"
        reason = f"{fact}; the budget is {self._budget_s * 1e3:.1f} ms"
        return self._move(window, bounded_s, reason)

    def _move(self, window: Window, to_s: float, reason: str) -> Adjustment | None:
        before_s, self.linger_s = self.linger_s, to_s
        if to_s == before_s:
            return None
        return self.log.add(
            Adjustment(
                at_s=window.ended_at_s,
                knob=Knob.LINGER_S,
                before=before_s,
                after=to_s,
                reason=reason,
                evidence=Evidence(before=window),
            )
        )
