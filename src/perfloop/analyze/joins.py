"""Joins that look up row by row, that form more pairs than they keep, or that remember in vain."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perfloop.analyze.expressions import columns_in, condition_text
from perfloop.analyze.missing_indexes import missing_index
from perfloop.analyze.planner_statistics import row_misestimate
from perfloop.analyze.reading import PlanReading, positions_of
from perfloop.analyze.self_time import WeighedNode, WeighedPlan
from perfloop.analyze.sites import Site, place_text, relation_text, table_of
from perfloop.analyze.work import process_fields
from perfloop.model.advice import Evidence
from perfloop.model.units import count_text, share_text

LOOKUPS = 1_000
"""Executions of an inner side from which reading it once may be cheaper."""
LOOKUP_SHARE = 0.30
"""Share of the plan that the inner side takes."""
PAIRS = 10_000
REMOVED_RATIO = 0.90
"""Share of the pairs of rows that a join forms and throws away."""
HIT_RATIO = 0.5
"""Memoize pays where it finds more than it misses."""
_JOINS = ("Nested Loop", "Hash Join", "Merge Join")
_CONDITIONS = ("Index Cond", "Recheck Cond", "Filter", "TID Cond")


def nested_loop_lookups(reading: PlanReading) -> Iterator[Site]:
    """An inner side executed a thousand times or more that takes much of the time."""
    plan = reading.weighed
    for each in plan.nodes:
        inner = plan.child(each, "Inner") if each.node.kind == "Nested Loop" else None
        if inner is None or not inner.has_run or inner.executions < LOOKUPS:
            continue
        if plan.share_below(inner) >= LOOKUP_SHARE:
            yield _lookups(reading, each, inner)


def _lookups(reading: PlanReading, join: WeighedNode, inner: WeighedNode) -> Site:
    plan = reading.weighed
    scan = max(plan.below(inner), key=lambda each: each.share)
    relation, table = relation_text(scan.node), table_of(reading.snapshot, scan.node)
    condition = " AND ".join(str(scan.node.fields[name]) for name in _CONDITIONS if name in scan.node.fields)
    columns = () if table is None else columns_in(condition, table, scan.node.alias)
    return Site(
        location=place_text(relation, columns),
        query_id=reading.query_id,
        plan_share=plan.share_below(inner),
        title=(
            f"{relation} is looked up {count_text(inner.executions)} times in one statement,"
            " once per row of the join's other side"
        ),
        evidence=(
            Evidence(label="condition", value=condition_text(condition)),
            Evidence(label="rows per look-up", value=f"{inner.rows:.3g}"),
        ),
        would_try=(
            "fewer rows on the other side; or a hash join, which reads each side once and needs more work_mem"
        ),
        positions=(join.position, inner.position),
    )


def join_product(reading: PlanReading) -> Iterator[Site]:
    """Pairs of rows formed to be thrown away, or formed without any condition.

    Pairs are not the cause where an index is missing on the inner side, or where the planner chose the join
    because it expected few rows of what is below.
    """
    wrong = positions_of(reading, row_misestimate)
    unindexed = positions_of(reading, missing_index)
    for join in reading.weighed.nodes:
        if join.node.kind not in _JOINS:
            continue
        if wrong.isdisjoint(range(join.position + 1, join.end)) and _inner(reading, join) not in unindexed:
            yield from _discarded_pairs(reading, join)
        yield from _all_pairs(reading, join)


def _inner(reading: PlanReading, join: WeighedNode) -> int | None:
    inner = reading.weighed.child(join, "Inner")
    return None if inner is None else inner.position


def _discarded_pairs(reading: PlanReading, join: WeighedNode) -> Iterator[Site]:
    removed = join.removed_by("Join Filter")
    pairs = (removed + join.rows) * join.executions
    if not join.has_run or pairs < PAIRS or removed * join.executions < REMOVED_RATIO * pairs:
        return
    condition = condition_text(str(join.node.fields.get("Join Filter", "")))
    kept = share_text(1 - removed * join.executions / pairs)
    yield _product(
        reading,
        join,
        title=f"A join of {_sides(reading, join)} forms {count_text(pairs)} pairs of rows to keep {kept}",
        evidence=Evidence(label="join filter", value=condition),
        would_try="a condition with = between them, which a hash or an index can serve; or fewer rows first",
    )


def _all_pairs(reading: PlanReading, join: WeighedNode) -> Iterator[Site]:
    plan = reading.weighed
    outer, inner = plan.child(join, "Outer"), plan.child(join, "Inner")
    if outer is None or inner is None or not _is_product(plan, join, outer, inner):
        return
    about = "" if join.is_measured else "an estimated "
    pairs = count_text(join.rows * join.executions)
    yield _product(
        reading,
        join,
        title=f"A join of {_sides(reading, join)} has no condition and forms {about}{pairs} pairs of rows",
        evidence=Evidence(label="sides", value=f"{count_text(outer.rows)} x {count_text(inner.rows)} rows"),
        would_try="the condition that is missing between the two, if not every pair is wanted",
    )


def _is_product(plan: WeighedPlan, join: WeighedNode, outer: WeighedNode, inner: WeighedNode) -> bool:
    fields = join.node.fields
    if join.node.kind != "Nested Loop" or "Join Filter" in fields or fields.get("Join Type") != "Inner":
        return False
    if min(outer.rows, inner.rows) < 2 or join.rows * join.executions < PAIRS:
        return False
    aliases = [one.node.alias for one in plan.below(outer) if one.node.alias is not None]
    return bool(aliases) and not any(_mentions(one, aliases) for one in plan.below(inner))


def _mentions(each: WeighedNode, aliases: list[str]) -> bool:
    """Whether an expression of the node takes a column of one of these; VERBOSE qualifies every column."""
    texts = [str(value) for key, value in each.node.fields.items() if key not in ("Alias", "Relation Name")]
    return any(
        re.search(rf'(?<![\w$"])"?{re.escape(alias)}"?\.', text) for alias in aliases for text in texts
    )


def _product(
    reading: PlanReading, join: WeighedNode, *, title: str, evidence: Evidence, would_try: str
) -> Site:
    inner = reading.weighed.child(join, "Inner")
    return Site(
        location=_sides(reading, join),
        query_id=reading.query_id,
        plan_share=min(1.0, join.share + (0.0 if inner is None else reading.weighed.share_below(inner))),
        title=title,
        evidence=(evidence,),
        would_try=would_try,
        positions=(join.position,),
    )


def _sides(reading: PlanReading, join: WeighedNode) -> str:
    """The relations of a join as words, the same whichever side they are on."""
    names = {relation_text(one.node) for one in reading.weighed.below(join) if one.node.relation is not None}
    return " and ".join(sorted(names)) or join.node.kind


def memoize_thrash(reading: PlanReading) -> Iterator[Site]:
    """A Memoize that misses more than it finds, or that cannot keep what it should."""
    for each in reading.weighed.nodes:
        if each.node.kind != "Memoize" or not each.has_run:
            continue
        hits, misses, evictions, overflows = (
            sum(int(part.get(f"Cache {what}", 0)) for part in process_fields(each.node))
            for what in ("Hits", "Misses", "Evictions", "Overflows")
        )
        if hits + misses < LOOKUPS or (hits >= HIT_RATIO * (hits + misses) and not overflows):
            continue
        scan = max(reading.weighed.below(each)[1:], key=lambda one: one.share)
        is_full = evictions > 0 or overflows > 0
        yield Site(
            location=relation_text(scan.node),
            query_id=reading.query_id,
            plan_share=reading.weighed.share_below(each),
            title=(
                f"A Memoize over {relation_text(scan.node)} finds {share_text(hits / (hits + misses))} of"
                f" {count_text(hits + misses)} look-ups in its cache"
            ),
            evidence=(
                Evidence(label="cache key", value=str(each.node.fields.get("Cache Key", ""))),
                Evidence(label="evictions", value=count_text(evictions)),
                Evidence(label="overflows", value=count_text(overflows)),
            ),
            would_try=(
                "a larger work_mem or hash_mem_multiplier, so that it keeps what it read"
                if is_full
                else "statistics that show how many different keys there are; or enable_memoize off"
            ),
            positions=(each.position,),
        )
