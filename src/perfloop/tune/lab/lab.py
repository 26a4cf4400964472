"""The lab: a scratch server with an untouched copy of the target's database and the two arms of a Trial.

Three databases live on it. `perfloop_origin` is the copy, never measured and never changed, so that the
confirmation can start from it again. `perfloop_control` and `perfloop_treatment` are clones of it; between
trials both hold the changes kept so far. A Trial acts on the treatment, and `keep` or `revert` makes the
two equal again.

The lab's folder is private, and removed when the lab closes or, after a crash, by `perfloop recover`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

import psycopg
from psycopg import sql

from perfloop.adapters.catalog import read_fingerprint, read_settings
from perfloop.adapters.servers.binaries import PostgresBinaries
from perfloop.adapters.servers.postgres import PostgresServer
from perfloop.model.advice import AlterSetting, AnalyzeTable, Change, CreateStatistics, DropIndex
from perfloop.model.outcome import LabKind
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Fingerprint, Setting
from perfloop.tune.acts import act, undo
from perfloop.tune.lab.arms import Arm, Arms
from perfloop.tune.lab.carry import carry_statistics, plant_invalid_indexes
from perfloop.tune.lab.fill import copy_database
from perfloop.tune.lab.settings import lab_settings

ORIGIN = "perfloop_origin"
CONTROL = "perfloop_control"
TREATMENT = "perfloop_treatment"

# ANALYZE draws a new sample each time, and the undo of a dropped index is a new, compact index without the
# statistics of its expressions: a clone of the other arm is the exact state, so these are cloned instead.
_ClonedBack = AnalyzeTable | CreateStatistics | DropIndex
_Statistics = AnalyzeTable | CreateStatistics
_SESSION_CONTEXTS = frozenset({"user", "superuser"})


class Lab:
    """A scratch server of perfloop's own; a context manager.

    Args:
        snapshot: the target's; gives the settings, the statistics to carry and the fingerprint.
        target_dsn: read once, by pg_dump.
        binaries: the server to run; the target's major version if this machine has it.
        tell: called with a sentence at each step of the filling.
    """

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        target_dsn: str,
        binaries: PostgresBinaries,
        tell: Callable[[str], None],
    ) -> None:
        self._snapshot = snapshot
        self._target_dsn = target_dsn
        self._binaries = binaries
        self._tell = tell
        self._settings = lab_settings(snapshot)
        self._session: dict[str, str] = {}
        self._stack = ExitStack()
        self._server = PostgresServer(binaries, settings=self._settings)
        self._admin: psycopg.Connection
        self.fingerprint: Fingerprint
        self.settings: tuple[Setting, ...] = ()
        self.notes: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._server)
            self._admin = stack.enter_context(_connect(self._server.dsn("postgres")))
            self.fingerprint = read_fingerprint(self._admin)
            self.settings = read_settings(self._admin)
            self._fill()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def dsn(self, database: str) -> str:
        """The conninfo of a database of the lab."""
        return self._server.dsn(database)

    def connect(self, database: str, *, extra: Mapping[str, str] | None = None) -> psycopg.Connection:
        """A session with the settings kept so far, and `extra` ones."""
        connection = _connect(self._server.dsn(database))
        set_session(connection, {**self._session, **(extra or {})})
        return connection

    def kind_for(self, change: Change) -> LabKind:
        """The cheapest kind of lab that is valid for the change."""
        if not isinstance(change, AlterSetting):
            return LabKind.DATABASES
        setting = next((each for each in self.settings if each.name == change.name), None)
        context = setting.context if setting is not None else "user"
        return LabKind.SESSIONS if context in _SESSION_CONTEXTS else LabKind.INSTANCES

    @contextmanager
    def control_arm(self) -> Iterator[Arm]:
        """The control alone, to count the workload in."""
        with ExitStack() as stack:
            yield self._arm(stack, "control", self.dsn(CONTROL))

    @contextmanager
    def arms(self, change: Change) -> Iterator[Arms]:
        """Put the change into the treatment and open both arms. `keep` or `revert` must follow."""
        kind = self.kind_for(change)
        with ExitStack() as stack:
            if kind is LabKind.INSTANCES:
                assert isinstance(change, AlterSetting)
                second = stack.enter_context(self._second_instance({change.name: change.value}))
                control = self._arm(stack, "control", self.dsn(CONTROL))
                treatment = self._arm(stack, "treatment", second.dsn(CONTROL))
                yield Arms(kind=kind, control=control, treatment=treatment)
                return
            if isinstance(change, AlterSetting):
                control = self._arm(stack, "control", self.dsn(CONTROL))
                extra = {change.name: change.value}
                treatment = self._arm(stack, "treatment", self.dsn(CONTROL), extra)
                yield Arms(kind=kind, control=control, treatment=treatment)
                return
            build_s, size_bytes = self._act_on(TREATMENT, change)
            control = self._arm(stack, "control", self.dsn(CONTROL))
            treatment = self._arm(stack, "treatment", self.dsn(TREATMENT))
            yield Arms(
                kind=kind, control=control, treatment=treatment, build_s=build_s, size_bytes=size_bytes
            )

    @contextmanager
    def arms_without(self, change: Change, kept: Sequence[Change]) -> Iterator[Arms]:
        """All of `kept` in the treatment, the same less `change` in the control.

        `restore` or `withdraw` must follow.
        """
        with ExitStack() as stack:
            own: dict[str, str] = {}
            if isinstance(change, AlterSetting):
                own[change.name] = self._session.pop(change.name)
                stack.callback(self._session.update, own)
            elif isinstance(change, _ClonedBack):
                self._replace(CONTROL, ORIGIN)
                for each in kept:
                    if each != change and not isinstance(each, AlterSetting):
                        self._act_on(CONTROL, each)
            else:
                self._undo_on(CONTROL, change)
            kind = LabKind.SESSIONS if own else LabKind.DATABASES
            control = self._arm(stack, "control", self.dsn(CONTROL))
            treatment = self._arm(stack, "treatment", self.dsn(CONTROL if own else TREATMENT), own)
            yield Arms(kind=kind, control=control, treatment=treatment)

    @contextmanager
    def arms_of_stack(self, changes: Sequence[Change]) -> Iterator[Arms]:
        """Fresh clones of the origin: the control as it was, the treatment with all the changes."""
        self._clone_arms()
        self._session.clear()
        settings = [each for each in changes if isinstance(each, AlterSetting)]
        size_bytes = 0
        started_s = time.monotonic()
        for change in changes:
            if not isinstance(change, AlterSetting):
                size_bytes += self._act_on(TREATMENT, change)[1]
        build_s = time.monotonic() - started_s
        with ExitStack() as stack:
            control_dsn, treatment_dsn = self.dsn(CONTROL), self.dsn(TREATMENT)
            own = {each.name: each.value for each in settings if self.kind_for(each) is LabKind.SESSIONS}
            restarted = {each.name: each.value for each in settings if each.name not in own}
            if restarted:
                original = {name: self._settings.get(name, self._boot(name)) for name in restarted}
                self._restart({**self._settings, **restarted})
                control_dsn = stack.enter_context(self._second_instance(original)).dsn(CONTROL)
            control = self._arm(stack, "control", control_dsn)
            treatment = self._arm(stack, "treatment", treatment_dsn, own)
            kind = LabKind.INSTANCES if restarted else LabKind.DATABASES
            yield Arms(
                kind=kind, control=control, treatment=treatment, build_s=build_s, size_bytes=size_bytes
            )

    def keep(self, change: Change) -> None:
        """Make the control equal to the treatment: the change stays while the next ones are tried."""
        if isinstance(change, AlterSetting):
            self._keep_setting(change)
        else:
            self._add(CONTROL, change, like=TREATMENT)

    def revert(self, change: Change) -> None:
        """Make the treatment equal to the control again."""
        if not isinstance(change, AlterSetting):
            self._remove(TREATMENT, change, like=CONTROL)

    def restore(self, change: Change) -> None:
        """After `arms_without`: put the kept change back into the control."""
        if not isinstance(change, AlterSetting):
            self._add(CONTROL, change, like=TREATMENT)

    def withdraw(self, change: Change) -> None:
        """After `arms_without`: take the change out for good."""
        if isinstance(change, AlterSetting):
            del self._session[change.name]
        else:
            self._remove(TREATMENT, change, like=CONTROL)

    def clone(self, name: str) -> str:
        """Make a database of that name with the content of the control, for what-if; returns its conninfo."""
        self._create(name, template=CONTROL)
        return self.dsn(name)

    def drop(self, name: str) -> None:
        """Drop a database that `clone` made."""
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))

    def database_bytes(self) -> int:
        """Size of the untouched copy."""
        row = self._admin.execute("SELECT pg_database_size(%s)", [ORIGIN]).fetchone()
        return int(row[0]) if row else 0

    def vacuum(self) -> None:
        """Clear what rolled-back writes left in both arms, so that the next Trial starts even."""
        for database in (CONTROL, TREATMENT):
            with _connect(self.dsn(database)) as connection:
                connection.execute("VACUUM")

    def _fill(self) -> None:
        self._tell("copying the database into a lab")
        self._create(ORIGIN, template="template0")
        self.notes += copy_database(self._target_dsn, self.dsn(ORIGIN), self._binaries)
        self._tell("collecting statistics in the lab")
        with _connect(self.dsn(ORIGIN)) as connection:
            connection.execute("VACUUM ANALYZE")
            self.notes += plant_invalid_indexes(connection, self._snapshot)
            self.notes += carry_statistics(connection, self._snapshot)
        self._clone_arms()

    def _clone_arms(self) -> None:
        for database in (CONTROL, TREATMENT):
            self._replace(database, ORIGIN)

    def _create(self, name: str, *, template: str) -> None:
        strategy = " STRATEGY file_copy" if self.fingerprint.major >= 15 else ""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}" + strategy)
        self._admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _keep_setting(self, change: AlterSetting) -> None:
        if self.kind_for(change) is LabKind.SESSIONS:
            self._session[change.name] = change.value
            return
        self._settings[change.name] = change.value
        self._restart(self._settings)

    def _add(self, database: str, change: Change, *, like: str) -> None:
        if isinstance(change, _Statistics):
            self._replace(database, like)
        else:
            self._act_on(database, change)

    def _remove(self, database: str, change: Change, *, like: str) -> None:
        if isinstance(change, _ClonedBack):
            self._replace(database, like)
        else:
            self._undo_on(database, change)

    def _replace(self, database: str, template: str) -> None:
        self.drop(database)
        self._create(database, template=template)

    def _act_on(self, database: str, change: Change) -> tuple[float, int]:
        with _connect(self.dsn(database)) as connection:
            before_bytes = _database_bytes(connection)
            started_s = time.monotonic()
            act(connection, change, concurrently=False)
            return time.monotonic() - started_s, _database_bytes(connection) - before_bytes

    def _undo_on(self, database: str, change: Change) -> None:
        with _connect(self.dsn(database)) as connection:
            undo(connection, change, None, concurrently=False)

    def _arm(self, stack: ExitStack, name: str, dsn: str, extra: Mapping[str, str] | None = None) -> Arm:
        connection = stack.enter_context(_connect(dsn))
        set_session(connection, {**self._session, **(extra or {})})
        return Arm(name=name, connection=connection)

    @contextmanager
    def _second_instance(self, changed: Mapping[str, str]) -> Iterator[PostgresServer]:
        """A second server on a copy of the data, with `changed` settings; the first stands still for it."""
        self._admin.close()
        with ExitStack() as stack:
            with self._server.stopped() as data_dir:
                settings = {**self._settings, **changed}
                second = PostgresServer(self._binaries, settings=settings, copy_of=data_dir)
                stack.enter_context(second)
            self._admin = self._stack.enter_context(_connect(self._server.dsn("postgres")))
            yield second

    def _restart(self, settings: Mapping[str, str]) -> None:
        self._admin.close()
        self._server.restart(settings)
        self._admin = self._stack.enter_context(_connect(self._server.dsn("postgres")))

    def _boot(self, name: str) -> str:
        return next(each.boot_value or each.value for each in self.settings if each.name == name)


def set_session(connection: psycopg.Connection, settings: Mapping[str, str]) -> None:
    """Give the session these settings."""
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])


def _connect(dsn: str) -> psycopg.Connection:
    # Without server-side preparation: a prepared text would save its planning from the sixth run on.
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)


def _database_bytes(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0
