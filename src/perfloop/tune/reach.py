"""Which statements of a workload a Change reaches, by plans and counted runs.

EXPLAIN in both arms shows which statements plan differently; one counted run shows which do different work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from perfloop.adapters.explain import explain
from perfloop.errors import UnsupportedStatement
from perfloop.model.advice import AlterSetting, Change, RewriteQuery
from perfloop.model.outcome import LabKind
from perfloop.model.workload import Operation, StatementKind, Workload
from perfloop.tune.lab.arms import Arm, Arms
from perfloop.tune.measure import count, is_heavy, priced, runaway_s
from perfloop.tune.samples import Count
from perfloop.tune.summary import counted_cpu_s, counts_differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The operations that a Change reaches, and the counted runs in both arms of all that it might."""

    operations: tuple[Operation, ...]
    control: Mapping[str, Count]
    treatment: Mapping[str, Count]
    share: float
    """Of the whole workload's CPU time that these operations have in the control, in [0, 1]."""

    def counts(self, operation: Operation) -> tuple[Count, Count]:
        """The counted runs in control and treatment."""
        query_id = operation.statement.query_id
        return self.control[query_id], self.treatment[query_id]


def find_reach(
    change: Change,
    arms: Arms,
    workload: Workload,
    baseline: Mapping[str, Count],
    known: Mapping[str, Count],
) -> Reach:
    """Count the candidates in both arms and keep those whose plan or work differs.

    A second instance is for settings that may act on neither, so there every operation counts as reached;
    so does the one that a rewriting is about.
    `baseline` and `known` are as in `trial.run_trial`.

    Raises:
        ServerFailed: the lab's server ended a session.
    """
    control: dict[str, Count] = {}
    treatment: dict[str, Count] = {}
    reached = []
    for operation in workload.operations:
        if not _may_reach(change, arms, operation):
            continue
        query_id = operation.statement.query_id
        before = known.get(query_id)
        if before is None or not _stands(before, arms.control, operation):
            before = count(arms.control, operation)
        limit_s = runaway_s(before)
        after = count(arms.treatment, operation, limit_s=limit_s)
        if operation.statement.kind is StatementKind.WRITE and counts_differ(before, after):
            before = _leaner(before, count(arms.control, operation))
            after = _leaner(after, count(arms.treatment, operation, limit_s=limit_s))
        always = arms.kind is LabKind.INSTANCES or isinstance(change, RewriteQuery)
        if always or counts_differ(before, after):
            reached.append(operation)
            before = _priced(arms.control, operation, before, limit_s)
            after = _priced(arms.treatment, operation, after, limit_s)
        control[query_id], treatment[query_id] = before, after
    whole_s = counted_cpu_s(workload.operations, {**baseline, **control})
    reached_s = counted_cpu_s(reached, control)
    return Reach(
        operations=tuple(reached),
        control=control,
        treatment=treatment,
        share=min(1.0, reached_s / whole_s) if whole_s > 0 else 1.0,
    )


def _may_reach(change: Change, arms: Arms, operation: Operation) -> bool:
    """Whether a counted run is worth while: settings may act on any work, the rest on plans and writes."""
    if isinstance(change, RewriteQuery):
        return operation.statement.query_id == change.query_id
    if isinstance(change, AlterSetting) or operation.statement.kind is StatementKind.WRITE:
        return True
    return not plans_alike(arms, operation)


def plans_alike(arms: Arms, operation: Operation) -> bool:
    """Whether every instance has the same plan, or the same refusal, in both arms."""
    return all(_shape(arms.control, text) == _shape(arms.treatment, text) for text in operation.instances)


def _leaner(one: Count, other: Count) -> Count:
    """The counted run that wrote less: a full page is pruned in one run, an index costs every run."""
    if one.error is not None or other.error is not None:
        return one
    return min(one, other, key=lambda each: each.mean("wal_bytes"))


def _priced(arm: Arm, operation: Operation, counted: Count, limit_s: float) -> Count:
    if counted.error is not None or counted.is_priced or not is_heavy(counted):
        return counted
    return priced(arm, operation, counted, limit_s=limit_s)


def _stands(earlier: Count, arm: Arm, operation: Operation) -> bool:
    """Whether a heavy operation's count still holds, since the arm plans it as it did then."""
    if earlier.error is not None or not is_heavy(earlier):
        return False
    return [_shape(arm, text) for text in operation.instances] == [plan.shape for plan in earlier.plans]


def _shape(arm: Arm, text: str) -> str:
    try:
        return explain(arm.connection, arm.text(text)).shape
    except (UnsupportedStatement, psycopg.Error) as error:
        return str(error)
