"""How many workers a group is to have.

What is needed comes from the queue: enough that arrivals wait no longer than the policy's time (Erlang C),
and that what waits already is done within another. More are started at once, fewer only after a time in
which nothing more was needed (the stabilisation window of Kubernetes' horizontal autoscaler), down to the
most that was needed in it: so noise does not make the number swing. Where a season is known, what it will
bring while a worker starts counts as arriving now.

More workers are a means, and their gain is measured: if there was work waiting before and after, and the
goodput rose by less than a part of what the new workers should have brought, they are taken away again, and
the number is a ceiling for a time that doubles with each vain trial. A database, a lock or a rate limit is
then the bottleneck, and more workers only add to its load.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import structs

from perfloop.control.adjustment import Outcome
from perfloop.model.value import Value
from perfloop.process.scaling.policy import ScalingPolicy
from perfloop.process.scaling.queueing import servers_for
from perfloop.process.scaling.season import Season

_KEPT: Final = 256
_CLEAR_RATIO: Final = 0.7
"""A step that brings this part of what it promised is kept without measuring longer."""


class Demand(Value, frozen=True, kw_only=True):
    """One group over a few seconds."""

    ended_at_s: float
    length_s: float
    workers: int
    arrivals_per_s: float
    completions_per_s: float
    """That went well."""
    queue_length: int
    """At the end, with no worker yet."""
    service_s: float | None
    """For which a message keeps one worker busy, in the mean; None where none was done."""


class Scaling(Value, frozen=True, kw_only=True):
    """The number changed once."""

    at_s: float
    before: int
    after: int
    reason: str
    goodput_before_per_s: float
    goodput_after_per_s: float | None = None
    outcome: Outcome = Outcome.PENDING


class WorkerScaling:
    """The law of one group's size; deterministic, time comes with the windows.

    Args:
        policy: The bounds and the pace.
    """

    def __init__(self, policy: ScalingPolicy) -> None:
        self.policy = policy
        self._season = None if policy.season is None else Season(policy.season)
        self._rate: float | None = None
        self._service_s: float | None = None
        self._needed: deque[tuple[float, int]] = deque()
        self._changed_s = float("-inf")
        self._began_s: float | None = None
        self._log: deque[Scaling] = deque(maxlen=_KEPT)
        self._trial: Scaling | None = None
        """A step up whose gain is not known yet."""
        self.judged: Scaling | None = None
        """The step whose gain the last window has settled."""
        self._after: list[Demand] = []
        self._before: deque[Demand] = deque()
        self._ceiling: int | None = None
        self._ceiling_until_s = 0.0
        self._vain = 0

    def entries(self) -> tuple[Scaling, ...]:
        """What was done, the newest last."""
        return tuple(self._log)

    def update(self, demand: Demand, *, most: int | None = None) -> Scaling | None:
        """The change that this window calls for, if any; it counts as made.

        Args:
            demand: The newest window.
            most: Workers for which there is room now, where that is less than the policy's highest.
        """
        self.judged = None
        self._learn(demand)
        needed, why = self._need(demand)
        if most is not None and needed > most:
            needed, why = max(most, demand.workers), f"{why}; there are connections for {most}"
        now_s = demand.ended_at_s
        self._needed.append((now_s, needed))
        while self._needed[0][0] < now_s - self.policy.down_after_s:
            self._needed.popleft()
        undone = self._judge(demand)
        if undone is not None:
            return undone
        if needed > demand.workers:
            return self._up(demand, needed, why)
        return self._down(demand)

    def _learn(self, demand: Demand) -> None:
        weight = self.policy.smoothing
        self._rate = _smoothed(self._rate, demand.arrivals_per_s, weight)
        if demand.service_s is not None:
            self._service_s = _smoothed(self._service_s, demand.service_s, weight)
        if self._season is not None:
            self._season.add(demand.ended_at_s, demand.length_s, demand.arrivals_per_s)
        if self._began_s is None:
            self._began_s = demand.ended_at_s
        self._before.append(demand)
        while self._before[0].ended_at_s < demand.ended_at_s - self.policy.measure_s:
            self._before.popleft()

    def _need(self, demand: Demand) -> tuple[int, str]:
        """How many workers, and why."""
        policy = self.policy
        if self._service_s is None or self._rate is None:
            return max(policy.lowest, min(policy.highest, demand.workers)), "nothing is known yet"
        rate, source = self._rate, "arrive"
        ahead = None if self._season is None else self._season.highest_per_s(policy.start_s)
        if ahead is not None and ahead > rate:
            rate, source = ahead, "will arrive, as at this time of the last period"
        steady = servers_for(
            rate, self._service_s, wait_s=policy.wait_s, max_utilisation=policy.max_utilisation
        )
        why = f"{rate:.1f}/s {source}, each for {self._service_s * 1000:.3g} ms"
        backlog = demand.queue_length / policy.drain_s * self._service_s
        needed = max(steady, int(rate * self._service_s + backlog) + 1)
        if needed > steady:
            why += f", and {demand.queue_length} wait"
        return max(policy.lowest, min(policy.highest, needed)), why

    def _up(self, demand: Demand, needed: int, why: str) -> Scaling | None:
        policy, now_s = self.policy, demand.ended_at_s
        if self._trial is not None or now_s < self._changed_s + policy.up_every_s:
            return None
        if self._ceiling is not None and now_s < self._ceiling_until_s:
            needed = min(needed, self._ceiling)
        wanted = min(needed, max(demand.workers + 1, int(demand.workers * policy.max_up_ratio)))
        if wanted <= demand.workers:
            return None
        step = self._change(demand, wanted, f"{why}: {needed} workers are needed")
        self._trial, self._after = step, []
        return step

    def _down(self, demand: Demand) -> Scaling | None:
        """To the most that was needed in the window, once there is a whole one."""
        policy, now_s = self.policy, demand.ended_at_s
        since_s = max(self._changed_s, self._began_s if self._began_s is not None else now_s)
        if now_s < since_s + policy.down_after_s:
            return None
        most = max(count for _, count in self._needed)
        if most >= demand.workers:
            return None
        reason = f"no more than {most} workers were needed for {policy.down_after_s:.0f} s"
        return self._change(demand, most, reason, outcome=Outcome.KEPT)

    def _change(
        self, demand: Demand, after: int, reason: str, *, outcome: Outcome = Outcome.PENDING
    ) -> Scaling:
        self._changed_s = demand.ended_at_s
        step = Scaling(
            at_s=demand.ended_at_s,
            before=demand.workers,
            after=after,
            reason=reason,
            goodput_before_per_s=_goodput(self._before),
            outcome=outcome,
        )
        self._log.append(step)
        return step

    def _judge(self, demand: Demand) -> Scaling | None:
        """Settle the step up that is on trial; what undoes it, if it gained nothing."""
        trial, policy = self._trial, self.policy
        if trial is None or demand.ended_at_s - demand.length_s < trial.at_s + policy.settle_s:
            return None
        self._after.append(demand)
        goodput = _goodput(self._after)
        promised = trial.goodput_before_per_s * (trial.after / max(1, trial.before) - 1)
        gained = goodput - trial.goodput_before_per_s
        is_measured = sum(each.length_s for each in self._after) >= policy.measure_s
        if not is_measured and gained < _CLEAR_RATIO * promised:
            return None
        was_waiting = all(each.queue_length > trial.after for each in self._after)
        is_vain = was_waiting and gained < policy.min_gain_ratio * promised
        self._trial = None
        self._settle(trial, goodput, Outcome.UNDONE if is_vain else Outcome.KEPT)
        if is_vain:
            return self._undo(demand, trial, goodput)
        self._vain = 0
        return None

    def _undo(self, demand: Demand, trial: Scaling, goodput: float) -> Scaling:
        self._vain += 1
        self._ceiling = trial.before
        self._ceiling_until_s = demand.ended_at_s + self.policy.hold_s * 2 ** (self._vain - 1)
        self._needed.clear()
        self._needed.append((demand.ended_at_s, trial.before))
        reason = (
            f"{trial.after} workers did {goodput:.1f}/s and {trial.before} did"
            f" {trial.goodput_before_per_s:.1f}/s, with work waiting: something else is the bottleneck"
        )
        return self._change(demand, trial.before, reason, outcome=Outcome.KEPT)

    def _settle(self, trial: Scaling, goodput: float, outcome: Outcome) -> None:
        at = max(place for place, each in enumerate(self._log) if each is trial)
        self._log[at] = self.judged = structs.replace(trial, goodput_after_per_s=goodput, outcome=outcome)


def _smoothed(mean: float | None, newest: float, weight: float) -> float:
    return newest if mean is None else mean + weight * (newest - mean)


def _goodput(windows: list[Demand] | deque[Demand]) -> float:
    total_s = sum(each.length_s for each in windows)
    return sum(each.completions_per_s * each.length_s for each in windows) / total_s if total_s else 0.0
