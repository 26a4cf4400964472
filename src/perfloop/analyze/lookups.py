"""One statement per row: a list is read, and then each of its rows asks for one row of another table.

The server does not see requests. Two things that it counts give such a pattern away: a look-up of one row
that runs ten times as often as transactions do, or as a statement that lists rows of a table which refers to
the looked-up one, and no oftener than those rows would explain.
"""

from __future__ import annotations

from perfloop.analyze.sites import label_of, severity_of_time, statement_shares
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.plan import PlanNode
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.target import Index, TableName
from perfloop.model.units import count_text, seconds_text
from perfloop.model.value import Value
from perfloop.model.workload import StatementKind

CALLS = 1_000
CALLS_PER_CALLER = 10.0
ROWS_PER_CALL = 1.1
"""A look-up by a key returns one row, or none."""
EXPLAINED_RATIO = 1.2
"""Calls per row listed above which something else calls it as well."""


class _Caller(Value, frozen=True, kw_only=True):
    """What seems to call a look-up, how often per call, and how that is known."""

    calls_each: float
    fact: Evidence


def lookups_per_row(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Look-ups of one row that run ten times or more for each transaction or list."""
    found = (_finding(snapshot, each) for each in snapshot.statements if each.calls >= CALLS)
    return tuple(each for each in found if each is not None)


def _finding(snapshot: Snapshot, lookup: StatementCounters) -> Finding | None:
    table = _looked_up(snapshot, lookup)
    share = statement_shares(snapshot).get(lookup.statement.query_id, 0.0)
    severity = severity_of_time(share)
    if table is None or severity is None:
        return None
    caller = _list_of(snapshot, lookup, table) or _transactions(snapshot, lookup)
    if caller is None:
        return None
    label = label_of(snapshot, lookup.statement.query_id)
    return Finding(
        check="n-plus-one",
        severity=max(severity, Severity.MEDIUM, key=lambda each: each.rank),
        title=(
            f"{label} looks up one row of {table} about {count_text(caller.calls_each)} times in a row:"
            " one statement could fetch them all"
        ),
        location=label,
        evidence=(
            Evidence(label="calls", value=f"{count_text(lookup.calls)} of {seconds_text(lookup.mean_s)}"),
            Evidence(label="rows per call", value=f"{lookup.rows / lookup.calls:.2f}"),
            caller.fact,
        ),
        would_try=(
            "nothing in the database: a join in the statement that lists them, or = ANY($1) with all keys at"
            " once; the round trips, which are not counted here, are spared as well"
        ),
        query_ids=(lookup.statement.query_id,),
        time_share=share,
    )


def _looked_up(snapshot: Snapshot, counters: StatementCounters) -> TableName | None:
    """The one table of which a READ gets a row by a unique key; None for any other statement."""
    is_read = counters.statement.kind is StatementKind.READ
    if not is_read or counters.rows > ROWS_PER_CALL * counters.calls:
        return None
    plans = [each.plan for each in snapshot.plans if each.query_id == counters.statement.query_id]
    if not plans:
        return None
    scans = [node for node in plans[0].root.walk() if node.relation is not None]
    index = _unique_index(snapshot, scans[0]) if len(scans) == 1 else None
    return None if index is None else index.table


def _unique_index(snapshot: Snapshot, scan: PlanNode) -> Index | None:
    """The unique index by which a scan finds at most one row."""
    if scan.kind not in ("Index Scan", "Index Only Scan") or scan.planned_rows > 1:
        return None
    return next((each for each in snapshot.indexes if each.name == scan.index and each.is_unique), None)


def _list_of(snapshot: Snapshot, lookup: StatementCounters, table: TableName) -> _Caller | None:
    """The statement that lists rows which refer to the table, if its rows explain the look-ups."""
    referring = {
        (key.table.schema, key.table.name) for key in snapshot.foreign_keys if key.referenced == table
    }
    lists = [
        each
        for each in snapshot.statements
        if each.statement.kind is StatementKind.READ
        and each.calls
        and each.rows >= CALLS_PER_CALLER * each.calls
        and CALLS_PER_CALLER * each.calls <= lookup.calls <= EXPLAINED_RATIO * each.rows
        and _reads_only_others(snapshot, each, referring, table)
    ]
    if not lists:
        return None
    # The list whose rows fit the look-ups best.
    nearest = min(lists, key=lambda each: (each.rows / lookup.calls, each.statement.query_id))
    label = label_of(snapshot, nearest.statement.query_id)
    value = f"{label}: {count_text(nearest.calls)} calls, {count_text(nearest.rows)} rows"
    return _Caller(
        calls_each=lookup.calls / nearest.calls,
        fact=Evidence(label=f"lists rows that refer to {table}", value=value),
    )


def _reads_only_others(
    snapshot: Snapshot, each: StatementCounters, referring: set[tuple[str, str]], table: TableName
) -> bool:
    relations = {
        relation
        for plan in snapshot.plans
        if plan.query_id == each.statement.query_id
        for relation in plan.plan.relations
    }
    return bool(relations & referring) and (table.schema, table.name) not in relations


def _transactions(snapshot: Snapshot, lookup: StatementCounters) -> _Caller | None:
    """Without such a list, the transactions: since a reset of their counter there may be fewer than were."""
    ended = snapshot.activity.commits + snapshot.activity.rollbacks
    if not ended or lookup.calls < CALLS_PER_CALLER * ended:
        return None
    return _Caller(
        calls_each=lookup.calls / ended,
        fact=Evidence(label="transactions of this database", value=count_text(ended)),
    )
