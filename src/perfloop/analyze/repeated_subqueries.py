"""Subqueries that run once per row, and CTEs that are computed whole for the few rows that are read."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.expressions import condition_text
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import Site, relation_text
from perfloop.model.advice import Evidence
from perfloop.model.units import count_text, share_text

REPEATS = 100
"""Executions of a subquery within one statement from which a join in its place is worth trying."""
CTE_ROWS = 1_000
KEPT_RATIO = 0.10
"""Share of a CTE's rows that its readers keep, up to which their condition belongs into it."""
_NEEDED_WHOLE = ("Recursive Union", "ModifyTable")


def correlated_subplan(reading: PlanReading) -> Iterator[Site]:
    """A subquery that runs once per row; the planner's estimate is enough, as each row needs it."""
    plan = reading.weighed
    for each in plan.nodes:
        if each.relationship != "SubPlan" or each.executions < REPEATS:
            continue
        scan = max(plan.below(each), key=lambda one: one.share)
        runs = "runs" if each.is_measured else "is expected to run"
        yield Site(
            location=f"{reading.label}: {each.node.fields.get('Subplan Name', 'SubPlan')}",
            query_id=reading.query_id,
            plan_share=plan.share_below(each),
            title=(
                f"A subquery on {relation_text(scan.node)} {runs} {count_text(each.executions)} times"
                " in one statement, once per row"
            ),
            evidence=(Evidence(label="rows per execution", value=f"{each.rows:.3g}"),),
            would_try="a join, or a LATERAL join, in place of the subquery: both sides are then read once",
            positions=(each.position,),
        )


def cte_fence(reading: PlanReading) -> Iterator[Site]:
    """A CTE computed whole although every reader keeps only a few of its rows."""
    for each in reading.weighed.nodes:
        name = str(each.node.fields.get("Subplan Name", ""))
        produced = each.rows * each.executions
        if not name.startswith("CTE ") or each.node.kind in _NEEDED_WHOLE:
            continue
        readers = _readers(reading, name.removeprefix("CTE "))
        if each.has_run and produced >= CTE_ROWS and readers and all(_keeps_few(one) for one in readers):
            yield _fence(reading, each, readers)


def _readers(reading: PlanReading, name: str) -> list[WeighedNode]:
    return [one for one in reading.weighed.nodes if one.node.fields.get("CTE Name") == name]


def _keeps_few(reader: WeighedNode) -> bool:
    return reader.removed_rows > 0 and reader.rows <= KEPT_RATIO * reader.read_rows


def _fence(reading: PlanReading, each: WeighedNode, readers: list[WeighedNode]) -> Site:
    name = str(each.node.fields["Subplan Name"])
    read = sum(one.read_rows * one.executions for one in readers)
    kept = sum(one.rows * one.executions for one in readers)
    conditions = " and ".join(condition_text(str(one.node.fields.get("Filter", ""))) for one in readers)
    return Site(
        location=f"{reading.label}: {name}",
        query_id=reading.query_id,
        plan_share=min(1.0, reading.weighed.share_below(each) + sum(one.share for one in readers)),
        title=(
            f"{name} is computed whole, {count_text(each.rows * each.executions)} rows,"
            f" of which its readers keep {share_text(kept / read)}"
        ),
        evidence=(Evidence(label="condition of the readers", value=conditions),),
        would_try="NOT MATERIALIZED, or the condition inside the CTE, so that it reads only what is wanted",
        positions=(each.position, *(one.position for one in readers)),
    )
