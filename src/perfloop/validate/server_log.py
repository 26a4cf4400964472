"""Adds a server's log up to statements with calls, time, samples of real parameters, and plans.

Memory stays bounded however long the log is: of each statement a reservoir of executions is kept, of the
statements those that take the most time, of the plans a few.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from perfloop.adapters.statements import is_our_own, statement_kind
from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import StatementPlan
from perfloop.model.value import Value
from perfloop.model.workload import Statement
from perfloop.validate.executions import Execution, executions, read_logged_plan
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
from perfloop.validate.normaliser import normalised, shape_key
from perfloop.validate.operations import query_id
from perfloop.validate.tokens import split_statements

SAMPLES = 25
"""Executions kept of each statement: enough for the extremes of five instances to be the tails."""
PLANS = 3
MOST_STATEMENTS = 20_000
MOST_PLAN_BYTES = 64 * 1024**2
LONGEST_STATEMENT = 200_000
"""Characters; of a longer one the calls and time count, but no sample is kept."""
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


class LoggedStatement(Value, frozen=True, kw_only=True):
    """A statement as the log has it."""

    statement: Statement
    key: str
    """See normaliser.shape_key; finds the statement of a source that numbers them otherwise."""
    calls: int
    total_s: float
    samples: tuple[str, ...] = ()
    """Complete texts of executions, from the fastest to the slowest."""
    plans: tuple[StatementPlan, ...] = ()


class LogReading(Value, frozen=True, kw_only=True):
    """What was read of one or several logs."""

    statements: tuple[LoggedStatement, ...] = ()
    """By time, most first."""
    notes: tuple[str, ...] = ()
    """What could not be used, in sentences that begin with the file's name."""


@dataclass(slots=True)
class _Shape:
    """What is kept of one statement while the log is read."""

    first: Execution
    query_id: str | None
    key: str
    calls: int = 0
    total_s: float = 0.0
    offered: int = 0
    samples: list[tuple[float, Execution]] = field(default_factory=list)
    plans_offered: int = 0
    plans: list[Execution] = field(default_factory=list)


class LogTotals:
    """Adds executions up. Executions come in any number; see the module for what is kept."""

    def __init__(self, options: LogOptions) -> None:
        self._rng = Random(f"{options.seed} log")
        self._shapes: dict[str, _Shape] = {}
        self._plan_bytes = 0
        self.counted = 0
        self.dropped = 0

    def add(self, execution: Execution) -> None:
        """Count one execution, or what a second record adds to it."""
        key = shape_key(execution.text[:LONGEST_STATEMENT])
        shape = self._shapes.get(execution.query_id or key) or self._new(execution, key)
        self.counted += execution.calls
        shape.calls += execution.calls
        shape.total_s += execution.duration_s or 0.0
        if execution.calls or not execution.is_known:
            self._sample(shape, execution)
        if execution.plan_text:
            self._keep_plan(shape, execution)

    def statements(self) -> Iterator[LoggedStatement]:
        """What was counted, by time, most first."""
        for shape in sorted(self._shapes.values(), key=lambda each: (-each.total_s, each.key)):
            statement = _statement(shape)
            if statement is not None:
                yield LoggedStatement(
                    statement=statement,
                    key=shape.key,
                    calls=max(1, shape.calls),
                    total_s=max(0.0, shape.total_s),
                    samples=tuple(_samples(shape)),
                    plans=tuple(_plans(shape, statement)),
                )

    def _new(self, execution: Execution, key: str) -> _Shape:
        if len(self._shapes) >= MOST_STATEMENTS:
            ranked = sorted(self._shapes.items(), key=lambda each: -each[1].total_s)
            self._shapes = dict(ranked[: MOST_STATEMENTS // 2])
            self.dropped += len(ranked) - len(self._shapes)
        shape = _Shape(first=execution, query_id=execution.query_id, key=key)
        self._shapes[execution.query_id or key] = shape
        return shape

    def _sample(self, shape: _Shape, execution: Execution) -> None:
        if len(execution.text) > LONGEST_STATEMENT or not execution.is_complete:
            return
        shape.offered += 1
        kept = (execution.duration_s or 0.0, execution)
        if len(shape.samples) < SAMPLES:
            shape.samples.append(kept)
        elif (place := self._rng.randrange(shape.offered)) < SAMPLES:
            shape.samples[place] = kept

    def _keep_plan(self, shape: _Shape, execution: Execution) -> None:
        size = len(execution.plan_text or "")
        if not execution.is_complete or self._plan_bytes + size > MOST_PLAN_BYTES:
            return
        shape.plans_offered += 1
        if len(shape.plans) < PLANS:
            shape.plans.append(execution)
            self._plan_bytes += size
        elif (place := self._rng.randrange(shape.plans_offered)) < PLANS:
            self._plan_bytes += size - len(shape.plans[place].plan_text or "")
            shape.plans[place] = execution


def read_logs(
    paths: Iterable[Path], options: LogOptions, tell: Callable[[str], None] | None = None
) -> LogReading:
    """Read logs one after the other, each in its own format. What cannot be used becomes a note."""
    totals = LogTotals(options)
    notes: list[str] = []
    for path in paths:
        try:
            notes += [f"{path.name}: {note}" for note in _read_one(path, options, totals, tell)]
        except UnsupportedStatement as error:
            notes.append(str(error))
    if totals.dropped:
        notes.append(f"{totals.dropped} statements that took the least time were forgotten to bound memory")
    return LogReading(statements=tuple(totals.statements()), notes=tuple(notes))


def _read_one(
    path: Path, options: LogOptions, totals: LogTotals, tell: Callable[[str], None] | None
) -> Iterator[str]:
    beginning = beginning_of(path)
    form = format_of(beginning)
    if form is None:
        yield "it has no line that a PostgreSQL server writes" if beginning.strip() else "it is empty"
        return
    lines, damage = LogLines(path, tell), Damage()
    elsewhere = 0
    before = totals.counted

    def records() -> Iterator[LogRecord]:
        nonlocal elsewhere
        for record in _records(form, lines, beginning, options, damage):
            if options.database is None or record.database in (None, options.database):
                yield record
            else:
                elsewhere += 1

    for execution in executions(records()):
        for each in _single(execution):
            totals.add(each)
    yield from lines.notes
    yield from _told(damage, elsewhere, totals.counted - before, options)


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


def _told(damage: Damage, elsewhere: int, counted: int, options: LogOptions) -> Iterator[str]:
    if damage.is_cut:
        yield "its last record is cut"
    if damage.records > damage.is_cut:
        yield f"{damage.records - damage.is_cut} records are damaged and left out"
    if elsewhere:
        yield f"{elsewhere} records are of other databases than {options.database}"
    if not counted:
        yield (
            "it has no statement with a duration; set log_min_duration_statement, and lc_messages to English"
        )


def _single(execution: Execution) -> Iterator[Execution]:
    """The statements of a text of several, with the time in equal parts: no log tells which took how long."""
    if ";" not in execution.text or is_our_own(execution.text):
        if not is_our_own(execution.text):
            yield execution
        return
    try:
        parts = split_statements(execution.text)
    except UnsupportedStatement:
        parts = (execution.text,)
    if len(parts) < 2:
        yield execution
        return
    part_s = None if execution.duration_s is None else execution.duration_s / len(parts)
    for part in parts if execution.plan_text is None else ():
        yield Execution(session=execution.session, text=part, calls=execution.calls, duration_s=part_s)


def _statement(shape: _Shape) -> Statement | None:
    """The normalised statement; None for what is no query."""
    text = shape.first.text
    kind = statement_kind(text)
    if kind is None:
        return None
    with contextlib.suppress(UnsupportedStatement):
        text = normalised(text) if len(text) <= LONGEST_STATEMENT else text
    return Statement(query_id=shape.query_id or query_id(shape.key), text=text, kind=kind)


def _samples(shape: _Shape) -> Iterator[str]:
    for _, execution in sorted(shape.samples, key=lambda each: each[0]):
        try:
            yield execution.instance()
        except UnsupportedStatement:
            continue


def _plans(shape: _Shape, statement: Statement) -> Iterator[StatementPlan]:
    for execution in shape.plans:
        plan = read_logged_plan(execution.plan_text or "")
        if plan is None:
            continue
        try:
            yield StatementPlan(query_id=statement.query_id, instance=execution.instance(), plan=plan)
        except UnsupportedStatement:
            continue


def by_identity(reading: LogReading) -> Mapping[str, LoggedStatement]:
    """The statements by query_id and by key; a key that two share means the one with most time."""
    found: dict[str, LoggedStatement] = {}
    for each in reading.statements:
        found.setdefault(each.statement.query_id, each)
        found.setdefault(each.key, each)
    return found
