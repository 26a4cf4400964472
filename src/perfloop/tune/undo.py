"""Bring back what was there before, act by act, in the reverse order of applying.

The Journal says what was there and what was made of it. Where a server holds a third thing, somebody
else has been at it since, and perfloop leaves it alone unless it is told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import psycopg

from perfloop.adapters.connection import first_line
from perfloop.adapters.probe import read_rows
from perfloop.adapters.store import Batch, Journal
from perfloop.errors import ChangeFailed, StudyNotFound
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    CreateExtension,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    ServerChange,
)
from perfloop.model.outcome import ActState, AppliedChange
from perfloop.tune.acts import undo
from perfloop.tune.session import ActingSession, Connect, acting_session, block
from perfloop.tune.states import read_state

_MADE = CreateIndex | CreateExtension | CreateStatistics

Report = Callable[[str], None]
"""Takes one line for people."""


def undo_study(
    study_id: str,
    connect: Connect,
    journal: Journal,
    *,
    report: Report,
    target: str | None = None,
    force: bool = False,
) -> tuple[AppliedChange, ...]:
    """Undo all that the study applied, the last first; returns what was undone.

    `target` names one of several that the study was applied to, as the Journal stores it.

    Raises:
        StudyNotFound: nothing of that study is applied.
        ChangeFailed: something was changed since (unless forced) or the server refuses; what is undone
            by then stays undone, and the Journal says so.
    """
    batches = [
        each
        for each in journal.batches(study_id)
        if each.state is ActState.APPLIED and target in {None, each.target}
    ]
    undone = tuple(act for batch in batches for act in batch.acts if act.state is ActState.APPLIED)
    if not undone:
        raise StudyNotFound(f"nothing of study {study_id} is applied; `perfloop studies` lists what is")
    with acting_session(connect) as session:
        _refuse_third_values(session.connection, undone, force=force)
        for batch in reversed(batches):
            journal.hold(batch.batch_id, session.backend)
            undo_batch(session, journal, batch, report=report, force=force)
    return undone


def undo_change(
    act_id: int,
    connect: Connect,
    journal: Journal,
    *,
    report: Report,
    force: bool = False,
) -> AppliedChange:
    """Undo one act of an apply and leave the others; raises as `undo_study`."""
    for batch in journal.batches():
        for act in batch.acts:
            if act.act_id == act_id and act.state is ActState.APPLIED:
                with acting_session(connect) as session:
                    journal.hold(batch.batch_id, session.backend)
                    undo_act(session, journal, act, report=report, force=force)
                return act
    raise StudyNotFound(f"no change {act_id} is applied; `perfloop studies` lists what is")


def undo_batch(
    session: ActingSession,
    journal: Journal,
    batch: Batch,
    *,
    report: Report,
    force: bool = False,
    marking: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Undo what is left of a batch. `marking` surrounds each writing of the Journal."""
    with marking():
        journal.mark_batch(batch.batch_id, ActState.UNDOING)
    for act in reversed(batch.acts):
        if act.state is not ActState.UNDONE:
            undo_act(session, journal, act, report=report, force=force, marking=marking)
    with marking():
        journal.mark_batch(batch.batch_id, ActState.UNDONE)


def undo_act(
    session: ActingSession,
    journal: Journal,
    act: AppliedChange,
    *,
    report: Report,
    force: bool = False,
    marking: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Undo one act and make sure that it is undone; may be repeated after a crash at any point."""
    connection, change = session.connection, act.change
    _refuse_third_values(connection, (act,), force=force)
    with marking():
        journal.mark(act.act_id, ActState.UNDOING)
    if _is_gone(connection, change):
        report(f"{change.title}: the table is gone, and with it the change")
    else:
        _undo(session, act)
        report(f"undone: {change.title}{_remainder(connection, change)}")
    with marking():
        journal.mark(act.act_id, ActState.UNDONE)


def _undo(session: ActingSession, act: AppliedChange) -> None:
    connection = session.connection
    try:
        undo(connection, act.change, act.before, concurrently=True, locks=session.locks)
    except psycopg.Error as error:
        raise ChangeFailed(f"{act.change.title} cannot be undone: {first_line(error)}") from error
    has_remainder = _remainder(connection, act.change)
    if not has_remainder and read_state(connection, act.change) != act.before:
        raise ChangeFailed(f"{act.change.title} was undone, but the server does not show its earlier state")


def _remainder(connection: psycopg.Connection, change: ServerChange) -> str:
    """What undo cannot bring back, as the end of a sentence; empty where all of it comes back."""
    if isinstance(change, AnalyzeTable):
        return " (its statistics stay, they only age)"
    if isinstance(change, CreateExtension) and read_state(connection, change) is not None:
        return " (it stays: objects that others have made by now use it)"
    if isinstance(change, DropIndex) and not change.was_valid:
        return " (the index was invalid and of no use; it is not built again)"
    return ""


def _is_gone(connection: psycopg.Connection, change: ServerChange) -> bool:
    if isinstance(change, AlterSetting | CreateExtension):
        return False
    return not read_rows(connection, block("table_rights"), [change.table.schema, change.table.name])


def _refuse_third_values(
    connection: psycopg.Connection, acts: tuple[AppliedChange, ...], *, force: bool
) -> None:
    if force:
        return
    for act in acts:
        now = read_state(connection, act.change)
        known = {act.before, act.after}
        if act.after is None:
            known.add(act.change.value if isinstance(act.change, AlterSetting) else None)
        is_half_made = isinstance(act.change, _MADE) and act.after is None
        if now not in known and not is_half_made:
            raise ChangeFailed(
                f"{act.change.title}: somebody has changed it since, it is now {now or 'gone'}; nothing was "
                "undone. Undo it all the same with --force"
            )
