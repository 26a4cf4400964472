"""What is said of keeping the results of a service's statements."""

from __future__ import annotations

import enum

from perfloop.cache.usage import UsageProfile
from perfloop.model.advice import Finding
from perfloop.model.snapshot import Limitation
from perfloop.model.value import Value


class Until(enum.Enum):
    """What ends the life of a result."""

    TABLES_CHANGE = "its tables change"
    ROWS_CHANGE = "its rows change"
    TIME = "its time is over"


class KeysFrom(enum.Enum):
    """Where it is known from, with which parameters a statement is called."""

    NONE = "it has no parameters"
    LOG = "log"
    STATISTICS = "statistics"
    UNKNOWN = "unknown"


class Kept(Value, frozen=True, kw_only=True):
    """What the simulation says of one way to keep the results of a statement."""

    until: Until
    ttl_s: float
    """The longest life; with the other two ends, a bound for what is never told."""
    hit_ratio: float
    stale_ratio: float
    """Of all calls, at most: those answered from a result that had changed since."""
    entries: int
    """Kept at the same time."""


class StatementAdvice(Value, frozen=True, kw_only=True):
    """One statement: whether to keep its results, how, and what for; or why not."""

    query_id: str
    label: str
    text: str
    calls_per_s: float
    mean_s: float
    """Of a call, in the server, planning included."""
    time_share: float
    """Of the time of all statements."""
    rows_per_call: float
    is_proposed: bool = False
    reason: str
    """Why it is proposed as it is, or why it is not; a sentence without a full stop."""
    tables: tuple[str, ...] = ()
    changes_per_s: float = 0.0
    """Statements that write to its tables."""
    keys_from: KeysFrom = KeysFrom.UNKNOWN
    different: int | None = None
    """Sets of parameters; of a log those that it has."""
    entry_bytes: int | None = None
    """Of one result in a process, an estimate; None where the statement could not be planned."""
    ways: tuple[Kept, ...] = ()
    """Each simulated alone in a cache of the whole capacity."""
    chosen: Kept | None = None
    """Simulated together with all others that are proposed."""
    code: str | None = None
    """The line that keeps it."""

    @property
    def saved_s_per_s(self) -> float:
        """Time of the database that hits would spare, in seconds a second."""
        return self.calls_per_s * self.mean_s * self.chosen.hit_ratio if self.chosen else 0.0

    @property
    def memory_bytes(self) -> int | None:
        """Of the entries in one process; None where nothing is known of their size."""
        if self.chosen is None or self.entry_bytes is None:
            return None
        return self.chosen.entries * self.entry_bytes


class CacheAdvice(Value, frozen=True, kw_only=True):
    """All statements of a database that read: those to keep first, by the time that it spares."""

    database: str
    counted_for_s: float
    is_window: bool
    """Whether it was counted over a time from now, or since the last reset."""
    capacity: int
    """Entries of the cache in the simulation."""
    database_s_per_s: float
    """Time of all statements, in seconds a second."""
    statements: tuple[StatementAdvice, ...]
    setup: tuple[str, ...] = ()
    """What the lines of the proposed ones need: a command, and a line of Python."""
    limitations: tuple[Limitation, ...] = ()

    @property
    def proposed(self) -> tuple[StatementAdvice, ...]:
        return tuple(each for each in self.statements if each.is_proposed)

    @property
    def saved_s_per_s(self) -> float:
        return sum(each.saved_s_per_s for each in self.proposed)


class UsageAdvice(Value, frozen=True, kw_only=True):
    """What was written down of a running cache, and what to make of it."""

    profile: UsageProfile
    findings: tuple[Finding, ...] = ()
