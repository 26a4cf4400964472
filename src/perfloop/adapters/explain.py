"""Asks the server for the plan of one statement.

The statement travels in the extended protocol, which takes one command: whatever follows a
semicolon in a text is refused by the server, not by a parser of ours. The transaction is
always rolled back; without `analyze` it is read-only on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.rows import TupleRow, tuple_row

from perfloop.adapters.blocks import MARK
from perfloop.adapters.connection import unreachable_if_lost
from perfloop.adapters.queries import query
from perfloop.adapters.statements import parameter_count, statement_kind, without_prepare
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.plan import Plan, read_plan

_PLANNED = "EXPLAIN (VERBOSE, SETTINGS, FORMAT JSON) "
_EXECUTED = "EXPLAIN (ANALYZE, VERBOSE, SETTINGS, BUFFERS, WAL, FORMAT JSON) "

_MOST_PARAMETERS = 65_535
"""The protocol counts them in two bytes."""

_WAYS_OUT: tuple[tuple[type[psycopg.Error], str], ...] = (
    (
        errors.InsufficientPrivilege,
        "planning needs the right to run the statement: SELECT for reads; writes can be left to the lab",
    ),
    (errors.UndefinedTable, "if the service has its own search_path, add options=-csearch_path=… to the DSN"),
    (errors.QueryCanceled, "allow a longer statement timeout"),
    (errors.LockNotAvailable, "try again when no DDL holds the table"),
)


def explain(
    connection: psycopg.Connection[Any], text: str, *, analyze: bool = False, generic: bool = False
) -> Plan:
    """The plan of one statement with literals in place of `$n`.

    Args:
        connection: In autocommit, or inside a transaction, which goes on unharmed.
        text: One SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or MERGE.
        analyze: Execute it, with the checks of deferred constraints; for labs only. What it
            wrote is rolled back, but sequences, dead rows and functions that reach outside are not.
        generic: Plan a text that still has `$n`, as a prepared statement would be in the long
            run; not together with `analyze`.

    Raises:
        UnsupportedStatement: The server refuses it; the message has the server's reason.
        TargetUnreachable: The server went away.
    """
    if analyze and generic:
        raise InvalidInput("a generic plan has no values to execute with; choose analyze or generic")
    statement = without_prepare(text)
    if statement_kind(statement) is None:
        raise UnsupportedStatement("only queries have a plan: SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES")
    parameters = parameter_count(statement)
    if parameters > _MOST_PARAMETERS:
        raise UnsupportedStatement(
            f"it has ${parameters}; no server takes more than {_MOST_PARAMETERS} parameters"
        )
    if parameters and not generic:
        raise UnsupportedStatement("it has parameters; give it values in place of $1, $2, …")
    try:
        if generic:
            document = _plan_generic(connection, statement, parameters)
        else:
            document = _plan(connection, statement, analyze=analyze)
    except psycopg.Error as error:
        raise UnsupportedStatement(_reason(error)) from error
    return read_plan(document)


def _plan(connection: psycopg.Connection[Any], statement: str, *, analyze: bool) -> Any:
    with _rolled_back(connection) as cursor:
        if not analyze:
            cursor.execute(query("forbid_writes"))
        document = _single(cursor, (_EXECUTED if analyze else _PLANNED) + statement).fetchone()
        if analyze:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return None if document is None else document[0]


def _plan_generic(connection: psycopg.Connection[Any], statement: str, parameters: int) -> Any:
    """The generic plan, through PREPARE.

    EXPLAIN (GENERIC_PLAN) would be shorter, but it exists from 16 on only, and in the extended
    protocol it plans for the values that are bound: with NULLs, for a query without a result.
    """
    arguments = f" ({', '.join(['NULL'] * parameters)})" if parameters else ""
    is_prepared = False
    try:
        with _rolled_back(connection) as cursor:
            cursor.execute(query("forbid_writes"))
            cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            _single(cursor, f"PREPARE perfloop_generic AS {MARK} {statement}")
            is_prepared = True
            document = _single(cursor, f"{_PLANNED} EXECUTE perfloop_generic{arguments}").fetchone()
    finally:
        # A prepared statement outlives the rollback, but not the session.
        if is_prepared and not connection.closed:
            connection.execute("DEALLOCATE perfloop_generic")
    return None if document is None else document[0]


@contextmanager
def _rolled_back(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Cursor[TupleRow]]:
    with (
        unreachable_if_lost(connection),
        connection.transaction(force_rollback=True),
        psycopg.RawCursor(connection, row_factory=tuple_row) as cursor,
    ):
        yield cursor


def _single(cursor: psycopg.Cursor[TupleRow], command: str) -> psycopg.Cursor[TupleRow]:
    """Run one command; `binary` is what makes psycopg use the extended protocol without parameters."""
    return cursor.execute(sql.SQL(command), binary=True)


def _reason(error: psycopg.Error) -> str:
    reason = error.diag.message_primary or str(error).strip()
    way_out = next((text for kind, text in _WAYS_OUT if isinstance(error, kind)), error.diag.message_hint)
    return f"{reason}; {way_out}" if way_out else reason
