"""Where backends on this machine run, and whether they are done: what makes readings of their CPU time alike.

A cheap statement costs its backend up to twice as much CPU time on another processor than its client's,
where each message takes an interrupt and a wake-up. The kernel leaves a backend where it is for seconds, so
two backends that do the same differ by a third, for a whole trial, in whichever direction it fell. On one
common processor they agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

ASLEEP_DEADLINE_S = 0.02
_POLL_S = 50e-6


def processors() -> tuple[int, ...]:
    """Numbers of the processors that this process may use; empty where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def share_processor(pids: Iterable[int], processor: int) -> bool:
    """Bind these processes to one processor; False where this system or user may not."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    try:
        for pid in pids:
            os.sched_setaffinity(pid, {processor})
    except OSError:
        return False
    return True


def wait_until_asleep(pid: int, *, deadline_s: float = ASLEEP_DEADLINE_S) -> None:
    """Wait until a backend that has answered also rests, or the deadline passes.

    The client reads the answer while the backend still tidies up; the kernel books that time when it sleeps.
    Polled with pauses, because the backend may be waiting for the very processor that would poll.
    """
    give_up_s = time.perf_counter() + deadline_s
    while _is_running(pid) and time.perf_counter() < give_up_s:
        time.sleep(_POLL_S)


def _is_running(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split(maxsplit=1)[0] == "R"
