"""What was tried and what came of it."""

from __future__ import annotations

import enum

from perfloop.model.advice import Finding, Proposal, ServerChange
from perfloop.model.explained import ExplainedPlan
from perfloop.model.snapshot import Limitation
from perfloop.model.target import Fingerprint
from perfloop.model.value import Value, require
from perfloop.model.workload import SkippedStatement, Statement


class Effect(Value, frozen=True, kw_only=True):
    """Change of one Metric, treatment relative to control.

    Ratios are treatment over control: for a Metric that should be low, 0.80 reads "20 % less".
    `low` and `high` bound the interval at the level that the producer states.

    >>> Effect(metric="cpu_s", ratio=0.80, low=0.76, high=0.85, pairs=14).is_lower
    True
    """

    metric: str
    ratio: float
    low: float
    high: float
    pairs: int
    control: float | None = None
    """The Metric's own value in the control arm, per operation, in its unit."""
    treatment: float | None = None

    def __post_init__(self) -> None:
        require(self.low <= self.ratio <= self.high, f"{self.metric}: {self.ratio} lies outside its interval")

    @property
    def is_lower(self) -> bool:
        """Whether the whole interval lies below 1."""
        return self.high < 1.0


class Verdict(enum.Enum):
    """What the evidence says of a Change."""

    KEEP = "keep"
    REVERT = "revert"
    UNCLEAR = "unclear"


class LabKind(enum.Enum):
    """Where a Change was tried, the cheapest first."""

    SESSIONS = "sessions"
    DATABASES = "databases"
    INSTANCES = "instances"


class Work(Value, frozen=True, kw_only=True):
    """Deterministic work per operation, weighted over the operations that a Change reaches."""

    blocks: float = 0.0
    temp_blocks: float = 0.0
    wal_bytes: float = 0.0
    rows: float = 0.0


class StatementEffect(Value, frozen=True, kw_only=True):
    """What a Change did to one statement."""

    statement: Statement
    time: Effect | None
    """cpu_s in a Trial, mean_s (wall time) in the confirmation; None where nothing was timed."""
    control_work: Work
    treatment_work: Work
    plan_changed: bool
    mix_share: float = 0.0
    """Share of the whole Workload's CPU time before the change, in [0, 1]."""


class GuardrailReading(Value, frozen=True, kw_only=True):
    """A Metric that may not get worse: its ratio, the limit, and whether harm beyond the limit is proven."""

    name: str
    ratio: float
    limit_ratio: float
    broken: bool


class HostReading(Value, frozen=True, kw_only=True):
    """How much the neighbours disturbed a Trial."""

    neighbour_ratio: float
    """Share of the machine's CPU that others used while the arms ran, in [0, 1]."""
    steal_ratio: float
    voided_pairs: int = 0
    crowded: bool = False


class SameRows(Value, frozen=True, kw_only=True):
    """Whether a rewritten statement gave the rows of the original, and over what that was seen."""

    instances: int
    """Texts with their parameters that were run both ways."""
    rows: int
    """Rows compared on the data as they are."""
    varied_runs: int = 0
    """Comparisons on small copies of the tables with NULLs, duplicates and no rows put in."""
    difference: str | None = None
    """The first difference, as a sentence; None where there was none."""


class TrialRecord(Value, frozen=True, kw_only=True):
    """One Change tried: the evidence and the Verdict."""

    proposal: Proposal
    lab: LabKind
    verdict: Verdict
    reason: str
    """One sentence for people: why this verdict."""
    cpu: Effect | None = None
    """CPU time of the backends over the statements that the Change reaches, weighted by calls."""
    mix_ratio: float | None = None
    """The same over the whole Workload, unreached statements counted as unchanged."""
    wall: Effect | None = None
    control_work: Work = Work()
    treatment_work: Work = Work()
    statements: tuple[StatementEffect, ...] = ()
    guardrails: tuple[GuardrailReading, ...] = ()
    size_bytes: int = 0
    """Measured: above 0 what the Change takes, below 0 what it frees."""
    build_s: float = 0.0
    host: HostReading | None = None
    took_s: float = 0.0
    started_at_s: float = 0.0
    same_rows: SameRows | None = None
    """Of a rewriting only."""


class Confirmation(Value, frozen=True, kw_only=True):
    """The whole kept stack against the original, in fresh pairs: the only figures quoted in sum."""

    effects: tuple[Effect, ...]
    """cpu_s, mean_s, p95_s per operation and throughput_per_s, each with a 95 % interval."""
    statements: tuple[StatementEffect, ...]
    control_work: Work
    treatment_work: Work
    size_bytes: int
    host: HostReading | None = None

    def effect(self, metric: str) -> Effect | None:
        """The Effect on that Metric, or None."""
        return next((each for each in self.effects if each.metric == metric), None)


class StudyState(enum.Enum):
    """How far a Study has come."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Study(Value, frozen=True, kw_only=True):
    """One campaign, as the Journal holds it. `target` is a DSN without its password."""

    study_id: str
    target: str
    started_at_s: float
    finished_at_s: float | None = None
    state: StudyState
    seed: int
    fingerprint: Fingerprint
    lab_fingerprint: Fingerprint | None = None
    workload_origin: str = ""
    statements: tuple[Statement, ...] = ()
    skipped: tuple[SkippedStatement, ...] = ()
    findings: tuple[Finding, ...] = ()
    limitations: tuple[Limitation, ...] = ()
    unexplained: tuple[str, ...] = ()
    """Why nothing was proposed, statement by statement, as sentences."""
    trials: tuple[TrialRecord, ...] = ()
    """In the order of trying."""
    rechecks: tuple[TrialRecord, ...] = ()
    """Each kept Change tried once more by leaving it out: the control arm has the whole stack without it,
    the treatment arm the whole stack. Anything but KEEP takes the Change out."""
    confirmation: Confirmation | None = None
    notes: tuple[str, ...] = ()
    """What the reader must know: a crowded host, a lab that differs from the target."""
    plans_before: tuple[ExplainedPlan, ...] = ()
    """Of each statement one, as it ran in the lab before any Change."""
    plans_after: tuple[ExplainedPlan, ...] = ()
    """The same with all that is kept, where the plan is another."""

    def kept(self) -> tuple[TrialRecord, ...]:
        """The trials whose Changes are in the final stack, in order."""
        out = [each.proposal.change for each in self.rechecks if each.verdict is not Verdict.KEEP]
        return tuple(
            trial
            for trial in self.trials
            if trial.verdict is Verdict.KEEP and trial.proposal.change not in out
        )


class ActState(enum.Enum):
    """How far one act on a target has come; the order of the Journal's writing."""

    INTENDED = "intended"
    APPLIED = "applied"
    UNDOING = "undoing"
    UNDONE = "undone"


class AppliedChange(Value, frozen=True, kw_only=True):
    """A Change on a target, as the Journal holds it: what was there before is its exact undo."""

    act_id: int
    study_id: str
    change: ServerChange
    state: ActState
    before: str | None = None
    """What undo restores: an index definition, a setting's earlier value; None where there was nothing."""
    after: str | None = None
    """The same once it was applied: undo refuses where somebody has changed it since."""
    at_s: float
