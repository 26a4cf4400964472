"""What a Redis or Valkey server says of itself. Counters run since its start or its last CONFIG RESETSTAT."""

from __future__ import annotations

from perfloop.model.value import Value


class SlowCommand(Value, frozen=True, kw_only=True):
    """One command name in the slow log, with all its entries there."""

    name: str
    count: int
    longest_s: float
    total_s: float
    key: str | None = None
    """The first argument of the longest; values are never kept."""


class LatencyEvent(Value, frozen=True, kw_only=True):
    """One line of LATENCY LATEST; there are none unless latency-monitor-threshold is set."""

    name: str
    latest_s: float
    worst_s: float


class RedisState(Value, frozen=True, kw_only=True):
    """INFO, the slow log and the latency monitor at one moment."""

    version: str
    is_valkey: bool
    is_replica: bool
    uptime_s: float
    used_bytes: int
    resident_bytes: int
    limit_bytes: int | None
    """maxmemory; None where there is no limit."""
    policy: str
    """maxmemory_policy."""
    system_bytes: int
    """Memory of its machine, 0 where it does not tell."""
    hits: int
    misses: int
    evicted: int
    keys: int
    expiring_keys: int
    clients: int
    maximum_clients: int
    blocked_clients: int
    """In BLPOP and the like, which is what workers do when there is no work."""
    rejected_connections: int
    snapshot_failed: bool
    log_failed: bool
    """Of the append-only file: the last write, or the last rewrite."""
    fork_s: float
    """How long the last fork stopped it; 0 where there was none."""
    slow: tuple[SlowCommand, ...] = ()
    """The most time first."""
    latencies: tuple[LatencyEvent, ...] = ()
