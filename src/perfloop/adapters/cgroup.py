"""Reads the limits that cgroups set for this process, version 2 or 1.

A limit may stand at any level above the process, and the tightest one holds. Inside a
container the path that the kernel tells may not be visible; its visible part counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from perfloop.model.value import Value

_MOUNT = Path("sys/fs/cgroup")
_JUDGED_PERIODS = 600
"""A minute of the usual 100 ms."""


class CgroupLimits(Value, frozen=True, kw_only=True):
    """None where nothing is limited, or where there are no cgroups."""

    cpus: float | None = None
    """Processors' worth of time, as 1.5."""
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    """What the limited group uses and cannot give back at once."""


def read_limits(root: Path) -> CgroupLimits:
    """The limits of this process, read below `root`, which is / but in tests."""
    groups = dict(_groups(root))
    mount = root / _MOUNT
    cpu_levels = [*_levels(mount, groups.get("")), *_levels(mount / "cpu", groups.get("cpu"))]
    memory_levels = [*_levels(mount, groups.get("")), *_levels(mount / "memory", groups.get("memory"))]
    cpus = [limit for level in cpu_levels if (limit := _cpu_limit(level)) is not None]
    memories = [(limit, level) for level in memory_levels if (limit := _memory_limit(level)) is not None]
    if not memories:
        return CgroupLimits(cpus=min(cpus, default=None))
    memory_bytes, level = min(memories)
    return CgroupLimits(
        cpus=min(cpus, default=None), memory_bytes=memory_bytes, memory_used_bytes=_memory_used(level)
    )


def throttled_ratio(root: Path, process: str) -> float | None:
    """Share of its periods in which a process's group had used up its CPU quota, since the group exists.

    None where no level above the process has a quota, or too few periods are counted.
    """
    groups = dict(_groups(root, process))
    mount = root / _MOUNT
    levels = [*_levels(mount, groups.get("")), *_levels(mount / "cpu", groups.get("cpu"))]
    ratios = [_throttled(level) for level in levels if _cpu_limit(level) is not None]
    return max((ratio for ratio in ratios if ratio is not None), default=None)


def out_of_memory_kills(root: Path) -> int | None:
    """Processes of this group that the kernel killed for want of memory; None where it does not count."""
    groups = dict(_groups(root))
    mount = root / _MOUNT
    for level in (*_levels(mount, groups.get("")), *_levels(mount / "memory", groups.get("memory"))):
        for line in (_text(level / "memory.events") or _text(level / "memory.oom_control")).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                return int(count)
    return None


def _throttled(level: Path) -> float | None:
    counters = dict(line.split(maxsplit=1) for line in _text(level / "cpu.stat").splitlines() if " " in line)
    periods = int(counters.get("nr_periods", "0"))
    return int(counters.get("nr_throttled", "0")) / periods if periods >= _JUDGED_PERIODS else None


def _groups(root: Path, process: str = "self") -> Iterator[tuple[str, str]]:
    """(controller, path) of the process; the controller of version 2 is the empty string."""
    for line in _text(root / "proc" / process / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _levels(mount: Path, path: str | None) -> Iterator[Path]:
    if path is None:
        return
    relative = PurePosixPath(path.lstrip("/"))
    for level in (relative, *relative.parents):
        yield mount / level


def _cpu_limit(level: Path) -> float | None:
    quota, _, period = _text(level / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(level / "cpu.cfs_quota_us").strip()
        period = _text(level / "cpu.cfs_period_us").strip()
    limited = quota.isdigit() and period.isdigit() and int(period) > 0
    return int(quota) / int(period) if limited else None


def _memory_limit(level: Path) -> int | None:
    return _first_number(level / "memory.max", level / "memory.limit_in_bytes")


def _memory_used(level: Path) -> int | None:
    used = _first_number(level / "memory.current", level / "memory.usage_in_bytes")
    return None if used is None else max(0, used - _reclaimable(level))


def _reclaimable(level: Path) -> int:
    """Page cache that the kernel drops first; counted as used, though it stops nobody."""
    counters = dict(
        line.split(maxsplit=1) for line in _text(level / "memory.stat").splitlines() if " " in line
    )
    return int(counters.get("total_inactive_file", counters.get("inactive_file", "0")))


def _first_number(*files: Path) -> int | None:
    texts = (_text(file).strip() for file in files)
    return next((int(text) for text in texts if text.isdigit()), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
