"""Scans and sorts that an index would save.

With ANALYZE the rows that were read and thrown away are known; without it the planner's
estimate of what a filter keeps is held against the table's rows. Where no statement was
counted and nothing was planned, the tables' own counters are the only evidence left.
"""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.expressions import (
    columns_in,
    condition_text,
    sort_columns,
    wraps_a_column,
)
from perfloop.analyze.inverted import inverted_remedy
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode, WeighedPlan
from perfloop.analyze.sites import Site, rows_of, table_of
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, Table
from perfloop.model.units import count_text, share_text

CHECK = "missing-index"
LARGE_TABLE_ROWS = 10_000
"""PgHero looks at tables from 10,000 rows on; below that a scan takes about a millisecond."""
KEPT_RATIO = 0.10
"""A scan that keeps no more than this share of what it reads could use an index; and a join that keeps no
more than this share of a scan could look its rows up instead."""
REPEATED_SCANS = 1_000
"""A scan that is executed this often within one statement is an inner side without an index."""
SORTED_ROWS = 100
SORTED_PER_ROW = 10
"""Rows sorted for each that a LIMIT needs: so many times fewer could be read in order."""
INDEX_USE_RATIO = 0.95
"""PgHero's limit for the share of a table's scans that use an index."""
COUNTED_SCANS = 100
"""Fewer sequential scans than this may be dumps and maintenance."""

_HANDS_ON = GATHERING | {"Hash", "Sort", "Materialize"}
"""Kinds between a scan and its join that hand on every row."""


def missing_index(reading: PlanReading) -> Iterator[Site]:
    """Sequential scans with high discard, repeated inner scans, and sorts under a LIMIT."""
    for each in reading.weighed.nodes:
        site = _site(reading, each)
        if site is not None:
            yield site


def _site(reading: PlanReading, each: WeighedNode) -> Site | None:
    table = table_of(reading.snapshot, each.node)
    if each.node.kind == "Seq Scan" and table is not None:
        return (
            _repeated_scan(reading, each, table)
            or _discarding_scan(reading, each, table)
            or _joined_scan(reading, each, table)
        )
    return _avoidable_sort(reading, each) if each.node.kind in ("Sort", "Incremental Sort") else None


def _discarding_scan(reading: PlanReading, each: WeighedNode, table: Table) -> Site | None:
    condition = str(each.node.fields.get("Filter", ""))
    part = part_read(reading.weighed, each)
    kept = each.rows * part
    read = each.rows + each.removed_rows if each.is_measured else rows_of(table) * part
    columns = columns_in(condition, table, each.node.alias)
    if not columns or read < LARGE_TABLE_ROWS or kept > KEPT_RATIO * read:
        return None
    read_word = "reads" if each.is_measured else "is expected to read"
    return Site(
        location=f"{table.name}({', '.join(columns)})",
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"A sequential scan of {table.name} {read_word} {count_text(read)} rows"
            f" to keep {count_text(kept)}, filtering on {', '.join(columns)}"
        ),
        evidence=(
            Evidence(label="filter", value=condition_text(condition)),
            Evidence(label="rows kept", value=f"{share_text(kept / read)} of {count_text(read)}"),
        ),
        would_try=_index_for(reading, each, table, columns, condition),
        positions=(each.position,),
    )


def part_read(plan: WeighedPlan, each: WeighedNode) -> float:
    """The part of an estimated scan that a Limit next above it lets happen; 1 for an executed one."""
    above = _above_gather(plan, each)
    if each.is_measured or above is None or above.node.kind != "Limit" or each.rows <= 0:
        return 1.0
    return min(1.0, above.rows / each.rows)


def _above_gather(plan: WeighedPlan, each: WeighedNode) -> WeighedNode | None:
    return next((other for other in plan.ancestors(each) if other.node.kind not in GATHERING), None)


def _repeated_scan(reading: PlanReading, each: WeighedNode, table: Table) -> Site | None:
    """A scan below a nested loop or a correlated subquery that starts over for every outer row."""
    if each.executions < REPEATED_SCANS:
        return None
    above = reading.weighed.parent(each)
    condition = str(each.node.fields.get("Filter") or (above and above.node.fields.get("Join Filter")) or "")
    columns = columns_in(condition, table, each.node.alias)
    if not columns:
        return None
    return Site(
        location=f"{table.name}({', '.join(columns)})",
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"{table.name} is read from start to end {count_text(each.executions)} times in one statement,"
            f" once per outer row, to match {', '.join(columns)}"
        ),
        evidence=(
            Evidence(label="condition", value=condition_text(condition)),
            Evidence(label="scans per execution", value=count_text(each.executions)),
            Evidence(label="rows of the table", value=count_text(rows_of(table))),
        ),
        would_try=_index_for(reading, each, table, columns, condition),
        positions=(each.position,),
    )


def _joined_scan(reading: PlanReading, each: WeighedNode, table: Table) -> Site | None:
    """A scan of many rows for a join with few, which keeps only what matches them.

    Where an index leads with the columns already, the planner had the choice and is believed.
    """
    plan = reading.weighed
    join = next((other for other in plan.ancestors(each) if other.node.kind not in _HANDS_ON), None)
    if join is None or join.node.kind not in ("Hash Join", "Merge Join") or each.rows < LARGE_TABLE_ROWS:
        return None
    condition = str(join.node.fields.get("Hash Cond") or join.node.fields.get("Merge Cond") or "")
    columns = columns_in(condition, table, each.node.alias)
    beside = [child for child in plan.children(join) if not child.position <= each.position < child.end]
    few = KEPT_RATIO * each.rows
    if not columns or join.rows > few or any(child.rows > few for child in beside):
        return None
    if leading_index(reading.snapshot, table, columns) is not None:
        return None
    about = "" if join.is_measured else "an estimated "
    return Site(
        location=f"{table.name}({', '.join(columns)})",
        query_id=reading.query_id,
        plan_share=min(1.0, each.share + join.share),
        title=(
            f"A sequential scan of {table.name} reads {count_text(each.rows)} rows,"
            f" of which a join on {', '.join(columns)} keeps {about}{count_text(join.rows)}"
        ),
        evidence=(
            Evidence(label="join", value=condition_text(condition)),
            Evidence(label="rows on the other side", value=count_text(sum(child.rows for child in beside))),
        ),
        would_try=_index_for(reading, each, table, columns, condition),
        positions=(each.position, join.position),
    )


def _avoidable_sort(reading: PlanReading, each: WeighedNode) -> Site | None:
    plan = reading.weighed
    keys = sort_columns(each.node)
    child = next(iter(plan.children(each)), None)
    above = _above_gather(plan, each)
    if not keys or child is None or above is None or not is_limited(plan, each):
        return None
    if child.rows < max(SORTED_ROWS, SORTED_PER_ROW * above.rows):
        return None
    table = sorted_table(reading, each, keys)
    if table is None:
        return None
    order = order_text(keys)
    return Site(
        location=f"{table.name}({order})",
        query_id=reading.query_id,
        plan_share=plan.share_below(each),
        title=(
            f"{count_text(child.rows)} rows of {table.name} are sorted by {order}"
            " for a LIMIT that needs only the first"
        ),
        evidence=(
            Evidence(label="sort key", value=order),
            Evidence(label="rows sorted", value=count_text(child.rows)),
        ),
        would_try=f"an index on {table.name} over {_ordered_columns(plan, each, table, keys)},"
        " so that reading stops early",
        positions=(each.position,),
    )


def _ordered_columns(
    plan: WeighedPlan, each: WeighedNode, table: Table, keys: tuple[tuple[str | None, str, bool], ...]
) -> str:
    """What its scan filters on, and then the sort keys: only so are the first rows next to each other."""
    scans = [other.node for other in plan.below(each) if other.node.relation == table.name.name]
    conditions = [
        str(node.fields.get(name, "")) for node in scans for name in ("Index Cond", "Recheck Cond", "Filter")
    ]
    filtered = columns_in(" AND ".join(conditions), table, scans[0].alias if scans else None)
    sorted_by = {name for _, name, _ in keys}
    named = ", ".join(name for name in filtered if name not in sorted_by)
    return f"{named} and then {order_text(keys)}" if named else order_text(keys)


def is_limited(plan: WeighedPlan, each: WeighedNode) -> bool:
    """Whether a Limit is next above, apart from the Gather that collects a parallel sort."""
    above = _above_gather(plan, each)
    return above is not None and above.node.kind == "Limit"


def sorted_table(
    reading: PlanReading, each: WeighedNode, keys: tuple[tuple[str | None, str, bool], ...]
) -> Table | None:
    """The one table that all sort keys are columns of, if nothing between it and the sort forms new rows."""
    below = reading.weighed.below(each)[1:]
    aliases = {alias for alias, _, _ in keys}
    if len(aliases) != 1 or any(other.node.kind in ("Aggregate", "Group", "WindowAgg") for other in below):
        return None
    scans = [other.node for other in below if other.node.relation is not None]
    named = [node for node in scans if aliases <= {node.alias, node.relation}]
    found = named if named else scans if aliases == {None} and len(scans) == 1 else []
    table = table_of(reading.snapshot, found[0]) if len(found) == 1 else None
    is_whole = table is not None and all(table.column(name) is not None for _, name, _ in keys)
    return table if is_whole else None


def order_text(keys: tuple[tuple[str | None, str, bool], ...]) -> str:
    """Sort keys as ORDER BY has them."""
    return ", ".join(f"{name} desc" if descending else name for _, name, descending in keys)


def _index_for(
    reading: PlanReading, each: WeighedNode, table: Table, columns: tuple[str, ...], condition: str
) -> str:
    named = ", ".join(columns)
    inverted = inverted_remedy(reading.snapshot, table, condition, each.node.alias)
    if inverted is not None:
        return inverted
    if wraps_a_column(condition, columns):
        return f"an index on the expression over {named}; or compare the bare column, as with a range"
    existing = leading_index(reading.snapshot, table, columns)
    if existing is not None:
        return f"a lower random_page_cost: index {existing.name} is there, but seems dearer than the scan"
    return f"an index on {table.name} over {named}, in the order that pays most"


def leading_index(snapshot: Snapshot, table: Table, columns: tuple[str, ...]) -> Index | None:
    """A valid index of all rows that leads with these columns, in any order."""
    indexes = (each for each in snapshot.indexes_of(table.name) if each.is_valid and each.predicate is None)
    return next((each for each in indexes if set(each.columns[: len(columns)]) == set(columns)), None)


def tables_read_whole(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Tables that are mostly read whole; only where no statement was counted or planned."""
    if snapshot.statements or snapshot.plans:
        return ()
    return tuple(_read_whole(table) for table in snapshot.tables if _is_read_whole(table))


def _is_read_whole(table: Table) -> bool:
    scans = table.sequential_scans + table.index_scans
    return (
        rows_of(table) >= LARGE_TABLE_ROWS
        and table.sequential_scans >= COUNTED_SCANS
        and table.index_scans < INDEX_USE_RATIO * scans
    )


def _read_whole(table: Table) -> Finding:
    scans = table.sequential_scans + table.index_scans
    used = table.index_scans / scans
    return Finding(
        check=CHECK,
        severity=Severity.MEDIUM,
        title=f"{share_text(1 - used)} of the scans of {table.name} read the table without an index",
        location=str(table.name),
        evidence=(
            Evidence(label="sequential scans", value=f"{table.sequential_scans:,} of {scans:,}"),
            Evidence(label="rows read by them", value=count_text(table.sequential_rows)),
            Evidence(label="rows of the table", value=count_text(rows_of(table))),
        ),
        would_try="nothing yet: only pg_stat_statements or a workload can tell which index would help",
    )
