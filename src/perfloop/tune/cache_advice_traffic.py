"""Reads how often a target's statements are called, and how often their tables are written to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfloop.adapters.catalog import read_tables
from perfloop.adapters.host import read_host
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.probe import pinned
from perfloop.adapters.statement_counters import SUBJECT, StatementReading, read_statements
from perfloop.errors import InvalidInput, MissingRights, UnsupportedStatement
from perfloop.model.snapshot import Limitation, Snapshot, StatementCounters
from perfloop.model.target import Table, TableName
from perfloop.model.value import Value
from perfloop.model.workload import StatementKind
from perfloop.tune.observer import Observer
from perfloop.validate.sources import Catalogue
from perfloop.validate.tokens import parameter_numbers, with_parameters


class TableChanges(Value, frozen=True, kw_only=True):
    """How often a table is written to."""

    rows_per_s: float = 0.0
    statements_per_s: float = 0.0
    """Each clears the tag of the whole table once."""


NO_CHANGES = TableChanges()


class Traffic(Value, frozen=True, kw_only=True):
    """A target over some time."""

    snapshot: Snapshot
    """Its statements are those of this time."""
    over_s: float
    is_window: bool
    changes: Mapping[TableName, TableChanges]

    def changes_of(self, name: TableName) -> TableChanges:
        return self.changes.get(name, NO_CHANGES)


def read_traffic(
    connection: psycopg.Connection[Any], observer: Observer, *, window_s: float | None
) -> Traffic:
    """Count over `window_s` seconds from now, or since the last reset.

    Raises:
        InvalidInput: pg_stat_statements is not there, or counted nothing; with the way out.
        MissingRights: It hides the statements of the others, and there are none of this role.
    """
    host = read_host(runs_server=False)
    if window_s is None:
        observer.phase("reading the target")
        reading = read_statements(connection, role=connection.info.user)
        _require_counters(reading)
        snapshot = take_snapshot(connection, taken_at_s=time.time(), host=host)
        if reading.reset_at_s is None:
            raise InvalidInput(
                f"{SUBJECT} does not tell since when it counts; count from now, with --window 60"
            )
        over_s = max(1.0, snapshot.taken_at_s - reading.reset_at_s)
        age_s = snapshot.activity.counted_for_s
        rows = {each.name: _written(each) / age_s if age_s else 0.0 for each in snapshot.tables}
    else:
        earlier = read_statements(connection, role=connection.info.user)
        before = _rows_written(connection)
        began_s = time.monotonic()
        observer.phase(f"counting statements for {window_s:g} s")
        time.sleep(window_s)
        snapshot = take_snapshot(connection, taken_at_s=time.time(), host=host, earlier=earlier)
        over_s = time.monotonic() - began_s
        _require_counters(StatementReading(counters=snapshot.statements, limitations=snapshot.limitations))
        rows = {
            each.name: max(0, _written(each) - before.get(each.name, 0)) / over_s for each in snapshot.tables
        }
    return Traffic(
        snapshot=snapshot,
        over_s=over_s,
        is_window=window_s is not None,
        changes=dict(_changes(snapshot, rows, over_s, is_window=window_s is not None)),
    )


def apart(text: str) -> str:
    """The text with a space behind every `$n`: sqlglot reads $1,$2 as the beginning of a quoted text."""
    return with_parameters(text, {number: f"${number} " for number in parameter_numbers(text)})


def _require_counters(reading: StatementReading) -> None:
    if reading.counters:
        return
    told = [each for each in reading.limitations if each.subject == SUBJECT]
    if not told:
        raise InvalidInput("no statement was called; let the service run, or count longer with --window 300")
    worst = told[0]
    sentence = f"{SUBJECT}: {worst.reason}; {_in_one_line(worst)}"
    raise MissingRights(sentence) if worst.remedy.startswith("GRANT") else InvalidInput(sentence)


def _in_one_line(limitation: Limitation) -> str:
    return " ".join(line.removeprefix("-- ") for line in limitation.remedy.splitlines())


def _written(table: Table) -> int:
    return table.inserts + table.updates + table.deletes


def _rows_written(connection: psycopg.Connection[Any]) -> dict[TableName, int]:
    with pinned(connection):
        tables = read_tables(connection)
    return {
        tables.name(oid): row["inserts"] + row["updates"] + row["deletes"] for oid, row in tables.rows.items()
    }


def _changes(
    snapshot: Snapshot, rows_per_s: Mapping[TableName, float], over_s: float, *, is_window: bool
) -> Iterator[tuple[TableName, TableChanges]]:
    """Rows as the tables count them, and statements as the rows of each tell.

    Counters that were reset at other times do not fit together: outside a window those of the statements go
    first, where there are some.
    """
    whole = dict(rows_per_s)
    for table in snapshot.tables:
        if table.partition_of is not None:
            whole[table.partition_of] = whole.get(table.partition_of, 0.0) + rows_per_s.get(table.name, 0.0)
    calls, rows = _written_by_statements(snapshot)
    for name in {*whole, *rows}:
        counted = rows.get(name, 0) / over_s
        if is_window or not counted:
            counted = max(whole.get(name, 0.0), counted)
        rows_each = rows[name] / calls[name] if name in rows else 1.0
        yield name, TableChanges(rows_per_s=counted, statements_per_s=counted / max(1.0, rows_each))


def _written_by_statements(snapshot: Snapshot) -> tuple[Counter[TableName], Counter[TableName]]:
    """Calls and rows by table."""
    catalogue = Catalogue(snapshot)
    calls: Counter[TableName] = Counter()
    rows: Counter[TableName] = Counter()
    for each in snapshot.statements:
        name = _target(each, catalogue)
        if name is not None and each.rows:
            calls[name] += each.calls
            rows[name] += each.rows
    return calls, rows


def _target(counters: StatementCounters, catalogue: Catalogue) -> TableName | None:
    """The table that a statement writes to; what its triggers and functions write, only the tables count."""
    if counters.statement.kind is not StatementKind.WRITE:
        return None
    try:
        tree = sqlglot.parse_one(apart(counters.statement.text), dialect="postgres")
    except (SqlglotError, RecursionError, UnsupportedStatement):
        return None
    if not isinstance(tree, exp.Insert | exp.Update | exp.Delete | exp.Merge):
        return None
    node = tree.this.find(exp.Table)
    table = catalogue.table(node) if isinstance(node, exp.Table) else None
    return table.name if table is not None else None
