"""Extensions that an index needs: are they there, may this role create them, and do others use them.

To create one is a Change of its own in the Journal, so that undo drops what apply created and nothing else.
The server drops an extension only while no object depends on it. What it does not see are statements that
have begun to use its operators; those fail from then on, as they did before apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import load_blocks
from perfloop.errors import ChangeFailed, MissingRights
from perfloop.model.advice import CreateExtension, CreateIndex, ServerChange


def with_extensions(
    connection: psycopg.Connection[Any], changes: tuple[ServerChange, ...]
) -> tuple[ServerChange, ...]:
    """The changes, behind those that create the extensions they need and this database has not."""
    needed = {change.requires_extension for change in changes if isinstance(change, CreateIndex)}
    missing = sorted(name for name in needed if name and not is_installed(connection, name))
    return (*(CreateExtension(name=name) for name in missing), *changes)


def is_installed(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether the session's database has the extension."""
    return bool(read_rows(connection, _block("installed_extension"), [name]))


def refuse_extension(connection: psycopg.Connection[Any], change: CreateExtension) -> None:
    """Raise ChangeFailed or MissingRights where the role cannot create it, with what somebody has to run."""
    if is_installed(connection, change.name):
        return
    rows = read_rows(connection, _block("extension_rights"), [change.name])
    if not rows:
        raise ChangeFailed(
            f"the target's server has no files of extension {change.name}; install PostgreSQL's contrib "
            "package there, or leave out the index that needs it"
        )
    rights = rows[0]
    if rights["is_superuser"] or (rights["is_trusted"] and rights["creates_in_database"]):
        return
    grant = f' or, as it is trusted: GRANT CREATE ON DATABASE "{rights["database"]}" TO "{rights["role"]}";'
    raise MissingRights(
        f"this role may not create extension {change.name}; let a superuser run in database "
        f"{rights['database']}: CREATE EXTENSION {change.name};{grant if rights['is_trusted'] else ''}"
    )


@contextmanager
def reachable(connection: psycopg.Connection[Any], change: ServerChange) -> Iterator[None]:
    """Let the session find the operator classes of the extension, in whichever schema it lies."""
    extension = change.requires_extension if isinstance(change, CreateIndex) else None
    rows = read_rows(connection, _block("installed_extension"), [extension]) if extension else []
    if not rows:
        yield
        return
    before = connection.execute("SELECT current_setting('search_path')").fetchone()
    path = before[0] if before else ""
    schema = sql.Identifier(str(rows[0]["schema"])).as_string(connection)
    connection.execute(_SET_PATH, [f"{path}, {schema}" if path else schema])
    try:
        yield
    finally:
        if not connection.broken and connection.info.transaction_status != _FAILED:
            connection.execute(_SET_PATH, [path])


_SET_PATH = "SELECT set_config('search_path', %s, false)"
_FAILED = psycopg.pq.TransactionStatus.INERROR
"""A transaction that has failed takes its settings back by itself."""


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.tune", "states.sql")[name]
