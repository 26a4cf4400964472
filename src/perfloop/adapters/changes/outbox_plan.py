"""What installing and removing the outbox does to a database: statements, to be shown or carried out.

Statement-level triggers with transition tables write one row for each statement, whatever the number of
rows it changed. Removing brings the database back to what it was, in one transaction like installing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from perfloop.adapters.connection import first_line
from perfloop.adapters.queries import load_blocks
from perfloop.errors import ChangeFailed, InvalidInput, MissingRights
from perfloop.model.changes import WatchedTable, split_name, table_name

Statement = sql.SQL | sql.Composed

TRIGGERS: Final = ("insert", "update", "delete", "truncate")
TABLES: Final = ("events", "readers", "horizon", "watched")
KINDS: Final = ("r", "p")
ROWS_LIMIT: Final = 1000
"""Rows of one statement that are noted one by one; above, the event says that any row may have changed."""

TYPES: Final = frozenset({"smallint", "integer", "bigint", "uuid", "text", "character varying", "enum"})
"""Types that Python's str() and PostgreSQL write alike, so that a tag made by either is the same.

Not numeric: 1.5 is 1.50 in a numeric(10, 2), and Decimal("1E+2") is 100.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The outbox as it stands in a database."""

    exists: bool
    watched: tuple[WatchedTable, ...] = ()
    triggers: tuple[tuple[str, str, str, str], ...] = ()
    """Watch, schema, relation and name of each trigger of ours."""

    def of(self, table: str) -> WatchedTable | None:
        return next((each for each in self.watched if each.table == table), None)

    def former_name(self, table: str) -> str | None:
        """The name under which a table is watched that was renamed since."""
        names = (name for name, schema, relation, _ in self.triggers if table_name(schema, relation) == table)
        return next((name for name in names if self.of(table) is None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Relation:
    kind: str
    columns: dict[str, str]
    primary_key: list[str] | None


def block(name: str) -> sql.SQL:
    """The block of that name in outbox.sql."""
    return load_blocks("perfloop.adapters.changes", "outbox.sql")[name]


def read_installed(connection: psycopg.Connection[Any]) -> Installed:
    """Look whether there is an outbox, and what it watches.

    Raises:
        InvalidInput: The schema is there and is somebody else's.
    """
    row = connection.execute(block("read_installed")).fetchone()
    has_schema, has_events = row or (False, False)
    if has_schema and not has_events:
        raise InvalidInput(
            "the schema perfloop_cache is there and holds no outbox; rename it or drop it, then install again"
        )
    if not has_events:
        return Installed(exists=False)
    watched = connection.execute(block("read_watched")).fetchall()
    triggers = connection.execute(block("read_triggers")).fetchall()
    return Installed(
        exists=True,
        watched=tuple(WatchedTable(table=name, columns=tuple(columns)) for name, columns in watched),
        triggers=tuple(triggers),
    )


def plan_install(
    connection: psycopg.Connection[Any], watched: Sequence[WatchedTable], *, rows_limit: int = ROWS_LIMIT
) -> tuple[Statement, ...]:
    """The statements that let the outbox note changes of these tables, besides those it watches already.

    Raises:
        InvalidInput: A table or column is not there or cannot be watched.
    """
    if not watched:
        raise InvalidInput("no table is named; say which to watch with --table orders:id")
    installed = read_installed(connection)
    statements: list[Statement] = [] if installed.exists else list(_foundation())
    for each in watched:
        resolved = resolve(connection, each)
        former = installed.former_name(resolved.table)
        if former is not None:
            raise InvalidInput(
                f"{resolved.table} is watched as {former}, its name of before; first stop that with "
                f"`perfloop cache outbox remove … --table {former}`"
            )
        if installed.of(resolved.table):
            statements.extend(_unwatch(installed, resolved.table))
        statements.extend(_watch(connection, resolved, rows_limit))
    return tuple(statements)


def plan_remove(connection: psycopg.Connection[Any], tables: Sequence[str] = ()) -> tuple[Statement, ...]:
    """The statements that stop watching these tables; without any, all of them, and the outbox itself goes.

    Raises:
        InvalidInput: One is not watched.
    """
    installed = read_installed(connection)
    names = [table_name(*split_name(table)) for table in tables]
    unknown = [name for name in names if installed.of(name) is None]
    if unknown:
        raise InvalidInput(f"{', '.join(unknown)} is not watched; see perfloop cache outbox status")
    if not installed.exists:
        return ()
    gone = names or [each.table for each in installed.watched]
    statements = [statement for name in gone for statement in _unwatch(installed, name)]
    if not names:
        statements += [block("drop_table").format(table=sql.Identifier(table)) for table in TABLES]
        statements.append(block("drop_schema"))
    return tuple(statements)


def carry_out(connection: psycopg.Connection[Any], statements: Sequence[Statement]) -> None:
    """All statements or none.

    Raises:
        MissingRights: The role may not do one of them.
        ChangeFailed: One failed, as when a table is locked; the database is as it was.
    """
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MissingRights(
            f"{first_line(error)}; run it as the owner of the tables, who may also create a schema"
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise ChangeFailed(
            "a table is in use by a long transaction, so nothing was changed; try again later"
        ) from error
    except psycopg.errors.ObjectInUse as error:
        raise ChangeFailed(
            f"{first_line(error)}; nothing was changed; stop whoever listens, and try again"
        ) from error
    except psycopg.Error as error:
        raise ChangeFailed(f"{first_line(error)}; nothing was changed") from error


def missing_triggers(connection: psycopg.Connection[Any], installed: Installed) -> tuple[str, ...]:
    """Watched tables and parts of them that came later, whose writes go unseen until installed again."""
    there = {(name, schema, relation, trigger) for name, schema, relation, trigger in installed.triggers}
    return tuple(
        table_name(schema, relation)
        for each in installed.watched
        for schema, relation, _ in connection.execute(block("read_parts"), split_name(each.table)).fetchall()
        if any((each.table, schema, relation, _trigger(event)) not in there for event in TRIGGERS)
    )


def gone_or_renamed(connection: psycopg.Connection[Any], installed: Installed) -> tuple[str, ...]:
    """What of the watched tables and columns is not there any more under its name."""
    facts = []
    for each in installed.watched:
        found = _read_relation(connection, each.table)
        if found is not None:
            gone = ", ".join(column for column in each.columns if column not in found.columns)
            facts += [f"{each.table} has no column {gone} any more"] if gone else []
            continue
        names = {
            table_name(schema, relation)
            for name, schema, relation, _ in installed.triggers
            if name == each.table
        }
        facts.append(
            f"{each.table} is now called {min(names)}"
            if names
            else f"there is no table {each.table} any more"
        )
    return tuple(facts)


def resolve(connection: psycopg.Connection[Any], watched: WatchedTable) -> WatchedTable:
    """The watch with its columns, checked against the table.

    Raises:
        InvalidInput: There is no such table or column, or it cannot be watched.
    """
    row = _read_relation(connection, watched.table)
    if row is None or row.kind not in KINDS:
        raise InvalidInput(f"there is no table {watched.table}; upper and lower case count in its name")
    columns = watched.columns or tuple(row.primary_key or ())
    if not columns:
        raise InvalidInput(f"{watched.table} has no primary key; name columns: --table {watched.table}:id")
    for column in columns:
        if column not in row.columns:
            raise InvalidInput(f"{watched.table} has no column {column}; upper and lower case count")
        if row.columns[column] not in TYPES:
            raise InvalidInput(
                f"{watched.table}.{column} is {row.columns[column]}, which Python and PostgreSQL write "
                f"differently in a tag; name columns of {', '.join(sorted(TYPES))}"
            )
    return WatchedTable(table=watched.table, columns=columns)


def _read_relation(connection: psycopg.Connection[Any], table: str) -> _Relation | None:
    with connection.cursor(row_factory=class_row(_Relation)) as cursor:
        return cursor.execute(block("read_relation"), split_name(table)).fetchone()


def _foundation() -> Iterator[Statement]:
    yield block("create_schema")
    for name in TABLES:
        yield block(f"create_{name}")
    yield block("create_events_index")
    yield block("create_horizon_row")


def _watch(
    connection: psycopg.Connection[Any], watched: WatchedTable, rows_limit: int
) -> Iterator[Statement]:
    function = sql.Identifier(watched.table)
    yield block("create_function").format(function=function, body=_body(connection, watched, rows_limit))
    for schema, relation, kind in connection.execute(
        block("read_parts"), split_name(watched.table)
    ).fetchall():
        if kind not in KINDS:
            raise InvalidInput(
                f"{schema}.{relation} is a foreign table, whose writes no trigger notes; watch it where it is"
            )
        for event in TRIGGERS:
            table = sql.Identifier(schema, relation)
            yield block(f"create_{event}_trigger").format(table=table, function=function)
            yield block("enable_always").format(table=table, trigger=sql.Identifier(_trigger(event)))
    columns = sql.Literal(list(watched.columns))
    yield block("add_watched").format(name=sql.Literal(watched.table), columns=columns)


def _body(connection: psycopg.Connection[Any], watched: WatchedTable, rows_limit: int) -> sql.Literal:
    pairs = [
        sql.SQL("{}, {}::pg_catalog.text").format(sql.Literal(column), sql.Identifier("told", column))
        for column in watched.columns
    ]
    composed = block("note_changes").format(
        pairs=sql.SQL(", ").join(pairs),
        limit=sql.Literal(rows_limit),
        above=sql.Literal(rows_limit + 1),
        twice=sql.Literal(2 * rows_limit),
        above_twice=sql.Literal(2 * rows_limit + 1),
        name=sql.Literal(watched.table),
    )
    return sql.Literal(composed.as_string(connection))


def _unwatch(installed: Installed, table: str) -> Iterator[Statement]:
    for name, schema, relation, trigger in installed.triggers:
        if name == table:
            yield block("drop_trigger").format(
                trigger=sql.Identifier(trigger), table=sql.Identifier(schema, relation)
            )
    yield block("drop_function").format(function=sql.Identifier(table))
    yield block("remove_watched").format(name=sql.Literal(table))


def _trigger(event: str) -> str:
    return f"perfloop_cache_{event}"
