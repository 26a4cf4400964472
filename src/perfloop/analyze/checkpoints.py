"""How changed buffers get to disk: checkpoints before their time, sessions that have to write themselves."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.health import CheckpointCounters, WalCounters
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import bytes_text, count_text, seconds_text, setting_bytes, share_text

REQUESTED_RATIO = 0.25
"""Well-sized servers stay under a tenth; backups and CREATE DATABASE ask for some too."""
REQUESTED_CHECKPOINTS = 5
WAL_PER_CHECKPOINT_RATIO = 0.20
"""Of max_wal_size: a checkpoint after less WAL was asked for by hand. The server asks at about a half."""
BACKEND_RATIO = 0.20
BACKEND_BUFFERS = 10_000


def requested_checkpoints(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Checkpoints that max_wal_size forces too early: after each, changed pages are logged whole."""
    counted = snapshot.health.checkpoints
    if counted is None or counted.requested < REQUESTED_CHECKPOINTS:
        return ()
    count = counted.requested + counted.timed
    ratio = counted.requested / count
    if ratio < REQUESTED_RATIO or not _is_by_wal(snapshot, counted):
        return ()
    timeout = snapshot.setting("checkpoint_timeout")
    timeout_s = 300.0 if timeout is None else float(timeout.value)
    apart_s = None if counted.counted_for_s is None else counted.counted_for_s / count
    is_hurried = apart_s is not None and apart_s < timeout_s / 2
    return (
        Finding(
            check="requested-checkpoints",
            severity=Severity.MEDIUM if is_hurried else Severity.LOW,
            title=(f"{share_text(ratio)} of the checkpoints came early, because max_wal_size was full"),
            location="max_wal_size",
            evidence=tuple(_checkpoint_evidence(snapshot, counted, apart_s)),
            would_try=("a larger max_wal_size, twice the WAL of one checkpoint_timeout; it takes a reload"),
        ),
    )


def _is_by_wal(snapshot: Snapshot, counted: CheckpointCounters) -> bool:
    """Whether so much WAL was written between them that it must have been max_wal_size that asked."""
    limit, wal = setting_bytes(snapshot.setting("max_wal_size")), snapshot.health.wal
    if limit is None or wal is None:
        return True
    return wal.size_bytes / counted.requested >= WAL_PER_CHECKPOINT_RATIO * limit


def _checkpoint_evidence(
    snapshot: Snapshot, counted: CheckpointCounters, apart_s: float | None
) -> Iterator[Evidence]:
    yield Evidence(label="requested", value=f"{counted.requested:,} of {counted.requested + counted.timed:,}")
    if apart_s is not None:
        yield Evidence(label="apart", value=seconds_text(apart_s))
    limit = setting_bytes(snapshot.setting("max_wal_size"))
    if limit is not None:
        yield Evidence(label="max_wal_size", value=bytes_text(limit))
    yield from _wal_evidence(snapshot.health.wal)
    each_s = (counted.write_s + counted.sync_s) / (counted.requested + counted.timed)
    yield Evidence(label="time of one checkpoint", value=seconds_text(each_s))


def _wal_evidence(wal: WalCounters | None) -> Iterator[Evidence]:
    if wal is None or not wal.counted_for_s:
        return
    yield Evidence(label="WAL", value=f"{bytes_text(wal.size_bytes / wal.counted_for_s)} per second")
    yield Evidence(label="whole pages logged", value=count_text(wal.full_page_images))


def backend_writes(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Sessions that have to write out others' buffers before they find room for what they read."""
    counted = snapshot.health.checkpoints
    if counted is None or counted.backend_buffers is None or counted.backend_buffers < BACKEND_BUFFERS:
        return ()
    written = counted.backend_buffers + counted.cleaned_buffers + counted.buffers_written
    ratio = counted.backend_buffers / written
    if ratio < BACKEND_RATIO:
        return ()
    shared_buffers = setting_bytes(snapshot.setting("shared_buffers"))
    return (
        Finding(
            check="backend-writes",
            severity=Severity.LOW,
            title=f"Sessions wrote {share_text(ratio)} of the changed buffers themselves: queries waited",
            location="shared_buffers: writes",
            evidence=(
                Evidence(label="by sessions", value=f"{count_text(counted.backend_buffers)} buffers"),
                Evidence(label="by the background writer", value=count_text(counted.cleaned_buffers)),
                Evidence(label="by checkpoints", value=count_text(counted.buffers_written)),
                *(
                    (Evidence(label="shared_buffers", value=bytes_text(shared_buffers)),)
                    if shared_buffers is not None
                    else ()
                ),
            ),
            would_try="a larger shared_buffers, after a restart; then a larger bgwriter_lru_maxpages",
        ),
    )
