"""Turns the Workload into statements that the search can weigh; what cannot be analysed is listed."""

from __future__ import annotations

from collections.abc import Mapping

from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Table, TableName
from perfloop.model.value import Value
from perfloop.model.workload import Operation, Workload
from perfloop.tune.advisor.accesses import Access, read_accesses
from perfloop.tune.advisor.objective import Considered, time_shares
from perfloop.tune.advisor.what_if import WhatIf
from perfloop.tune.advisor.writes import read_writes

_MOST_PLANNED = 12
"""Instances of one operation that are planned to find the cheap and the dear ones."""


class Reading(Value, frozen=True, kw_only=True):
    """The Workload as the search sees it, and why some of it is missing."""

    statements: tuple[Considered, ...]
    plans: tuple[tuple[Plan, ...], ...]
    """Of each statement, one per instance."""
    unreadable: tuple[str, ...] = ()


class _Planned(Value, frozen=True, kw_only=True):
    operation: Operation
    instances: tuple[str, ...]
    plans: tuple[Plan, ...]

    @property
    def mean_cost(self) -> float:
        return sum(plan.root.total_cost for plan in self.plans) / len(self.plans)


def read_workload(workload: Workload, snapshot: Snapshot, what_if: WhatIf, *, max_instances: int) -> Reading:
    """Plan every operation and read what it asks for. One bad statement never stops the others."""
    tables = {table.name: table for table in snapshot.tables if not table.is_partitioned}
    planned: list[tuple[_Planned, tuple[Access, ...]]] = []
    unreadable: list[str] = []
    for operation in workload.operations:
        try:
            each = _plan(operation, what_if, max_instances)
            planned.append((each, _accesses(each, tables)))
        except UnsupportedStatement as error:
            unreadable.append(f"{operation.statement.label}: not analysed, because {error}")
    costs = {each.operation.statement.query_id: each.mean_cost for each, _ in planned}
    shares = time_shares(workload, snapshot, costs)
    return Reading(
        statements=tuple(_considered(each, accesses, shares) for each, accesses in planned),
        plans=tuple(each.plans for each, _ in planned),
        unreadable=tuple(unreadable),
    )


def _plan(operation: Operation, what_if: WhatIf, max_instances: int) -> _Planned:
    """The instances to weigh by: the cheapest, the dearest, and those evenly between."""
    instances = dict.fromkeys(operation.instances[:_MOST_PLANNED])
    plans = [(what_if.plan(instance), instance) for instance in instances]
    plans.sort(key=lambda each: (each[0].root.total_cost, each[1]))
    last = len(plans) - 1
    count = min(max_instances, len(plans))
    positions = [round(last * each / max(1, count - 1)) for each in range(count)] if count > 1 else [last]
    chosen = [plans[position] for position in positions]
    return _Planned(
        operation=operation,
        instances=tuple(instance for _, instance in chosen),
        plans=tuple(plan for plan, _ in chosen),
    )


def _accesses(planned: _Planned, tables: Mapping[TableName, Table]) -> tuple[Access, ...]:
    found = (access for plan in planned.plans for access in read_accesses(plan, tables))
    return tuple(dict.fromkeys(found))


def _considered(planned: _Planned, accesses: tuple[Access, ...], shares: Mapping[str, float]) -> Considered:
    statement = planned.operation.statement
    return Considered(
        query_id=statement.query_id,
        label=statement.label,
        instances=planned.instances,
        base_costs=tuple(plan.root.total_cost for plan in planned.plans),
        accesses=accesses,
        writes=read_writes(planned.plans[-1], planned.instances[-1]),
        time_share=shares[statement.query_id],
    )
