"""The Journal: a SQLite file that is written before each act and read after a crash; it keeps baselines too.

Every method commits before it returns, and a commit is on disk when it returns (WAL with
synchronous=FULL), because what the Journal does not know cannot be undone. Passwords are refused:
a target is stored as text that still connects once the password comes from elsewhere.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types

from perfloop.adapters.blocks import read_blocks
from perfloop.adapters.journal_file import journal_path, make_private, refuse_password, way_out
from perfloop.errors import BaselineNotFound, InvalidInput, JournalDamaged, StudyNotFound
from perfloop.model.advice import ServerChange
from perfloop.model.baseline import Baseline
from perfloop.model.outcome import ActState, AppliedChange, Study, StudyState
from perfloop.model.value import Value, to_json

__all__ = ["SCHEMA_VERSION", "BackendMark", "Batch", "Journal", "ProcessMark", "journal_path"]

SCHEMA_VERSION = 2
BUSY_S = 10.0
_APPLICATION_ID = 0x7066_6C70


class ProcessMark(Value, frozen=True, kw_only=True):
    """A process, told from a later one of the same number by its start."""

    process_id: int
    started_s: float

    @classmethod
    def own(cls) -> ProcessMark:
        """The mark of this process."""
        return cls(process_id=os.getpid(), started_s=psutil.Process().create_time())

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs on this machine."""
        try:
            return bool(abs(psutil.Process(self.process_id).create_time() - self.started_s) < 1.0)
        except psutil.Error:
            return False


class BackendMark(Value, frozen=True, kw_only=True):
    """A session's server process; `started` is its start in UTC as the server writes it."""

    process_id: int
    started: str


class Batch(Value, frozen=True, kw_only=True):
    """The Changes that one apply carries out as a whole: afterwards all are there, or none.

    Its state is INTENDED while it is being applied, APPLIED, UNDOING, or UNDONE.
    """

    batch_id: int
    study_id: str
    target: str
    changes: tuple[ServerChange, ...]
    state: ActState
    process: ProcessMark
    backend: BackendMark
    acts: tuple[AppliedChange, ...]

    @property
    def is_unfinished(self) -> bool:
        """Whether somebody was cut off while applying or undoing it."""
        if self.state is ActState.APPLIED:
            return any(act.state in {ActState.INTENDED, ActState.UNDOING} for act in self.acts)
        return self.state is not ActState.UNDONE


class Journal:
    """Studies and acts on disk. A context manager; not for more than one thread.

    Two processes may write at once: one waits for the other, at most `BUSY_S`.

    Raises JournalDamaged from every method when the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path or journal_path()
        self._clock = clock
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        with self._told():
            make_private(self.path)
            connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            try:
                self._prepare(connection)
            except BaseException:  # also on Ctrl-C: a file that is not handed out is closed
                connection.close()
                raise
            self._connection = connection
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def save_study(self, study: Study) -> None:
        """Insert or replace a study; a running one is held by this process."""
        refuse_password(study.target)
        own = ProcessMark.own()
        self._write(
            "save_study",
            study.study_id,
            study.target,
            study.state.value,
            study.started_at_s,
            own.process_id,
            own.started_s,
            to_json(study).decode(),
        )

    def study(self, name: str) -> Study:
        """The study of that name or of a name that begins so; "latest" is the newest.

        Raises StudyNotFound when there is none, or more than one.
        """
        rows = self._read("studies") if name == "latest" else self._read("studies_by_prefix", name)
        found: list[Study] = [self._decode(row[0], Study) for row in rows]
        exact = [study for study in found if study.study_id == name]
        if name == "latest" and found:
            return found[0]
        if exact or len(found) == 1:
            return (exact or found)[0]
        if found:
            names = ", ".join(study.study_id for study in found[:5])
            raise StudyNotFound(
                f"{name} begins the names of {len(found)} studies: {names}; write more of one"
            )
        if not self.studies():
            raise StudyNotFound(f"{self.path} holds no study yet; `perfloop optimize DSN` makes one")
        raise StudyNotFound(f"{self.path} holds no study {name}; `perfloop studies` lists what it holds")

    def studies(self) -> tuple[Study, ...]:
        """All studies, the newest first."""
        return tuple(self._decode(row[0], Study) for row in self._read("studies"))

    def interrupt_orphans(self) -> tuple[Study, ...]:
        """Mark the studies INTERRUPTED whose process is gone, and return them."""
        orphans = []
        for document, process_id, started_s in self._read("running_studies"):
            if not ProcessMark(process_id=process_id, started_s=started_s).is_alive:
                study = self._decode(document, Study)
                orphans.append(msgspec.structs.replace(study, state=StudyState.INTERRUPTED))
        for study in orphans:
            self.save_study(study)
        return tuple(orphans)

    def begin(
        self, study_id: str, target: str, changes: tuple[ServerChange, ...], backend: BackendMark
    ) -> int:
        """Write down a whole apply before its first act; returns the batch's number."""
        refuse_password(target)
        own = ProcessMark.own()
        return self._write(
            "begin_batch",
            study_id,
            target,
            to_json(changes).decode(),
            own.process_id,
            own.started_s,
            backend.process_id,
            backend.started,
            self._clock(),
        )

    def hold(self, batch_id: int, backend: BackendMark) -> None:
        """Write down that this process works on the batch now, through that backend."""
        own = ProcessMark.own()
        self._write(
            "hold_batch", own.process_id, own.started_s, backend.process_id, backend.started, batch_id
        )

    def mark_batch(self, batch_id: int, state: ActState) -> None:
        """Write down how far the batch has come."""
        self._write("mark_batch", state.value, batch_id)

    def intend(self, batch_id: int, change: ServerChange, before: str | None) -> int:
        """Write down an act before it happens; returns its number."""
        return self._write("intend_act", batch_id, to_json(change).decode(), before, self._clock())

    def mark(self, act_id: int, state: ActState, after: str | None = None) -> None:
        """Write down how far the act has come; `after` is what the server holds once it is applied."""
        self._write("mark_act", state.value, after, self._clock(), act_id)

    def save_baseline(self, baseline: Baseline, *, replace: bool = False) -> None:
        """Write a baseline down, whole. Raises InvalidInput where one has that name, unless `replace`."""
        refuse_password(baseline.target)
        document = to_json(baseline).decode()
        block = "replace_baseline" if replace else "save_baseline"
        if not self._changed(block, baseline.name, baseline.target, baseline.taken_at_s, document):
            raise InvalidInput(
                f"there is a baseline {baseline.name} already; choose another name, or --replace it"
            )

    def baseline(self, name: str) -> Baseline:
        """The baseline of that name. Raises BaselineNotFound."""
        rows = self._read("baseline", name)
        if not rows:
            raise self._no_baseline(name)
        found: Baseline = self._decode(rows[0][0], Baseline)
        return found

    def baselines(self) -> tuple[Baseline, ...]:
        """All baselines, the newest first."""
        return tuple(self._decode(row[0], Baseline) for row in self._read("baselines"))

    def remove_baseline(self, name: str) -> None:
        """Forget a baseline. Raises BaselineNotFound."""
        if not self._changed("remove_baseline", name):
            raise self._no_baseline(name)

    def _no_baseline(self, name: str) -> BaselineNotFound:
        names = ", ".join(each.name for each in self.baselines()[:5])
        there = f"it holds {names}" if names else "`perfloop baseline capture DSN` makes one"
        return BaselineNotFound(f"{self.path} holds no baseline {name}; {there}")

    def batches(self, study_id: str | None = None) -> tuple[Batch, ...]:
        """The batches of a study, or all, in the order of applying."""
        return tuple(self._batch(row) for row in self._read("batches", study_id))

    def unfinished(self) -> tuple[Batch, ...]:
        """The batches that somebody works on, or was cut off from."""
        return tuple(batch for batch in self.batches() if batch.is_unfinished)

    def acts(self, study_id: str | None = None) -> tuple[AppliedChange, ...]:
        """The acts of a study, or all, in the order of applying."""
        return tuple(act for batch in self.batches(study_id) for act in batch.acts)

    def _batch(self, row: tuple[Any, ...]) -> Batch:
        batch_id, study_id, target, changes, state, process_id, process_started_s, backend_id, started = row
        return Batch(
            batch_id=batch_id,
            study_id=study_id,
            target=target,
            changes=self._decode(changes, tuple[ServerChange, ...]),
            state=ActState(state),
            process=ProcessMark(process_id=process_id, started_s=process_started_s),
            backend=BackendMark(process_id=backend_id, started=started),
            acts=tuple(self._act(study_id, each) for each in self._read("acts", batch_id)),
        )

    def _act(self, study_id: str, row: tuple[Any, ...]) -> AppliedChange:
        act_id, change, state, before, after, at_s = row
        return AppliedChange(
            act_id=act_id,
            study_id=study_id,
            change=self._decode(change, ServerChange),
            state=ActState(state),
            before=before,
            after=after,
            at_s=at_s,
        )

    def _decode(self, document: str, kind: Any) -> Any:
        try:
            return msgspec.json.decode(document, type=kind)
        except msgspec.MsgspecError as error:
            raise JournalDamaged(f"{self.path} holds what this perfloop cannot read: {error}") from error

    def _read(self, block: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._told(), closing(self._open().execute(_sql(block), parameters)) as cursor:
            return cursor.fetchall()

    def _write(self, block: str, *parameters: object) -> int:
        with self._told(), closing(self._open().execute(_sql(block), parameters)) as cursor:
            return cursor.lastrowid or 0

    def _changed(self, block: str, *parameters: object) -> bool:
        """Write, and tell whether a row is other than before."""
        with self._told(), closing(self._open().execute(_sql(block), parameters)) as cursor:
            return cursor.rowcount > 0

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalDamaged("the journal is not open; use it as a context manager")
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise JournalDamaged(
                f"{self.path} was written by a newer perfloop (version {version}, this one reads "
                f"{SCHEMA_VERSION}); upgrade perfloop"
            )
        for later in range(version + 1, SCHEMA_VERSION + 1):
            for statement in _sql(f"schema_{later}").split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into JournalDamaged, with the way out."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalDamaged(f"{self.path}: {error}; {way_out(str(error))}") from error


def _sql(block: str) -> str:
    return read_blocks("perfloop.adapters", "store.sql")[block]
