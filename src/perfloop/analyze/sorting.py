"""Sorts that an index could spare without a LIMIT, and rows sorted or read only to be skipped."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from perfloop.analyze.expressions import sort_columns
from perfloop.analyze.missing_indexes import is_limited, leading_index, order_text, sorted_table
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode
from perfloop.analyze.sites import Site
from perfloop.analyze.syntax import statement_tree
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
    """An OFFSET that reads far more rows than the statement returns.

    Of a plan that was not executed only an OFFSET is believed that the statement has as a number of its
    own: one drawn for a parameter says nothing.
    """
    for limit in reading.weighed.nodes:
        child = reading.weighed.child(limit, "Outer") if limit.node.kind == "Limit" else None
        if child is None:
            continue
        if limit.has_run:
            returned, read = limit.rows * limit.executions, child.rows * child.executions
        else:
            returned = limit.rows
            read = returned + min(_written_offset(reading), child.rows - returned)
        if read - returned >= max(SKIPPED_ROWS, SKIPPED_RATIO * read):
            yield _skipping(reading, limit, returned, read)


def _written_offset(reading: PlanReading) -> float:
    """The OFFSET in the statement's text; 0 where it is none, or where it is unclear whose it is."""
    tree = statement_tree(reading.snapshot, reading.query_id, reading.instance)
    written = [] if tree is None else [each.expression for each in tree.find_all(exp.Offset)]
    limits = [each for each in reading.weighed.nodes if each.node.kind == "Limit"]
    if len(written) != 1 or len(limits) != 1 or not written[0].is_int:
        return 0.0
    return float(written[0].to_py())


def _skipping(reading: PlanReading, limit: WeighedNode, returned: float, read: float) -> Site:
    skipped = read - returned
    is_estimate = () if limit.has_run else (Evidence(label="as planned", value="it was not executed"),)
    return Site(
        location=f"{reading.label}: OFFSET",
        query_id=reading.query_id,
        plan_share=reading.weighed.share_below(limit) * skipped / read,
        title=(
            f"{reading.label} reads {count_text(read)} rows to skip {count_text(skipped)} of them by OFFSET"
        ),
        evidence=(Evidence(label="rows returned", value=count_text(returned)), *is_estimate),
        would_try="to go on from the last row seen (WHERE key > … ORDER BY key LIMIT n) instead of counting",
        positions=(limit.position,),
    )
