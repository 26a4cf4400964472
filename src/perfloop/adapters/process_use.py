"""What one process uses of the machine."""

from __future__ import annotations

import psutil  # type: ignore[import-untyped]  # ships no types

from perfloop.model.value import Value


class ProcessUse(Value, frozen=True, kw_only=True):
    """Since the process began."""

    cpu_s: float
    rss_bytes: int


def process_use(pid: int) -> ProcessUse | None:
    """What it uses now; None where it is gone or belongs to somebody else."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return ProcessUse(cpu_s=times.user + times.system, rss_bytes=process.memory_info().rss)
    except psutil.Error:
        return None
