"""One Change on one open connection: what is there, do it, undo it, is it in effect. No journal, no policy.

Connections are in autocommit mode: none of the concurrent forms and no ALTER SYSTEM may stand in a
transaction. Labs act without `concurrently`, targets with it.

A build that is cut leaves an invalid index behind; every function here removes such a leftover of
the Change's own name before it builds again, so that each may be repeated after a crash.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import msgspec
import psycopg
from psycopg import errors
from psycopg.rows import DictRow

from perfloop.adapters.catalog import read_role, read_settings
from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import load_blocks
from perfloop.database.knobs import same_value
from perfloop.errors import ChangeFailed, MissingRights
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    CreateExtension,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    ServerChange,
    SetTableOptions,
    SettingScope,
)
from perfloop.model.target import Setting
from perfloop.tune.extensions import reachable
from perfloop.tune.partitioned import build_steps, is_partitioned, removal_steps
from perfloop.tune.statements import Statement, act_statements, drop_leftover, undo_statements

RELOAD_DEADLINE_S = 10.0
POLL_S = 0.02

Steps = Callable[[], Iterable[Statement]]
"""Gives the statements anew at each call; each is run before the next is asked for."""


class Standing(enum.Enum):
    """How much of a Change a server shows."""

    ABSENT = "absent"
    PARTIAL = "partial"
    """Begun and not usable: an invalid index, a line that is written and not loaded."""
    AWAITS_RESTART = "awaits restart"
    IN_EFFECT = "in effect"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockPolicy:
    """How long an act waits for others, and how often it tries.

    A concurrent build waits for old transactions without blocking anybody, so it may wait longer
    than a statement whose lock makes others queue behind it.
    """

    wait_s: float = 3.0
    concurrent_wait_s: float = 30.0
    attempts: int = 3
    pause_s: float = 2.0


def named(connection: psycopg.Connection, change: ServerChange) -> ServerChange:
    """The Change with the name of the database or role that it means on this connection."""
    if not isinstance(change, AlterSetting) or change.scope_name is not None:
        return change
    if change.scope is SettingScope.SYSTEM:
        return change
    role = read_role(connection)
    name = role.database if change.scope is SettingScope.DATABASE else role.user
    return msgspec.structs.replace(change, scope_name=name)


def read_before(connection: psycopg.Connection, change: ServerChange) -> str | None:
    """What undo must bring back: a definition or a value as the server wrote it, None for absence.

    Raises:
        ChangeFailed: the object to create exists, the one to drop does not or has changed since,
            or its undo could not bring all of it back.
        MissingRights: the role may not read what ALTER SYSTEM wrote.
    """
    state = read_state(connection, change)
    match change:
        case CreateIndex() if _index(connection, change) is not None:
            raise ChangeFailed(f"an index {change.name} exists already; drop or rename it first")
        case CreateStatistics() if state is not None:
            raise ChangeFailed(f"statistics {change.name} exist already; drop them first")
        case DropIndex():
            _refuse_drop(connection, change)
    return state


def read_state(connection: psycopg.Connection, change: ServerChange) -> str | None:
    """What the server holds now, in the form of `read_before`; None for absence and for a leftover."""
    match change:
        case CreateIndex() | DropIndex():
            index = _index(connection, change)
            return index.definition if index and (index.is_whole or _was_invalid(change)) else None
        case AlterSetting(scope=SettingScope.SYSTEM):
            return _system_line(connection, change)[0]
        case AlterSetting():
            change = _settled(connection, change)
            block = "database_setting" if change.scope is SettingScope.DATABASE else "role_setting"
            return _text(_row(connection, block, change.scope_name, change.name))
        case CreateExtension():
            return _text(_row(connection, "installed_extension", change.name))
        case CreateStatistics():
            return _text(_row(connection, "statistics", change.table.schema, change.name))
        case SetTableOptions():
            row = _row(
                connection, "table_options", list(change.names), change.table.schema, change.table.name
            )
            return None if row is None or row["state"] is None else _text(row)
        case AnalyzeTable():
            return None


def act(
    connection: psycopg.Connection,
    change: ServerChange,
    *,
    concurrently: bool,
    locks: LockPolicy | None = None,
) -> None:
    """Carry the Change out; on return it is in effect or awaits a restart.

    Raises ChangeFailed when locks stay taken or the server refuses; leftovers are removed before.
    """
    change = named(connection, change)
    steps: Steps
    if concurrently and isinstance(change, CreateIndex) and is_partitioned(connection, change.table):
        steps = partial(build_steps, connection, change)
    else:
        steps = partial(act_statements, change, concurrently=concurrently)
    _run(connection, change, steps, concurrently=concurrently, locks=locks or LockPolicy())


def undo(
    connection: psycopg.Connection,
    change: ServerChange,
    before: str | None,
    *,
    concurrently: bool,
    locks: LockPolicy | None = None,
) -> None:
    """Bring back `before` exactly. May be repeated: what is back already is left alone.

    ANALYZE has no undo, nor has the drop of an index that was invalid; both are left as they are, and
    so is an extension that others use by now.
    """
    change = named(connection, change)
    if isinstance(change, DropIndex) and read_state(connection, change) is not None:
        return
    steps: Steps
    if concurrently and isinstance(change, CreateIndex) and is_partitioned(connection, change.table):
        steps = partial(removal_steps, connection, change)
    else:
        steps = partial(undo_statements, change, before, concurrently=concurrently)
    # An extension that others have built on meanwhile stays.
    in_use = (errors.DependentObjectsStillExist,) if isinstance(change, CreateExtension) else ()
    with contextlib.suppress(*in_use):
        _run(connection, change, steps, concurrently=concurrently, locks=locks or LockPolicy())


def is_in_effect(connection: psycopg.Connection, change: ServerChange) -> bool:
    """Whether the server has the whole Change and uses it."""
    return standing(connection, change) is Standing.IN_EFFECT


def standing(connection: psycopg.Connection, change: ServerChange) -> Standing:
    """How much of the Change the server shows now. ANALYZE counts as done once the table has statistics."""
    match change:
        case CreateIndex():
            index = _index(connection, change)
            if index is None:
                return Standing.ABSENT
            return Standing.IN_EFFECT if index.is_whole else Standing.PARTIAL
        case DropIndex():
            index = _index(connection, change)
            if index is None:
                return Standing.IN_EFFECT
            return Standing.ABSENT if index.is_whole or _was_invalid(change) else Standing.PARTIAL
        case AlterSetting(scope=SettingScope.SYSTEM):
            return _system_standing(connection, change)
        case AlterSetting() | CreateExtension() | CreateStatistics() | SetTableOptions():
            wanted = _state_wanted(change)
            state = read_state(connection, change)
            return Standing.IN_EFFECT if state is not None and wanted in (None, state) else Standing.ABSENT
        case AnalyzeTable():
            row = _row(connection, "is_analyzed", change.table.schema, change.table.name)
            return Standing.IN_EFFECT if row is not None and row["is_analyzed"] else Standing.ABSENT


def _state_wanted(
    change: AlterSetting | CreateExtension | CreateStatistics | SetTableOptions,
) -> str | None:
    """What `read_state` gives once the Change is made; None where any state will do."""
    match change:
        case AlterSetting():
            return change.value
        case SetTableOptions():
            return ", ".join(sorted(change.options))
        case CreateExtension() | CreateStatistics():
            return None


def read_setting(connection: psycopg.Connection, name: str) -> Setting | None:
    """A setting with its limits, as this session has it; None where the server has none of that name."""
    return next((each for each in read_settings(connection) if each.name == name.lower()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _IndexState:
    definition: str
    is_whole: bool
    backs_constraint: bool
    is_marked: bool
    has_tablespace: bool
    has_comment: bool
    is_partition: bool


def _index(connection: psycopg.Connection, change: CreateIndex | DropIndex) -> _IndexState | None:
    row = _row(connection, "index", change.table.schema, change.name)
    return None if row is None else _IndexState(**row)


def _was_invalid(change: ServerChange) -> bool:
    return isinstance(change, DropIndex) and not change.was_valid


def _refuse_drop(connection: psycopg.Connection, change: DropIndex) -> None:
    index = _index(connection, change)
    if index is None and _was_invalid(change):
        return  # somebody has tidied up, or an undo that does not build such an index again
    if index is None:
        raise ChangeFailed(f"there is no index {change.name} to drop; nothing was changed. Run optimize anew")
    if index.definition != change.definition or index.is_whole is not change.was_valid:
        raise ChangeFailed(f"index {change.name} has changed since the study; run optimize again")
    losses = {
        "it enforces a constraint": index.backs_constraint,
        "it is marked for CLUSTER or as replica identity": index.is_marked,
        "it lies in a tablespace of its own": index.has_tablespace,
        "it carries a comment": index.has_comment,
        "it is part of a partitioned index": index.is_partition,
    }
    for loss in (text for text, is_so in losses.items() if is_so):
        raise ChangeFailed(f"index {change.name} stays: {loss}, which undo would lose; drop it by hand")


def _system_line(connection: psycopg.Connection, change: AlterSetting) -> tuple[str | None, str | None]:
    try:
        row = _row(connection, "system_setting", change.name)
    except errors.InsufficientPrivilege as error:
        raise MissingRights(
            "this role may not read pg_file_settings, without which ALTER SYSTEM has no exact undo; "
            "as superuser: GRANT SELECT ON pg_file_settings TO <role>; "
            "GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO <role>"
        ) from error
    return (None, None) if row is None else (row["state"], row["error"])


def _system_standing(connection: psycopg.Connection, change: AlterSetting) -> Standing:
    line, fault = _system_line(connection, change)
    setting = read_setting(connection, change.name)
    if setting is None or line != change.value:
        return Standing.ABSENT
    if setting.context == "postmaster" and not same_value(setting, line):
        return Standing.AWAITS_RESTART if setting.pending_restart else Standing.PARTIAL
    in_use = fault is None and setting.source == "configuration file" and same_value(setting, line)
    return Standing.IN_EFFECT if in_use else Standing.PARTIAL


def _settled(connection: psycopg.Connection, change: AlterSetting) -> AlterSetting:
    settled = named(connection, change)
    assert isinstance(settled, AlterSetting)
    return settled


def _run(
    connection: psycopg.Connection,
    change: ServerChange,
    steps: Steps,
    *,
    concurrently: bool,
    locks: LockPolicy,
) -> None:
    is_build = concurrently and isinstance(change, CreateIndex | DropIndex)
    wait_s = locks.concurrent_wait_s if is_build else locks.wait_s
    for attempt in range(1, locks.attempts + 1):
        try:
            _wait_at_most(connection, wait_s)
            _remove_leftover(connection, change, concurrently=concurrently)
            _execute(connection, change, steps, locks)
        except errors.LockNotAvailable as error:
            if attempt == locks.attempts:
                # Where the leftover is locked too, undo and recover remove it later.
                with contextlib.suppress(errors.LockNotAvailable):
                    _remove_leftover(connection, change, concurrently=concurrently)
                raise ChangeFailed(
                    f"{change.title}: others held its locks for {wait_s:g} s, {attempt} times; "
                    "try again when no long transaction is open"
                ) from error
            time.sleep(locks.pause_s)
        else:
            return


def _execute(connection: psycopg.Connection, change: ServerChange, steps: Steps, locks: LockPolicy) -> None:
    if isinstance(change, AlterSetting) and change.scope is SettingScope.SYSTEM:
        _alter_system(connection, change, tuple(steps()))
        return
    with reachable(connection, change):
        for statement in steps():
            is_concurrent = " CONCURRENTLY " in statement.as_string(connection)
            _wait_at_most(connection, locks.concurrent_wait_s if is_concurrent else locks.wait_s)
            connection.execute(statement)


def _wait_at_most(connection: psycopg.Connection, wait_s: float) -> None:
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{round(wait_s * 1000)}ms"])


def _alter_system(
    connection: psycopg.Connection, change: AlterSetting, statements: tuple[Statement, ...]
) -> None:
    """Write the line, look at it, load it, and wait until this session has loaded it too."""
    write, reload = statements
    connection.execute(write)
    _, fault = _system_line(connection, change)
    setting = read_setting(connection, change.name)
    if fault is not None and (setting is None or setting.context != "postmaster"):
        raise ChangeFailed(f"the server does not accept its line of {change.name}: {fault}")
    loaded_at = _row(connection, "loaded_at")
    connection.execute(reload)
    deadline_s = time.monotonic() + RELOAD_DEADLINE_S
    while _row(connection, "loaded_at") == loaded_at:
        if time.monotonic() > deadline_s:
            raise ChangeFailed(f"{change.name} is written, but not loaded within {RELOAD_DEADLINE_S:g} s")
        time.sleep(POLL_S)


def _remove_leftover(connection: psycopg.Connection, change: ServerChange, *, concurrently: bool) -> None:
    """Drop what a cut build or drop left under the Change's name; a whole index is never touched."""
    if not isinstance(change, CreateIndex | DropIndex) or _was_invalid(change):
        return
    index = _index(connection, change)
    if index is None or index.is_whole:
        return
    if isinstance(change, CreateIndex) and is_partitioned(connection, change.table):
        for statement in removal_steps(connection, change):
            connection.execute(statement)
    else:
        connection.execute(drop_leftover(change, concurrently=concurrently))


def _row(connection: psycopg.Connection, block: str, *parameters: str | list[str] | None) -> DictRow | None:
    """The first row. The session is pinned, so that a definition reads as in a Snapshot, names in full."""
    rows = read_rows(connection, load_blocks("perfloop.tune", "acts.sql")[block], parameters or None)
    return rows[0] if rows else None


def _text(row: DictRow | None) -> str | None:
    return None if row is None else str(row["state"])
