"""The mix of operations that a service runs, with weights and real parameters."""

from __future__ import annotations

import enum
import re

from perfloop.model.value import Value, require

_LABEL_LENGTH = 64
_LEADING_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)


class StatementKind(enum.Enum):
    """What a statement does to data."""

    READ = "read"
    WRITE = "write"


class Statement(Value, frozen=True, kw_only=True):
    """A statement's text and identity, without parameters."""

    query_id: str
    """pg_stat_statements' queryid in decimal, or a digest of the text; the same in every run."""
    text: str
    """Normalised: `$1` stands where a constant stood, if the source says so."""
    kind: StatementKind
    name: str | None = None
    """The file's or script's name, where there is one."""

    @property
    def label(self) -> str:
        """How reports name it: its name, or the beginning of its text with the end of its query_id."""
        if self.name:
            return self.name
        text = " ".join(_LEADING_COMMENTS.sub("", self.text).split())
        if len(text) <= _LABEL_LENGTH:
            return f"`{text}`"
        return f"`{text[: _LABEL_LENGTH - 1]}…` #{self.query_id[-4:]}"


class Operation(Value, frozen=True, kw_only=True):
    """A statement as the service calls it.

    `instances` are complete texts with literals in place of `$n`: several draws of
    parameters, light and heavy ones, all equally likely. Every arm of a Trial runs the same ones.
    """

    statement: Statement
    calls_share: float
    """Calls of this statement per call of any statement of the Workload, in (0, 1]."""
    instances: tuple[str, ...]

    def __post_init__(self) -> None:
        require(0 < self.calls_share <= 1, f"calls_share must lie in (0, 1], got {self.calls_share}")
        require(bool(self.instances), f"{self.statement.label} has no instance to run")


class SkippedStatement(Value, frozen=True, kw_only=True):
    """A statement that could not be made part of the Workload, and why."""

    statement: Statement
    reason: str
    time_share: float = 0.0
    """Its share of the time of all statements seen, in [0, 1]."""


class Workload(Value, frozen=True, kw_only=True):
    """Operations whose shares sum to 1, and what had to be left out."""

    origin: str
    """Where it was read: pg_stat_statements, a folder, a pgbench script."""
    operations: tuple[Operation, ...]
    skipped: tuple[SkippedStatement, ...] = ()
    rare: tuple[Operation, ...] = ()
    """Skipped because they take too little time to be weighed; a Change must leave them unharmed all the
    same. Their shares are among themselves."""

    def operation(self, query_id: str) -> Operation | None:
        """The operation of that statement, or None."""
        return next((each for each in self.operations if each.statement.query_id == query_id), None)
