"""What of a workload runs in the lab, and its first counted runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from perfloop.errors import InvalidInput
from perfloop.model.snapshot import Snapshot
from perfloop.model.workload import Operation, SkippedStatement, Workload
from perfloop.tune.lab.arms import Arm
from perfloop.tune.measure import count
from perfloop.tune.samples import Count

LONGEST_S = 30.0
"""A drawn instance that takes longer in the lab is not waited for, unless the statement's mean says so."""
OWN_LONGEST_S = 600.0
"""The same for a text without parameters, which is the service's own."""
FAR_RATIO = 50.0
NEAR_RATIO = 4.0
SHORTEST_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """The operations that run, with shares that sum to 1, their counted runs, and what does not run."""

    workload: Workload
    counts: Mapping[str, Count]
    skipped: tuple[SkippedStatement, ...]


def find_runnable(arm: Arm, workload: Workload, snapshot: Snapshot) -> Runnable:
    """Count every operation once; what fails leaves the workload, with the reason.

    Raises:
        InvalidInput: nothing runs.
        ServerFailed: the lab's server ended the session.
    """
    known = {each.statement.query_id: each for each in snapshot.statements}
    whole_s = snapshot.total_s()
    skipped: list[SkippedStatement] = []
    running: list[Operation] = []
    counts: dict[str, Count] = {}
    for operation in workload.operations:
        seen = known.get(operation.statement.query_id)
        limit_s = _limit_s(operation, None if seen is None else seen.mean_s)
        usable, counted = _count_usable(arm, operation, limit_s)
        if usable is None:
            share = seen.total_s / whole_s if seen and whole_s else 0.0
            reason = f"fails in the lab: {counted.error}"
            skipped.append(SkippedStatement(statement=operation.statement, reason=reason, time_share=share))
        else:
            counts[operation.statement.query_id] = counted
            running.append(usable)
    if not running:
        raise InvalidInput(f"no statement of the workload runs in the lab: {skipped[0].reason}")
    total = sum(each.calls_share for each in running)
    operations = tuple(
        msgspec.structs.replace(each, calls_share=each.calls_share / total) for each in running
    )
    whole = msgspec.structs.replace(workload, operations=operations)
    return Runnable(workload=whole, counts=counts, skipped=tuple(skipped))


def _limit_s(operation: Operation, mean_s: float | None) -> float:
    """How long a drawn instance may take: far beyond the mean, it is none that the service runs."""
    if operation.instances == (operation.statement.text,):
        return OWN_LONGEST_S
    if mean_s is None:
        return LONGEST_S
    return max(SHORTEST_LIMIT_S, min(LONGEST_S, FAR_RATIO * mean_s), NEAR_RATIO * mean_s)


def _count_usable(arm: Arm, operation: Operation, limit_s: float) -> tuple[Operation | None, Count]:
    """The operation with the instances that run: drawn parameters may break a rule, or take for ever."""
    counted = count(arm, operation, limit_s=limit_s)
    if counted.error is None:
        return operation, counted
    singles = [msgspec.structs.replace(operation, instances=(text,)) for text in operation.instances]
    usable = tuple(each.instances[0] for each in singles if count(arm, each, limit_s=limit_s).error is None)
    if not usable:
        return None, counted
    operation = msgspec.structs.replace(operation, instances=usable)
    counted = count(arm, operation, limit_s=limit_s)
    return (operation if counted.error is None else None), counted
