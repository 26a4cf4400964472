"""How the benchmarks print what goes into docs/benchmarks.md: the host's line and Markdown tables."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types

QUIET_LOAD = 0.5
"""Load average per processor, over the last minute, up to which a host is called quiet."""


def host_line(*, server: str | None = None) -> str:
    """The machine, how busy it is by its own word, and the server's version."""
    cpus = psutil.cpu_count() or 1
    load_1m = psutil.getloadavg()[0]
    state = "quiet" if load_1m <= QUIET_LOAD * cpus else "loaded"
    memory_gib = psutil.virtual_memory().total / 2**30
    parts = [
        f"{cpus} x {_processor()}",
        f"{memory_gib:.0f} GiB",
        f"Python {platform.python_version()}",
        *([server] if server else []),
        f"{state} at the start (load {load_1m:.1f})",
    ]
    return f"Host: {', '.join(parts)}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def met(fulfilled: bool) -> str:
    """How a table says whether a target is reached."""
    return "met" if fulfilled else "**falls short**"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
