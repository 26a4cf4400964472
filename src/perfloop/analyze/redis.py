"""The Redis or Valkey beside the database: does it hit, will it run full, what stops it.

Nothing is tried there: perfloop's lab holds no Redis, so each remedy is one for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.redis import RedisState, SlowCommand
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import bytes_text, count_text, seconds_text, share_text

HIT_RATIO = 0.80
POOR_HIT_RATIO = 0.50
JUDGED_LOOKUPS = 10_000
EVICTED_PER_S = 1 / 60
JUDGED_EVICTIONS = 100
NEAR_LIMIT_RATIO = 0.90
UNLIMITED_RATIO = 0.50
"""Of the machine's memory, in a server that no limit stops; a snapshot may need as much again."""
FRAGMENTED_RATIO = 1.5
SWAPPED_RATIO = 0.9
"""Resident over used memory: below 1 a part of it is not in memory at all."""
JUDGED_BYTES = 100 * 1024**2
LONG_COMMAND_S = 0.1
COMMANDS_NAMED = 5
BUSY_CLIENTS_RATIO = 0.80
FULL_CLIENTS_RATIO = 0.95
FORK_S = 0.1
LONG_FORK_S = 1.0
LATENCY_S = 0.1
CACHE_RATIO = 0.50
"""Where most keys expire, it is a cache."""
LASTING_RATIO = 0.10
JUDGED_KEYS = 1_000

_READS_ALL = {
    "KEYS": "SCAN with a COUNT, or a set of the keys that are wanted",
    "SMEMBERS": "SSCAN, or smaller sets",
    "HGETALL": "HMGET of the fields that are wanted, or smaller hashes",
    "LRANGE": "shorter ranges, or shorter lists",
    "ZRANGE": "shorter ranges",
    "SORT": "a sorted set, so that it is sorted already",
    "FLUSHALL": "FLUSHALL ASYNC",
    "FLUSHDB": "FLUSHDB ASYNC",
    "DEL": "UNLINK, which frees large values beside the work",
    "EVAL": "a shorter script: nothing else runs meanwhile",
}

Judge = Callable[[RedisState], Iterator[Finding]]


def _of_redis(judge: Judge) -> Callable[[Snapshot], tuple[Finding, ...]]:
    def run(snapshot: Snapshot) -> tuple[Finding, ...]:
        return () if snapshot.redis is None else tuple(judge(snapshot.redis))

    run.__name__ = judge.__name__
    run.__doc__ = judge.__doc__
    return run


def _finding(
    check: str,
    severity: Severity,
    title: str,
    would_try: str,
    *evidence: tuple[str, str],
    part: str | None = None,
) -> Finding:
    return Finding(
        check=f"redis-{check}",
        severity=severity,
        title=title,
        location=f"Redis: {part or check}",
        evidence=tuple(Evidence(label=label, value=value) for label, value in evidence),
        would_try=f"nothing in a lab: {would_try}",
    )


@_of_redis
def redis_hit_ratio(redis: RedisState) -> Iterator[Finding]:
    """A cache that seldom has what it is asked for."""
    lookups = redis.hits + redis.misses
    ratio = redis.hits / max(1, lookups)
    if lookups >= JUDGED_LOOKUPS and ratio < HIT_RATIO:
        yield _finding(
            "hit-ratio",
            Severity.MEDIUM if ratio < POOR_HIT_RATIO else Severity.LOW,
            f"Redis had only {share_text(ratio)} of the keys that it was asked for",
            "longer times to live, keys that more requests share, or no cache for what is never asked twice",
            ("lookups", count_text(lookups)),
            ("evicted", count_text(redis.evicted)),
        )


@_of_redis
def redis_evictions(redis: RedisState) -> Iterator[Finding]:
    """Keys thrown out for room: what is asked for next has to be loaded again."""
    rate = redis.evicted / max(1.0, redis.uptime_s)
    if redis.evicted >= JUDGED_EVICTIONS and rate >= EVICTED_PER_S:
        lookups = redis.hits + redis.misses
        is_felt = lookups >= JUDGED_LOOKUPS and redis.hits < HIT_RATIO * lookups
        yield _finding(
            "evictions",
            Severity.MEDIUM if is_felt else Severity.LOW,
            f"Redis threw out {count_text(redis.evicted)} keys for room, {rate * 60:.3g} a minute",
            "a larger maxmemory, smaller values or shorter times to live; an LFU policy keeps what is in use",
            ("policy", redis.policy),
            ("used", bytes_text(redis.used_bytes)),
        )


@_of_redis
def redis_memory(redis: RedisState) -> Iterator[Finding]:
    """Memory near its limit, or without one."""
    if redis.limit_bytes is None:
        ratio = redis.used_bytes / redis.system_bytes if redis.system_bytes else 0.0
        yield _finding(
            "memory",
            Severity.HIGH if ratio >= UNLIMITED_RATIO else Severity.LOW,
            "Redis has no maxmemory: it grows until the system ends it",
            "maxmemory, well below the machine's memory, with a policy that fits what it holds",
            ("used", bytes_text(redis.used_bytes)),
            ("machine", bytes_text(redis.system_bytes)),
        )
        return
    ratio = redis.used_bytes / redis.limit_bytes
    refuses = redis.policy == "noeviction"
    if ratio >= NEAR_LIMIT_RATIO and (refuses or redis.policy.startswith("volatile-")):
        yield _finding(
            "memory",
            Severity.HIGH if refuses else Severity.MEDIUM,
            f"Redis uses {share_text(ratio)} of its maxmemory, and"
            + (" refuses writes when it is full" if refuses else " may only throw out keys that expire"),
            "a larger maxmemory, or a policy of allkeys for a cache",
            ("used", bytes_text(redis.used_bytes)),
            ("maxmemory", bytes_text(redis.limit_bytes)),
            ("policy", redis.policy),
            ("keys that expire", f"{redis.expiring_keys:,} of {redis.keys:,}"),
        )


@_of_redis
def redis_policy(redis: RedisState) -> Iterator[Finding]:
    """A cache that refuses writes once it is full, instead of making room."""
    is_cache = redis.keys >= JUDGED_KEYS and redis.expiring_keys >= CACHE_RATIO * redis.keys
    if is_cache and redis.limit_bytes is not None and redis.policy == "noeviction":
        yield _finding(
            "policy",
            Severity.LOW,
            f"{share_text(redis.expiring_keys / redis.keys)} of the keys expire, as in a cache,"
            " but a full Redis refuses writes",
            "maxmemory-policy allkeys-lfu if all of it may be loaded again, else volatile-lfu",
            ("policy", redis.policy),
            ("used", f"{bytes_text(redis.used_bytes)} of {bytes_text(redis.limit_bytes)}"),
        )


@_of_redis
def redis_lasting_keys(redis: RedisState) -> Iterator[Finding]:
    """Keys without a time to live among many that have one: often forgotten, and never given back."""
    lasting = redis.keys - redis.expiring_keys
    is_cache = redis.keys >= JUDGED_KEYS and redis.expiring_keys >= CACHE_RATIO * redis.keys
    if is_cache and lasting >= LASTING_RATIO * redis.keys and not redis.policy.startswith("allkeys-"):
        yield _finding(
            "lasting-keys",
            Severity.LOW,
            f"{count_text(lasting)} of {count_text(redis.keys)} keys never expire, among others that do",
            "a time to live for them too, unless they are meant to stay",
            ("policy", redis.policy),
        )


def redis_fragmentation(snapshot: Snapshot, *, least_bytes: int = JUDGED_BYTES) -> tuple[Finding, ...]:
    """Memory that the allocator holds without use, or that was swapped out."""
    redis = snapshot.redis
    if redis is None or redis.used_bytes < least_bytes or redis.resident_bytes == 0:
        return ()
    ratio = redis.resident_bytes / redis.used_bytes
    facts = (("used", bytes_text(redis.used_bytes)), ("resident", bytes_text(redis.resident_bytes)))
    if ratio < SWAPPED_RATIO:
        title = f"{share_text(1 - ratio)} of Redis's memory is not resident: it waits for swap"
        return (_finding("fragmentation", Severity.HIGH, title, "a smaller maxmemory", *facts),)
    if ratio < FRAGMENTED_RATIO:
        return ()
    title = f"Redis takes {ratio:.2g} times the memory that it uses"
    return (_finding("fragmentation", Severity.LOW, title, "activedefrag yes, or a restart", *facts),)


@_of_redis
def redis_slow_commands(redis: RedisState) -> Iterator[Finding]:
    """Commands in the slow log: while one runs, all others wait."""
    for command in redis.slow[:COMMANDS_NAMED]:
        yield Finding(
            check="redis-slow-commands",
            severity=_slowness(command),
            title=(
                f"{command.name} stopped Redis for up to {seconds_text(command.longest_s)}:"
                " one command runs at a time"
            ),
            location=f"Redis: {command.name}",
            evidence=(
                Evidence(label="in the slow log", value=f"{command.count} times"),
                Evidence(label="together", value=seconds_text(command.total_s)),
                *((Evidence(label="first argument", value=command.key),) if command.key else ()),
            ),
            would_try=f"nothing in a lab: {_READS_ALL.get(command.name, 'smaller values')}",
        )


def _slowness(command: SlowCommand) -> Severity:
    is_bad = command.longest_s >= LONG_COMMAND_S or command.name == "KEYS"
    return Severity.MEDIUM if is_bad else Severity.LOW


@_of_redis
def redis_clients(redis: RedisState) -> Iterator[Finding]:
    """Connections near the limit, or refused at it."""
    ratio = redis.clients / redis.maximum_clients if redis.maximum_clients else 0.0
    if redis.rejected_connections == 0 and ratio < BUSY_CLIENTS_RATIO:
        return
    is_full = ratio >= FULL_CLIENTS_RATIO
    refused = f", and {count_text(redis.rejected_connections)} were refused since it started"
    yield _finding(
        "clients",
        Severity.HIGH if is_full else Severity.MEDIUM,
        f"{redis.clients:,} of {redis.maximum_clients:,} connections to Redis are taken"
        + (refused if redis.rejected_connections else ""),
        "a pool in each process of the service, and timeout for connections that were forgotten",
        ("blocked, as workers wait", count_text(redis.blocked_clients)),
    )


@_of_redis
def redis_persistence(redis: RedisState) -> Iterator[Finding]:
    """Snapshots or the append-only file that can no longer be written: then writes are refused too."""
    if not (redis.snapshot_failed or redis.log_failed):
        return
    what = "its last snapshot" if redis.snapshot_failed else "its append-only file"
    yield _finding(
        "persistence",
        Severity.HIGH,
        f"Redis could not write {what}: a restart loses data, and it may refuse writes",
        "see its log; mostly the disk is full, or fork finds no memory (vm.overcommit_memory = 1)",
        ("used", bytes_text(redis.used_bytes)),
    )


def redis_latency(
    snapshot: Snapshot, *, fork_least_s: float = FORK_S, event_least_s: float = LATENCY_S
) -> tuple[Finding, ...]:
    """Forks and other events that stop the server."""
    redis = snapshot.redis
    if redis is None:
        return ()
    found = []
    if redis.fork_s >= fork_least_s > 0:
        severity = Severity.MEDIUM if redis.fork_s >= LONG_FORK_S else Severity.LOW
        title = f"A snapshot stops Redis for {seconds_text(redis.fork_s)}: that is how long its fork takes"
        remedy = "no transparent huge pages, smaller instances, or snapshots on a replica only"
        used = ("used", bytes_text(redis.used_bytes))
        found.append(_finding("latency", severity, title, remedy, used, part="fork"))
    found.extend(
        _finding(
            "latency",
            Severity.LOW,
            f"Redis was stopped for up to {seconds_text(event.worst_s)} by {event.name}",
            "LATENCY DOCTOR explains the event",
            ("latest", seconds_text(event.latest_s)),
            part=event.name,
        )
        for event in redis.latencies
        if event.worst_s >= event_least_s and event.name not in ("command", "fast-command", "fork")
    )
    return tuple(found)
