"""Sorts that an index could spare without a LIMIT, and rows sorted or read only to be skipped."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.expressions import sort_columns
from perfloop.analyze.missing_indexes import is_limited, leading_index, order_text, sorted_table
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode
from perfloop.analyze.sites import Site
from perfloop.model.advice import Evidence
from perfloop.model.units import count_text, share_text

SORTED_ROWS = 1_000
SORT_SHARE = 0.30
"""A sort below this share of the plan is cheaper than reading the table in another order."""
SKIPPED_ROWS = 1_000
SKIPPED_RATIO = 0.90
"""Of the rows that reach a LIMIT, those that its OFFSET throws away."""
_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Bitmap Index Scan")


def avoidable_sort(reading: PlanReading) -> Iterator[Site]:
    """A sort of one table's rows, by columns that no index leads with; under a LIMIT an index is missing."""
    for each in reading.weighed.nodes:
        if each.node.kind in ("Sort", "Incremental Sort") and each.has_run and each.share >= SORT_SHARE:
            yield from _sort(reading, each)


def _sort(reading: PlanReading, each: WeighedNode) -> Iterator[Site]:
    plan = reading.weighed
    keys = sort_columns(each.node)
    if not keys or is_limited(plan, each) or each.rows * each.executions < SORTED_ROWS:
        return
    if any(one.node.kind not in _SCANS and one.node.kind not in GATHERING for one in plan.below(each)[1:]):
        return
    table = sorted_table(reading, each, keys)
    columns = tuple(name for _, name, _ in keys)
    if table is None or leading_index(reading.snapshot, table, columns) is not None:
        return
    order = order_text(keys)
    presorted = ", ".join(each.node.fields.get("Presorted Key", ()))
    yield Site(
        location=f"{table.name}({order})",
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"Sorting {count_text(each.rows)} rows of {table.name} by {order} takes"
            f" {share_text(each.share)} of {reading.label}"
        ),
        evidence=(
            Evidence(label="sort key", value=order),
            *((Evidence(label="sorted already by", value=presorted),) if presorted else ()),
        ),
        would_try=(
            f"an index on {table.name} in this order; whether reading by it is cheaper than sorting,"
            " only a trial can say"
        ),
        positions=(each.position,),
    )


def deep_offset(reading: PlanReading) -> Iterator[Site]:
    """An OFFSET that reads far more rows than the statement returns."""
    for limit in reading.weighed.nodes:
        child = reading.weighed.child(limit, "Outer") if limit.node.kind == "Limit" else None
        if child is None or not limit.has_run:
            continue
        skipped = child.rows * child.executions - limit.rows * limit.executions
        if skipped >= SKIPPED_ROWS and skipped >= SKIPPED_RATIO * child.rows * child.executions:
            yield _skipping(reading, limit, child, skipped)


def _skipping(reading: PlanReading, limit: WeighedNode, child: WeighedNode, skipped: float) -> Site:
    return Site(
        location=f"{reading.label}: OFFSET",
        query_id=reading.query_id,
        plan_share=reading.weighed.share_below(limit) * skipped / (child.rows * child.executions),
        title=(
            f"{reading.label} reads {count_text(child.rows * child.executions)} rows to skip"
            f" {count_text(skipped)} of them by OFFSET"
        ),
        evidence=(Evidence(label="rows returned", value=count_text(limit.rows * limit.executions)),),
        would_try="to go on from the last row seen (WHERE key > … ORDER BY key LIMIT n) instead of counting",
        positions=(limit.position,),
    )
