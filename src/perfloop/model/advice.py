"""What was found and what could be done about it."""

from __future__ import annotations

import enum

from perfloop.model.target import IndexKey, TableName
from perfloop.model.value import Value, require


class Severity(enum.Enum):
    """How much a Finding matters."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the most severe; for sorting and for `--fail-on`."""
        return list(Severity).index(self)


class Evidence(Value, frozen=True, kw_only=True):
    """One measured fact behind a Finding, ready to print: the unit is in the text or the label."""

    label: str
    value: str


class Finding(Value, frozen=True, kw_only=True):
    """A located bottleneck, with evidence and the time or space it costs."""

    check: str
    """The name of the Check that found it, as missing-index."""
    severity: Severity
    title: str
    """One line: the fact, with the object's name."""
    location: str
    """What it is about: a table, an index, a setting, a query label; sorts and deduplicates."""
    evidence: tuple[Evidence, ...]
    would_try: str
    """One line: what optimize would try, or why there is nothing to try."""
    query_ids: tuple[str, ...] = ()
    time_share: float | None = None
    """Share of the statements' execution time spent in it, in [0, 1]; None where it costs no time."""
    space_bytes: int | None = None

    @property
    def identity(self) -> str:
        """The same for the same finding in every run."""
        return f"{self.check}:{self.location}"


class CreateIndex(Value, frozen=True, kw_only=True, tag="create-index"):
    """Build an index. The name is part of the value, so that apply and undo agree on it."""

    table: TableName
    name: str
    keys: tuple[IndexKey, ...]
    included: tuple[str, ...] = ()
    predicate: str | None = None
    method: str = "btree"
    requires_extension: str | None = None
    """What brings its operator class: pg_trgm. None where the server itself has it."""
    is_partitioned: bool = False
    """Whether its table is, so that no single statement builds it without blocking writes."""

    def __post_init__(self) -> None:
        require(bool(self.keys), f"index {self.name} has no key")

    @property
    def title(self) -> str:
        keys = ", ".join(_key_title(key, self.method) for key in self.keys)
        method = "" if self.method == "btree" else f" using {self.method}"
        included = f" include ({', '.join(self.included)})" if self.included else ""
        where = f" where {self.predicate}" if self.predicate else ""
        return f"create index on {self.table}{method} ({keys}){included}{where}"


def _key_title(key: IndexKey, method: str) -> str:
    operators = f" {key.operator_class}" if key.operator_class and method != "btree" else ""
    return f"{key.text}{operators}{' desc' if key.descending else ''}"


class CreateExtension(Value, frozen=True, kw_only=True, tag="create-extension"):
    """Let a database have an extension that an index needs. Apply adds it where it is missing."""

    name: str

    @property
    def title(self) -> str:
        return f"create extension {self.name}"


class DropIndex(Value, frozen=True, kw_only=True, tag="drop-index"):
    """Drop an index. `definition` is its exact undo."""

    table: TableName
    name: str
    definition: str
    was_valid: bool = True
    """An invalid index is not built again by undo: it was of no use to anybody."""

    @property
    def title(self) -> str:
        return f"drop index {self.name} on {self.table}"


class SettingScope(enum.Enum):
    """Where a setting is stored."""

    SYSTEM = "system"
    DATABASE = "database"
    ROLE = "role"


class AlterSetting(Value, frozen=True, kw_only=True, tag="alter-setting"):
    """Give a setting a value, in a form that SET accepts (as '64MB')."""

    name: str
    value: str
    scope: SettingScope = SettingScope.DATABASE
    scope_name: str | None = None
    """The database or role; None for SYSTEM, and for the target's own database or role."""

    @property
    def title(self) -> str:
        return f"set {self.name} = {self.value} ({self.scope.value})"


class AnalyzeTable(Value, frozen=True, kw_only=True, tag="analyze"):
    """Collect the planner's statistics of a table anew. Statistics only age, so it has no undo."""

    table: TableName

    @property
    def title(self) -> str:
        return f"analyze {self.table}"


class CreateStatistics(Value, frozen=True, kw_only=True, tag="create-statistics"):
    """Let the planner know how columns go together (and ANALYZE, without which it knows nothing)."""

    table: TableName
    name: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...] = ("ndistinct", "dependencies", "mcv")

    def __post_init__(self) -> None:
        require(len(self.columns) >= 2, f"statistics {self.name} need at least two columns")

    @property
    def title(self) -> str:
        return f"create statistics on {self.table} ({', '.join(self.columns)})"


class SetTableOptions(Value, frozen=True, kw_only=True, tag="set-table-options"):
    """Give a table storage parameters of its own: its fillfactor, or when autovacuum comes by."""

    table: TableName
    options: tuple[str, ...]
    """As name=value, in the server's own writing."""

    def __post_init__(self) -> None:
        require(bool(self.options), f"no storage parameter is given for {self.table}")
        for each in self.options:
            require("=" in each, f"{each} is no storage parameter; write name=value")

    @property
    def title(self) -> str:
        return f"set ({', '.join(self.options)}) on {self.table}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters, in order."""
        return tuple(each.partition("=")[0] for each in self.options)


class RewriteQuery(Value, frozen=True, kw_only=True, tag="rewrite-query"):
    """Ask for the same rows in other words. The text stands in the service's code: only people apply it."""

    query_id: str
    rule: str
    """The name of the rewriting rule, as not-in; several, joined by a plus, where one text needs them all."""
    before: str
    """The statement as it is, laid out as `after` is, so that their difference is the rewriting alone."""
    after: str
    """Normalised: `$n` stands for the same parameter as in `before`."""
    label: str
    """The statement's, for people."""
    assumes: tuple[str, ...] = ()
    """What the service must know of its parameters, since no catalogue does."""

    @property
    def title(self) -> str:
        return f"rewrite {self.label} ({self.rule})"


ServerChange = (
    CreateIndex
    | CreateExtension
    | DropIndex
    | AlterSetting
    | AnalyzeTable
    | CreateStatistics
    | SetTableOptions
)
"""What a server carries out, and what `apply` brings to a target."""
Change = ServerChange | RewriteQuery


class Risk(enum.Enum):
    """What the act itself can do to a running service."""

    LOW = "low"
    MEDIUM = "medium"
    """Takes time or space on the target, without blocking it."""
    HIGH = "high"
    """Needs a restart, or an object has to be built again to undo it."""


class Proposal(Value, frozen=True, kw_only=True):
    """A Change with its reason, expected gain, risk and rank."""

    change: Change
    reason: str
    """One line for people."""
    findings: tuple[str, ...] = ()
    """Identities of the Findings behind it."""
    expected_ratio: float | None = None
    """Estimated cost of the Workload after the change over before; None where nothing was estimated."""
    size_bytes: int | None = None
    """Estimated space: above 0 what it takes, below 0 what it frees."""
    risk: Risk = Risk.LOW
