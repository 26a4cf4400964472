"""A statement's plans with what is to be said of their nodes, ready to be drawn."""

from __future__ import annotations

from perfloop.model.advice import Evidence, Finding
from perfloop.model.snapshot import StatementCounters
from perfloop.model.value import Value
from perfloop.model.workload import Statement


class Remark(Value, frozen=True, kw_only=True):
    """What a rule says of one plan, and at which nodes."""

    check: str
    title: str
    evidence: tuple[Evidence, ...]
    would_try: str
    share: float
    """Of the plan's time or cost that it is about, in [0, 1]."""
    positions: tuple[int, ...] = ()
    """Of the nodes; empty where it is about the whole plan."""


class ExplainedNode(Value, frozen=True, kw_only=True):
    """One node of a plan, in the order of drawing: parents first."""

    position: int
    depth: int
    title: str
    """As EXPLAIN's text form names it."""
    details: tuple[str, ...]
    """Conditions and keys, as "Filter: …"."""
    share: float
    """Self time over the whole, in [0, 1]; of the cost where nothing was timed."""
    self_s: float | None
    executions: float
    planned_rows: float
    """Of one execution, of all processes."""
    rows: float | None
    """The same as it came out; None where the plan was not run."""
    removed_rows: float = 0.0
    """Read and thrown away by a filter, per execution."""
    blocks: int | None = None
    """Touched by the node itself, wherever they were; None where nobody counted."""
    temp_blocks: int = 0
    stopped_early: bool = False
    """Whether a LIMIT above took no more of it, so that fewer rows than expected prove nothing."""
    ran: bool = True
    """False where the plan was run and never came to this node."""

    @property
    def estimate_factor(self) -> float | None:
        """Rows that came over rows expected, both at least 1; None where nothing can be said of them."""
        if self.rows is None or not self.ran or self.stopped_early:
            return None
        return max(1.0, self.rows) / max(1.0, self.planned_rows)


class ExplainedPlan(Value, frozen=True, kw_only=True):
    """A plan of one instance, annotated."""

    query_id: str
    instance: str
    """The text with literals in place of `$n`, cut where it is very long."""
    about: str = ""
    """Which plan it is among the statement's, as words."""
    shape: str
    total_cost: float
    planning_s: float | None = None
    execution_s: float | None = None
    """None where it was only planned."""
    blocks: int | None = None
    temp_blocks: int = 0
    wal_bytes: int = 0
    nodes: tuple[ExplainedNode, ...]
    left_out: int = 0
    """Nodes beyond those that are shown."""
    remarks: tuple[Remark, ...] = ()

    @property
    def is_measured(self) -> bool:
        return self.execution_s is not None


class IndexAttempt(Value, frozen=True, kw_only=True):
    """An index that was built in a lab, and what the plans are without and with it."""

    title: str
    origin: str
    """Whose idea it was, as words."""
    size_bytes: int = 0
    build_s: float = 0.0
    pairs: tuple[tuple[ExplainedPlan, ExplainedPlan], ...] = ()
    """Of each instance, before and after."""


class Explanation(Value, frozen=True, kw_only=True):
    """All that is to be said of one statement."""

    database: str
    server_version: int
    taken_at_s: float
    statement: Statement
    counters: StatementCounters | None = None
    time_share: float | None = None
    """Of all statements' time, where it was counted."""
    plans: tuple[ExplainedPlan, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What checks of the whole target say of it or of its tables."""
    reasons: tuple[str, ...] = ()
    """Why nothing was found or proposed, as sentences."""
    attempts: tuple[IndexAttempt, ...] = ()
    notes: tuple[str, ...] = ()
    """What the reader must know: how it was planned, what was refused."""
