"""What is done for a worker whose memory grows: the mildest first, one worker at a time.

    trim → recycle → alarm

A trim (collect garbage, give free memory back) costs milliseconds and is tried first, whatever the cause.
Where it does not help, a new worker is put in the place of the leaking one: at a quiet moment, never two at
once, not sooner after another than the policy's time, stretched at random so that workers that were started
together are not recycled together. What recycling does not keep away is told to people. Fragmentation
(memory that malloc keeps free) is trimmed and never a reason to restart a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from perfloop.model.units import bytes_text, seconds_text
from perfloop.model.value import Value, require

if TYPE_CHECKING:  # it loads numpy, which a fleet that watches no memory has no use for
    from perfloop.process.leaks.suspicion import Suspicion


class Rung(StrEnum):
    """What is done."""

    TRIM = "trim"
    RECYCLE = "recycle"
    ALARM = "alarm"


class Cause(StrEnum):
    """Why."""

    LEAK = "leak"
    LIMIT = "limit"
    """More than a worker may hold of its own."""
    FRAGMENTATION = "fragmentation"


class LadderPolicy(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far and how often something is done."""

    max_own_bytes: int | None = None
    """What a worker may hold beyond what it began with, which is the zygote's: by what it has in use, not
    by its resident set, in which the pages shared with the zygote are counted for each. None for no limit."""
    min_free_bytes: int = 64 * 1024**2
    """Memory that malloc keeps free is fragmentation above this ..."""
    min_free_ratio: float = 0.5
    """... and above this share of what is in use."""
    trim_every_s: float = 1800.0
    """At most once in so long for each worker."""
    min_freed_ratio: float = 0.2
    """A trim has helped where it freed this share of what the worker held of its own."""
    examine_s: float = 30.0
    """Before it is recycled, a growing worker is looked at for so long to name the lines, which slows it
    meanwhile; 0 for not."""
    quiet_within_s: float = 600.0
    """A worker is recycled where it has no message, and after so long of waiting for that, with some."""
    recycle_every_s: float = 300.0
    """At most once in so long in a group ..."""
    jitter_ratio: float = 0.5
    """... or up to this share longer."""
    max_recycles: int = 3
    """In `within_s` for each worker; then people are told."""
    within_s: float = 86_400.0

    def __post_init__(self) -> None:
        require(self.max_own_bytes is None or self.max_own_bytes > 0, "max_own_bytes: above zero")
        require(self.examine_s >= 0, "examine_s: not below zero")
        require(self.recycle_every_s >= 0, "recycle_every_s: not below zero")
        require(self.jitter_ratio >= 0, "jitter_ratio: not below zero")
        require(self.max_recycles >= 0, "max_recycles: not below zero")


class Seen(Value, frozen=True, kw_only=True):
    """One worker as it is now."""

    worker: str
    own_bytes: int
    """In use, beyond what it began with."""
    in_use_bytes: int
    free_bytes: int = 0
    """Kept by malloc."""
    under_way: int = 0
    """Messages that it has."""
    suspicion: Suspicion | None = None


class Act(Value, frozen=True, kw_only=True):
    """Something to be done for one worker, with its evidence."""

    worker: str
    rung: Rung
    cause: Cause
    reason: str
    """A sentence."""
    before_bytes: int
    """In use, or kept free where that is the cause."""


class Outcome(Value, frozen=True, kw_only=True):
    """What came of an act."""

    act: Act
    after_bytes: int
    helped: bool


class _State:
    """What is known of one worker's way up the ladder."""

    def __init__(self) -> None:
        self.trimmed_s: float | None = None
        self.is_trim_spent = False
        """Whether a trim did not help, so that the next rung is due."""
        self.waits_since_s: float | None = None
        self.recycled_s: list[float] = []
        self.is_alarmed = False


class Ladder:
    """The rungs of one group's workers; time and chance are arguments.

    Every act that `next` gives is answered with `done` or, where it could not be carried out, `failed`;
    meanwhile nothing else is done in the group.
    """

    def __init__(self, policy: LadderPolicy) -> None:
        self._policy = policy
        self._states: dict[str, _State] = {}
        self._under_way: Act | None = None
        self._next_recycle_s: float | None = None

    def next(self, workers: Sequence[Seen], *, at_s: float) -> Act | None:
        """What is to be done now, if anything; the worst worker first."""
        if self._under_way is not None:
            return None
        for seen in sorted(workers, key=lambda each: (-each.own_bytes, each.worker)):
            act = self._for(seen, at_s)
            if act is not None:
                self._under_way = act
                return act
        return None

    def done(self, act: Act, after_bytes: int, *, at_s: float, rand: float) -> Outcome:
        """An act was carried out, and this is in use (or free) now; `rand` is from 0 to 1."""
        self._under_way = None
        state = self._state(act.worker)
        freed = act.before_bytes - after_bytes
        helped = act.rung is not Rung.ALARM and freed >= self._policy.min_freed_ratio * act.before_bytes
        if act.rung is Rung.TRIM:
            state.trimmed_s, state.is_trim_spent = at_s, not helped and act.cause is not Cause.FRAGMENTATION
        elif act.rung is Rung.RECYCLE:
            self._recycled(state, at_s, rand)
        else:
            state.is_alarmed = True
        return Outcome(act=act, after_bytes=after_bytes, helped=helped)

    def failed(self, act: Act, *, at_s: float, rand: float) -> None:
        """An act could not be carried out; it counts as tried, and the next one waits its time."""
        self._under_way = None
        state = self._state(act.worker)
        if act.rung is Rung.RECYCLE:
            self._recycled(state, at_s, rand)
        else:
            state.trimmed_s, state.is_trim_spent = at_s, act.cause is not Cause.FRAGMENTATION

    def _recycled(self, state: _State, at_s: float, rand: float) -> None:
        state.recycled_s.append(at_s)
        state.trimmed_s, state.is_trim_spent, state.waits_since_s = None, False, None
        self._next_recycle_s = at_s + self._policy.recycle_every_s * (1 + self._policy.jitter_ratio * rand)

    def _for(self, seen: Seen, at_s: float) -> Act | None:
        state = self._state(seen.worker)
        cause = self._cause(seen)
        if cause is None:
            state.is_trim_spent, state.waits_since_s, state.is_alarmed = False, None, False
            return None
        if not state.is_trim_spent:
            is_due = state.trimmed_s is None or at_s >= state.trimmed_s + self._policy.trim_every_s
            return self._act(seen, Rung.TRIM, cause) if is_due else None
        if cause is Cause.FRAGMENTATION:
            state.is_trim_spent = False
            return None
        return self._beyond_trim(seen, cause, state, at_s)

    def _beyond_trim(self, seen: Seen, cause: Cause, state: _State, at_s: float) -> Act | None:
        policy = self._policy
        state.recycled_s = [each for each in state.recycled_s if each > at_s - policy.within_s]
        if len(state.recycled_s) >= policy.max_recycles:
            return None if state.is_alarmed else self._act(seen, Rung.ALARM, cause)
        if state.waits_since_s is None:
            state.waits_since_s = at_s
        if self._next_recycle_s is not None and at_s < self._next_recycle_s:
            return None
        is_quiet = not seen.under_way or at_s >= state.waits_since_s + policy.quiet_within_s
        return self._act(seen, Rung.RECYCLE, cause) if is_quiet else None

    def _cause(self, seen: Seen) -> Cause | None:
        policy = self._policy
        if policy.max_own_bytes is not None and seen.own_bytes > policy.max_own_bytes:
            return Cause.LIMIT
        if seen.suspicion is not None:
            return Cause.LEAK
        kept = max(policy.min_free_bytes, policy.min_free_ratio * seen.in_use_bytes)
        return Cause.FRAGMENTATION if seen.free_bytes > kept else None

    def _act(self, seen: Seen, rung: Rung, cause: Cause) -> Act:
        before = seen.free_bytes if cause is Cause.FRAGMENTATION else seen.own_bytes
        return Act(
            worker=seen.worker,
            rung=rung,
            cause=cause,
            reason=_reason(seen, rung, cause, self._policy),
            before_bytes=before,
        )

    def _state(self, worker: str) -> _State:
        return self._states.setdefault(worker, _State())


def _reason(seen: Seen, rung: Rung, cause: Cause, policy: LadderPolicy) -> str:
    if cause is Cause.FRAGMENTATION:
        return (
            f"malloc keeps {bytes_text(seen.free_bytes)} free, beside {bytes_text(seen.in_use_bytes)} in use"
        )
    facts = [f"{bytes_text(seen.own_bytes)} of its own in use"]
    limit = policy.max_own_bytes
    if cause is Cause.LIMIT and limit is not None:
        facts.append(f"more than the {bytes_text(limit)} that it may have")
    if seen.suspicion is not None:
        facts.append(_growth(seen, seen.suspicion, limit))
    if rung is Rung.RECYCLE:
        facts.append("a trim did not help")
    elif rung is Rung.ALARM:
        facts.append("a trim and new processes did not keep it away; `perfloop leaks` names the line")
    return ", ".join(facts)


def _growth(seen: Seen, suspicion: Suspicion, limit: int | None) -> str:
    text = f"growing by {bytes_text(suspicion.rate_bytes_per_s * 60)} a minute"
    if limit is None or seen.own_bytes >= limit:
        return text
    left_s = (limit - seen.own_bytes) / suspicion.rate_bytes_per_s
    return f"{text}, at its limit in {seconds_text(left_s)}"
