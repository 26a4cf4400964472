"""Reads what a target is made of: its build, settings, tables, indexes, keys and statistics objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg.rows import DictRow, dict_row

from perfloop.adapters.connection import SESSION_LIMITS, unreachable_if_lost
from perfloop.adapters.probe import pinned, read_rows
from perfloop.adapters.queries import query
from perfloop.model.target import (
    Column,
    ColumnStatistics,
    ExtendedStatistics,
    Fingerprint,
    ForeignKey,
    Index,
    IndexKey,
    Setting,
    Table,
    TableName,
)
from perfloop.model.value import Value

OfTableT = TypeVar("OfTableT", Index, ForeignKey, ExtendedStatistics)

_STATISTICS_KINDS = {"d": "ndistinct", "f": "dependencies", "m": "mcv"}
_NOT_METHODS = frozenset({"on", "off"})


class Role(Value, frozen=True, kw_only=True):
    """Who reads the target, and which of the views that pg_monitor opens are open to it."""

    database: str
    user: str
    reads_settings: bool
    reads_statistics: bool


class Tables(Value, frozen=True, kw_only=True):
    """Tables by the oid under which the other probes ask for what belongs to them."""

    rows: dict[int, dict[str, Any]]

    @property
    def oids(self) -> list[int]:
        return list(self.rows)

    def name(self, oid: int) -> TableName:
        row = self.rows[oid]
        return TableName(schema=row["schema"], name=row["name"])


class TableColumns(Value, frozen=True, kw_only=True):
    """Columns by table, and the tables whose statistics are kept from this role."""

    columns: dict[int, tuple[Column, ...]] = msgspec.field(default_factory=dict)
    not_granted: tuple[int, ...] = ()
    row_secured: tuple[int, ...] = ()
    """Row-level security holds for this role: SELECT alone does not open their statistics."""


def read_role(connection: psycopg.Connection[Any]) -> Role:
    """The session's role and database."""
    return msgspec.convert(read_rows(connection, query("read_role"))[0], Role)


def read_fingerprint(connection: psycopg.Connection[Any]) -> Fingerprint:
    """What the server and its build can do, whatever its settings say just now."""
    with pinned(connection) as cursor:
        cursor.execute(query("switch_jit_on"))
        row = cursor.execute(query("read_fingerprint")).fetchall()[0]
    # PostgreSQL 14 has wal_compression as a bool, which means pglz.
    methods = ["pglz"] if row["wal_compressions"] is None else row["wal_compressions"]
    row["wal_compressions"] = [each for each in methods if each not in _NOT_METHODS]
    row["io_methods"] = row["io_methods"] or []
    return msgspec.convert(row, Fingerprint)


def read_settings(connection: psycopg.Connection[Any]) -> tuple[Setting, ...]:
    """Every setting that the role may see, but those that `connect` has set itself."""
    with unreachable_if_lost(connection), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query("read_settings"), [list(SESSION_LIMITS)]).fetchall()
    return tuple(msgspec.convert({**row, "choices": row["choices"] or []}, Setting) for row in rows)


def read_tables(connection: psycopg.Connection[Any]) -> Tables:
    """The users' tables with their counters, still without columns."""
    rows = read_rows(connection, query("read_tables"))
    return Tables(rows={row["oid"]: dict(row) for row in rows})


def read_columns(connection: psycopg.Connection[Any], tables: Tables) -> TableColumns:
    """Columns with pg_stats, for the columns that the role may SELECT."""
    statistics = {
        (row["oid"], row["name"]): msgspec.convert(row, ColumnStatistics)
        for row in read_rows(connection, query("read_column_statistics"), [tables.oids])
    }
    columns: defaultdict[int, list[Column]] = defaultdict(list)
    not_granted: set[int] = set()
    for row in read_rows(connection, query("read_columns"), [tables.oids]):
        known = statistics.get((row["oid"], row["name"]))
        columns[row["oid"]].append(msgspec.convert({**row, "statistics": known}, Column))
        if not row["readable"]:
            not_granted.add(row["oid"])
    return TableColumns(
        columns={oid: tuple(of_table) for oid, of_table in columns.items()},
        not_granted=tuple(sorted(not_granted)),
        row_secured=tuple(oid for oid, row in tables.rows.items() if row["hides_rows"]),
    )


def with_columns(tables: Tables, columns: TableColumns) -> tuple[Table, ...]:
    """The tables as values, in the catalogue's order."""
    return tuple(
        msgspec.convert({**row, "name": tables.name(oid), "columns": columns.columns.get(oid, ())}, Table)
        for oid, row in tables.rows.items()
    )


def read_indexes(connection: psycopg.Connection[Any], tables: Tables) -> tuple[Index, ...]:
    """Indexes of the tables; one that was dropped while it was read is left out."""
    keys = _grouped(read_rows(connection, query("read_index_keys"), [tables.oids]), lambda row: row["oid"])
    rows = read_rows(connection, query("read_indexes"), [tables.oids])
    return tuple(
        _index(row, keys[row["oid"]], tables)
        for row in rows
        if row["oid"] in keys and row["definition"] is not None
    )


def read_foreign_keys(connection: psycopg.Connection[Any], tables: Tables) -> tuple[ForeignKey, ...]:
    """Foreign keys between the tables."""
    rows = read_rows(connection, query("read_foreign_keys"), [tables.oids])
    return tuple(
        msgspec.convert(
            {**row, "table": tables.name(row["table_oid"]), "referenced": tables.name(row["referenced_oid"])},
            ForeignKey,
        )
        for row in rows
        if row["referenced_oid"] in tables.rows
    )


def read_extended_statistics(
    connection: psycopg.Connection[Any], tables: Tables
) -> tuple[ExtendedStatistics, ...]:
    """CREATE STATISTICS objects on plain columns of the tables."""
    rows = read_rows(connection, query("read_extended_statistics"), [tables.oids])
    return tuple(
        ExtendedStatistics(
            name=row["name"],
            table=tables.name(row["table_oid"]),
            columns=tuple(row["columns"]),
            kinds=tuple(_STATISTICS_KINDS[kind] for kind in row["kinds"] if kind in _STATISTICS_KINDS),
        )
        for row in rows
    )


def _index(row: DictRow, keys: Iterable[DictRow], tables: Tables) -> Index:
    fields = {
        **row,
        "table": tables.name(row["table_oid"]),
        "keys": tuple(_index_key(key) for key in keys if not key["is_included"]),
        "included": tuple(key["text"] for key in keys if key["is_included"]),
    }
    return msgspec.convert(fields, Index)


def _index_key(row: DictRow) -> IndexKey:
    by_default = row["nulls_first"] == row["descending"]
    return msgspec.convert({**row, "nulls_first": None if by_default else row["nulls_first"]}, IndexKey)


def _grouped(rows: Iterable[DictRow], key: Callable[[DictRow], int]) -> Mapping[int, list[DictRow]]:
    groups: dict[int, list[DictRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
