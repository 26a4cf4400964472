"""The machine under the server. Nothing is said of a machine that only perfloop runs on."""

from __future__ import annotations

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.units import bytes_text, share_text

BUSY_RATIO = 0.90
STEAL_RATIO = 0.05
AVAILABLE_RATIO = 0.10
SCARCE_RATIO = 0.03
THROTTLED_RATIO = 0.05
OFTEN_THROTTLED_RATIO = 0.25
SWAP_RATIO = 0.10
"""Of the memory; pages swapped out long ago harm nobody, so only together with a lack of memory."""
MEMORY_STALL_RATIO = 0.05
IO_STALL_RATIO = 0.40
DISK_FREE_RATIO = 0.10
DISK_FREE_BYTES = 50 * 1024**3
"""A tenth of a very large disk is room for long."""
DISK_FULL_RATIO = 0.03
DISK_FULL_BYTES = 2 * 1024**3


def host_pressure(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Processors without idle time, time taken by others or withheld, memory and disk nearly used up."""
    host = snapshot.host
    if not host.runs_server:
        return ()
    return (
        *_processors(host),
        *_throttled(host),
        *_stolen(host),
        *_memory(host),
        *_swap(host),
        *_io(host),
        *_disk(snapshot),
    )


def _processors(host: Host) -> tuple[Finding, ...]:
    if host.busy_ratio <= BUSY_RATIO:
        return ()
    limited = ", a limit set by its cgroup or affinity" if host.cpu_limited else ""
    return (
        Finding(
            check="host-pressure",
            severity=_sustained(host),
            title=f"The server's processors are {share_text(host.busy_ratio)} busy",
            location="host: processors",
            evidence=(
                Evidence(label="processors", value=f"{host.cpus}{limited}"),
                Evidence(label="load over 1 minute", value=f"{host.load_1m:.1f}"),
                *(
                    (Evidence(label="over 5 minutes", value=f"{host.load_5m:.1f}"),)
                    if host.load_5m is not None
                    else ()
                ),
            ),
            would_try="the changes that save CPU time first: all that waits for a processor gains by them",
        ),
    )


def _sustained(host: Host) -> Severity:
    """A busy quarter of a second is nothing yet; the load averages tell whether it lasts."""
    if host.load_1m < host.cpus:
        return Severity.LOW
    return Severity.HIGH if (host.load_5m or 0.0) >= host.cpus else Severity.MEDIUM


def _throttled(host: Host) -> tuple[Finding, ...]:
    ratio = host.throttled_ratio or 0.0
    if ratio < THROTTLED_RATIO:
        return ()
    return (
        Finding(
            check="host-pressure",
            severity=Severity.HIGH if ratio >= OFTEN_THROTTLED_RATIO else Severity.MEDIUM,
            title=f"The server's CPU quota is used up in {share_text(ratio)} of its periods",
            location="host: CPU quota",
            evidence=(Evidence(label="processors", value=str(host.cpus)),),
            would_try="nothing in the database: a larger CPU quota, or fewer connections at work at a time",
        ),
    )


def _stolen(host: Host) -> tuple[Finding, ...]:
    if host.steal_ratio <= STEAL_RATIO:
        return ()
    return (
        Finding(
            check="host-pressure",
            severity=Severity.MEDIUM,
            title=f"Other virtual machines take {share_text(host.steal_ratio)} of the processors' time",
            location="host: steal",
            evidence=(Evidence(label="processors", value=str(host.cpus)),),
            would_try="nothing in the database: ask for a machine that shares its processors less",
        ),
    )


def _memory(host: Host) -> tuple[Finding, ...]:
    available = host.available_bytes / host.memory_bytes if host.memory_bytes > 0 else 1.0
    if available >= AVAILABLE_RATIO:
        return ()
    owner = "its cgroup's limit" if host.memory_limited else "the machine's memory"
    return (
        Finding(
            check="host-pressure",
            severity=Severity.HIGH if available < SCARCE_RATIO else Severity.MEDIUM,
            title=f"Only {share_text(available)} of {bytes_text(host.memory_bytes)} is left for the server",
            location="host: memory",
            evidence=(
                Evidence(label="available", value=bytes_text(host.available_bytes)),
                Evidence(label="memory", value=f"{bytes_text(host.memory_bytes)}, {owner}"),
            ),
            would_try="smaller memory settings, or a higher limit; no Change that takes more memory",
        ),
    )


def _swap(host: Host) -> tuple[Finding, ...]:
    stalled = host.memory_stall_ratio or 0.0
    is_short = host.available_bytes < AVAILABLE_RATIO * host.memory_bytes or stalled >= MEMORY_STALL_RATIO
    if not is_short or host.swap_used_bytes < SWAP_RATIO * host.memory_bytes:
        return ()
    return (
        Finding(
            check="host-pressure",
            severity=Severity.HIGH if stalled >= MEMORY_STALL_RATIO else Severity.MEDIUM,
            title=f"{bytes_text(host.swap_used_bytes)} are swapped out, and memory is short",
            location="host: swap",
            evidence=(
                Evidence(label="available", value=bytes_text(host.available_bytes)),
                Evidence(label="time stalled for memory", value=share_text(stalled)),
            ),
            would_try="smaller memory settings: what a cache gains, swapping loses many times over",
        ),
    )


def _io(host: Host) -> tuple[Finding, ...]:
    stalled = host.io_stall_ratio or 0.0
    if stalled < IO_STALL_RATIO:
        return ()
    return (
        Finding(
            check="host-pressure",
            severity=Severity.MEDIUM,
            title=f"In {share_text(stalled)} of the last minute, something waited for the disk",
            location="host: disk time",
            evidence=(Evidence(label="load over 1 minute", value=f"{host.load_1m:.1f}"),),
            would_try="the changes that read and write fewer blocks first",
        ),
    )


def _disk(snapshot: Snapshot) -> tuple[Finding, ...]:
    total, free = snapshot.host.disk_bytes, snapshot.host.disk_free_bytes
    if not total or free is None:
        return ()
    room = max(DISK_FREE_BYTES, snapshot.activity.database_bytes)
    if free >= DISK_FREE_RATIO * total or free >= room:
        return ()
    is_full = free < DISK_FULL_RATIO * total or free < DISK_FULL_BYTES
    return (
        Finding(
            check="host-pressure",
            severity=Severity.HIGH if is_full else Severity.MEDIUM,
            title=f"The disk of the data has {bytes_text(free)} left of {bytes_text(total)}",
            location="host: disk space",
            evidence=(Evidence(label="database", value=bytes_text(snapshot.activity.database_bytes)),),
            would_try=(
                "what frees space: unused or bloated indexes, slots that keep WAL; a full disk stops all"
            ),
        ),
    )
