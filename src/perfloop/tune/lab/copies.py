"""The databases of a lab, by what they are for; every act opens its own session and closes it again.

Copies are made file by file, so that a clone has the same pages as what it is cloned from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

import psycopg
from psycopg import sql

from perfloop.adapters.patience import PatientConnection
from perfloop.adapters.queries import load_blocks
from perfloop.model.target import TableName
from perfloop.tune.lab.servers import LabServer

FILE_COPY_SINCE: Final = 150_000


class Copies:
    """Databases on a lab's server. Holds no session: a clone needs its source to be free of them."""

    def __init__(self, server: LabServer) -> None:
        self._server = server

    def dsn(self, name: str) -> str:
        return self._server.dsn(self._server.prefix + name)

    def connect(self, name: str) -> psycopg.Connection:
        return open_session(self.dsn(name))

    def clone(self, name: str, *, of: str | None) -> None:
        """Make a database anew, as a copy of another one, or empty."""
        template = "template0" if of is None else self._server.prefix + of
        with open_session(self._server.admin_dsn()) as admin:
            admin.execute(_drop(self._server.prefix + name))
            strategy = " STRATEGY file_copy" if admin.info.server_version >= FILE_COPY_SINCE else ""
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {}" + strategy)
            admin.execute(create.format(sql.Identifier(self._server.prefix + name), sql.Identifier(template)))

    def drop(self, name: str) -> None:
        with open_session(self._server.admin_dsn()) as admin:
            admin.execute(_drop(self._server.prefix + name))

    def rename(self, name: str, new: str) -> None:
        """Let a database take the place of another one, which is dropped."""
        with open_session(self._server.admin_dsn()) as admin:
            admin.execute(_drop(self._server.prefix + new))
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
            names = (self._server.prefix + name, self._server.prefix + new)
            admin.execute(rename.format(*map(sql.Identifier, names)))

    def clear(self, name: str) -> None:
        """Remove the dead rows that rolled-back writes left, and nothing else."""
        with self.connect(name) as connection, _row_counts_kept(connection):
            connection.execute("VACUUM")

    def rewrite(self, name: str, table: TableName) -> None:
        """Write a table's pages anew, as full as its fillfactor says; its visibility map is whole again."""
        named = sql.Identifier(table.schema, table.name)
        with self.connect(name) as connection, _row_counts_kept(connection):
            for words in ("VACUUM FULL {}", "VACUUM {}"):
                connection.execute(sql.SQL(words).format(named))

    def size_bytes(self, name: str) -> int:
        with self.connect(name) as connection:
            return database_bytes(connection)


@contextlib.contextmanager
def _row_counts_kept(connection: psycopg.Connection) -> Iterator[None]:
    """VACUUM counts rows anew, which would make the stale estimates fresh that a target suffers from."""
    counts = connection.execute(_block("row_counts")).fetchall()
    yield
    # Without the right to write the catalogue no stale estimate could be carried over either.
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        kept = [list(column) for column in zip(*counts, strict=True)] or [[], []]
        connection.execute(_block("restore_row_counts"), kept)


def open_session(dsn: str) -> psycopg.Connection:
    """A session in autocommit mode; a prepared text would save its planning from the sixth run on."""
    return PatientConnection.connect(dsn, autocommit=True, prepare_threshold=None)


def set_session(connection: psycopg.Connection, settings: Mapping[str, str]) -> None:
    """Give the session these settings."""
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])


def database_bytes(connection: psycopg.Connection) -> int:
    """The size of the session's own database."""
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def _drop(name: str) -> sql.Composed:
    return sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name))


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.tune.lab", "carry.sql")[name]
