"""Apply the kept Changes of a Study to its target: all of them, or none.

Everything is checked before the first act. Then, for each Change: write it into the Journal, act, look
whether it is in effect, write that down. Indexes are dropped last: to undo that takes a build, which
waits for every open transaction. A failure or Ctrl-C undoes what this apply did, last first;
a kill leaves that to `perfloop recover`, for which the whole batch is in the Journal from the start.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from perfloop.adapters.connection import first_line
from perfloop.adapters.store import Batch, Journal
from perfloop.errors import ChangeFailed, InvalidInput, JournalDamaged, PerfloopError
from perfloop.model.advice import CreateIndex, DropIndex, RewriteQuery, ServerChange
from perfloop.model.outcome import ActState, Study, StudyState
from perfloop.model.units import bytes_text, seconds_text
from perfloop.tune.acts import act
from perfloop.tune.extensions import with_extensions
from perfloop.tune.preflight import ApplyPolicy, preflight
from perfloop.tune.session import ActingSession, Connect, acting_session
from perfloop.tune.states import Standing, named, read_before, read_state, standing
from perfloop.tune.undo import Report, undo_batch

_ENDS = {
    StudyState.RUNNING: "still runs and has ",
    StudyState.INTERRUPTED: "was cut off and ",
    StudyState.FAILED: "failed and ",
}


def apply_study(
    study: Study,
    connect: Connect,
    journal: Journal,
    *,
    report: Report,
    target: str | None = None,
    changes: tuple[ServerChange, ...] | None = None,
    policy: ApplyPolicy | None = None,
) -> Batch:
    """Apply the study's kept Changes, or the `changes` given; returns the batch as applied.

    Args:
        study: Its fingerprints say what the verdicts hold for.
        connect: Opens a session on the target; called again if the first one is lost.
        journal: Open.
        report: Takes a line for people after each step.
        target: The DSN without password, where it is not the study's own.
        changes: To apply some of the kept Changes only.
        policy: What is allowed.

    Raises:
        ChangeFailed: the message says whether the target is as it was.
        ChangeForbidden, InvalidInput, MissingRights: refused before the first act.
        JournalDamaged: nothing is left on the target that the Journal does not know.
    """
    policy = policy or ApplyPolicy()
    place = target or study.target
    wanted = changes or server_changes(study)
    _refuse_unfinished(journal, place)
    with acting_session(connect, locks=policy.locks) as session:
        settled = tuple(named(session.connection, change) for change in _drops_last(wanted))
        _refuse_again(journal, study, place, settled)
        settled = with_extensions(session.connection, settled)
        preflight(session, study, settled, policy)
        for line in _space_needed(study, wanted):
            report(line)
        batch_id = journal.begin(study.study_id, place, settled, session.backend)
        run = _Apply(batch_id, session, connect, journal, report)
        with run.withdrawn_on_failure():
            for change in settled:
                run.apply(change)
            journal.mark_batch(batch_id, ActState.APPLIED)
    return next(batch for batch in journal.batches(study.study_id) if batch.batch_id == batch_id)


def server_changes(study: Study) -> tuple[ServerChange, ...]:
    """The kept Changes that a server carries out; a rewriting belongs into the service's code.

    Raises InvalidInput where there are none, with what there is to do by hand.
    """
    kept = [trial.proposal.change for trial in study.kept()]
    found = tuple(change for change in kept if not isinstance(change, RewriteQuery))
    if found:
        return found
    if kept:
        raise InvalidInput(
            f"study {study.study_id} kept rewritten statements only, which belong into the service's code; "
            f"`perfloop report {study.study_id}` shows their texts"
        )
    end = _ENDS.get(study.state, "")
    raise InvalidInput(f"study {study.study_id} {end}kept no change, so there is nothing to apply")


@dataclass(frozen=True, slots=True)
class _Apply:
    """One apply under way."""

    batch_id: int
    session: ActingSession
    connect: Connect
    journal: Journal
    report: Report

    def apply(self, change: ServerChange) -> None:
        connection = self.session.connection
        act_id = self.journal.intend(self.batch_id, change, read_before(connection, change))
        began_s = time.monotonic()
        act(connection, change, concurrently=True, locks=self.session.locks)
        found = standing(connection, change)
        if found not in {Standing.IN_EFFECT, Standing.AWAITS_RESTART}:
            raise ChangeFailed(f"{change.title} was carried out, but the server shows it as {found.value}")
        self.journal.mark(act_id, ActState.APPLIED, after=read_state(connection, change))
        note = ", takes effect with the next restart" if found is Standing.AWAITS_RESTART else ""
        self.report(f"applied: {change.title} in {seconds_text(time.monotonic() - began_s)}{note}")

    @contextmanager
    def withdrawn_on_failure(self) -> Iterator[None]:
        """Undo the batch when anything goes wrong inside; what cannot be undone is left to recover."""
        try:
            yield
        except (PerfloopError, psycopg.Error) as error:
            self._withdraw(first_line(error))
            if isinstance(error, JournalDamaged):
                raise
            raise ChangeFailed(f"{first_line(error)}; the target is as it was before this apply") from error
        except BaseException as error:  # Ctrl-C and our own defects undo as failures do
            self._withdraw(type(error).__name__)
            raise

    def _withdraw(self, cause: str) -> None:
        self.report(f"{cause}; undoing what this apply did")
        batch = next(each for each in self.journal.batches() if each.batch_id == self.batch_id)
        try:
            with self._usable_session() as session:
                undo_batch(
                    session,
                    self.journal,
                    batch,
                    report=self.report,
                    marking=lambda: contextlib.suppress(JournalDamaged),
                )
        except (PerfloopError, psycopg.Error) as error:
            raise ChangeFailed(
                f"{cause}; and undoing failed too: {first_line(error)}. Part of the batch is on the target: "
                "run `perfloop recover` as soon as it can be reached"
            ) from error

    @contextmanager
    def _usable_session(self) -> Iterator[ActingSession]:
        """The session, or a new one where it was lost; the old backend is ended first."""
        if not self.session.connection.closed:
            yield self.session
            return
        with acting_session(self.connect, orphan=self.session.backend, locks=self.session.locks) as session:
            self.journal.hold(self.batch_id, session.backend)
            yield session


def _drops_last(changes: tuple[ServerChange, ...]) -> tuple[ServerChange, ...]:
    return tuple(sorted(changes, key=lambda change: isinstance(change, DropIndex)))


def _refuse_unfinished(journal: Journal, target: str) -> None:
    if any(batch.target == target for batch in journal.unfinished()):
        raise ChangeFailed(
            "an earlier apply or undo on this target was cut off or still runs; run `perfloop recover` first"
        )


def _refuse_again(journal: Journal, study: Study, target: str, changes: tuple[ServerChange, ...]) -> None:
    batches = [batch for batch in journal.batches(study.study_id) if batch.target == target]
    applied = [act.change for batch in batches for act in batch.acts if act.state is ActState.APPLIED]
    if any(change in applied for change in changes):
        raise InvalidInput(
            f"study {study.study_id} is applied to this target already; nothing was changed. "
            f"Take it back with `perfloop undo {study.study_id}`"
        )


def _space_needed(study: Study, changes: tuple[ServerChange, ...]) -> Iterator[str]:
    sizes = {repr(trial.proposal.change): trial.size_bytes for trial in study.kept()}
    total = sum(sizes.get(repr(change), 0) for change in changes if isinstance(change, CreateIndex))
    if total > 0:
        yield f"the new indexes take about {bytes_text(total)} on the server's disk, which nobody checks here"
