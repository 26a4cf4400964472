"""All probes of a target at one moment."""

from __future__ import annotations

import math

from perfloop.model.health import Health
from perfloop.model.jobs import JobQueue
from perfloop.model.plan import Plan
from perfloop.model.redis import RedisState
from perfloop.model.target import (
    ExtendedStatistics,
    Fingerprint,
    ForeignKey,
    Index,
    Setting,
    Table,
    TableName,
)
from perfloop.model.value import Value
from perfloop.model.workload import Statement


class StatementCounters(Value, frozen=True, kw_only=True):
    """What pg_stat_statements counted for one statement; a difference where there were two readings."""

    statement: Statement
    calls: int
    total_s: float
    rows: int
    hit_blocks: int = 0
    read_blocks: int = 0
    temp_blocks: int = 0
    """Read plus written."""
    wal_bytes: int = 0
    jit_s: float = 0.0
    planning_s: float = 0.0
    wal_records: int = 0
    """Unlike the bytes, they do not jump after a checkpoint."""
    squared_s2: float = 0.0
    """Sum of the squared times of all calls; 0 where the source does not tell how they spread."""

    @property
    def mean_s(self) -> float:
        return self.total_s / self.calls if self.calls else 0.0

    @property
    def deviation_s(self) -> float | None:
        """Standard deviation of the time of a call; None where the source does not tell."""
        if self.calls < 2 or self.squared_s2 <= 0:
            return None
        return math.sqrt(max(0.0, self.squared_s2 / self.calls - self.mean_s**2))


class StatementPlan(Value, frozen=True, kw_only=True):
    """The plan of one instance of a statement; without ANALYZE on a target, with it in a lab."""

    query_id: str
    instance: str
    plan: Plan


class Activity(Value, frozen=True, kw_only=True):
    """pg_stat_activity and pg_stat_database in numbers. Counters run since the last reset."""

    connections: int
    """Client backends, of all databases."""
    active: int
    idle_in_transaction: int
    hit_blocks: int
    read_blocks: int
    temp_bytes: int
    temp_files: int
    database_bytes: int
    counted_for_s: float | None
    """Age of the counters; None where the server does not know."""
    commits: int = 0
    rollbacks: int = 0
    deadlocks: int = 0
    checksum_failures: int | None = None
    """None where checksums are off."""
    sessions: int = 0
    """Begun on this database."""
    session_s: float = 0.0
    """How long they lasted, summed."""
    abandoned_sessions: int = 0
    """Ended because the client went away."""


class Host(Value, frozen=True, kw_only=True):
    """The machine that perfloop runs on. Ratios in [0, 1]."""

    cpus: int
    """Processors this process may use, after affinity and cgroup quota, at least 1."""
    memory_bytes: int
    """The smaller of physical memory and the cgroup's limit."""
    available_bytes: int
    load_1m: float
    busy_ratio: float
    """CPU time not idle, over a short window and without perfloop's own."""
    steal_ratio: float
    memory_limited: bool = False
    """Whether a cgroup sets `memory_bytes`."""
    cpu_limited: bool = False
    runs_server: bool = False
    """Whether the target's server runs on this machine."""
    load_5m: float | None = None
    swap_used_bytes: int = 0
    throttled_ratio: float | None = None
    """Share of its periods in which the server's cgroup had used up its CPU quota; None without one."""
    memory_stall_ratio: float | None = None
    """Share of the last minute in which some task waited for memory (PSI), on Linux."""
    io_stall_ratio: float | None = None
    disk_bytes: int | None = None
    """Of the file system of the data directory."""
    disk_free_bytes: int | None = None


class Limitation(Value, frozen=True, kw_only=True):
    """Something that could not be read: what, why, and the exact commands that would allow it."""

    subject: str
    reason: str
    remedy: str


class Snapshot(Value, frozen=True, kw_only=True):
    """The state of a target. Empty tuples where a probe had no rights; `limitations` says so."""

    taken_at_s: float
    """Unix time."""
    database: str
    user: str
    fingerprint: Fingerprint
    settings: tuple[Setting, ...]
    tables: tuple[Table, ...]
    indexes: tuple[Index, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()
    extended_statistics: tuple[ExtendedStatistics, ...] = ()
    statements: tuple[StatementCounters, ...] = ()
    utility_temp_blocks: int = 0
    """Temporary blocks, read plus written, of what is no query: indexes that were built, tables loaded."""
    plans: tuple[StatementPlan, ...] = ()
    generic_plans: tuple[StatementPlan, ...] = ()
    """What a prepared statement may run with whatever its values; of statements that `plans` has too."""
    activity: Activity
    host: Host
    health: Health = Health()
    redis: RedisState | None = None
    jobs: tuple[JobQueue, ...] = ()
    """Queues of background jobs, in this database and in that Redis."""
    limitations: tuple[Limitation, ...] = ()

    def setting(self, name: str) -> Setting | None:
        """The setting of that name, or None."""
        return next((each for each in self.settings if each.name == name), None)

    def table(self, name: TableName) -> Table | None:
        """The table of that name, or None."""
        return next((each for each in self.tables if each.name == name), None)

    def indexes_of(self, name: TableName) -> tuple[Index, ...]:
        """The indexes of a table, in catalogue order."""
        return tuple(each for each in self.indexes if each.table == name)

    def total_s(self) -> float:
        """Execution time of all statements seen, in seconds."""
        return sum(each.total_s for each in self.statements)
