"""The confirmation: the whole kept stack against the original, in fresh pairs, on the whole workload.

Changes are kept because they looked good, so the figures of their trials look too good. These are fresh
pairs, run on fresh clones with another seed, and the only figures that reports quote in sum.

Every operation runs in every pair and counts with its share of the calls. Latencies are those of one
client in a closed loop, and throughput is what that client gets done: they say what the statements take,
not how requests queue under a given load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from perfloop.errors import UnsupportedStatement
from perfloop.model.outcome import Confirmation, Effect, StatementEffect
from perfloop.model.workload import Operation, Workload
from perfloop.stats.interval import bootstrap_interval, geometric_mean, ratio_of_sums
from perfloop.stats.ratio import log_ratio
from perfloop.tune.decision import effect_bounds
from perfloop.tune.lab.arms import Arms
from perfloop.tune.measure import count, plan_turns, run_pair
from perfloop.tune.samples import Block, Count, FailedPair, Pair, Turn
from perfloop.tune.summary import host_of, mean, plans_differ, weighted_s, work_of, work_of_mix

PAIRS = 20
SLICE_S = 0.6
"""Aimed length of one arm's half of a pair, in seconds."""

Blocks = Mapping[str, Block]


def confirm(arms: Arms, workload: Workload, *, seed: int, pairs: int = PAIRS) -> Confirmation:
    """Measure the stack that is in place in the treatment arm against the original in the control.

    Raises:
        UnsupportedStatement: a statement fails in so many pairs that nothing can be said.
        ServerFailed: the lab's server ended a session.
    """
    rng = Random(seed)
    control = {each.statement.query_id: count(arms.control, each) for each in workload.operations}
    treatment = {each.statement.query_id: count(arms.treatment, each) for each in workload.operations}
    turns = plan_turns(workload.operations, control, treatment, slice_s=SLICE_S)
    run = _run_pairs(arms, turns, pairs, rng)
    return Confirmation(
        effects=_effects(run, workload.operations, rng),
        statements=_statements(run, workload.operations, control, treatment),
        control_work=work_of_mix(workload.operations, control),
        treatment_work=work_of_mix(workload.operations, treatment),
        size_bytes=arms.size_bytes,
        host=host_of(run),
    )


def _run_pairs(arms: Arms, turns: Sequence[Turn], pairs: int, rng: Random) -> list[Pair]:
    """So many pairs in which no statement failed, after one to warm up."""
    run_pair(arms.control, arms.treatment, turns, rng)
    run: list[Pair] = []
    failed = 0
    while len(run) < pairs:
        pair = run_pair(arms.control, arms.treatment, turns, rng)
        if not isinstance(pair, FailedPair):
            run.append(pair)
            continue
        failed += 1
        if failed > pairs:
            raise UnsupportedStatement(
                f"{pair.label} fails in most pairs: {pair.error}; leave it out of the workload"
            )
    return run


def weighted_quantile(values: Sequence[tuple[float, float]], q: float) -> float:
    """The smallest value at which the weights, as (value, weight), reach a share of `q`.

    >>> weighted_quantile([(1.0, 9.0), (5.0, 1.0)], 0.5)
    1.0
    """
    ordered = sorted(values)
    wanted = q * sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= wanted:
            return value
    return ordered[-1][0]


def _effects(pairs: Sequence[Pair], operations: Sequence[Operation], rng: Random) -> tuple[Effect, ...]:
    def cpu_s(blocks: Blocks) -> float:
        return weighted_s(blocks, operations, lambda block: block.cpu_per_call_s)

    def mean_s(blocks: Blocks) -> float:
        return weighted_s(blocks, operations, lambda block: block.wall_per_call_s)

    def p95_s(blocks: Blocks) -> float:
        weighed = [
            (latency_s, each.calls_share / len(blocks[each.statement.query_id].latencies_s))
            for each in operations
            for latency_s in blocks[each.statement.query_id].latencies_s
        ]
        return weighted_quantile(weighed, 0.95)

    mean_effect = _effect("mean_s", pairs, mean_s, _average, rng)
    return (
        _effect("cpu_s", pairs, cpu_s, _average, rng),
        mean_effect,
        _effect("p95_s", pairs, p95_s, geometric_mean, rng),
        _inverse("throughput_per_s", mean_effect),
    )


def _effect(
    metric: str,
    pairs: Sequence[Pair],
    measured: Callable[[Blocks], float],
    summary: Callable[[Sequence[float]], float],
    rng: Random,
) -> Effect:
    control = [measured(pair.control) for pair in pairs]
    treatment = [measured(pair.treatment) for pair in pairs]
    interval = bootstrap_interval(control, treatment, summary, rng=rng)
    return Effect(
        metric=metric,
        ratio=interval.estimate,
        low=min(interval.low, interval.estimate),
        high=max(interval.high, interval.estimate),
        pairs=len(pairs),
        control=summary(control),
        treatment=summary(treatment),
    )


def _average(values: Sequence[float]) -> float:
    return ratio_of_sums([(value, 1.0) for value in values])


def _inverse(metric: str, effect: Effect) -> Effect:
    assert effect.control is not None
    assert effect.treatment is not None
    return Effect(
        metric=metric,
        ratio=1 / effect.ratio,
        low=1 / effect.high,
        high=1 / effect.low,
        pairs=effect.pairs,
        control=1 / effect.control,
        treatment=1 / effect.treatment,
    )


def _statements(
    pairs: Sequence[Pair],
    operations: Sequence[Operation],
    control: Mapping[str, Count],
    treatment: Mapping[str, Count],
) -> tuple[StatementEffect, ...]:
    whole_s = mean(
        weighted_s(pair.control, operations, lambda block: block.wall_per_call_s) for pair in pairs
    )
    found = []
    for each in operations:
        query_id = each.statement.query_id
        control_s = [pair.control[query_id].wall_per_call_s for pair in pairs]
        treatment_s = [pair.treatment[query_id].wall_per_call_s for pair in pairs]
        ratio, low, high = effect_bounds(
            [log_ratio(*both) for both in zip(control_s, treatment_s, strict=True)]
        )
        found.append(
            StatementEffect(
                statement=each.statement,
                time=Effect(
                    metric="mean_s",
                    ratio=ratio,
                    low=low,
                    high=high,
                    pairs=len(pairs),
                    control=mean(control_s),
                    treatment=mean(treatment_s),
                ),
                control_work=work_of(control[query_id]),
                treatment_work=work_of(treatment[query_id]),
                plan_changed=plans_differ(control[query_id], treatment[query_id]),
                mix_share=min(1.0, each.calls_share * mean(control_s) / whole_s),
            )
        )
    return tuple(found)
