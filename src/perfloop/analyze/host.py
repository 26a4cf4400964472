"""The machine under the server. Nothing is said of a machine that only perfloop runs on."""

from __future__ import annotations

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.units import bytes_text, share_text

BUSY_RATIO = 0.90
STEAL_RATIO = 0.05
AVAILABLE_RATIO = 0.10
SCARCE_RATIO = 0.03


def host_pressure(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Processors without idle time, time taken by other machines, memory nearly used up."""
    host = snapshot.host
    if not host.runs_server:
        return ()
    return (*_processors(host), *_stolen(host), *_memory(host))


def _processors(host: Host) -> tuple[Finding, ...]:
    if host.busy_ratio <= BUSY_RATIO:
        return ()
    limited = ", a limit set by its cgroup or affinity" if host.cpu_limited else ""
    return (
        Finding(
            check="host-pressure",
            severity=Severity.HIGH,
            title=f"The server's processors are {share_text(host.busy_ratio)} busy",
            location="host: processors",
            evidence=(
                Evidence(label="processors", value=f"{host.cpus}{limited}"),
                Evidence(label="load over 1 minute", value=f"{host.load_1m:.1f}"),
            ),
            would_try="the changes that save CPU time first: all that waits for a processor gains by them",
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
