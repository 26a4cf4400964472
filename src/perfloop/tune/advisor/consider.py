"""Turns the Workload into statements that the search can weigh; what cannot be analysed is listed."""

from __future__ import annotations

import math
from collections.abc import Mapping

from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Table, TableName
from perfloop.model.value import Value
from perfloop.model.workload import Operation, Workload
from perfloop.tune.advisor.accesses import Access, read_accesses
from perfloop.tune.advisor.families import by_name
from perfloop.tune.advisor.objective import Considered, time_shares, weighted_mean
from perfloop.tune.advisor.predicates import read_written
from perfloop.tune.advisor.what_if import WhatIf
from perfloop.tune.advisor.writes import read_writes
from perfloop.tune.weighing import Weighing

_MOST_PLANNED = 12
"""Instances of one operation that are planned to find the cheap and the dear ones."""


class Reading(Value, frozen=True, kw_only=True):
    """The Workload as the search sees it, and why some of it is missing."""

    statements: tuple[Considered, ...]
    plans: tuple[tuple[Plan, ...], ...]
    """Of each statement, one per instance."""
    unreadable: tuple[str, ...] = ()

    def every_plan(self) -> tuple[Plan, ...]:
        return tuple(plan for each in self.plans for plan in each)


class _Planned(Value, frozen=True, kw_only=True):
    operation: Operation
    instances: tuple[str, ...]
    plans: tuple[Plan, ...]
    weights: tuple[int, ...]
    """How many instances of the operation each one stands for."""

    @property
    def costs(self) -> tuple[float, ...]:
        return tuple(plan.root.total_cost for plan in self.plans)


def read_workload(
    workload: Workload,
    snapshot: Snapshot,
    what_if: WhatIf,
    *,
    max_instances: int,
    weighing: Weighing = Weighing.TIME,
) -> Reading:
    """Plan every operation and read what it asks for. One bad statement never stops the others."""
    tables = by_name(snapshot.tables)
    planned: list[tuple[_Planned, tuple[Access, ...]]] = []
    unreadable: list[str] = []
    for operation in workload.operations:
        try:
            each = _plan(operation, what_if, max_instances)
            planned.append((each, _accesses(each, tables)))
        except UnsupportedStatement as error:
            unreadable.append(f"{operation.statement.label}: not analysed, because {error}")
    costs = {
        each.operation.statement.query_id: weighted_mean(each.costs, each.weights) for each, _ in planned
    }
    shares = time_shares(workload, snapshot, costs, weighing)
    return Reading(
        statements=tuple(_considered(each, accesses, shares) for each, accesses in planned),
        plans=tuple(each.plans for each, _ in planned),
        unreadable=tuple(unreadable),
    )


def _plan(operation: Operation, what_if: WhatIf, max_instances: int) -> _Planned:
    """The instances to weigh by: the cheapest, the dearest, and those in equal ratios between.

    Most draws of a skewed parameter are alike and cheap, so that the middle one by rank would say
    nothing new. Each that is left out counts for the one nearest in cost.
    """
    instances = dict.fromkeys(operation.instances[:_MOST_PLANNED])
    plans = [(what_if.plan(instance), instance) for instance in instances]
    plans.sort(key=lambda each: (each[0].root.total_cost, each[1]))
    heights = [math.log(max(plan.root.total_cost, 1e-6)) for plan, _ in plans]
    chosen = _spread(heights, max_instances)
    nearest = [min(chosen, key=lambda place: abs(heights[place] - height)) for height in heights]
    return _Planned(
        operation=operation,
        instances=tuple(plans[place][1] for place in chosen),
        plans=tuple(plans[place][0] for place in chosen),
        weights=tuple(nearest.count(place) for place in chosen),
    )


def _spread(heights: list[float], count: int) -> list[int]:
    """The places of at most `count` values, evenly apart between the lowest and the highest.

    >>> _spread([0.0, 0.0, 0.1, 2.0, 4.0], 3), _spread([1.0, 1.0], 3), _spread([1.0, 2.0], 1)
    ([0, 3, 4], [0], [1])
    """
    low, high = heights[0], heights[-1]
    steps = max(1, count - 1)
    targets = [high] if count == 1 else [low + (high - low) * step / steps for step in range(count)]
    places = (min(range(len(heights)), key=lambda place: abs(heights[place] - target)) for target in targets)
    return list(dict.fromkeys(places))


def _accesses(planned: _Planned, tables: Mapping[TableName, Table]) -> tuple[Access, ...]:
    written = read_written(planned.operation.statement.text, planned.operation.instances)
    found = (access for plan in planned.plans for access in read_accesses(plan, tables, written))
    return tuple(dict.fromkeys(found))


def _considered(planned: _Planned, accesses: tuple[Access, ...], shares: Mapping[str, float]) -> Considered:
    statement = planned.operation.statement
    return Considered(
        query_id=statement.query_id,
        label=statement.label,
        instances=planned.instances,
        weights=planned.weights,
        base_costs=planned.costs,
        accesses=accesses,
        writes=read_writes(planned.plans[-1], planned.instances[-1]),
        time_share=shares[statement.query_id],
    )
