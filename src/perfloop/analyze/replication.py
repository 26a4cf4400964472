"""Replication: WAL that slots hold, standbys that fall behind."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.health import ReplicationSlot, Standby
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import bytes_text, seconds_text, setting_bytes

HELD_WAL_BYTES = 64 * 1024**2
"""Four segments: less is what any slot holds while its receiver restarts."""
MUCH_HELD_WAL_BYTES = 10 * 1024**3
LAG_BYTES = 100 * 1024**2
LARGE_LAG_BYTES = 1024**3
LAG_S = 30.0
LONG_LAG_S = 300.0

_LOSING = {
    "lost": "has lost WAL that its receiver needs: it must be set up anew",
    "unreserved": "is about to lose WAL that its receiver needs",
}


def replication_slots(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Slots that lose WAL, and slots that keep WAL for nobody until the disk is full."""
    return tuple(finding for slot in snapshot.health.slots for finding in _slot(snapshot, slot))


def _slot(snapshot: Snapshot, slot: ReplicationSlot) -> Iterator[Finding]:
    held = slot.held_wal_bytes or 0
    if slot.wal_status in _LOSING:
        severity, fact = Severity.HIGH, _LOSING[slot.wal_status]
    elif not slot.is_active and held >= HELD_WAL_BYTES:
        allowed = setting_bytes(snapshot.setting("max_wal_size")) or MUCH_HELD_WAL_BYTES
        is_much = held >= min(MUCH_HELD_WAL_BYTES, max(allowed, 2 * HELD_WAL_BYTES))
        severity = Severity.HIGH if is_much else Severity.MEDIUM
        fact = f"is inactive and keeps {bytes_text(held)} of WAL, more with every write"
    elif slot.is_active and held >= MUCH_HELD_WAL_BYTES:
        severity, fact = Severity.MEDIUM, f"keeps {bytes_text(held)} of WAL: its receiver does not keep up"
    else:
        return
    limit = setting_bytes(snapshot.setting("max_slot_wal_keep_size"))
    yield Finding(
        check="replication-slot",
        severity=severity,
        title=f"Replication slot {slot.name} {fact}",
        location=f"replication slot {slot.name}",
        evidence=(
            Evidence(label="kind", value=slot.kind),
            Evidence(label="wal_status", value=slot.wal_status or "unknown"),
            Evidence(
                label="max_slot_wal_keep_size", value="no limit" if limit is None else bytes_text(limit)
            ),
        ),
        would_try=(
            "nothing in a lab: bring its receiver back, or"
            f" SELECT pg_drop_replication_slot('{slot.name}'); max_slot_wal_keep_size limits what it may keep"
        ),
        space_bytes=held or None,
    )


def replication_lag(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Standbys that replay late; and this server, where it is one."""
    own = snapshot.health.recovery
    behind = tuple(
        _lag(f"Standby {each.name}", each.lag_bytes, each.lag_s, _standby_evidence(each))
        for each in snapshot.health.standbys
        if each.state != "backup" and _is_behind(each.lag_bytes, each.lag_s)
    )
    if own is None or not _is_behind(own.lag_bytes, None):
        return behind
    return (*behind, _lag("This server, a standby,", own.lag_bytes, own.lag_s, ()))


def _is_behind(lag_bytes: int | None, lag_s: float | None) -> bool:
    return (lag_bytes or 0) >= LAG_BYTES or (lag_s or 0.0) >= LAG_S


def _lag(name: str, lag_bytes: int | None, lag_s: float | None, evidence: tuple[Evidence, ...]) -> Finding:
    amounts = [] if lag_bytes is None else [bytes_text(lag_bytes)]
    amounts += [] if lag_s is None else [seconds_text(lag_s)]
    is_large = (lag_bytes or 0) >= LARGE_LAG_BYTES or (lag_s or 0.0) >= LONG_LAG_S
    return Finding(
        check="replication-lag",
        severity=Severity.HIGH if is_large else Severity.MEDIUM,
        title=f"{name} is {' and '.join(amounts)} behind",
        location=f"replication: {name}",
        evidence=evidence,
        would_try=(
            "nothing in a lab: see whether replay waits for queries there (max_standby_streaming_delay),"
            " for its disk, or for the network"
        ),
    )


def _standby_evidence(standby: Standby) -> tuple[Evidence, ...]:
    return (
        Evidence(label="state", value=standby.state or "hidden"),
        Evidence(label="synchronous", value=standby.sync_state or "hidden"),
    )
