"""One Change tried: which statements it reaches, what they cost in both arms, and the verdict.

A Trial looks first at what costs little to know (`tune.reach`). Only the statements that the Change reaches
are timed, since the others run the same plan over the same data in both arms. Their share of the whole
workload puts the effect in proportion.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec

from perfloop.model.advice import DropIndex, Proposal
from perfloop.model.outcome import Effect, StatementEffect, TrialRecord, Verdict
from perfloop.model.units import seconds_text
from perfloop.model.workload import Operation, StatementKind, Workload
from perfloop.stats.ratio import log_ratio
from perfloop.tune.decision import (
    Aim,
    Decision,
    KeepPolicy,
    StatementPairs,
    TrialEvidence,
    decide,
    effect_bounds,
    failures_decide,
    mix_ratio,
)
from perfloop.tune.lab.arms import Arms
from perfloop.tune.measure import (
    SLICE_S,
    limited,
    pair_s,
    plan_turns,
    run_pair,
    runaway_s,
)
from perfloop.tune.rare import harm_to_rare
from perfloop.tune.reach import Reach, find_reach
from perfloop.tune.samples import Block, Count, FailedPair, Pair, Turn
from perfloop.tune.summary import (
    counted_cpu_s,
    host_of,
    may_gain,
    mean,
    plans_differ,
    weighted_s,
    work_of,
    work_of_mix,
)

VOID_STEAL_RATIO = 0.05
"""A pair that lost more than this to the hypervisor is run again, whatever it shows."""
MOST_TIMING_S = 300.0
"""Of one Trial. A look whose pairs would take longer than what is left of it is not awaited: unclear."""


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A Trial under way: what stands fixed, and the pairs so far."""

    proposal: Proposal
    arms: Arms
    reach: Reach
    growth_ratio: float
    pairs: list[Pair] = field(default_factory=list)
    failed: list[FailedPair] = field(default_factory=list)
    voided: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What a Trial leaves: its record, and the counted runs of what it may have reached, by arm."""

    record: TrialRecord
    counts: Mapping[str, Count]
    control_counts: Mapping[str, Count]


def run_trial(
    proposal: Proposal,
    arms: Arms,
    workload: Workload,
    baseline: Mapping[str, Count],
    policy: KeepPolicy,
    *,
    seed: int,
    growth_ratio: float = 0.0,
    known: Mapping[str, Count] | None = None,
    slice_s: float = SLICE_S,
    most_timing_s: float = MOST_TIMING_S,
) -> TrialResult:
    """Try one Change whose arms are open.

    Args:
        proposal: what is tried; its change is in place in the treatment arm.
        arms: the two sessions.
        workload: the whole mix.
        baseline: the counts of all operations in the control arm's state, by query_id.
        policy: when to keep.
        seed: of the order within pairs; recorded by the caller.
        growth_ratio: space of this and all kept changes over the database's size.
        known: counts taken where the control arm's plans and settings were the same; a heavy operation
            among them is not run again.
        slice_s: aimed length of one arm's half of a pair, in seconds.
        most_timing_s: what all pairs together may take, in seconds.

    Raises:
        ServerFailed: the lab's server ended a session.
    """
    started_at_s, started_s = time.time(), time.monotonic()
    reach = find_reach(proposal.change, arms, workload, baseline, known or {})
    trial = _Trial(proposal=proposal, arms=arms, reach=reach, growth_ratio=growth_ratio)
    decision = decide(_evidence(trial), policy)
    if _needs_timing(trial, decision):
        turns = plan_turns(_timed(trial), reach.control, reach.treatment, slice_s=slice_s)
        decision = _time(trial, policy, Random(seed), turns, most_timing_s)
    if decision.verdict is Verdict.KEEP:
        decision = _unless_it_harms(decision, arms, workload.rare)
    record = _record(trial, decision, started_at_s, time.monotonic() - started_s)
    return TrialResult(record=record, counts=reach.treatment, control_counts=reach.control)


def _unless_it_harms(decision: Decision, arms: Arms, rare: tuple[Operation, ...]) -> Decision:
    harm = harm_to_rare(arms, rare)
    if harm is None:
        return decision
    return msgspec.structs.replace(decision, verdict=Verdict.REVERT, reason=harm)


def _needs_timing(trial: _Trial, decision: Decision) -> bool:
    """Whether counting alone could not decide: something may have gained, or lost, and nothing broke."""
    if _new_errors(trial) or any(rail.broken for rail in decision.guardrails):
        return False
    return any(_is_undecided(trial, each) for each in trial.reach.operations)


def _is_undecided(trial: _Trial, operation: Operation) -> bool:
    """Whether the change may do to the operation what it is tried for, or what it must not do."""
    control, treatment = trial.reach.counts(operation)
    if _aim(trial) is Aim.LEANER:
        return may_gain(operation, treatment, control)
    return may_gain(operation, control, treatment)


def _time(
    trial: _Trial, policy: KeepPolicy, rng: Random, turns: Sequence[Turn], most_timing_s: float
) -> Decision:
    expected_s = pair_s(turns, trial.reach.control, trial.reach.treatment)
    decision = _awaited(trial, policy.looks[0], expected_s, most_timing_s)
    if decision is not None:
        return decision
    limit_s = max(runaway_s(trial.reach.control[each.statement.query_id]) for each in _timed(trial))
    with limited(trial.arms.control, limit_s), limited(trial.arms.treatment, limit_s):
        started_s = time.monotonic()
        run_pair(trial.arms.control, trial.arms.treatment, turns, rng)  # warms both up
        for wanted in policy.looks:
            spent_s = time.monotonic() - started_s
            mean_s = spent_s / (1 + len(trial.pairs) + len(trial.failed) + trial.voided)
            decision = _awaited(trial, wanted, mean_s, most_timing_s - spent_s)
            if decision is not None:
                return decision
            _add_pairs(trial, turns, rng, wanted, most_voids=policy.looks[-1])
            decision = decide(_evidence(trial), policy)
            if decision.verdict is not None:
                return decision
    raise AssertionError("the last look always decides")


def _awaited(trial: _Trial, wanted: int, mean_s: float, left_s: float) -> Decision | None:
    """Unclear where the pairs up to that look would take longer than what is left; else None."""
    expected_s = (wanted - len(trial.pairs)) * mean_s
    if expected_s <= left_s:
        return None
    reason = f"too slow to time: {wanted} pairs would take {seconds_text(expected_s)}"
    if trial.pairs:
        reason = (
            f"{len(trial.pairs)} pairs cannot tell, and {wanted - len(trial.pairs)} more would take "
            f"{seconds_text(expected_s)}, longer than a trial may"
        )
    return Decision(verdict=Verdict.UNCLEAR, reason=reason)


def _add_pairs(trial: _Trial, turns: Sequence[Turn], rng: Random, wanted: int, *, most_voids: int) -> None:
    """Run pairs until there are as many as wanted, or enough failed ones to decide without the rest."""
    while len(trial.pairs) < wanted and not failures_decide(*_failures(trial), most_voids):
        pair = run_pair(trial.arms.control, trial.arms.treatment, turns, rng)
        if isinstance(pair, FailedPair):
            trial.failed.append(pair)
        elif pair.steal_ratio > VOID_STEAL_RATIO and trial.voided < most_voids:
            trial.voided += 1
        else:
            trial.pairs.append(pair)


def _failures(trial: _Trial) -> tuple[int, int]:
    """How many pairs failed in the control, and in the treatment."""
    in_control = sum(each.arm == trial.arms.control.name for each in trial.failed)
    return in_control, len(trial.failed) - in_control


def _aim(trial: _Trial) -> Aim:
    return Aim.LEANER if isinstance(trial.proposal.change, DropIndex) else Aim.FASTER


def _timed(trial: _Trial) -> tuple[Operation, ...]:
    """What runs in both arms; a statement that fails in the control, as it did before, cannot be timed."""
    reach = trial.reach
    return tuple(each for each in reach.operations if not any(arm.error for arm in reach.counts(each)))


def _evidence(trial: _Trial) -> TrialEvidence:
    timed = _timed(trial)
    writes = [each for each in trial.reach.operations if each.statement.kind is StatementKind.WRITE]
    failed_control, failed_treatment = _failures(trial)
    return TrialEvidence(
        aim=_aim(trial),
        log_ratios=tuple(
            log_ratio(_cpu_s(each.control, timed), _cpu_s(each.treatment, timed)) for each in trial.pairs
        ),
        statements=tuple(
            StatementPairs(
                label=each.statement.label,
                is_write=each.statement.kind is StatementKind.WRITE,
                log_ratios=_statement_ratios(trial, each),
            )
            for each in (timed if trial.pairs else ())
        ),
        reached_share=trial.reach.share,
        reached_writes=len(writes),
        control_wal_bytes=work_of_mix(writes, trial.reach.control).wal_bytes,
        treatment_wal_bytes=work_of_mix(writes, trial.reach.treatment).wal_bytes,
        new_errors=_new_errors(trial),
        failed_control=failed_control,
        failed_treatment=failed_treatment,
        failure=f"{trial.failed[-1].label}: {trial.failed[-1].error}" if trial.failed else "",
        growth_ratio=trial.growth_ratio,
        crowded=host_of(trial.pairs).crowded,
    )


def _cpu_s(blocks: Mapping[str, Block], operations: Iterable[Operation]) -> float:
    return weighted_s(blocks, operations, lambda block: block.cpu_per_call_s)


def _wall_s(blocks: Mapping[str, Block], operations: Iterable[Operation]) -> float:
    return weighted_s(blocks, operations, lambda block: block.wall_per_call_s)


def _statement_ratios(trial: _Trial, operation: Operation) -> tuple[float, ...]:
    query_id = operation.statement.query_id
    return tuple(
        log_ratio(pair.control[query_id].cpu_per_call_s, pair.treatment[query_id].cpu_per_call_s)
        for pair in trial.pairs
    )


def _new_errors(trial: _Trial) -> tuple[str, ...]:
    return tuple(
        f"{each.statement.label}: {treatment.error}"
        for each in trial.reach.operations
        for control, treatment in [trial.reach.counts(each)]
        if treatment.error and not control.error
    )


def _record(trial: _Trial, decision: Decision, started_at_s: float, took_s: float) -> TrialRecord:
    assert decision.verdict is not None
    cpu = _effect(trial.arms.metric, _evidence(trial).log_ratios)
    wall_ratios = [
        log_ratio(_wall_s(pair.control, _timed(trial)), _wall_s(pair.treatment, _timed(trial)))
        for pair in trial.pairs
    ]
    return TrialRecord(
        proposal=trial.proposal,
        lab=trial.arms.kind,
        verdict=decision.verdict,
        reason=decision.reason,
        cpu=cpu,
        mix_ratio=None if cpu is None else mix_ratio(cpu.ratio, trial.reach.share),
        wall=_effect("wall_s", wall_ratios),
        control_work=work_of_mix(trial.reach.operations, trial.reach.control),
        treatment_work=work_of_mix(trial.reach.operations, trial.reach.treatment),
        statements=tuple(_statement_effect(trial, each) for each in trial.reach.operations),
        guardrails=decision.guardrails,
        size_bytes=trial.arms.size_bytes,
        build_s=trial.arms.build_s,
        host=host_of(trial.pairs, voided=trial.voided + len(trial.failed)) if trial.pairs else None,
        took_s=took_s,
        started_at_s=started_at_s,
    )


def _effect(
    metric: str,
    log_ratios: Sequence[float],
    *,
    control: float | None = None,
    treatment: float | None = None,
) -> Effect | None:
    """The Effect with its 95 % interval; None where there are too few pairs for one."""
    if not log_ratios:
        return None
    ratio, low, high = effect_bounds(log_ratios)
    if not math.isfinite(high):
        return None
    return Effect(
        metric=metric,
        ratio=ratio,
        low=low,
        high=high,
        pairs=len(log_ratios),
        control=control,
        treatment=treatment,
    )


def _statement_effect(trial: _Trial, operation: Operation) -> StatementEffect:
    query_id = operation.statement.query_id
    control, treatment = trial.reach.counts(operation)
    reached_s = counted_cpu_s(trial.reach.operations, trial.reach.control)
    own_share = counted_cpu_s([operation], trial.reach.control) / reached_s if reached_s else 0.0
    time_effect = None
    if trial.pairs and operation in _timed(trial):
        time_effect = _effect(
            trial.arms.metric,
            _statement_ratios(trial, operation),
            control=mean(pair.control[query_id].cpu_per_call_s for pair in trial.pairs),
            treatment=mean(pair.treatment[query_id].cpu_per_call_s for pair in trial.pairs),
        )
    return StatementEffect(
        statement=operation.statement,
        time=time_effect,
        control_work=work_of(control),
        treatment_work=work_of(treatment),
        plan_changed=plans_differ(control, treatment),
        mix_share=own_share * trial.reach.share,
    )
