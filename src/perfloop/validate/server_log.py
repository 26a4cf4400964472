"""Reads a server's logs, each in its own format, to statements with calls, time, parameters and plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from perfloop.adapters.statements import is_our_own
from perfloop.errors import UnsupportedStatement
from perfloop.model.value import Value
from perfloop.validate.executions import Execution, executions, is_several
from perfloop.validate.log_lines import LogLines, beginning_of
from perfloop.validate.log_prefix import prefix_for
from perfloop.validate.log_records import (
    Damage,
    LogFormat,
    LogRecord,
    csv_records,
    format_of,
    json_records,
    stderr_records,
)
from perfloop.validate.log_totals import LoggedStatement, LogTotals
from perfloop.validate.normaliser import shape_key
from perfloop.validate.tokens import split_statements

Tell = Callable[[str], None]
"""Told in a few words how far the reading is."""

Hear = Callable[[Execution], None]
"""Given each execution in its order, for what totals and samples do not keep."""

_HEADS_LINES = 200


class LogOptions(Value, frozen=True, kw_only=True):
    """What is known about logs before they are read."""

    database: str | None = None
    """Statements of other databases are left out, where the log tells the database."""
    line_prefix: str | None = None
    """As the user gives it; it must fit."""
    configured_prefix: str | None = None
    """As the target's `log_line_prefix` is now; used where it fits."""
    seed: int = 1


class LogNote(Value, frozen=True, kw_only=True):
    """What could not be used of a file, why, and what would help."""

    name: str
    reason: str
    remedy: str = ""


class LogReading(Value, frozen=True, kw_only=True):
    """What was read of one or several logs."""

    statements: tuple[LoggedStatement, ...] = ()
    """By time, most first."""
    notes: tuple[LogNote, ...] = ()

    def find(self, query_id: str, text: str) -> LoggedStatement | None:
        """The statement of that number, or of the same text but for its constants."""
        by_number = (each for each in self.statements if each.statement.query_id == query_id)
        key = shape_key(text)
        return next(by_number, None) or next((each for each in self.statements if each.key == key), None)


def read_logs(
    paths: Iterable[Path], options: LogOptions, tell: Tell | None = None, hear: Hear | None = None
) -> LogReading:
    """Read logs one after the other, each in its own format. What cannot be used becomes a note."""
    totals = LogTotals(options.seed)
    notes: list[LogNote] = []
    for path in paths:
        try:
            notes += _read_one(path, options, totals, tell, hear)
        except UnsupportedStatement as error:
            notes.append(LogNote(name=path.name, reason=str(error)))
    if totals.dropped:
        reason = f"{totals.dropped} statements that took the least time were forgotten to bound memory"
        notes.append(LogNote(name="the log", reason=reason))
    return LogReading(statements=tuple(totals.statements()), notes=tuple(notes))


def _read_one(
    path: Path, options: LogOptions, totals: LogTotals, tell: Tell | None, hear: Hear | None
) -> Iterator[LogNote]:
    beginning = beginning_of(path)
    form = format_of(beginning)
    if form is None:
        reason = "it has no line that a PostgreSQL server writes" if beginning.strip() else "it is empty"
        yield LogNote(name=path.name, reason=reason)
        return
    lines, damage, own = LogLines(path, tell), Damage(), _OwnDatabase(options.database)
    before = totals.counted
    for execution in executions(own.of(_records(form, lines, beginning, options, damage))):
        for each in _single(execution):
            totals.add(each)
            if hear is not None:
                hear(each)
    for reason in (*lines.notes, *_told(damage, own)):
        yield LogNote(name=path.name, reason=reason)
    if totals.counted == before:
        yield _without_statements(path)


class _OwnDatabase:
    """Passes the records of one database, and those that do not say of which they are."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.others = 0

    def of(self, records: Iterable[LogRecord]) -> Iterator[LogRecord]:
        for record in records:
            if self.name is None or record.database in (None, self.name):
                yield record
            else:
                self.others += 1


def _records(
    form: LogFormat, lines: Iterable[str], beginning: str, options: LogOptions, damage: Damage
) -> Iterator[LogRecord]:
    if form is LogFormat.JSON:
        return json_records(lines, damage)
    if form is LogFormat.CSV:
        return csv_records(lines, damage)
    prefix = prefix_for(
        beginning.splitlines()[:_HEADS_LINES],
        given=options.line_prefix,
        configured=options.configured_prefix,
    )
    return stderr_records(lines, prefix, damage)


def _told(damage: Damage, own: _OwnDatabase) -> Iterator[str]:
    if damage.is_cut:
        yield "its last record is cut"
    if damage.records > damage.is_cut:
        yield f"{damage.records - damage.is_cut} records are damaged and left out"
    if own.others:
        yield f"{own.others} records are of other databases than {own.name}"


def _without_statements(path: Path) -> LogNote:
    return LogNote(
        name=path.name,
        reason="it has no statement with a duration, or none in English",
        remedy="ALTER SYSTEM SET log_min_duration_statement = '100ms';\n"
        "ALTER SYSTEM SET lc_messages = 'C';\nSELECT pg_reload_conf();",
    )


def _single(execution: Execution) -> Iterator[Execution]:
    """The statements of a text of several, with the time in equal parts: no log tells which took how long."""
    if is_our_own(execution.text):
        return
    if not is_several(execution.text):
        yield execution
        return
    parts = split_statements(execution.text)
    part_s = None if execution.duration_s is None else execution.duration_s / len(parts)
    for part in parts:
        yield Execution(session=execution.session, text=part, calls=execution.calls, duration_s=part_s)
