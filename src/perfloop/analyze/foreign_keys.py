"""Foreign keys whose own columns no index leads with.

PostgreSQL indexes the referenced side only. Each delete, or update of the key, on the
referenced table then scans the referencing table, under a lock on the row.
"""

from __future__ import annotations

from perfloop.analyze.missing_indexes import LARGE_TABLE_ROWS
from perfloop.analyze.sites import rows_of, severity_of_time
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.target import ForeignKey, Index
from perfloop.model.units import count_text

SMALL_TABLE_ROWS = 1_000
"""A scan of fewer rows costs about as much as a look-up."""
SCANNED_ROWS_PER_S = 10_000_000
"""What a sequential scan passes at best, in memory: a plan does not tell how long a key's check takes."""


def foreign_keys_without_index(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Foreign keys that make deletes on the referenced table scan the referencing one."""
    return tuple(
        _finding(snapshot, key)
        for key in snapshot.foreign_keys
        if _rows(snapshot, key) >= SMALL_TABLE_ROWS
        and not any(supports(index, key) for index in snapshot.indexes_of(key.table))
    )


def supports(index: Index, key: ForeignKey) -> bool:
    """Whether the foreign key's look-up can use the index: it leads with the columns, in any order."""
    count = len(key.columns)
    if not index.is_valid or index.method not in ("btree", "hash") or not _covers_all_rows(index, key):
        return False
    leading = index.keys[:count]
    return not any(each.is_expression for each in leading) and {each.text for each in leading} == set(
        key.columns
    )


def _covers_all_rows(index: Index, key: ForeignKey) -> bool:
    """A look-up compares with =, so an index without the NULLs of the column serves as well."""
    return index.predicate is None or index.predicate in {f"({name} IS NOT NULL)" for name in key.columns}


def _finding(snapshot: Snapshot, key: ForeignKey) -> Finding:
    rows = _rows(snapshot, key)
    referenced = snapshot.table(key.referenced)
    deletes = 0 if referenced is None else referenced.deletes
    columns = ", ".join(key.columns)
    deleting = _deleting(snapshot, key)
    time_share = _time_share(snapshot, deleting, rows)
    return Finding(
        check="foreign-key-without-index",
        severity=_severity(rows, deletes, time_share),
        title=(
            f"Each delete on {key.referenced} scans {count_text(rows)} rows of {key.table}:"
            f" foreign key {key.name} ({columns}) has no index"
        ),
        location=f"{key.table}({columns})",
        evidence=(
            Evidence(label="rows scanned per delete", value=count_text(rows)),
            Evidence(label=f"deletes on {key.referenced}", value=f"{deletes:,} since the counters started"),
        ),
        would_try=f"an index on {key.table} ({columns})",
        query_ids=tuple(each.statement.query_id for each in deleting),
        time_share=time_share,
    )


def _severity(rows: float, deletes: int, time_share: float | None) -> Severity:
    known = Severity.MEDIUM if rows >= LARGE_TABLE_ROWS and deletes else Severity.LOW
    felt = severity_of_time(time_share or 0.0) or known
    return min(known, felt, key=lambda each: each.rank)


def _deleting(snapshot: Snapshot, key: ForeignKey) -> tuple[StatementCounters, ...]:
    """The statements whose plans delete from the referenced table."""
    found = {each.query_id for each in snapshot.plans if _deletes_from(each.plan, key)}
    return tuple(each for each in snapshot.statements if each.statement.query_id in found)


def _deletes_from(plan: Plan, key: ForeignKey) -> bool:
    return any(
        node.fields.get("Operation") == "Delete"
        and (node.schema, node.relation) == (key.referenced.schema, key.referenced.name)
        for node in plan.root.walk()
    )


def _time_share(snapshot: Snapshot, deleting: tuple[StatementCounters, ...], rows: float) -> float | None:
    """The least that the scans take: each deleted row one, at full speed, within its statement's time."""
    total_s = snapshot.total_s()
    if not deleting or total_s <= 0:
        return None
    return sum(min(each.total_s, each.rows * rows / SCANNED_ROWS_PER_S) for each in deleting) / total_s


def _rows(snapshot: Snapshot, key: ForeignKey) -> float:
    table = snapshot.table(key.table)
    return 0.0 if table is None else rows_of(table)
