"""One Change on one open connection: do it, undo it. No journal, no policy; what is there, `states` reads.

Connections are in autocommit mode: none of the concurrent forms and no ALTER SYSTEM may stand in a
transaction. Labs act without `concurrently`, targets with it.

A build that is cut leaves an invalid index behind; every function here removes such a leftover of
the Change's own name before it builds again, so that each may be repeated after a crash.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import errors

from perfloop.errors import ChangeFailed
from perfloop.model.advice import (
    AlterSetting,
    CreateExtension,
    CreateIndex,
    DropIndex,
    ServerChange,
    SettingScope,
)
from perfloop.tune.extensions import reachable
from perfloop.tune.partitioned import build_steps, is_partitioned, removal_steps
from perfloop.tune.statements import Statement, act_statements, drop_leftover, undo_statements
from perfloop.tune.states import (
    named,
    read_index,
    read_loaded_at,
    read_setting,
    read_state,
    read_system_line,
    was_invalid,
)

RELOAD_DEADLINE_S = 10.0
POLL_S = 0.02

Steps = Callable[[], Iterable[Statement]]
"""Gives the statements anew at each call; each is run before the next is asked for."""


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
    _, fault = read_system_line(connection, change)
    setting = read_setting(connection, change.name)
    if fault is not None and (setting is None or setting.context != "postmaster"):
        raise ChangeFailed(f"the server does not accept its line of {change.name}: {fault}")
    loaded_at = read_loaded_at(connection)
    connection.execute(reload)
    deadline_s = time.monotonic() + RELOAD_DEADLINE_S
    while read_loaded_at(connection) == loaded_at:
        if time.monotonic() > deadline_s:
            raise ChangeFailed(f"{change.name} is written, but not loaded within {RELOAD_DEADLINE_S:g} s")
        time.sleep(POLL_S)


def _remove_leftover(connection: psycopg.Connection, change: ServerChange, *, concurrently: bool) -> None:
    """Drop what a cut build or drop left under the Change's name; a whole index is never touched."""
    if not isinstance(change, CreateIndex | DropIndex) or was_invalid(change):
        return
    index = read_index(connection, change)
    if index is None or index.is_whole:
        return
    if isinstance(change, CreateIndex) and is_partitioned(connection, change.table):
        for statement in removal_steps(connection, change):
            connection.execute(statement)
    else:
        connection.execute(drop_leftover(change, concurrently=concurrently))
