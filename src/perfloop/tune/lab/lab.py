"""The lab: a scratch server with an untouched copy of the target's database and the two arms of a Trial.

The stack is the state that counts: the copy with all that is kept so far. One arm is always a session on it.
The other is a session with another setting, a clone of it with another index, or a second server. What a
Trial leaves in the clone is undone, or the clone is made anew before it is needed again; what it leaves in
the stack is dead rows of rolled-back writes, which are cleared before the stack is cloned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Self

import psycopg

from perfloop.adapters.catalog import read_fingerprint, read_settings
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.errors import ChangeFailed, ServerFailed
from perfloop.model.advice import (
    AlterSetting,
    Change,
    RewriteQuery,
    ServerChange,
)
from perfloop.model.outcome import LabKind
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Fingerprint, Setting
from perfloop.tune.lab.arms import Arm, Arms
from perfloop.tune.lab.carry import carry_statistics, plant_invalid_indexes
from perfloop.tune.lab.copies import Copies
from perfloop.tune.lab.copy_acts import act_in, is_cloned_only, undo_in
from perfloop.tune.lab.fill import copy_database
from perfloop.tune.lab.servers import ORIGIN, STACK, TRIAL, WHAT_IF, LabServer
from perfloop.tune.lab.settings import unlike
from perfloop.tune.lab.stack_settings import StackSettings
from perfloop.tune.lab.wordings import Wordings

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

    Once open, `fingerprint` and `settings` are the lab's, and `notes` says what could not be carried over.
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
        self.fingerprint: Fingerprint
        self.settings: tuple[Setting, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._snapshot = snapshot
        self._target_dsn = target_dsn
        self._binaries = binaries
        self._tell = tell
        self._stack_settings = StackSettings(server, settings)
        self.wordings = Wordings()
        self._copies = Copies(server)
        self._trial_is_stack = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            self._fill()
            with self._session(STACK) as connection:
                self.fingerprint = read_fingerprint(connection)
                self.settings = read_settings(connection)
            others = unlike(self._stack_settings.start, self.settings)
            if others:
                self.notes += (f"the lab has other values than wanted of {', '.join(others)}",)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def kind_for(self, change: Change) -> LabKind:
        """The cheapest kind of lab that is valid for the change."""
        if isinstance(change, RewriteQuery):
            return LabKind.SESSIONS
        if not isinstance(change, AlterSetting):
            return LabKind.DATABASES
        setting = next((each for each in self.settings if each.name == change.name), None)
        context = setting.context if setting is not None else "user"
        return LabKind.SESSIONS if context in _SESSION_CONTEXTS else LabKind.INSTANCES

    @contextmanager
    def control_arm(self) -> Iterator[Arm]:
        """A session on the stack alone, to count the workload in."""
        self._trial_is_stack = False
        with self._session(STACK) as connection:
            yield self._arm("control", connection, self.wordings.of_stack())

    @contextmanager
    def arms(self, change: Change) -> Iterator[Arms]:
        """Put the change into the treatment and open both arms. `keep` or `revert` must follow.

        Raises:
            ChangeFailed: the change cannot be made here; nothing is left of it.
        """
        with ExitStack() as stack:
            with _refused(change):
                opened = self._open_arms(stack, change)
            yield opened

    @contextmanager
    def arms_without(self, change: Change) -> Iterator[Arms]:
        """The whole stack in the treatment, the same less one kept change in the control.

        What a server carries out is tried on the statements as they are, in both arms: whether the service
        takes over the rewritten ones is for people to say, and it must hold without them.

        `restore` or `withdraw` must follow.
        """
        kind = self.kind_for(change)
        with ExitStack() as stack:
            wordings: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
            if isinstance(change, RewriteQuery):
                treatment = stack.enter_context(self._session(STACK))
                control = stack.enter_context(self._session(STACK))
                wordings = (self.wordings.of_stack(without=change), self.wordings.of_stack())
            elif not isinstance(change, AlterSetting):
                self._undo_in_trial(change)
                treatment = stack.enter_context(self._session(STACK))
                control = stack.enter_context(self._session(TRIAL))
            elif kind is LabKind.SESSIONS:
                self._trial_is_stack = False
                treatment = stack.enter_context(self._session(STACK))
                control = stack.enter_context(self._session(STACK, without=change.name))
            else:
                second = stack.enter_context(self.server.copied(self._stack_settings.server_without(change)))
                treatment = stack.enter_context(self._session(STACK))
                control = stack.enter_context(self._session_at(second, STACK))
                self._trial_is_stack = False
            yield self._arms(kind, control, treatment, wordings=wordings)

    @contextmanager
    def arms_of_stack(self, changes: Sequence[Change]) -> Iterator[Arms]:
        """Fresh clones of the origin: the control as it was, the treatment with all the changes.

        Nothing can be tried afterwards.
        """
        settings = [each for each in changes if isinstance(each, AlterSetting)]
        at_start = {each.name: each.value for each in settings if self.kind_for(each) is LabKind.INSTANCES}
        in_session = {each.name: each.value for each in settings if each.name not in at_start}
        self._copies.clone(TRIAL, of=ORIGIN)
        self._copies.clone(STACK, of=ORIGIN)
        self._stack_settings.begin_anew(at_start)
        acts = [each for each in changes if not isinstance(each, AlterSetting | RewriteQuery)]
        built = [act_in(self._copies, STACK, each) for each in acts]
        with ExitStack() as stack:
            if at_start:
                second = stack.enter_context(self.server.copied(self._stack_settings.start))
                control = stack.enter_context(self._session_at(second, TRIAL))
            else:
                control = stack.enter_context(self._session(TRIAL))
            treatment = stack.enter_context(self._session(STACK, in_session))
            kind = LabKind.INSTANCES if at_start else LabKind.DATABASES
            yield self._arms(
                kind,
                control,
                treatment,
                wordings=({}, self.wordings.of(changes)),
                build_s=sum(each[0] for each in built),
                size_bytes=sum(each[1] for each in built),
            )

    def keep(self, change: Change, *, diverged: bool) -> None:
        """Let the stack have the change: it stays while the next ones are tried.

        `diverged` says that writes did different work in the two arms, so that their pages differ too.
        """
        if isinstance(change, AlterSetting):
            self._keep_setting(change)
        elif isinstance(change, RewriteQuery):
            self.wordings.keep(change)
        elif diverged or is_cloned_only(change):
            self._copies.rename(TRIAL, STACK)
        else:
            act_in(self._copies, STACK, change)
            self._trial_is_stack = True

    def revert(self, change: Change, *, diverged: bool) -> None:
        """Leave the stack as it is. What is undone exactly spares a clone."""
        if not (diverged or isinstance(change, AlterSetting | RewriteQuery) or is_cloned_only(change)):
            undo_in(self._copies, TRIAL, change, self._snapshot)
            self._trial_is_stack = True

    def restore(self) -> None:
        """After `arms_without`: the change stays in the stack, which had it all along."""

    def withdraw(self, change: Change) -> None:
        """After `arms_without`: take the change that was left out of the stack."""
        if isinstance(change, RewriteQuery):
            self.wordings.withdraw(change)
        elif not isinstance(change, AlterSetting):
            self._copies.rename(TRIAL, STACK)
        elif self.kind_for(change) is LabKind.SESSIONS:
            self._stack_settings.withdraw_from_sessions(change)
        else:
            self._stack_settings.restart(self._stack_settings.server_without(change))

    @contextmanager
    def clone(self) -> Iterator[psycopg.Connection]:
        """A session on a clone of the stack that is dropped on leaving, for what-if."""
        self._copies.clear(STACK)
        self._copies.clone(WHAT_IF, of=STACK)
        try:
            with self._session(WHAT_IF) as connection:
                yield connection
        finally:
            self._copies.drop(WHAT_IF)

    def database_bytes(self) -> int:
        """Size of the untouched copy."""
        return self._copies.size_bytes(ORIGIN)

    def _fill(self) -> None:
        self._tell("copying the database into a lab")
        self._copies.clone(ORIGIN, of=None)
        self.notes += copy_database(self._target_dsn, self._copies.dsn(ORIGIN), self._binaries)
        self._tell("collecting statistics in the lab")
        with self._copies.connect(ORIGIN) as connection:
            connection.execute("VACUUM ANALYZE")
            self.notes += plant_invalid_indexes(connection, self._snapshot)
            self.notes += carry_statistics(connection, self._snapshot)
        self._copies.clone(STACK, of=ORIGIN)

    def _open_arms(self, stack: ExitStack, change: Change) -> Arms:
        kind = self.kind_for(change)
        wordings = (self.wordings.of_stack(), self.wordings.of_stack(and_also=change))
        if isinstance(change, RewriteQuery):
            control = stack.enter_context(self._session(STACK))
            treatment = stack.enter_context(self._session(STACK))
            return self._arms(kind, control, treatment, wordings=wordings)
        if not isinstance(change, AlterSetting):
            self._level()
            self._trial_is_stack = False
            build_s, size_bytes = act_in(self._copies, TRIAL, change)
            control = stack.enter_context(self._session(STACK))
            treatment = stack.enter_context(self._session(TRIAL))
            return self._arms(
                kind, control, treatment, wordings=wordings, build_s=build_s, size_bytes=size_bytes
            )
        self._trial_is_stack = False
        if kind is LabKind.SESSIONS:
            control = stack.enter_context(self._session(STACK))
            treatment = stack.enter_context(self._session(STACK, {change.name: change.value}))
        else:
            second = stack.enter_context(self.server.copied(self._stack_settings.server_with(change)))
            control = stack.enter_context(self._session(STACK))
            treatment = stack.enter_context(self._session_at(second, STACK))
        return self._arms(kind, control, treatment, wordings=wordings)

    def _arms(
        self,
        kind: LabKind,
        control: psycopg.Connection,
        treatment: psycopg.Connection,
        *,
        wordings: tuple[Mapping[str, str], Mapping[str, str]],
        build_s: float = 0.0,
        size_bytes: int = 0,
    ) -> Arms:
        return Arms(
            kind=kind,
            control=self._arm("control", control, wordings[0]),
            treatment=self._arm("treatment", treatment, wordings[1]),
            build_s=build_s,
            size_bytes=size_bytes,
        )

    def _arm(self, name: str, connection: psycopg.Connection, wording: Mapping[str, str]) -> Arm:
        return Arm(name=name, connection=connection, is_here=self.server.is_here, wording=wording)

    def _level(self) -> None:
        """Both arms page for page the same, cleared of what rolled-back writes left."""
        if not self._trial_is_stack:
            self._copies.clear(STACK)
            self._copies.clone(TRIAL, of=STACK)
            self._trial_is_stack = True

    def _undo_in_trial(self, change: ServerChange) -> None:
        self._level()
        self._trial_is_stack = False
        undo_in(self._copies, TRIAL, change, self._snapshot)

    def _keep_setting(self, change: AlterSetting) -> None:
        if self.kind_for(change) is LabKind.SESSIONS:
            self._stack_settings.keep_in_sessions(change)
        else:
            self._stack_settings.restart(self._stack_settings.server_with(change))

    def _session(
        self, database: str, extra: Mapping[str, str] | None = None, *, without: str | None = None
    ) -> AbstractContextManager[psycopg.Connection]:
        """A session with the settings of the stack, and some more or less."""
        return self._stack_settings.session(self._copies.dsn(database), extra, without=without)

    def _session_at(
        self, second: PostgresServer, database: str
    ) -> AbstractContextManager[psycopg.Connection]:
        """The same on a second server."""
        return self._stack_settings.session(second.dsn(self.server.prefix + database))


@contextmanager
def _refused(change: Change) -> Iterator[None]:
    """Turn the refusal of a change into ChangeFailed: of a build, of a value, or of a server to start."""
    try:
        yield
    except (psycopg.Error, ServerFailed) as error:
        raise ChangeFailed(f"{change.title} cannot be made in the lab: {str(error).strip()}") from error
