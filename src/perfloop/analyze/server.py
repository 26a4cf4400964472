"""The server as a whole: cache hits, the memory its settings promise, its connections."""

from __future__ import annotations

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.memory import memory_parts
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import bytes_text, count_text, seconds_text, setting_bytes, share_text

HIT_RATIO = 0.95
"""postgres-mcp's limit; PgHero asks for 0.99, postgresqltuner speaks up at 0.90."""
POOR_HIT_RATIO = 0.90
JUDGED_BLOCKS = 100_000
"""Fewer blocks than this (800 MB of requests) are mostly the first reads after a start."""
JUDGED_COUNTING_S = 600
MEMORY_RATIO = 0.80
"""postgresqltuner warns when the settings may take more than 80 % of the memory."""
BUSY_CONNECTIONS_RATIO = 0.70
"""postgresqltuner: 70 % of max_connections is a warning, 90 % is bad."""
FULL_CONNECTIONS_RATIO = 0.90
IDLE_IN_TRANSACTION = 5
IDLE_IN_TRANSACTION_RATIO = 0.20
MANY_IDLE_IN_TRANSACTION = 100
"""PgHero's limit."""


def cache_hit_ratio(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Blocks that shared_buffers did not hold."""
    activity = snapshot.activity
    blocks = activity.hit_blocks + activity.read_blocks
    age_s = activity.counted_for_s
    if blocks < JUDGED_BLOCKS or (age_s is not None and age_s < JUDGED_COUNTING_S):
        return ()
    ratio = activity.hit_blocks / blocks
    if ratio >= HIT_RATIO:
        return ()
    shared_buffers = setting_bytes(snapshot.setting("shared_buffers"))
    readers = sorted(snapshot.statements, key=lambda each: (-each.read_blocks, each.statement.query_id))
    return (
        Finding(
            check="cache-hit-ratio",
            severity=Severity.MEDIUM if ratio < POOR_HIT_RATIO else Severity.LOW,
            title=f"Only {share_text(ratio)} of the blocks that queries ask for are in shared_buffers",
            location="shared_buffers",
            evidence=(
                Evidence(label="blocks asked for", value=count_text(blocks)),
                *((Evidence(label="counted for", value=seconds_text(age_s)),) if age_s is not None else ()),
                Evidence(label="database", value=bytes_text(activity.database_bytes)),
                Evidence(
                    label="shared_buffers",
                    value="unknown" if shared_buffers is None else bytes_text(shared_buffers),
                ),
                *(
                    Evidence(
                        label=f"{each.statement.label} reads", value=f"{count_text(each.read_blocks)} blocks"
                    )
                    for each in readers[:3]
                    if each.read_blocks > 0
                ),
            ),
            would_try="indexes that read fewer blocks first; then a larger shared_buffers, after a restart",
        ),
    )


def memory_sum(snapshot: Snapshot) -> tuple[Finding, ...]:
    """What the settings allow the server to take, held against the memory of its machine."""
    memory_bytes = snapshot.host.memory_bytes
    parts = memory_parts(snapshot.settings)
    if not snapshot.host.runs_server or not parts or memory_bytes <= 0:
        return ()
    total = sum(each.size_bytes for each in parts)
    ratio = total / memory_bytes
    if ratio <= MEMORY_RATIO:
        return ()
    return (
        Finding(
            check="memory-sum",
            severity=Severity.HIGH if ratio > 1 else Severity.MEDIUM,
            title=(
                f"The settings let PostgreSQL take {bytes_text(total)}, {share_text(ratio)} of the"
                f" {bytes_text(memory_bytes)} it has"
            ),
            location="memory settings",
            evidence=tuple(Evidence(label=each.label, value=bytes_text(each.size_bytes)) for each in parts),
            would_try="fewer max_connections behind a pool, or a smaller work_mem, before any of them grows",
        ),
    )


def _number(snapshot: Snapshot, name: str) -> int:
    setting = snapshot.setting(name)
    return 0 if setting is None else int(setting.value)


def connections(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Connections close to the limit, and transactions left open."""
    return (*_near_limit(snapshot), *_left_open(snapshot))


def _near_limit(snapshot: Snapshot) -> tuple[Finding, ...]:
    limit = _number(snapshot, "max_connections") - _number(snapshot, "superuser_reserved_connections")
    taken = snapshot.activity.connections
    if limit <= 0 or taken <= BUSY_CONNECTIONS_RATIO * limit:
        return ()
    return (
        Finding(
            check="connections",
            severity=Severity.HIGH if taken > FULL_CONNECTIONS_RATIO * limit else Severity.MEDIUM,
            title=f"{taken} of {limit} connections are taken ({share_text(taken / limit)})",
            location="max_connections",
            evidence=(
                Evidence(label="at work", value=str(snapshot.activity.active)),
                Evidence(label="idle in transaction", value=str(snapshot.activity.idle_in_transaction)),
            ),
            would_try="a connection pool: more max_connections cost memory and make all of them slower",
        ),
    )


def _left_open(snapshot: Snapshot) -> tuple[Finding, ...]:
    idle, taken = snapshot.activity.idle_in_transaction, snapshot.activity.connections
    if idle < max(IDLE_IN_TRANSACTION, IDLE_IN_TRANSACTION_RATIO * taken):
        return ()
    timeout = snapshot.setting("idle_in_transaction_session_timeout")
    is_unlimited = timeout is not None and timeout.value == "0"
    return (
        Finding(
            check="connections",
            severity=Severity.HIGH if idle >= MANY_IDLE_IN_TRANSACTION else Severity.MEDIUM,
            title=f"{idle} of {taken} connections are idle in a transaction",
            location="idle in transaction",
            evidence=(
                Evidence(
                    label="idle_in_transaction_session_timeout",
                    value="off" if is_unlimited else "unknown" if timeout is None else f"{timeout.value} ms",
                ),
            ),
            would_try=(
                "nothing in the database: end transactions before waiting for anything else,"
                " for they hold locks and keep dead rows"
            ),
        ),
    )
