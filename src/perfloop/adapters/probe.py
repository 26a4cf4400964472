"""Runs one probe at a time: in a transaction of its own, with the session pinned, with rows as dicts.

What a probe cannot read becomes a Limitation and never stops the next probe; only a lost
connection does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql
from psycopg.rows import DictRow, dict_row

from perfloop.adapters.connection import unreachable_if_lost
from perfloop.adapters.queries import query
from perfloop.model.snapshot import Limitation

ResultT = TypeVar("ResultT")


@contextmanager
def pinned(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Cursor[DictRow]]:
    """A cursor in a transaction (or savepoint) whose search_path and text forms are fixed."""
    with (
        unreachable_if_lost(connection),
        connection.transaction(),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        cursor.execute(query("pin_session"))
        yield cursor


def read_rows(
    connection: psycopg.Connection[Any],
    block: sql.SQL | sql.Composed,
    parameters: Sequence[Any] | None = None,
) -> list[DictRow]:
    """The rows of one block, as dicts."""
    with pinned(connection) as cursor:
        return cursor.execute(block, parameters).fetchall()


class ProbeLog:
    """Reads probes and keeps a Limitation for each that failed."""

    def __init__(self, role: str) -> None:
        self.limitations: list[Limitation] = []
        self._role = role

    def read(self, subject: str, probe: Callable[[], ResultT], otherwise: ResultT) -> ResultT:
        """What `probe` returns, or `otherwise` where the server refused."""
        try:
            return probe()
        except psycopg.Error as error:
            self.limitations.append(limitation_of(error, subject=subject, role=self._role))
            return otherwise


def limitation_of(error: psycopg.Error, *, subject: str, role: str) -> Limitation:
    """The server's refusal in its own words, with the way out."""
    reason = error.diag.message_primary or str(error).strip()
    return Limitation(subject=subject, reason=reason, remedy=_remedy(error, role))


def _remedy(error: psycopg.Error, role: str) -> str:
    if isinstance(error, errors.InsufficientPrivilege):
        return grant_monitor(role)
    if isinstance(error, errors.QueryCanceled):
        return "give it more time with a larger statement timeout, or read when the server is quieter"
    if isinstance(error, errors.LockNotAvailable):
        return "read again when no DDL holds the table"
    return "see the server's log around this moment"


def grant_monitor(role: str) -> str:
    """The one grant that opens settings, statement texts and activity of all roles."""
    return f"GRANT pg_monitor TO {quoted(role)};"


def quoted(name: str) -> str:
    """A name as SQL writes it, for commands that are shown."""
    return sql.Identifier(name).as_string(None)
