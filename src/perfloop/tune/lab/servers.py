"""Where a lab's databases live: on a server of perfloop's own, or on a scratch server of the user's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from perfloop.adapters.connection import connect
from perfloop.adapters.host import server_is_here
from perfloop.adapters.queries import load_blocks
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.errors import InvalidInput, LabRefused, MissingRights, TargetUnreachable

PREFIX = "perfloop_lab_"
KEPT_PREFIX = "perfloop_kept_"
"""Of databases that the user wants to look at; no later lab takes them for leftovers."""


ORIGIN: Final = "origin"
"""The target's copy, never measured and never changed, so that the confirmation can start from it."""
STACK: Final = "stack"
"""What holds the changes kept so far."""
TRIAL: Final = "trial"
"""A clone of the stack in which one change is made, or one kept change left out."""
WHAT_IF: Final = "what_if"
"""A clone of the stack for the search, dropped after it."""
DATABASES: Final = (ORIGIN, STACK, TRIAL, WHAT_IF)


class LabServer(Protocol):
    """A server on which databases may be made and dropped at will. A context manager."""

    session: Mapping[str, str]
    """Settings that every session of the lab must set, because the server could not be started with them."""
    prefix: str
    """What the names of the lab's databases begin with; nobody else's do."""
    is_here: bool
    """Whether its backends' CPU time can be read."""
    can_restart: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def dsn(self, database: str) -> str:
        """The conninfo of a database."""

    def admin_dsn(self) -> str:
        """The conninfo of a database that is not the lab's, from which the lab's are made and dropped."""

    def restart(self, settings: Mapping[str, str]) -> None:
        """Restart with these settings. Only where `can_restart`; no session may be open."""

    def copied(self, settings: Mapping[str, str]) -> AbstractContextManager[PostgresServer]:
        """A second server on a copy of the data. Only where `can_restart`; no session may be open."""


class OwnServer:
    """A server of perfloop's own, started for the lab and gone with it."""

    is_here = True
    can_restart = True
    prefix = PREFIX

    def __init__(
        self, binaries: PostgresBinaries, settings: Mapping[str, str], *, data_dir: Path | None = None
    ) -> None:
        self.session: Mapping[str, str] = {}
        self._binaries = binaries
        self._server = PostgresServer(binaries, settings=settings, data_dir=data_dir)

    def __enter__(self) -> Self:
        self._server.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def dsn(self, database: str) -> str:
        return self._server.dsn(database)

    def admin_dsn(self) -> str:
        return self._server.dsn("postgres")

    def restart(self, settings: Mapping[str, str]) -> None:
        self._server.restart(settings)

    @contextmanager
    def copied(self, settings: Mapping[str, str]) -> Iterator[PostgresServer]:
        with ExitStack() as stack:
            with self._server.stopped() as data_dir:
                second = PostgresServer(self._binaries, settings=settings, copy_of=data_dir)
                stack.enter_context(second)
            yield second


class ScratchServer:
    """A server of the user's: databases are made there and dropped at the end.

    What a crashed lab left there is dropped by the next one. Whether a lab is alive shows in an advisory
    lock that it holds on the DSN's own database.

    Args:
        dsn: of a role that may create databases.
        target_dsn: of the target, which must be another server.
        settings: of the lab; each session sets those that it may.
        keep: leave the databases at the end.
    """

    can_restart = False

    def __init__(self, dsn: str, *, target_dsn: str, settings: Mapping[str, str], keep: bool) -> None:
        self._dsn = dsn
        self._target_dsn = target_dsn
        self._settings = settings
        self._keep = keep
        self._stack = ExitStack()
        self._lab_id = secrets.randbits(31)
        self.prefix = f"{KEPT_PREFIX if keep else PREFIX}{self._lab_id}_"
        self.session: Mapping[str, str] = {}
        self.is_here = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            admin = stack.enter_context(_scratch_session(self._dsn))
            with connect(self._target_dsn, read_only=True) as target:
                _refuse(admin, target)
            admin.execute(_block("hold_lab"), [self._lab_id])
            self._drop_leftovers(admin)
            self.session = _settable(admin, self._settings)
            self.is_here = server_is_here(admin)
            if not self._keep:
                stack.callback(self._drop_own, admin)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def dsn(self, database: str) -> str:
        return make_conninfo(self._dsn, dbname=database)

    def admin_dsn(self) -> str:
        return self._dsn

    def restart(self, settings: Mapping[str, str]) -> None:
        raise LabRefused("a scratch server of yours is never restarted; leave --lab out to try this setting")

    def copied(self, settings: Mapping[str, str]) -> AbstractContextManager[PostgresServer]:
        raise LabRefused("a scratch server of yours is never copied; leave --lab out to try this setting")

    def _drop_own(self, admin: psycopg.Connection) -> None:
        for database in DATABASES:
            _drop_database(admin, self.prefix + database)

    def _drop_leftovers(self, admin: psycopg.Connection) -> None:
        pattern = f"^{PREFIX}([0-9]{{1,10}})_({'|'.join(DATABASES)})$"
        for (name,) in admin.execute(_block("leftover_databases"), [pattern]).fetchall():
            _drop_database(admin, name)


def refuse_as_scratch(dsn: str, target: psycopg.Connection) -> None:
    """Raise where no lab can be made by this DSN, as `ScratchServer` would when it is opened."""
    with _scratch_session(dsn) as admin:
        _refuse(admin, target)


def _scratch_session(dsn: str) -> psycopg.Connection:
    try:
        return connect(dsn, read_only=False, statement_timeout_s=0)
    except (InvalidInput, MissingRights, TargetUnreachable) as error:
        raise type(error)(f"--lab, the scratch server: {error}") from error


def _refuse(admin: psycopg.Connection, target: psycopg.Connection) -> None:
    if _identity(admin) == _identity(target):
        raise LabRefused(
            "--lab names the target's own server, which perfloop does not load with trials; "
            "name another one, or leave --lab out"
        )
    row = admin.execute(_block("may_create_databases")).fetchone()
    if row is None or not row[0]:
        raise LabRefused("the role of --lab may not create databases: ALTER ROLE … CREATEDB")


def _identity(connection: psycopg.Connection) -> tuple[object, ...] | None:
    return connection.execute(_block("identity")).fetchone()


def _settable(connection: psycopg.Connection, settings: Mapping[str, str]) -> dict[str, str]:
    """Those of the settings that a session of this role may set to these values."""
    found = {}
    for name, value in settings.items():
        try:
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        except psycopg.Error:
            continue  # a server-wide one: the scratch server keeps its own
        found[name] = value
    return found


def _drop_database(admin: psycopg.Connection, name: str) -> None:
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.tune.lab", "servers.sql")[name]
