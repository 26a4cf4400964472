"""Puts what the rules say at the nodes of one plan. Pure; `explain` and the reports draw the result."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.expressions import condition_text
from perfloop.analyze.reading import PlanReading, sites_of
from perfloop.analyze.self_time import WeighedNode, WeighedPlan
from perfloop.analyze.smells import SMELLS
from perfloop.analyze.work import own_blocks, own_temp_blocks
from perfloop.model.explained import ExplainedNode, ExplainedPlan, Remark
from perfloop.model.outline import node_title
from perfloop.model.plan import PlanNode

MOST_NODES = 120
LONGEST_DETAIL = 400
LONGEST_INSTANCE = 4000
LEAST_SHARE = 0.01
"""A remark about less of the plan is left out: it would draw the eye from what matters."""

_CONDITIONS = (
    "Index Cond",
    "Recheck Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "TID Cond",
    "Order By",
    "Filter",
    "One-Time Filter",
    "Run Condition",
    "Sort Key",
    "Presorted Key",
    "Group Key",
    "Cache Key",
    "Remote SQL",
)
_METHODS = ("Sort Method", "Hash Batches", "HashAgg Batches", "Heap Fetches", "Rows Removed by Index Recheck")


def annotate(reading: PlanReading, *, about: str = "") -> ExplainedPlan:
    """The plan of the reading with its remarks, the weightiest first."""
    plan, weighed = reading.plan, reading.weighed
    counters = plan.counters
    has_counts = "Shared Hit Blocks" in plan.root.fields
    blocks, temp_blocks = own_blocks(reading), own_temp_blocks(reading)
    return ExplainedPlan(
        query_id=reading.query_id,
        instance=condition_text(reading.instance, LONGEST_INSTANCE),
        about=about,
        shape=plan.shape,
        total_cost=plan.root.total_cost,
        planning_s=plan.planning_s,
        execution_s=plan.execution_s,
        blocks=counters.blocks if has_counts else None,
        temp_blocks=counters.temp_blocks,
        wal_bytes=counters.wal_bytes,
        nodes=tuple(
            _node(
                weighed,
                each,
                blocks=round(blocks[each.position]) if has_counts else None,
                temp_blocks=round(temp_blocks[each.position]),
            )
            for each in weighed.nodes[:MOST_NODES]
        ),
        left_out=max(0, len(weighed.nodes) - MOST_NODES),
        remarks=tuple(sorted(_remarks(reading), key=lambda each: -each.share)),
    )


def _remarks(reading: PlanReading) -> Iterator[Remark]:
    for smell in SMELLS:
        for site in sites_of(smell, reading):
            if site.plan_share >= LEAST_SHARE:
                yield Remark(
                    check=smell.name,
                    title=site.title,
                    evidence=site.evidence,
                    would_try=site.would_try,
                    share=min(1.0, site.plan_share),
                    positions=site.positions,
                )


def _node(weighed: WeighedPlan, each: WeighedNode, *, blocks: int | None, temp_blocks: int) -> ExplainedNode:
    node = each.node
    return ExplainedNode(
        position=each.position,
        depth=sum(1 for _ in weighed.ancestors(each)),
        title=condition_text(node_title(node), LONGEST_DETAIL),
        details=tuple(_details(node)),
        share=each.share,
        self_s=each.self_s,
        executions=each.executions,
        planned_rows=each.planned_rows,
        rows=each.rows if each.is_measured else None,
        removed_rows=each.removed_rows,
        blocks=blocks,
        temp_blocks=temp_blocks,
        stopped_early=each.is_measured and each.rows < each.planned_rows and _is_limited(weighed, each),
        ran=not each.is_measured or node.loops > 0,
    )


def _is_limited(weighed: WeighedPlan, each: WeighedNode) -> bool:
    return any(above.node.kind == "Limit" for above in weighed.ancestors(each))


def _details(node: PlanNode) -> Iterator[str]:
    for key in _CONDITIONS:
        value = node.fields.get(key)
        if value:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield condition_text(f"{key}: {text}", LONGEST_DETAIL)
    for key in _METHODS:
        value = node.fields.get(key)
        if value and value != 1:
            yield f"{key}: {value}"
