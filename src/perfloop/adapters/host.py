"""Reads this machine: processors and memory after cgroup limits, CPU time, and that of one backend.

Readings of CPU time are taken by the caller, before and after what it wants to know the
ratios of; their difference is pure.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg

from perfloop.adapters.cgroup import read_limits
from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import query
from perfloop.errors import ServerFailed
from perfloop.model.snapshot import Host
from perfloop.model.value import Value

_BIRTH_TOLERANCE_S = 5.0
"""The kernel dates processes from boot; that clock and the server's drift apart by seconds."""


class CpuTimes(Value, frozen=True, kw_only=True):
    """CPU time of the whole machine since boot, summed over processors, and of this process."""

    busy_s: float
    idle_s: float
    steal_s: float
    """0 where the system does not count it, as on macOS."""
    own_s: float

    @property
    def total_s(self) -> float:
        return self.busy_s + self.idle_s + self.steal_s


class NeighbourUse(Value, frozen=True, kw_only=True):
    """How the machine's CPU was used between two readings. Ratios of its whole capacity, in [0, 1]."""

    busy_ratio: float
    neighbour_ratio: float
    steal_ratio: float


def cpu_times() -> CpuTimes:
    """Read the machine's CPU time; the kernel counts it in steps of 10 ms."""
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    busy = ("user", "nice", "system", "irq", "softirq")
    return CpuTimes(
        busy_s=sum(getattr(times, kind, 0.0) for kind in busy),
        idle_s=idle_s,
        steal_s=getattr(times, "steal", 0.0),
        own_s=time.process_time(),
    )


def neighbour_use(before: CpuTimes, after: CpuTimes, *, own_s: float = 0.0) -> NeighbourUse:
    """What others used between two readings; `own_s` is CPU time of backends that worked for the caller.

    The caller's own process is known from the readings. All ratios are 0 where no time has passed.
    """
    total_s = after.total_s - before.total_s
    if total_s <= 0:
        return NeighbourUse(busy_ratio=0.0, neighbour_ratio=0.0, steal_ratio=0.0)
    busy_s = after.busy_s - before.busy_s
    others_s = busy_s - own_s - (after.own_s - before.own_s)
    return NeighbourUse(
        busy_ratio=_ratio(busy_s, total_s),
        neighbour_ratio=_ratio(others_s, total_s),
        steal_ratio=_ratio(after.steal_s - before.steal_s, total_s),
    )


def read_host(*, runs_server: bool, window_s: float = 0.25) -> Host:
    """Describe the machine; waits for `window_s`, because busy and steal are differences."""
    before = cpu_times()
    time.sleep(window_s)
    use = neighbour_use(before, cpu_times())
    memory = psutil.virtual_memory()
    limits = read_limits(Path("/"))
    processors = _processors()
    memory_bytes = min(memory.total, limits.memory_bytes or memory.total)
    unused = memory_bytes - (limits.memory_used_bytes or 0)
    return Host(
        cpus=max(1, math.floor(min(processors, limits.cpus or processors))),
        memory_bytes=memory_bytes,
        available_bytes=max(0, min(memory.available, unused)),
        load_1m=psutil.getloadavg()[0],
        busy_ratio=use.neighbour_ratio,
        steal_ratio=use.steal_ratio,
        memory_limited=memory_bytes < memory.total,
        cpu_limited=limits.cpus is not None and limits.cpus < processors,
        runs_server=runs_server,
    )


def backend_cpu_s(pid: int) -> float:
    """CPU time of one backend on this machine; to the nanosecond on Linux, else in steps of 10 ms.

    Parallel workers are processes of their own and are not in it.

    Raises:
        ServerFailed: There is no such process here, or it may not be looked at.
    """
    try:
        running_ns = int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        running_ns = 0
    # Kernels without scheduler accounting print zeros.
    return running_ns / 1e9 if running_ns else _coarse_cpu_s(pid)


def server_is_here(connection: psycopg.Connection[Any]) -> bool:
    """Whether the session's server runs on this machine, and under its own process ids.

    A backend counts as found where a process of that id was born when the server says the
    session began; so a server in a container, or behind a tunnel on loopback, does not count.
    """
    began_at_s = read_rows(connection, query("read_session_start"))[0]["began_at_s"]
    try:
        born_at_s = psutil.Process(connection.info.backend_pid).create_time()
    except psutil.Error:
        return False
    return bool(abs(born_at_s - began_at_s) < _BIRTH_TOLERANCE_S)


def _coarse_cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise ServerFailed(
            f"the CPU time of backend {pid} cannot be read ({type(error).__name__}); "
            "trials need a server that runs on this machine, visible to this user, and still up"
        ) from error
    return float(times.user + times.system)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ratio(part_s: float, total_s: float) -> float:
    return min(1.0, max(0.0, part_s / total_s))
