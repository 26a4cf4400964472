"""The annotated plans that a Study keeps: of each statement the one of its heaviest parameters. Pure.

The plans come from counted runs in the lab, before any change and with all that is kept. A report has to
stay readable and small, so there is one plan a statement, of so many statements, with so many nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from perfloop.analyze.annotate import annotate
from perfloop.analyze.reading import read_plans
from perfloop.model.explained import ExplainedPlan
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.workload import Operation, Workload
from perfloop.tune.samples import Count

MOST_STATEMENTS = 40
MOST_NODES = 60


def heaviest_draws(workload: Workload, counts: Mapping[str, Count]) -> dict[str, int]:
    """Which of its instances took longest, by query id; of the statements that take the most time."""
    ran = [each for each in workload.operations if counts[each.statement.query_id].plans]
    ran.sort(key=lambda each: -each.calls_share * counts[each.statement.query_id].cpu_s)
    return {
        each.statement.query_id: _heaviest(counts[each.statement.query_id]) for each in ran[:MOST_STATEMENTS]
    }


def study_plans(
    snapshot: Snapshot, workload: Workload, counts: Mapping[str, Count], draws: Mapping[str, int]
) -> tuple[ExplainedPlan, ...]:
    """The plans of those draws in these counted runs, without the parameters' text."""
    chosen = [
        each
        for each in workload.operations
        if each.statement.query_id in draws
        and draws[each.statement.query_id] < len(counts[each.statement.query_id].plans)
    ]
    plans = tuple(_plan(each, counts, draws[each.statement.query_id]) for each in chosen)
    return tuple(_shortened(annotate(each)) for each in read_plans(replace(snapshot, plans=plans)))


def changed_plans(
    before: tuple[ExplainedPlan, ...], after: tuple[ExplainedPlan, ...]
) -> tuple[ExplainedPlan, ...]:
    """Those of after whose shape is another than before."""
    shapes = {each.query_id: each.shape for each in before}
    return tuple(each for each in after if shapes.get(each.query_id) not in (None, each.shape))


def _heaviest(count: Count) -> int:
    return max(range(len(count.plans)), key=lambda place: count.plans[place].execution_s or 0.0)


def _plan(operation: Operation, counts: Mapping[str, Count], draw: int) -> StatementPlan:
    query_id = operation.statement.query_id
    return StatementPlan(
        query_id=query_id, instance=operation.instances[draw], plan=counts[query_id].plans[draw]
    )


def _shortened(plan: ExplainedPlan) -> ExplainedPlan:
    more = max(0, len(plan.nodes) - MOST_NODES)
    return replace(plan, instance="", nodes=plan.nodes[:MOST_NODES], left_out=plan.left_out + more)
