"""How many items a call should carry: a line through latency over size, fitted as calls go by.

Source: the latency model of BentoML's dispatcher and of Clipper (Crankshaw et al., NSDI 2017), latency = a +
b x size, fitted by least squares. Without calls of other sizes the line has no slope, so that some carry less
(dither). The answer is the largest size whose 99th percentile stays within the budget, and no larger than
where nearly all of the gain is had. Assumes that nothing else moves meanwhile: the Coordinator sees to that.
Rejected: additive increase and multiplicative decrease, which has one call in fifty above the budget as its
signal. A budget that not even a single item keeps is set aside, as small batches would cost throughput and
buy nothing: then the size is the most efficient one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob, Outcome
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.window import MOST_GAPS, Window
from perfloop.model.value import require

SIZES: Final = AdjustmentPolicy(highest=1000)
HEADROOM: Final = 0.94
"""Share of the budget that is aimed at."""
ENOUGH: Final = 0.95
"""Share of the throughput of endless batches at which larger ones are not worth their latency."""
DITHER: Final = 0.7
"""Size of the calls that are there to learn from, over that of the others."""
SEARCH_EVERY: Final = 2
HOLD_EVERY: Final = 16
CALLS_A_LOOK: Final = 300
"""Calls after which a long step is dared."""
CALLS_A_SHORT_STEP: Final = 1000
"""Calls from which a 99th percentile is known well enough for a short one, and to hold."""
SHORT_STEP: Final = 0.3
FILLED: Final = 0.5
"""Calls that carry less than this share of the size say nothing of it: fewer items come than would fit."""
LARGEST_STEP: Final = 2.0
"""A line is trusted up to this many times what was seen."""
JUDGED_STEP: Final = 1.4
"""Steps up by this factor or more have to show a gain; what smaller ones bring is below the noise."""
LEAST_GAIN: Final = 0.98
"""Items a second for each call under way, after over before, below which such a step is undone."""
CEILING_S: Final = 60.0
"""How long the size stays below one that gained nothing."""
WAIVED_S: Final = 60.0
"""How long a budget is set aside that no size keeps, before it is held against the line again."""
SAME: Final = 0.08
"""Smaller differences of size are left alone."""


@dataclass(slots=True)
class _Sums:
    """What a least-squares line and its scatter need, weighted by calls."""

    calls: float = 0.0
    size: float = 0.0
    latency: float = 0.0
    size_size: float = 0.0
    size_latency: float = 0.0
    p99: float = 0.0

    def add(self, window: Window) -> None:
        latencies = window.latencies
        if latencies is None or not window.items:
            return
        calls, size, latency_s = window.completions, window.items / window.completions, latencies.mean_s
        sizes = window.sizes
        self.calls += calls
        self.size += calls * size
        self.latency += calls * latency_s
        self.size_size += calls * (size**2 + (sizes.variance if sizes else 0.0))
        self.size_latency += calls * (size * latency_s + (sizes.covariance_s if sizes else 0.0))
        self.p99 += calls * latencies.p99_s

    def fade(self) -> None:
        """Let what was seen so far weigh half."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) / 2)

    def line(self) -> tuple[float, float]:
        """Seconds a call and seconds an item; neither is below 0."""
        mean_size, mean_s = self.size / self.calls, self.latency / self.calls
        variance = self.size_size / self.calls - mean_size**2
        covariance = self.size_latency / self.calls - mean_size * mean_s
        slope_s = covariance / variance if variance > 1e-9 else 0.0
        slope_s = max(0.0, min(slope_s, mean_s / mean_size))
        return mean_s - slope_s * mean_size, slope_s

    def pace(self) -> float:
        """Items per second for each call under way."""
        return self.size / self.latency

    def tail(self) -> float:
        """The 99th percentile over the mean."""
        return self.p99 / self.latency


class BatchFit:
    """Grows from `start` at most twofold at a time, then holds. `p99_budget_s` is of the latency of calls."""

    __slots__ = (
        "_before",
        "_budget_s",
        "_ceiling",
        "_ceiling_until_s",
        "_gaps",
        "_is_waived",
        "_last",
        "_moved_at_s",
        "_policy",
        "_since",
        "_sums",
        "_turn_at_s",
        "_waived_until_s",
        "is_settled",
        "log",
        "size",
    )

    def __init__(
        self, policy: AdjustmentPolicy = SIZES, *, start: int = 8, p99_budget_s: float | None = None
    ) -> None:
        require(p99_budget_s is None or p99_budget_s > 0, f"p99_budget_s is {p99_budget_s}, not above 0")
        self._policy = policy
        self._budget_s = p99_budget_s
        self.size = policy.clamp(start)
        self.is_settled = False
        self.log = AdjustmentLog()
        self._sums = _Sums()
        self._since = _Sums()
        self._before: tuple[int, float] | None = None
        self._ceiling = 0
        self._ceiling_until_s = -math.inf
        self._gaps = 0
        self._is_waived = False
        self._waived_until_s = -math.inf
        self._last: Window | None = None
        self._moved_at_s = -math.inf
        self._turn_at_s = -math.inf

    def size_of_call(self, number: int) -> int:
        """The size for the call of this number, from 0; below `size` now and then, to learn from."""
        every = HOLD_EVERY if self.is_settled else SEARCH_EVERY
        if number % every or self.size == self._policy.lowest:
            return self.size
        return self._policy.clamp(min(self.size - 1, DITHER * self.size))

    def begin_at(self, size: int, window: Window, reason: str) -> Adjustment:
        """Grow from a size that was found by other means, up to this Window."""
        self._before = None
        return self._move(window, self._policy.clamp(size), reason, Outcome.KEPT)

    def update(self, window: Window) -> Adjustment | None:
        """Take the next Window. After a gap, in which something else was moved, the line is drawn anew."""
        last, self._last = self._last, window
        if last is None or not window.follows(last):
            self._begin_anew(window)
        self._sums.add(window)
        if window.started_at_s >= self._moved_at_s + 2 * window.latency_p50_s:
            self._since.add(window)
        if self._since.calls < CALLS_A_LOOK:
            return None
        if self.is_settled and window.ended_at_s < self._turn_at_s + self._policy.cool_down_s:
            return None
        return self._look(window)

    def _begin_anew(self, window: Window) -> None:
        self._gaps = 0 if self.is_settled else self._gaps + 1
        if self._gaps > MOST_GAPS:
            return
        self._sums, self._since = _Sums(), _Sums()
        self._turn_at_s = window.started_at_s

    def _look(self, window: Window) -> Adjustment | None:
        since = self._since
        if since.size < FILLED * self.size * since.calls:
            self._settle(window)
            return None
        if self._before is not None and since.pace() < LEAST_GAIN * self._before[1]:
            return self._undo(window, *self._before, since.pace())
        target, reason = self._target(since.tail(), window)
        if abs(target - self.size) < SHORT_STEP * self.size and since.calls < CALLS_A_SHORT_STEP:
            return None
        if abs(target - self.size) <= SAME * self.size:
            self._settle(window)
            return None
        self.log.settle(Outcome.KEPT, window)
        self._before = (self.size, since.pace()) if target >= JUDGED_STEP * self.size else None
        self.is_settled = False
        return self._move(window, target, reason, Outcome.PENDING)

    def _settle(self, window: Window) -> None:
        self.log.settle(Outcome.KEPT, window)
        self._before = None
        self.is_settled = True
        self._turn_at_s = window.ended_at_s
        self._since = _Sums()
        self._sums.fade()

    def _target(self, tail: float, window: Window) -> tuple[int, str]:
        call_s, item_s = self._sums.line()
        fact = f"a call takes {call_s * 1e3:.2f} ms and {item_s * 1e6:.1f} us an item"
        sizes = [(LARGEST_STEP * self.size, "further than twice the size the line is not trusted")]
        if item_s > 0:
            sizes.append((call_s / item_s * ENOUGH / (1 - ENOUGH), f"{ENOUGH:.0%} of all there is to gain"))
        if window.ended_at_s < self._ceiling_until_s:
            sizes.append((self._ceiling, f"{self._ceiling} was the last that gained"))
        if self._budget_s is not None and window.ended_at_s >= self._waived_until_s:
            if call_s + item_s * self._policy.lowest > self._budget_s / tail:
                self._waive(window, fact, self._budget_s)
            else:
                sizes.append(self._within(call_s, item_s, tail, self._budget_s))
        size, why = min(sizes)
        return self._policy.clamp(min(size, self._policy.highest)), f"{fact}; {why}"

    def _within(self, call_s: float, item_s: float, tail: float, budget_s: float) -> tuple[float, str]:
        """The largest size whose 99th percentile stays within the budget."""
        self._is_waived = False
        mean_s = HEADROOM * budget_s / tail
        within = (mean_s - call_s) / item_s if item_s > 0 else math.inf if mean_s > call_s else 0.0
        return within, f"p99 within {budget_s * 1e3:.0f} ms, which is {tail:.2f} times the mean"

    def _waive(self, window: Window, fact: str, budget_s: float) -> None:
        """Set the budget aside; said once, as a move from a size to itself."""
        self._waived_until_s = window.ended_at_s + WAIVED_S
        if not self._is_waived:
            reason = f"{fact}; no size keeps p99 within {budget_s * 1e3:.0f} ms, so that throughput decides"
            self.log.moved(window, Knob.BATCH_SIZE, before=self.size, after=self.size, reason=reason)
        self._is_waived = True

    def _undo(self, window: Window, size: int, pace: float, pace_now: float) -> Adjustment:
        self.log.settle(Outcome.UNDONE, window)
        self._ceiling, self._ceiling_until_s = size, window.ended_at_s + CEILING_S
        self._before = None
        reason = f"back: {self.size} items a call brought {pace_now / pace - 1:+.1%}"
        return self._move(window, size, reason, Outcome.KEPT)

    def _move(self, window: Window, to: int, reason: str, outcome: Outcome) -> Adjustment:
        before, self.size = self.size, to
        self._moved_at_s = window.ended_at_s
        self._since = _Sums()
        return self.log.moved(
            window, Knob.BATCH_SIZE, before=before, after=to, reason=reason, outcome=outcome
        )
