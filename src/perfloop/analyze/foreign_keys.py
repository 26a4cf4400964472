"""Foreign keys whose own columns no index leads with.

PostgreSQL indexes the referenced side only. Each delete, or update of the key, on the
referenced table then scans the referencing table, under a lock on the row.
"""

from __future__ import annotations

from perfloop.analyze.sites import rows_of
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import ForeignKey, Index
from perfloop.model.units import count_text

SMALL_TABLE_ROWS = 1_000
"""A scan of fewer rows costs about as much as a look-up."""
LARGE_TABLE_ROWS = 10_000


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
    return Finding(
        check="foreign-key-without-index",
        severity=Severity.MEDIUM if rows >= LARGE_TABLE_ROWS and deletes else Severity.LOW,
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
    )


def _rows(snapshot: Snapshot, key: ForeignKey) -> float:
    table = snapshot.table(key.table)
    return 0.0 if table is None else rows_of(table)
