"""How long items wait for company: as few calls as the latency budget allows.

Source: our own, from measurements in open loop (docs/explain/controllers.md): taking whatever is queued, with
a large cap, needs no tuned size at any rate; what is left to choose is the wait. The item that waited longest
takes the linger plus what the sink takes, so that the linger follows what the budget leaves, by the secant
method: a longer wait makes larger and so slower calls as well, five times its own length where much arrives.
A host that stands still for a moment makes one Window, or two, look as if the budget were spent: the linger
is shortened only for what the best of three Windows shows, and lengthened for any that leaves room. Lingering
that joins hardly any items, as at a few a second, costs latency and saves nothing: it is left off.
"""

from __future__ import annotations

from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob, Outcome
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.window import Window
from perfloop.model.value import require

HEADROOM: Final = 0.95
"""Share of the budget that is aimed at."""
WINDOWS: Final = AdjustmentPolicy(interval_s=0.5, calls=100)
"""When a Window is due: of fewer calls a 99th percentile cannot be told."""
PATIENCE: Final = 3
"""Windows at one linger, all of them over the budget, before it is shortened."""
RISE: Final = 0.5
"""Share of what the budget leaves that is used at once; what it lacks is taken away whole."""
DEAD_BAND: Final = 0.06
"""Of the budget: differences too small to act upon."""
FAR_OVER: Final = 1.5
"""Times the budget from which on the secant is not waited for: a backlog may be building up."""
LEAST_COMPANY: Final = 0.25
"""Items that have to join the first while it lingers, on average, for the wait to be worth it."""
LARGEST_SLOPE: Final = 20.0


class Linger:
    """Takes Windows of a Tally whose calls begin when their oldest item came, and end with the sink's answer.

    They are drained by the pace of `WINDOWS`. `p99_budget_s` is for that time, which is the longest that any
    item of the call took.
    """

    __slots__ = ("_at_last_move", "_budget_s", "_last", "_seen_s", "_slope", "linger_s", "log")

    def __init__(self, p99_budget_s: float, *, start_s: float = 0.0) -> None:
        require(p99_budget_s > 0, f"p99_budget_s is {p99_budget_s}; it must be above 0")
        require(0 <= start_s <= p99_budget_s, f"start_s is {start_s}; it must be within the budget")
        self.linger_s = start_s
        self.log = AdjustmentLog()
        self._budget_s = p99_budget_s
        self._slope = 1.0
        self._at_last_move: tuple[float, float] | None = None
        self._seen_s: tuple[float, ...] = ()
        self._last: Window | None = None

    def update(self, window: Window) -> Adjustment | None:
        """Take the next Window; the Adjustment, if the linger moved. A gap says that something else did."""
        last, self._last = self._last, window
        if last is not None and not window.follows(last):
            self._seen_s, self._at_last_move = (), None
        if window.latencies is None:
            return None
        p99_s = window.latency_p99_s
        self._seen_s = (*self._seen_s, p99_s)[-PATIENCE:]
        self._learn_slope(p99_s)
        if p99_s > HEADROOM * self._budget_s:
            if len(self._seen_s) < PATIENCE:
                return None
            p99_s = min(self._seen_s)
        return self._look(window, p99_s, window.items_per_s)

    def _learn_slope(self, p99_s: float) -> None:
        """How much longer the slowest calls take for each second of linger, from the last move."""
        if self._at_last_move is None or p99_s > FAR_OVER * self._budget_s:
            return
        linger_s, before_s = self._at_last_move
        self._at_last_move = None
        slope = (p99_s - before_s) / (self.linger_s - linger_s)
        self._slope = (self._slope + max(1.0, min(LARGEST_SLOPE, slope))) / 2

    def _look(self, window: Window, p99_s: float, rate_per_s: float) -> Adjustment | None:
        spare_s = HEADROOM * self._budget_s - p99_s
        to_s = self.linger_s
        if abs(spare_s) > DEAD_BAND * self._budget_s:
            slope = 1.0 if p99_s > FAR_OVER * self._budget_s else self._slope
            to_s = max(0.0, self.linger_s + (RISE if spare_s > 0 else 1.0) * spare_s / slope)
        if rate_per_s * min(HEADROOM * self._budget_s, max(to_s, self.linger_s)) < LEAST_COMPANY:
            return self._move(
                window, 0.0, p99_s, f"at {rate_per_s:.1f} items/s hardly any would come meanwhile"
            )
        fact = f"p99 {p99_s * 1e3:.1f} ms at {rate_per_s:.0f} items/s"
        return self._move(window, to_s, p99_s, f"{fact}; the budget is {self._budget_s * 1e3:.1f} ms")

    def _move(self, window: Window, to_s: float, p99_s: float, reason: str) -> Adjustment | None:
        before_s, self.linger_s = self.linger_s, to_s
        self.log.settle(Outcome.UNDONE if to_s < before_s else Outcome.KEPT, window)
        if to_s == before_s:
            return None
        self._seen_s = ()
        self._at_last_move = (before_s, p99_s) if p99_s <= FAR_OVER * self._budget_s else None
        return self.log.moved(
            window, Knob.LINGER_S, before=before_s, after=to_s, reason=reason, outcome=Outcome.PENDING
        )
