"""What the planner believes: statistics that are missing or stale, and rows it got wrong."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.expressions import columns_in, condition_text
from perfloop.analyze.missing_indexes import LARGE_TABLE_ROWS
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import WeighedNode, WeighedPlan
from perfloop.analyze.sites import Site, label_of, rows_of, statements_on, table_of
from perfloop.analyze.vacuum import is_autovacuum_off
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Table
from perfloop.model.units import count_text, seconds_text, share_text

MODIFIED_RATIO = 0.10
"""autovacuum_analyze_scale_factor's default: past it autovacuum should have come by."""
MODIFIED_ROWS = 50
"""autovacuum_analyze_threshold's default."""
PASSED_OVER_NAPS = 2.0
"""Autovacuum wakes up every autovacuum_naptime: after fewer naps it has not passed a table over."""
NAPTIME_S = 60.0
ERROR_FACTOR = 10.0
"""pev2 and pgAdmin mark an estimate that is off by 10, 100, 1000."""
JUDGED_ROWS = 1_000
"""Rows over all executions below which a wrong estimate cannot cost much."""
JUDGED_SHARE = 0.10
"""Share of the plan, in the node or above it, from which a wrong estimate is spoken of."""

_FORMS_ROWS = ("Scan", "Join", "Nested Loop", "Aggregate", "Group", "Unique", "SetOp", "WindowAgg")
"""Kinds that choose or form rows; others hand on those of their child, some of them repeatedly."""
_READS_ALL = frozenset({"Sort", "Hash", "ModifyTable"})
"""Kinds that read their input to its end, whatever a Limit above them does; so do most aggregates."""


def stale_statistics(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Tables never analysed, or changed by more than a tenth since."""
    return tuple(
        finding
        for table in snapshot.tables
        if not table.is_partitioned and (table.live_rows > 0 or table.size_bytes > 0)
        for finding in (_never_analysed(snapshot, table) or _changed_since(snapshot, table),)
        if finding is not None
    )


def _never_analysed(snapshot: Snapshot, table: Table) -> Finding | None:
    """A crash resets the time of the last ANALYZE, but not the statistics, where the role may read them."""
    if table.analyzed_ago_s is not None or any(column.statistics for column in table.columns):
        return None
    if table.rows >= 0 and any(each.subject == "pg_stats" for each in snapshot.limitations):
        return None
    is_large = rows_of(table) >= LARGE_TABLE_ROWS
    return Finding(
        check="stale-statistics",
        severity=Severity.HIGH if is_large else Severity.LOW,
        title=f"{table.name} was never analysed: the planner guesses how many rows a condition keeps",
        location=str(table.name),
        evidence=(
            Evidence(label="live rows", value=count_text(rows_of(table))),
            Evidence(label="last analysed", value="never"),
            *_autovacuum_evidence(table),
        ),
        would_try=f"analyze {table.name}",
        query_ids=statements_on(snapshot, table.name),
    )


def _changed_since(snapshot: Snapshot, table: Table) -> Finding | None:
    rows = max(1, table.live_rows)
    if table.modified_since_analyze <= MODIFIED_ROWS + MODIFIED_RATIO * rows or _is_in_time(snapshot, table):
        return None
    ago = "" if table.analyzed_ago_s is None else f", {seconds_text(table.analyzed_ago_s)} ago"
    return Finding(
        check="stale-statistics",
        severity=Severity.MEDIUM if rows_of(table) >= LARGE_TABLE_ROWS else Severity.LOW,
        title=(
            f"{table.name} has changed by {share_text(table.modified_since_analyze / rows)}"
            f" of its rows since it was last analysed{ago}"
        ),
        location=str(table.name),
        evidence=(
            Evidence(label="rows changed", value=count_text(table.modified_since_analyze)),
            Evidence(label="live rows", value=count_text(table.live_rows)),
            *_autovacuum_evidence(table),
        ),
        would_try=f"analyze {table.name}",
        query_ids=statements_on(snapshot, table.name),
    )


def _is_in_time(snapshot: Snapshot, table: Table) -> bool:
    """Whether autovacuum, which is on, was there so lately that it has yet to see the changes."""
    naptime = snapshot.setting("autovacuum_naptime")
    nap_s = NAPTIME_S if naptime is None else float(naptime.value)
    ago_s = table.analyzed_ago_s
    return ago_s is not None and ago_s < PASSED_OVER_NAPS * nap_s and not is_autovacuum_off(snapshot, table)


def _autovacuum_evidence(table: Table) -> tuple[Evidence, ...]:
    options = [each for each in table.options if each.startswith("autovacuum_")]
    return (Evidence(label="storage parameters", value=", ".join(options)),) if options else ()


def row_misestimate(reading: PlanReading) -> Iterator[Site]:
    """The lowest nodes of an executed plan where the planner was off by ten times or more."""
    for each, factor in _lowest_errors(reading.weighed):
        yield _misestimate(reading, each, factor)


def _lowest_errors(plan: WeighedPlan) -> Iterator[tuple[WeighedNode, float]]:
    factors = [_error_factor(plan, each) for each in plan.nodes]
    for each in plan.nodes:
        inside = factors[each.position + 1 : each.end]
        share = each.share + sum(above.share for above in plan.ancestors(each))
        if factors[each.position] >= ERROR_FACTOR > max(inside, default=0.0) and share >= JUDGED_SHARE:
            yield each, factors[each.position]


def _error_factor(plan: WeighedPlan, each: WeighedNode) -> float:
    """Estimated over actual rows or the inverse, at least 1; 1 where the two cannot be compared."""
    if not each.is_measured or each.executions == 0 or not each.node.kind.endswith(_FORMS_ROWS):
        return 1.0
    if each.node.kind == "Bitmap Index Scan" and each.rows == 0:
        return 1.0
    planned, actual = max(1.0, each.planned_rows), max(1.0, each.rows)
    if max(planned, actual) * each.executions < JUDGED_ROWS:
        return 1.0
    if actual < planned and _may_stop_early(plan, each):
        return 1.0
    return max(planned / actual, actual / planned)


def _may_stop_early(plan: WeighedPlan, each: WeighedNode) -> bool:
    """Whether something above may have stopped reading before this node had returned all its rows."""
    below = each
    for above in plan.ancestors(each):
        if _reads_all(above):
            return False
        join = above.node.fields.get("Join Type")
        is_inner = below.node.fields.get("Parent Relationship") == "Inner"
        stops = above.node.kind in ("Limit", "Merge Join") or (join in ("Semi", "Anti") and is_inner)
        if stops or (is_inner and above.node.fields.get("Inner Unique")):
            return True
        below = above
    return below.node.fields.get("Parent Relationship") == "SubPlan"


def _reads_all(each: WeighedNode) -> bool:
    if each.node.kind == "Aggregate":
        return each.node.fields.get("Strategy") != "Sorted"
    return each.node.kind in _READS_ALL


def _misestimate(reading: PlanReading, each: WeighedNode, factor: float) -> Site:
    table = table_of(reading.snapshot, each.node)
    condition = _condition(each)
    columns = () if table is None else columns_in(condition, table, each.node.alias)
    where = label_of(reading.snapshot, reading.query_id) if table is None else str(table.name)
    place = f"{where}({', '.join(columns)})" if columns else f"{where}: {each.node.kind}"
    direction = "more" if each.rows > each.planned_rows else "fewer"
    subject = f"a condition on {', '.join(columns)}" if columns else f"a {each.node.kind}"
    return Site(
        location=place,
        query_id=reading.query_id,
        plan_share=min(1.0, each.share + sum(above.share for above in reading.weighed.ancestors(each))),
        title=f"In {where}, {subject} returns {factor:,.0f} times {direction} rows than the planner expects",
        evidence=(
            Evidence(label="rows expected", value=count_text(each.planned_rows)),
            Evidence(label="rows returned", value=count_text(each.rows)),
            *((Evidence(label="condition", value=condition_text(condition)),) if condition else ()),
        ),
        would_try=_remedy(table, columns),
        positions=(each.position,),
    )


def _condition(each: WeighedNode) -> str:
    names = ("Index Cond", "Recheck Cond", "Filter", "Hash Cond", "Merge Cond", "Join Filter")
    return " AND ".join(str(each.node.fields[name]) for name in names if name in each.node.fields)


def _remedy(table: Table | None, columns: tuple[str, ...]) -> str:
    if table is None or not columns:
        return "nothing by itself: no statistics describe such a result"
    if len(columns) >= 2:
        return f"extended statistics on {table.name} ({', '.join(columns)}), which may depend on one another"
    return f"analyze {table.name}, with more detailed statistics if that is not enough"
