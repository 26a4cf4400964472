"""Reads what a server's machine is short of: time that its cgroup withholds, stalls, swap, disk.

Linux tells of stalls and throttling; elsewhere they stay None. Nothing here waits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg

from perfloop.adapters.cgroup import throttled_ratio
from perfloop.adapters.host import read_host, server_is_here
from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import query
from perfloop.model.snapshot import Host
from perfloop.model.value import Value


class Pressure(Value, frozen=True, kw_only=True):
    """Fields of Host that need the server's process or data folder. None where unknown."""

    load_5m: float
    swap_used_bytes: int
    throttled_ratio: float | None
    memory_stall_ratio: float | None
    io_stall_ratio: float | None
    disk_bytes: int | None
    disk_free_bytes: int | None


def read_target_host(connection: psycopg.Connection[Any]) -> Host:
    """This machine; with what it is short of where the session's server runs on it."""
    if not server_is_here(connection):
        return read_host(runs_server=False)
    rows = read_rows(connection, query("read_data_directory"))
    pressure = read_pressure(
        Path("/"),
        process=str(connection.info.backend_pid),
        data_directory=Path(rows[0]["data_directory"]) if rows else None,
    )
    host = read_host(runs_server=True)
    return msgspec.structs.replace(host, **msgspec.structs.asdict(pressure))


def read_pressure(root: Path, *, process: str, data_directory: Path | None) -> Pressure:
    """Read below `root`, which is / but in tests.

    Args:
        root: Where /proc and /sys are.
        process: A process id of the server's, whose cgroup counts, or "self".
        data_directory: None where the role may not see it.
    """
    total, free = (None, None) if data_directory is None else _disk(data_directory)
    return Pressure(
        load_5m=psutil.getloadavg()[1],
        swap_used_bytes=psutil.swap_memory().used,
        throttled_ratio=throttled_ratio(root, process),
        memory_stall_ratio=_stall_ratio(root / "proc/pressure/memory"),
        io_stall_ratio=_stall_ratio(root / "proc/pressure/io"),
        disk_bytes=total,
        disk_free_bytes=free,
    )


def _stall_ratio(file: Path) -> float | None:
    """Share of the last minute in which some task was stalled, from the line `some … avg60=1.23 …`."""
    try:
        words = file.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    figures = [word.removeprefix("avg60=") for word in words if word.startswith("avg60=")]
    return float(figures[0]) / 100 if figures else None


def _disk(data_directory: Path) -> tuple[int | None, int | None]:
    """Size of the file system and what is free; by its mount point where the folder is closed to us."""
    for place in (data_directory, _mount_point(data_directory)):
        try:
            usage = psutil.disk_usage(str(place))
        except OSError:
            continue
        return usage.total, usage.free
    return None, None


def _mount_point(folder: Path) -> Path:
    mounts = [Path(each.mountpoint) for each in psutil.disk_partitions(all=True)]
    above = [each for each in mounts if folder.is_relative_to(each)]
    return max(above, key=lambda each: len(each.parts), default=Path("/"))
