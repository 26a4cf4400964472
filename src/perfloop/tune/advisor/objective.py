"""What the search makes small: the cost of the whole Workload, so that no single statement rules.

With `r` the cost of a statement over its cost before, and `s` its share of the measured time:

    objective = 1/2 · sum(s · r) + 1/2 · exp(sum(u · ln r)),  u in proportion to sqrt(s)

The first half is what the machine gains. One giant statement can own it (on TPC-H one of 22 has 97 %
of the cost), and then a plain sum stops once the giant is served. The second half is a geometric
mean: it pays for the relative gain of every statement, with the square root between "every statement
counts the same" and "only time counts". An objective of 1 is the Workload as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, TableName
from perfloop.model.value import Value
from perfloop.model.workload import Operation, Workload
from perfloop.tune.advisor.accesses import Access
from perfloop.tune.advisor.writes import Write, maintenance_cost
from perfloop.tune.weighing import Weighing


class Considered(Value, frozen=True, kw_only=True):
    """One statement of the Workload as the search sees it."""

    query_id: str
    label: str
    instances: tuple[str, ...]
    weights: tuple[int, ...]
    """How many draws of its parameters each instance stands for."""
    base_costs: tuple[float, ...]
    """Planner cost of each instance before any change."""
    accesses: tuple[Access, ...]
    writes: tuple[Write, ...] = ()
    time_share: float

    @property
    def tables(self) -> tuple[TableName, ...]:
        """Every table that it reads or writes, sorted."""
        read = {access.table for access in self.accesses}
        return tuple(sorted(read | {write.table for write in self.writes}))


def relative_cost(
    statement: Considered,
    costs: tuple[float, ...],
    indexes: Mapping[TableName, tuple[Index, ...]],
    added: tuple[CreateIndex, ...],
) -> float:
    """The statement's cost over its cost before, writing included."""
    planned_before = weighted_mean(statement.base_costs, statement.weights)
    before = planned_before + _writing(statement.writes, indexes, ())
    after = weighted_mean(costs, statement.weights) + _writing(statement.writes, indexes, added)
    return max(after, 1e-9) / max(before, 1e-9)


def writing_ratio(
    statement: Considered,
    indexes: Mapping[TableName, tuple[Index, ...]],
    added: tuple[CreateIndex, ...],
) -> float:
    """What the statement writes with the indexes over what it writes without; 1 where it writes nothing."""
    if not statement.writes:
        return 1.0
    return _writing(statement.writes, indexes, added) / max(_writing(statement.writes, indexes, ()), 1e-9)


def weighted_mean(values: tuple[float, ...], weights: tuple[int, ...]) -> float:
    """The mean in which each value counts as often as its weight says."""
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def objective(shares: tuple[float, ...], ratios: tuple[float, ...]) -> float:
    """The objective of this module's docstring. `shares` sum to 1.

    >>> round(objective((0.97, 0.03), (1.0, 1.0)), 6)
    1.0
    """
    roots = [math.sqrt(share) for share in shares]
    whole = sum(roots)
    logarithm = sum(root * math.log(ratio) for root, ratio in zip(roots, ratios, strict=True)) / whole
    return (weighted_ratio(shares, ratios) + math.exp(logarithm)) / 2


def weighted_ratio(shares: tuple[float, ...], ratios: tuple[float, ...]) -> float:
    """The Workload's expected time over its time before: the mean weighted by time."""
    return sum(share * ratio for share, ratio in zip(shares, ratios, strict=True))


def geometric_ratio(ratios: tuple[float, ...]) -> float:
    """The geometric mean in which every statement counts the same.

    >>> round(geometric_ratio((0.5, 2.0)), 6)
    1.0
    """
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios)) if ratios else 1.0


def time_shares(
    workload: Workload, snapshot: Snapshot, base_costs: Mapping[str, float], weighing: Weighing
) -> dict[str, float]:
    """What each operation of `base_costs` weighs, by query id; they sum to 1.

    By time that is its share of the Workload's time: counters of the target come first, then the
    execution time of a plan that was run, then planner cost, put on the scale of those measured.
    """
    if weighing is Weighing.EQUAL:
        return {query_id: 1.0 / len(base_costs) for query_id in base_costs}
    known = seconds_per_call(workload, snapshot)
    costs = sum(base_costs.get(query_id, 0.0) for query_id in known)
    scale = sum(known.values()) / costs if costs > 0 and known else 1.0
    times = {}
    for operation in workload.operations:
        query_id = operation.statement.query_id
        if query_id in base_costs:
            seconds = known.get(query_id, base_costs[query_id] * scale)
            times[query_id] = max(seconds, 1e-12) * operation.calls_share
    whole = sum(times.values()) or 1.0
    return {query_id: seconds / whole for query_id, seconds in times.items()}


def seconds_per_call(workload: Workload, snapshot: Snapshot) -> dict[str, float]:
    """What a call of each operation takes, by query id, of those where it was measured."""
    per_call = ((each.statement.query_id, _seconds(each, snapshot)) for each in workload.operations)
    return {query_id: seconds for query_id, seconds in per_call if seconds is not None}


def seconds_per_instance(workload: Workload, snapshot: Snapshot) -> dict[str, float]:
    """What each instance takes, as far as known: as its plan took that was run, or else a call on average."""
    per_call = seconds_per_call(workload, snapshot)
    known = {
        instance: per_call[each.statement.query_id]
        for each in workload.operations
        if each.statement.query_id in per_call
        for instance in each.instances
    }
    run = {each.instance: each.plan.execution_s for each in snapshot.plans}
    return {**known, **{instance: took_s for instance, took_s in run.items() if took_s is not None}}


def _seconds(operation: Operation, snapshot: Snapshot) -> float | None:
    query_id = operation.statement.query_id
    for counters in snapshot.statements:
        if counters.statement.query_id == query_id and counters.calls > 0:
            return counters.mean_s
    plans: list[Plan] = [each.plan for each in snapshot.plans if each.query_id == query_id]
    run = [plan.execution_s for plan in plans if plan.execution_s is not None]
    return sum(run) / len(run) if run else None


def _writing(
    writes: tuple[Write, ...],
    indexes: Mapping[TableName, tuple[Index, ...]],
    added: tuple[CreateIndex, ...],
) -> float:
    return sum(
        maintenance_cost(
            write,
            indexes.get(write.table, ()),
            tuple(index for index in added if index.table == write.table),
        )
        for write in writes
    )
