"""Adds executions up to statements with calls, time, samples of real parameters, and plans.

Memory stays bounded however long the log is: of each statement a reservoir of executions is kept, of the
statements those that take the most time, of the plans a few.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from perfloop.adapters.statements import statement_kind
from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import StatementPlan
from perfloop.model.value import Value
from perfloop.model.workload import Statement
from perfloop.validate.executions import Execution, read_logged_plan
from perfloop.validate.normaliser import normalised, shape_key
from perfloop.validate.operations import query_id

SAMPLES = 25
"""Executions kept of each statement: enough for the extremes of five instances to be the tails."""
PLANS = 3
MOST_STATEMENTS = 20_000
MOST_PLAN_BYTES = 64 * 1024**2
LONGEST_STATEMENT = 200_000
"""Characters; of a longer one the calls and time count, but no sample is kept."""


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

    def __init__(self, seed: int) -> None:
        self._rng = Random(f"{seed} log")
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
