"""Puts what the rules say at the nodes of one plan. Pure; `explain` and the reports draw the result."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import WeighedNode, WeighedPlan
from perfloop.analyze.smells import SMELLS
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
    return ExplainedPlan(
        query_id=reading.query_id,
        instance=_cut(reading.instance, LONGEST_INSTANCE),
        about=about,
        shape=plan.shape,
        total_cost=plan.root.total_cost,
        planning_s=plan.planning_s,
        execution_s=plan.execution_s,
        blocks=counters.blocks if has_counts else None,
        temp_blocks=counters.temp_blocks,
        wal_bytes=counters.wal_bytes,
        nodes=tuple(_node(weighed, each) for each in weighed.nodes[:MOST_NODES]),
        left_out=max(0, len(weighed.nodes) - MOST_NODES),
        remarks=tuple(sorted(_remarks(reading), key=lambda each: -each.share)),
    )


def _remarks(reading: PlanReading) -> Iterator[Remark]:
    for smell in SMELLS:
        for site in smell.find(reading):
            if site.plan_share >= LEAST_SHARE:
                yield Remark(
                    check=smell.name,
                    title=site.title,
                    evidence=site.evidence,
                    would_try=site.would_try,
                    share=min(1.0, site.plan_share),
                    positions=site.positions,
                )


def _node(weighed: WeighedPlan, each: WeighedNode) -> ExplainedNode:
    node = each.node
    return ExplainedNode(
        position=each.position,
        depth=sum(1 for _ in weighed.ancestors(each)),
        title=_cut(node_title(node), LONGEST_DETAIL),
        details=tuple(_details(node)),
        share=each.share,
        self_s=each.self_s,
        executions=each.executions,
        planned_rows=each.planned_rows,
        rows=each.rows if each.is_measured else None,
        removed_rows=each.removed_rows,
        blocks=_own(weighed, each, "Shared Hit Blocks", "Shared Read Blocks"),
        temp_blocks=_own(weighed, each, "Temp Read Blocks", "Temp Written Blocks") or 0,
        stopped_early=each.is_measured and each.rows < each.planned_rows and _is_limited(weighed, each),
        ran=not each.is_measured or node.loops > 0,
    )


def _is_limited(weighed: WeighedPlan, each: WeighedNode) -> bool:
    return any(above.node.kind == "Limit" for above in weighed.ancestors(each))


def _own(weighed: WeighedPlan, each: WeighedNode, *keys: str) -> int | None:
    """The node's count without its children's, which EXPLAIN adds to it; None where there is no count."""
    if keys[0] not in each.node.fields:
        return None
    below = sum(_sum(child.node, keys) for child in weighed.children(each))
    return max(0, _sum(each.node, keys) - below)


def _sum(node: PlanNode, keys: tuple[str, ...]) -> int:
    return sum(int(node.fields.get(key, 0)) for key in keys)


def _details(node: PlanNode) -> Iterator[str]:
    for key in _CONDITIONS:
        value = node.fields.get(key)
        if value:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield _cut(f"{key}: {text}", LONGEST_DETAIL)
    for key in _METHODS:
        value = node.fields.get(key)
        if value and value != 1:
            yield f"{key}: {value}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
