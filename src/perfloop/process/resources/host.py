"""What this host allows, and a worker's control group."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from perfloop.adapters.control_groups import ControlGroup, group_rights
from perfloop.adapters.scheduling import processors
from perfloop.process.resources.limits import HostRights, ResourcePlan


def host_rights(root: Path = Path("/")) -> HostRights:
    """What this process may do here; nothing is changed."""
    groups = group_rights(root)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HostRights(
        cpus=processors(),
        group_controllers=groups.controllers,
        group_reason=groups.reason,
        holds_data=sys.platform == "linux",
        may_raise_priority=_may_raise_priority(),
        most_files=None if most_files == resource.RLIM_INFINITY else most_files,
    )


def group_of(plan: ResourcePlan, name: str, *, root: Path = Path("/")) -> ControlGroup | None:
    """The control group that a worker's plan asks for; None where it needs none."""
    if plan.group_memory_bytes is None and plan.group_weight is None:
        return None
    folder = group_rights(root).folder
    if folder is None:
        return None
    return ControlGroup(Path(folder), name, memory_bytes=plan.group_memory_bytes, weight=plan.group_weight)


def hold(plan: ResourcePlan, pid: int, group: ControlGroup | None) -> None:
    """Hold a process that has just been started to its memory, beyond what it began with.

    Raises:
        OSError: It may not be held; it may have ended.
    """
    if group is not None:
        group.join(pid)
    if plan.data_bytes is not None:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[5])
        _, most = resource.prlimit(pid, resource.RLIMIT_DATA)
        bound = pages * resource.getpagesize() + plan.data_bytes
        resource.prlimit(pid, resource.RLIMIT_DATA, (bound, most))


def _may_raise_priority() -> bool:
    """Root in a container may have lost the right, so the right itself is looked at where it can be."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return os.geteuid() == 0
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & (1 << _CAP_SYS_NICE))
    return False


_CAP_SYS_NICE = 23
