"""The lab: a scratch server with an untouched copy of the target's database and the two arms of a Trial.

Three databases live on it. The origin is the copy, never measured and never changed, so that the
confirmation can start from it again. Control and treatment are clones of it; between trials both hold the
changes kept so far. A Trial acts on the treatment, and `keep` or `revert` makes the two equal again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

import psycopg
from psycopg import sql

from perfloop.adapters.catalog import read_fingerprint, read_settings
from perfloop.adapters.servers import PostgresBinaries
from perfloop.model.advice import AlterSetting, AnalyzeTable, Change, CreateStatistics, DropIndex
from perfloop.model.outcome import LabKind
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Fingerprint, Setting
from perfloop.tune.acts import act, undo
from perfloop.tune.lab.arms import Arm, Arms
from perfloop.tune.lab.carry import carry_statistics, plant_invalid_indexes
from perfloop.tune.lab.fill import copy_database
from perfloop.tune.lab.servers import LabServer

# ANALYZE draws a new sample each time, and what undoes a dropped index is a new, compact one without the
# statistics of its expressions. Only a clone of the other arm is the exact state.
_ClonedOnly = AnalyzeTable | CreateStatistics | DropIndex
_SESSION_CONTEXTS = frozenset({"user", "superuser"})


class Lab:
    """Copies of a target to try changes on; a context manager.

    Args:
        server: where the copies live; opened and closed with the lab.
        settings: what the server was started with.
        snapshot: the target's: invalid indexes and stale statistics are carried over from it.
        target_dsn: read once, by pg_dump.
        binaries: whose pg_dump and pg_restore are used.
        tell: called with a sentence at each step of the filling.
    """

    def __init__(
        self,
        server: LabServer,
        *,
        settings: Mapping[str, str],
        snapshot: Snapshot,
        target_dsn: str,
        binaries: PostgresBinaries,
        tell: Callable[[str], None],
    ) -> None:
        self.server = server
        self._snapshot = snapshot
        self._target_dsn = target_dsn
        self._binaries = binaries
        self._tell = tell
        self._settings = dict(settings)
        self._session: dict[str, str] = {}
        self._stack = ExitStack()
        self._admin: psycopg.Connection
        self.fingerprint: Fingerprint
        self.settings: tuple[Setting, ...] = ()
        self.notes: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            stack.callback(self._close_admin)
            self._origin, self._control, self._treatment, self._clone = (
                self.server.prefix + name for name in ("origin", "control", "treatment", "clone")
            )
            self._admin = _connect(self.server.dsn("postgres"))
            self.fingerprint = read_fingerprint(self._admin)
            self.settings = read_settings(self._admin)
            self._fill()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

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
            yield self._arm(stack, "control", self.server.dsn(self._control))

    @contextmanager
    def arms(self, change: Change) -> Iterator[Arms]:
        """Put the change into the treatment and open both arms. `keep` or `revert` must follow."""
        kind = self.kind_for(change)
        with ExitStack() as stack:
            if kind is LabKind.INSTANCES:
                assert isinstance(change, AlterSetting)
                second_dsn = stack.enter_context(self._second_instance({change.name: change.value}))
                control = self._arm(stack, "control", self.server.dsn(self._control))
                treatment = self._arm(stack, "treatment", second_dsn)
                yield Arms(kind=kind, control=control, treatment=treatment)
                return
            if isinstance(change, AlterSetting):
                control = self._arm(stack, "control", self.server.dsn(self._control))
                extra = {change.name: change.value}
                treatment = self._arm(stack, "treatment", self.server.dsn(self._control), extra)
                yield Arms(kind=kind, control=control, treatment=treatment)
                return
            build_s, size_bytes = self._act_on(self._treatment, change)
            control = self._arm(stack, "control", self.server.dsn(self._control))
            treatment = self._arm(stack, "treatment", self.server.dsn(self._treatment))
            yield Arms(
                kind=kind, control=control, treatment=treatment, build_s=build_s, size_bytes=size_bytes
            )

    @contextmanager
    def arms_without(self, change: Change) -> Iterator[Arms]:
        """The whole stack in the treatment, the same less one kept change in the control.

        `restore` or `withdraw` must follow.
        """
        with ExitStack() as stack:
            own: dict[str, str] = {}
            if isinstance(change, AlterSetting):
                own[change.name] = self._session.pop(change.name)
                stack.callback(self._session.update, own)
            else:
                self._replace(self._control, self._treatment)
                self._undo_on(self._control, change)
            kind = LabKind.SESSIONS if own else LabKind.DATABASES
            control = self._arm(stack, "control", self.server.dsn(self._control))
            database = self._control if own else self._treatment
            treatment = self._arm(stack, "treatment", self.server.dsn(database), own)
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
                size_bytes += self._act_on(self._treatment, change)[1]
        build_s = time.monotonic() - started_s
        with ExitStack() as stack:
            control_dsn, treatment_dsn = self.server.dsn(self._control), self.server.dsn(self._treatment)
            own = {each.name: each.value for each in settings if self.kind_for(each) is LabKind.SESSIONS}
            restarted = {each.name: each.value for each in settings if each.name not in own}
            if restarted:
                original = {name: self._settings.get(name, self._boot(name)) for name in restarted}
                self._restart({**self._settings, **restarted})
                control_dsn = stack.enter_context(self._second_instance(original))
            control = self._arm(stack, "control", control_dsn)
            treatment = self._arm(stack, "treatment", treatment_dsn, own)
            kind = LabKind.INSTANCES if restarted else LabKind.DATABASES
            yield Arms(
                kind=kind, control=control, treatment=treatment, build_s=build_s, size_bytes=size_bytes
            )

    def keep(self, change: Change, *, diverged: bool) -> None:
        """Make the control equal to the treatment: the change stays while the next ones are tried.

        `diverged` says that writes did different work in the two arms, so that their pages differ too.
        """
        if isinstance(change, AlterSetting):
            self._keep_setting(change)
        elif diverged or isinstance(change, _ClonedOnly):
            self._equalise(self._control, like=self._treatment)
        else:
            self._act_on(self._control, change)

    def revert(self, change: Change, *, diverged: bool) -> None:
        """Make the treatment equal to the control again."""
        if isinstance(change, AlterSetting):
            return
        if diverged or isinstance(change, _ClonedOnly):
            self._equalise(self._treatment, like=self._control)
        else:
            self._undo_on(self._treatment, change)

    def restore(self) -> None:
        """After `arms_without`: put the change that was left out back into the control."""
        self._equalise(self._control, like=self._treatment)

    def withdraw(self, change: Change) -> None:
        """After `arms_without`: take the change that was left out of the whole stack."""
        if isinstance(change, AlterSetting):
            del self._session[change.name]
        else:
            self._equalise(self._treatment, like=self._control)

    @contextmanager
    def clone(self) -> Iterator[psycopg.Connection]:
        """A session on a clone of the control that is dropped on leaving, for what-if."""
        self._replace(self._clone, self._control)
        try:
            with _connect(self.server.dsn(self._clone)) as connection:
                set_session(connection, {**self.server.session, **self._session})
                yield connection
        finally:
            self._drop(self._clone)

    def database_bytes(self) -> int:
        """Size of the untouched copy."""
        row = self._admin.execute("SELECT pg_database_size(%s)", [self._origin]).fetchone()
        return int(row[0]) if row else 0

    def _fill(self) -> None:
        self._tell("copying the database into a lab")
        self._create(self._origin, template="template0")
        lab_dsn = self.server.dsn(self._origin)
        self.notes += copy_database(self._target_dsn, lab_dsn, self._binaries)
        self._tell("collecting statistics in the lab")
        with _connect(self.server.dsn(self._origin)) as connection:
            connection.execute("VACUUM ANALYZE")
            self.notes += plant_invalid_indexes(connection, self._snapshot)
            self.notes += carry_statistics(connection, self._snapshot)
        self._clone_arms()

    def _clone_arms(self) -> None:
        for database in (self._control, self._treatment):
            self._replace(database, self._origin)

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

    def _equalise(self, database: str, *, like: str) -> None:
        """Both arms page for page the same, cleared of what rolled-back writes left."""
        with _connect(self.server.dsn(like)) as connection:
            connection.execute("VACUUM")
        self._replace(database, like)

    def _replace(self, database: str, template: str) -> None:
        self._drop(database)
        self._create(database, template=template)

    def _act_on(self, database: str, change: Change) -> tuple[float, int]:
        with _connect(self.server.dsn(database)) as connection:
            before_bytes = _database_bytes(connection)
            started_s = time.monotonic()
            act(connection, change, concurrently=False)
            return time.monotonic() - started_s, _database_bytes(connection) - before_bytes

    def _undo_on(self, database: str, change: Change) -> None:
        """The lab's undo: statistics that the change made fresh become the target's stale ones again."""
        with _connect(self.server.dsn(database)) as connection:
            undo(connection, change, None, concurrently=False)
            if isinstance(change, AnalyzeTable | CreateStatistics):
                carry_statistics(connection, self._snapshot, only=change.table)

    def _arm(self, stack: ExitStack, name: str, dsn: str, extra: Mapping[str, str] | None = None) -> Arm:
        connection = stack.enter_context(_connect(dsn))
        set_session(connection, {**self.server.session, **self._session, **(extra or {})})
        return Arm(name=name, connection=connection, is_here=self.server.is_here)

    @contextmanager
    def _second_instance(self, changed: Mapping[str, str]) -> Iterator[str]:
        """A second server on a copy of the data, with `changed` settings; yields its control's conninfo."""
        self._admin.close()
        with self.server.copied({**self._settings, **changed}) as second:
            self._admin = _connect(self.server.dsn("postgres"))
            yield second.dsn(self._control)

    def _restart(self, settings: Mapping[str, str]) -> None:
        self._admin.close()
        self.server.restart(settings)
        self._admin = _connect(self.server.dsn("postgres"))

    def _close_admin(self) -> None:
        if hasattr(self, "_admin"):
            self._admin.close()

    def _drop(self, name: str) -> None:
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))

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
