"""Tables and b-trees that are larger than their rows need, by what pg_stats says of the columns.

The size that fresh data would take is computed from row counts, mean widths, NULL shares and
alignment, and held against the real one. Nothing is read but the catalogue: pgstattuple would be
exact, but reads the object (pgstatindex: minutes per 100 GB, even where the estimate takes none),
so it is only named for whoever wants to be sure.

An estimate is given only where its assumptions hold: fresh statistics for every column, no
partial or expression index, no type that is not stored as its width says. Elsewhere nothing is
said. It errs to silence: an index of many equal keys is assumed to be without deduplication
unless its distinct keys are known, and the page headers and item pointers are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Column, Index, Table
from perfloop.model.units import bytes_text, share_text

WASTED_RATIO = 0.30
"""Of the object's size: a quarter comes from the fill factor and from updates of every day."""
WASTED_BYTES = 10 * 1024**2
"""A smaller gain is not worth a rewrite."""
MUCH_WASTED_BYTES = 100 * 1024**2
"""PgHero and postgres-mcp speak up from here, whatever the share."""
MUCH_WASTED_RATIO = 0.20
"""Here a large object is named from this share on; below it lies within the error of the estimate."""
STALE_RATIO = 0.20
"""Of the rows changed since ANALYZE: then the counts no longer describe the table."""

_PAGE_HEADER = 24
_ITEM_POINTER = 4
_ROW_HEADER = 23
_INDEX_HEADER = 8
_INDEX_PAGE_SPECIAL = 16
_POSTED_BYTES = 6
_SHORT_BYTES = 126
"""Values of variable length up to here have a header of one byte and are not aligned."""
_INNER_RATIO = 1.02
"""Inner pages of a b-tree, on top of its leaves."""


def table_bloat(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Tables with much empty space, which VACUUM makes usable again but does not give back."""
    return tuple(
        _table_finding(snapshot, table, expected)
        for table in snapshot.tables
        if _is_judged(table)
        and (expected := expected_table_bytes(snapshot, table)) is not None
        and _is_wasteful(table.size_bytes, expected)
    )


def index_bloat(snapshot: Snapshot) -> tuple[Finding, ...]:
    """B-trees with much empty space, as deletes and updates leave behind."""
    tables = {table.name: table for table in snapshot.tables}
    return tuple(
        _index_finding(index, expected)
        for index in snapshot.indexes
        if (table := tables.get(index.table)) is not None
        and _is_judged(table)
        and (expected := expected_index_bytes(snapshot, index, table)) is not None
        and _is_wasteful(index.size_bytes, expected)
    )


def _is_judged(table: Table) -> bool:
    if table.is_partitioned or table.analyzed_ago_s is None or table.rows < 0:
        return False
    return table.modified_since_analyze <= STALE_RATIO * max(1.0, table.rows)


def _is_wasteful(size_bytes: int, expected: float) -> bool:
    wasted = size_bytes - expected
    if wasted >= MUCH_WASTED_BYTES:
        return wasted >= MUCH_WASTED_RATIO * size_bytes
    return wasted >= max(WASTED_BYTES, WASTED_RATIO * size_bytes)


def expected_table_bytes(snapshot: Snapshot, table: Table) -> float | None:
    """Bytes that the rows, dead ones that VACUUM has yet to remove included, would take if written anew."""
    if not table.columns or any(column.statistics is None for column in table.columns):
        return None
    block = snapshot.fingerprint.block_bytes
    bitmap = math.ceil(len(table.columns) / 8)
    row = _mean_bytes(table.columns, _align(_ROW_HEADER, 8), _align(_ROW_HEADER + bitmap, 8))
    usable = (block - _PAGE_HEADER) * _fill(table.options, 100) / 100
    # Rows differ in width: of large ones, half a row's space is left over on the mean page.
    per_page = max(1.0, min(usable // row, usable / row - 0.5))
    return math.ceil((table.rows + table.dead_rows) / per_page) * block


def expected_index_bytes(snapshot: Snapshot, index: Index, table: Table) -> float | None:
    """Bytes that a fresh build would take; None where that cannot be told from the columns' statistics."""
    if index.method != "btree" or index.predicate is not None or not index.is_valid or index.rows is None:
        return None
    columns = [table.column(name) for name in (*index.columns, *index.included)]
    known = [column for column in columns if column is not None and column.statistics is not None]
    if len(known) < len(columns) or any(key.is_expression for key in index.keys):
        return None
    block = snapshot.fingerprint.block_bytes
    entry = _mean_bytes(known, _INDEX_HEADER, 2 * _INDEX_HEADER)
    usable = (block - _PAGE_HEADER - _INDEX_PAGE_SPECIAL) * _fill(index.options, 90) / 100
    used = _used_bytes(index, known, entry)
    return (1 + math.ceil(used / usable) * _INNER_RATIO) * block


def _used_bytes(index: Index, columns: list[Column], entry_bytes: float) -> float:
    """Equal keys share one entry, with six bytes for each row, where the index may be deduplicated."""
    rows = index.rows or 0.0
    plain = rows * entry_bytes
    if len(columns) > 1 or index.included or "deduplicate_items=off" in index.options:
        return plain
    statistics = columns[0].statistics
    distinct = rows if statistics is None else statistics.distinct_count(rows)
    return min(plain, rows * _POSTED_BYTES + distinct * entry_bytes)


def _mean_bytes(columns: Iterable[Column], header: float, null_header: float) -> float:
    """Mean bytes of a row or entry with its item pointer; only those with a NULL carry a bitmap."""
    columns = tuple(columns)
    null_ratio = 1 - math.prod(1 - column.statistics.null_ratio for column in columns if column.statistics)
    full = _align(_values_bytes(columns, header, 0.0), 8)
    if null_ratio == 0:
        return full + _ITEM_POINTER
    with_null = _align(_values_bytes(columns, null_header, 1 / null_ratio), 8)
    return (1 - null_ratio) * full + null_ratio * with_null + _ITEM_POINTER


def _values_bytes(columns: Iterable[Column], offset: float, null_factor: float) -> float:
    """Where the last value ends; a column takes its width as often as it is not NULL in such rows."""
    for column in columns:
        statistics = column.statistics
        if statistics is None or statistics.null_ratio >= 1:
            continue
        width = statistics.width_bytes
        is_short = column.alignment_bytes == 4 and _is_variable(column) and width <= _SHORT_BYTES
        padded = _align(offset, 1 if is_short else column.alignment_bytes) + width
        offset += (padded - offset) * max(0.0, 1 - null_factor * statistics.null_ratio)
    return offset


def _is_variable(column: Column) -> bool:
    fixed = ("integer", "real", "date", "oid")
    return column.type_name not in fixed


def _align(offset: float, to: int) -> float:
    return math.ceil(offset / to) * to


def _fill(options: tuple[str, ...], default: int) -> int:
    given = [option.split("=", 1)[1] for option in options if option.startswith("fillfactor=")]
    return int(given[0]) if given else default


def _table_finding(snapshot: Snapshot, table: Table, expected: float) -> Finding:
    return Finding(
        check="table-bloat",
        severity=_severity(table.size_bytes, expected),
        title=_title(f"Table {table.name}", table.size_bytes, expected),
        location=str(table.name),
        evidence=_evidence(table.size_bytes, expected),
        would_try=(
            f"nothing in a lab: VACUUM {table.name} makes the space usable again; pg_repack gives it back"
            f" while the service runs, VACUUM FULL only under an exclusive lock{_exact(snapshot, table)}"
        ),
        space_bytes=int(table.size_bytes - expected),
    )


def _exact(snapshot: Snapshot, table: Table) -> str:
    if "pgstattuple" not in snapshot.fingerprint.extensions:
        return ""
    return f"; pgstattuple_approx('{table.name}') knows exactly"


def _index_finding(index: Index, expected: float) -> Finding:
    return Finding(
        check="index-bloat",
        severity=_severity(index.size_bytes, expected),
        title=_title(f"Index {index.name} on {index.table}", index.size_bytes, expected),
        location=f"{index.table}: {index.name}",
        evidence=_evidence(index.size_bytes, expected),
        would_try=f"nothing in a lab: REINDEX INDEX CONCURRENTLY {index.name}, which blocks no writes",
        space_bytes=int(index.size_bytes - expected),
    )


def _severity(size_bytes: int, expected: float) -> Severity:
    wasted = size_bytes - expected
    is_much = wasted >= MUCH_WASTED_BYTES and wasted >= size_bytes / 2
    return Severity.MEDIUM if is_much else Severity.LOW


def _title(what: str, size_bytes: int, expected: float) -> str:
    wasted = size_bytes - expected
    return (
        f"{what} is about {share_text(wasted / size_bytes)} empty: {bytes_text(size_bytes)},"
        f" where its rows need {bytes_text(expected)}"
    )


def _evidence(size_bytes: int, expected: float) -> tuple[Evidence, ...]:
    return (
        Evidence(label="size", value=bytes_text(size_bytes)),
        Evidence(label="estimated when fresh", value=bytes_text(expected)),
    )
