"""After a crash: finish or undo what was cut off, and say which.

For every unfinished batch the orphaned backend is ended first, because it may still be building. Then the
server itself is asked what is there. If all Changes of the batch are in effect it is finished; otherwise
all of it is undone. Every step is repeatable, so recovery may be killed at any point and run again.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable

import psycopg

from perfloop.adapters.connection import first_line
from perfloop.adapters.store import Batch, Journal
from perfloop.errors import PerfloopError
from perfloop.model.advice import AnalyzeTable, CreateIndex, CreateStatistics, ServerChange
from perfloop.model.outcome import ActState, AppliedChange
from perfloop.model.value import Value
from perfloop.tune.session import ActingSession, acting_session
from perfloop.tune.statements import has_expression
from perfloop.tune.states import Standing, read_state, standing
from perfloop.tune.undo import Report, undo_act, undo_batch


class RecoveryOutcome(enum.Enum):
    """In which state a cut batch ended."""

    FINISHED = "finished"
    UNDONE = "undone"
    LEFT = "left"
    """Nothing was decided: it still runs, or the server could not be reached or refused."""


class Recovery(Value, frozen=True, kw_only=True):
    """What became of one unfinished batch."""

    batch_id: int
    study_id: str
    target: str
    outcome: RecoveryOutcome
    sentence: str


def recover(
    journal: Journal,
    connect: Callable[[str], psycopg.Connection],
    *,
    report: Report,
    force: bool = False,
) -> tuple[Recovery, ...]:
    """Bring every target with an unfinished batch into the state before it or after it.

    `connect` opens a session on a target, given as the Journal stores it: without a password. Nothing is
    raised for a target that cannot be recovered now; its Recovery says why, and the next run tries again.
    Also marks the studies INTERRUPTED whose process is gone.
    """
    for study in journal.interrupt_orphans():
        report(f"study {study.study_id} was cut off while it ran; what it measured until then is kept")
    return tuple(_recover(batch, journal, connect, report, force) for batch in journal.unfinished())


def _recover(
    batch: Batch,
    journal: Journal,
    connect: Callable[[str], psycopg.Connection],
    report: Report,
    force: bool,
) -> Recovery:
    if batch.process.process_id != os.getpid() and batch.process.is_alive:
        return _told(
            batch, RecoveryOutcome.LEFT, f"process {batch.process.process_id} is still at work on it"
        )
    try:
        with acting_session(lambda: connect(batch.target), orphan=batch.backend) as session:
            journal.hold(batch.batch_id, session.backend)
            return _settle(batch, session, journal, report, force)
    except (PerfloopError, psycopg.Error) as error:
        return _told(batch, RecoveryOutcome.LEFT, f"not recovered: {first_line(error)}")


def _settle(
    batch: Batch,
    session: ActingSession,
    journal: Journal,
    report: Report,
    force: bool,
) -> Recovery:
    if batch.state is ActState.APPLIED:
        cut = [act for act in batch.acts if act.state is ActState.UNDOING]
        for act in reversed(cut):
            undo_act(session, journal, act, report=report, force=force)
        titles = ", ".join(act.change.title for act in cut)
        return _told(batch, RecoveryOutcome.UNDONE, f"its undo of {titles} is finished; the rest stays")
    if batch.state is ActState.INTENDED and _is_complete(batch, session.connection):
        _finish(batch, session.connection, journal)
        count = len(batch.changes)
        return _told(batch, RecoveryOutcome.FINISHED, f"all {count} changes are in effect; apply is finished")
    was_undoing = batch.state is ActState.UNDOING
    undo_batch(session, journal, batch, report=report, force=force)
    done = f"{len(batch.acts)} of {len(batch.changes)} changes had been begun"
    reason = "its undo was cut off and is finished" if was_undoing else f"{done}; all of them are undone"
    return _told(batch, RecoveryOutcome.UNDONE, f"{reason}; the target is as it was before")


def _is_complete(batch: Batch, connection: psycopg.Connection) -> bool:
    return len(batch.acts) == len(batch.changes) and all(_is_done(act, connection) for act in batch.acts)


def _is_done(act: AppliedChange, connection: psycopg.Connection) -> bool:
    """Whether the act is whole. What ends with an ANALYZE leaves no trace of that: there the Journal says."""
    if act.state is ActState.UNDOING or act.state is ActState.UNDONE:
        return False
    if _ends_with_analyze(act.change) and act.state is not ActState.APPLIED:
        return False
    return standing(connection, act.change) in {Standing.IN_EFFECT, Standing.AWAITS_RESTART}


def _ends_with_analyze(change: ServerChange) -> bool:
    if isinstance(change, CreateIndex):
        return has_expression(change)
    return isinstance(change, AnalyzeTable | CreateStatistics)


def _finish(batch: Batch, connection: psycopg.Connection, journal: Journal) -> None:
    for act in batch.acts:
        if act.state is ActState.INTENDED:
            journal.mark(act.act_id, ActState.APPLIED, after=read_state(connection, act.change))
    journal.mark_batch(batch.batch_id, ActState.APPLIED)


def _told(batch: Batch, outcome: RecoveryOutcome, sentence: str) -> Recovery:
    return Recovery(
        batch_id=batch.batch_id,
        study_id=batch.study_id,
        target=batch.target,
        outcome=outcome,
        sentence=f"study {batch.study_id}: {sentence}",
    )
