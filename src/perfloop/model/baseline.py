"""What a target cost and how it planned at one moment, to hold a later one against."""

from __future__ import annotations

from perfloop.model.advice import Finding
from perfloop.model.snapshot import Limitation, StatementCounters
from perfloop.model.target import Fingerprint, Index, Setting, TableName
from perfloop.model.value import Value


class BaselineTable(Value, frozen=True, kw_only=True):
    """How large a table was."""

    name: TableName
    rows: float
    """The planner's estimate, below 0 where the table was never analysed."""
    size_bytes: int


class BaselinePlan(Value, frozen=True, kw_only=True):
    """How one instance of a statement was planned. The instance is kept to be planned again."""

    query_id: str
    label: str
    """How reports name the statement."""
    instance: str
    shape: str
    total_cost: float
    outline: str
    """The nodes, one a line, with relations and indexes but without conditions, which hold values."""


class Baseline(Value, frozen=True, kw_only=True):
    """Counters, plans, settings and sizes of a target under a name. `target` has no password."""

    name: str
    target: str
    database: str
    taken_at_s: float
    window_s: float | None = None
    """How long statements were counted; None where that was since the last reset."""
    reset_at_s: float | None = None
    """When the counters began; None where the server does not tell."""
    evictions: int | None = None
    fingerprint: Fingerprint
    statements: tuple[StatementCounters, ...] = ()
    """Of the window, or since the reset."""
    totals: tuple[StatementCounters, ...] = ()
    """Since the reset; empty where `statements` are just that."""
    plans: tuple[BaselinePlan, ...] = ()
    settings: tuple[Setting, ...] = ()
    """Those that differ from what the server is built with; texts, which may hold secrets, are left out."""
    tables: tuple[BaselineTable, ...] = ()
    indexes: tuple[Index, ...] = ()
    limitations: tuple[Limitation, ...] = ()

    def total_s(self) -> float:
        """Execution time of all its statements, in seconds."""
        return sum(each.total_s for each in self.statements)


class Comparison(Value, frozen=True, kw_only=True):
    """A target held against a Baseline."""

    baseline: str
    target: str
    baseline_taken_at_s: float
    taken_at_s: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What the reader must know: counters that were reset, statements that were not judged and why."""
    statements_judged: int = 0
    plans_judged: int = 0
