"""The one session that acts on a target: alone by an advisory lock, and known to the journal by its backend.

A client that is killed leaves its backend at work: a CREATE INDEX CONCURRENTLY runs on to its end. Whoever
takes over ends that backend first, and only then looks at what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import load_blocks
from perfloop.adapters.store import BackendMark
from perfloop.errors import ChangeFailed, InvalidInput, MissingRights
from perfloop.tune.acts import LockPolicy

END_DEADLINE_S = 60.0
POLL_S = 0.05

Connect = Callable[[], psycopg.Connection]
"""Opens an autocommit session on the target that may write and has no statement_timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingSession:
    """A connection that holds the lock, and its mark for the Journal."""

    connection: psycopg.Connection
    backend: BackendMark
    allows_alter_system: bool
    locks: LockPolicy


def block(name: str) -> sql.SQL:
    """The block of that name in tune/apply.sql."""
    return load_blocks("perfloop.tune", "apply.sql")[name]


@contextmanager
def acting_session(
    connect: Connect, *, orphan: BackendMark | None = None, locks: LockPolicy | None = None
) -> Iterator[ActingSession]:
    """Open the session and take the lock, after the end of the `orphan` that may still hold it.

    Raises:
        ChangeFailed: another perfloop is at work there, or the orphan does not end.
        InvalidInput: a pooler stands before the server, or the server is a standby.
        MissingRights: the role's sessions are read-only, or it may not end the orphan.
    """
    with connect() as connection:
        told = _describe(connection)
        backend = BackendMark(process_id=told["process_id"], started=told["started"])
        if orphan is not None and orphan != backend:
            end_backend(connection, orphan)
        _lock(connection)
        yield ActingSession(
            connection=connection,
            backend=backend,
            allows_alter_system=told["allows_alter_system"],
            locks=locks or LockPolicy(),
        )


def end_backend(connection: psycopg.Connection, orphan: BackendMark) -> None:
    """End that very backend and wait until it is gone; nothing happens where it is gone already."""
    deadline_s = time.monotonic() + END_DEADLINE_S
    try:
        while read_rows(connection, block("end_backend"), [orphan.process_id, orphan.started]):
            if time.monotonic() > deadline_s:
                raise ChangeFailed(
                    f"backend {orphan.process_id} of the earlier run does not end; end it on the server, "
                    "then run `perfloop recover` again"
                )
            time.sleep(POLL_S)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MissingRights(
            f"this role may not end backend {orphan.process_id} of the earlier run; connect as the role "
            "that ran it, or GRANT pg_signal_backend"
        ) from error


def _describe(connection: psycopg.Connection) -> DictRow:
    (told,) = read_rows(connection, block("session"))
    if told["process_id"] != connection.info.backend_pid:
        raise InvalidInput(
            "a pooler stands before the server, and an act needs one session of its own; "
            "give perfloop the address of PostgreSQL itself"
        )
    if told["is_standby"]:
        raise InvalidInput("the server is a standby and follows its primary; apply there")
    if told["is_read_only"]:
        raise MissingRights(
            "the sessions of this role are read-only (default_transaction_read_only); "
            "use a role that may write"
        )
    return told


def _lock(connection: psycopg.Connection) -> None:
    (row,) = read_rows(connection, block("lock"))
    if row["is_ours"]:
        return
    holders = read_rows(connection, block("lock_holder"), [connection.info.dbname])
    named = ", ".join(str(each["pid"]) for each in holders) or "unknown"
    raise ChangeFailed(
        f"another perfloop acts on this database (backend {named}); nothing was changed. "
        "Wait for it, or run `perfloop recover` if it was killed"
    )
