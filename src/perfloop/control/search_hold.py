"""The default law: bracket, halve, hold, and look again now and then.

Source: our own, from measurements of laws on sinks whose overload merely queues and on sinks whose overload
destroys throughput (docs/explain/controllers.md). It maximises what comes out, not the time taken: a law that
sees latency alone cannot tell the two sinks apart. The knee is where one per cent more calls at once bring
half a per cent more items; maximising Kleinrock's power (throughput over latency) sets the same condition.
Throughput is Little's law on trimmed medians, and limits are held against each other by turns (`trial`), so
that no call and no Window that the scheduler stalled decides anything. Assumes a source that has work
waiting; Windows without are not counted.

Rejected: latency against its minimum (Vegas, gradients), which rides up with its own queue; a fixed gain
asked for each extra worker, which stops at a constant whatever the capacity; means, which a stalled scheduler
moves.
"""

from __future__ import annotations

import math
from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob, Outcome
from perfloop.control.bracket import KNEE, Bracket, Direction
from perfloop.control.estimate import Estimate, is_telling
from perfloop.control.holding import Holding, Shift
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.trial import LEAST_WINDOWS, Trial
from perfloop.control.window import MOST_GAPS, Window

STARVED: Final = 5
"""Windows in a row that say nothing of the limit, after which a trial ends."""


class SearchHold:
    """Finds the knee from any starting limit, without hints, and follows it."""

    __slots__ = (
        "_anchor",
        "_bracket",
        "_gaps",
        "_holding",
        "_last",
        "_moved_at_s",
        "_starved",
        "_trial",
        "limit",
        "log",
        "policy",
    )

    def __init__(self, policy: AdjustmentPolicy | None = None, *, start: int | None = None) -> None:
        self.policy = policy or AdjustmentPolicy()
        self.limit = self.policy.clamp(self.policy.lowest if start is None else start)
        self.log = AdjustmentLog()
        self._bracket: Bracket | None = Bracket(self.policy, self.limit, Direction.UP, self.limit)
        self._anchor = Estimate(self.limit)
        self._trial: Trial | None = None
        self._gaps = 0
        self._holding = Holding(self.policy)
        self._last: Window | None = None
        self._moved_at_s = -math.inf
        self._starved = 0

    @property
    def is_settled(self) -> bool:
        return self._bracket is None

    def begin_at(self, limit: int, window: Window, reason: str) -> Adjustment:
        """Search from a limit that was found by other means, up to this Window."""
        to = self.policy.clamp(limit)
        self._bracket = Bracket(self.policy, to, Direction.UP, to)
        self._anchor, self._trial = Estimate(to), None
        return self._move(to, window, reason)

    def update(self, window: Window) -> Adjustment | None:
        """Take the next Window. A gap before it says that something else was moved meanwhile."""
        last, self._last = self._last, window
        if last is not None and not window.follows(last):
            self._begin_anew()
        if window.limit != self.limit or window.started_at_s < self._moved_at_s + 2 * window.latency_p50_s:
            return None
        if not is_telling(window):
            return self._starve(window)
        self._starved = 0
        return self._hold(window) if self._bracket is None else self._seek(self._bracket, window)

    def _begin_anew(self) -> None:
        self._gaps = 0 if self.is_settled else self._gaps + 1
        if self._gaps > MOST_GAPS:
            return
        self._anchor = Estimate(self._anchor.limit)
        self._holding.forget()
        if self._trial is not None:
            self._trial.begin_anew()

    def _starve(self, window: Window) -> Adjustment | None:
        """End a trial that Windows say nothing of.

        Where no call waits the limit that is visited stays, as it holds nothing back. Where none ends well
        the one on trial goes.
        """
        self._starved += 1
        if self._trial is None or self._starved < STARVED:
            return None
        is_taken = not window.is_saturated and self.limit == self._trial.limit
        before, self._trial, self._bracket = self._anchor.limit, None, None
        self.log.settle(Outcome.KEPT if is_taken else Outcome.UNDONE, window)
        if is_taken:
            self._anchor = Estimate(self.limit)
        self._holding.begin(window.ended_at_s, self._anchor.limit)
        if self.limit == self._anchor.limit:
            return None
        return self._move(before, window, f"back to {before}: at {self.limit} no call ended well any more")

    def _hold(self, window: Window) -> Adjustment | None:
        self._anchor.add(window)
        shift = self._holding.see(window)
        if shift is not None:
            self._anchor = Estimate(self.limit)
            direction = Direction.DOWN if shift is Shift.FELL else Direction.UP
            self._bracket = Bracket(self.policy, self.limit, direction, self.limit)
            return None
        side = self._holding.look(window.ended_at_s)
        if side is None:
            return None
        self._bracket = Bracket(self.policy, self.limit, side, max(1, self.limit // 16))
        return self._next_trial(self._bracket, window)

    def _seek(self, bracket: Bracket, window: Window) -> Adjustment | None:
        trial = self._trial
        if trial is None:
            self._anchor.add(window)
            return self._next_trial(bracket, window) if len(self._anchor) >= LEAST_WINDOWS else None
        trial.add(window)
        gain = trial.decide()
        if gain is not None:
            return self._conclude(bracket, trial, gain, window)
        if not trial.is_visit_over():
            return None
        other = trial.change_over()
        return self._move(other, window, f"{other} once more, to be sure against {self.limit}")

    def _conclude(self, bracket: Bracket, trial: Trial, gain: float, window: Window) -> Adjustment | None:
        is_taken = (gain >= KNEE) == (trial.limit > trial.anchor_limit)
        bracket.judge(trial.limit, gain)
        fact = _fact(trial)
        self.log.settle(Outcome.KEPT if is_taken else Outcome.UNDONE, window)
        self._anchor = trial.last_visit(trial.limit if is_taken else trial.anchor_limit)
        self._trial = None
        following = self._next_trial(bracket, window, fact)
        if following is None and self.limit != self._anchor.limit:
            word = "on to" if is_taken else "back to"
            return self._move(self._anchor.limit, window, f"{word} {self._anchor.limit}: {fact}")
        return following

    def _next_trial(self, bracket: Bracket, window: Window, fact: str = "") -> Adjustment | None:
        """Begin the next trial, or hold where the search is over."""
        proposed = bracket.propose()
        if proposed is None:
            self._bracket = None
            self._holding.begin(window.ended_at_s, self._anchor.limit)
            return None
        self._trial = Trial(self._anchor, proposed)
        reason = (
            f"{fact}; next {proposed}" if fact else f"whether {proposed} is better than {self._anchor.limit}"
        )
        return self._move(proposed, window, reason, Outcome.PENDING)

    def _move(self, to: int, window: Window, reason: str, outcome: Outcome = Outcome.KEPT) -> Adjustment:
        before, self.limit = self.limit, to
        self._moved_at_s = window.ended_at_s
        return self.log.moved(window, Knob.LIMIT, before=before, after=to, reason=reason, outcome=outcome)


def _fact(trial: Trial) -> str:
    """What was seen, as a clause."""
    change, more = math.expm1(trial.change()), trial.limit / trial.anchor_limit - 1
    return (
        f"{trial.limit} at once brought {change:+.1%} items over {trial.anchor_limit}, for {more:+.0%} calls"
    )
