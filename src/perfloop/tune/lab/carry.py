"""Make the lab's copy as wrong as the target is: invalid indexes and stale statistics.

pg_dump leaves invalid indexes out, and a fresh copy has fresh statistics. A lab without them could not
try their remedies, and its control arm would be faster than the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import sql

from perfloop.adapters.queries import load_blocks
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import ColumnStatistics, Index, Table, TableName

STALE_RATIO = 0.1
"""A table with more modified rows than this share since its last ANALYZE has stale statistics."""

# pg_statistic's kinds of slots; the others carry no values that a plan here depends on.
_COMMON_VALUES: Final = 1
_HISTOGRAM: Final = 2


def is_stale(table: Table) -> bool:
    """Whether the target's planner works with statistics that a fresh copy would not have."""
    if table.is_partitioned or table.live_rows == 0:
        return False
    never = all(column.statistics is None for column in table.columns)
    return never or table.modified_since_analyze > STALE_RATIO * table.live_rows


def plant_invalid_indexes(connection: psycopg.Connection, snapshot: Snapshot) -> tuple[str, ...]:
    """Build the target's invalid indexes and mark them as the target has them: plans do not use them.

    Uniqueness is left out, since it is most often what made the target's build fail.
    """
    notes = []
    for index in snapshot.indexes:
        if index.is_valid or index.is_primary:
            continue
        try:
            _plant(connection, index)
        except psycopg.Error as error:
            notes.append(f"the invalid index {index.name} is not in the lab: {error.diag.message_primary}")
    return tuple(notes)


def _plant(connection: psycopg.Connection, index: Index) -> None:
    definition = index.definition.replace("CREATE UNIQUE INDEX", "CREATE INDEX", 1)
    with connection.transaction():
        connection.execute(sql.SQL(definition))
        marks = {"schema": index.table.schema, "name": index.name, "is_ready": index.is_ready}
        connection.execute(_block("mark_invalid"), marks)


def carry_statistics(
    connection: psycopg.Connection, snapshot: Snapshot, *, only: TableName | None = None
) -> tuple[str, ...]:
    """Put the target's own statistics in place of the fresh ones, for tables where they are stale."""
    notes = []
    for table in snapshot.tables:
        if not is_stale(table) or only not in (None, table.name):
            continue
        try:
            with connection.transaction():
                _carry(connection, table)
        except psycopg.Error as error:
            notes.append(f"{table.name} has fresh statistics in the lab: {error.diag.message_primary}")
    return tuple(notes)


def _carry(connection: psycopg.Connection, table: Table) -> None:
    place = {"schema": table.name.schema, "table": table.name.name}
    # The lab's copy has just been counted, so that nothing is scaled there before it grows.
    rows = table.rows if table.planned_rows is None else table.planned_rows
    connection.execute(_block("set_row_count"), {**place, "rows": rows})
    for column in table.columns:
        where = {**place, "column": column.name}
        if column.statistics is None:
            connection.execute(_block("forget_column"), where)
        else:
            _carry_column(connection, where, column.statistics)


def _carry_column(
    connection: psycopg.Connection, where: Mapping[str, str], statistics: ColumnStatistics
) -> None:
    """Overwrite the slots that the fresh row has; a slot that only the target has is left out."""
    scalars = {
        "null_ratio": statistics.null_ratio,
        "width_bytes": statistics.width_bytes,
        "distinct": statistics.distinct,
    }
    connection.execute(_block("set_column"), {**where, **scalars})
    common = (_COMMON_VALUES, statistics.common_values, list(statistics.common_ratios))
    histogram = (_HISTOGRAM, statistics.histogram, None)
    for slot in range(1, 6):
        names = {part: sql.Identifier(f"sta{part}{slot}") for part in ("kind", "values", "numbers")}
        for kind, values, numbers in (common, histogram):
            block = "set_slot" if values else "clear_slot"
            statement = _block(block).format(**names)
            given = {**where, "kind": kind, "values": list(values), "numbers": numbers}
            connection.execute(statement, given)


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.tune.lab", "carry.sql")[name]
