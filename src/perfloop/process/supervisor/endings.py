"""Why a process ended, in a sentence."""

from __future__ import annotations

from typing import Final

from perfloop.process.launching import WorkerExit
from perfloop.process.supervisor.restarting import signal_name
from perfloop.process.supervisor.running import Running

_LONG_BEFORE_S: Final = 1.0
"""What it wrote so long before its end may have been about something else."""
_SHELL: Final = {126: "its program cannot be run", 127: "its program is not found"}


def cause_of(running: Running, end: WorkerExit) -> str:
    """What ended it, and what it last said on its standard error."""
    told = _by(running, end)
    last = running.output.last_error
    if running.is_asked or not end.code or not last:
        return told
    before_s = running.exited_s - running.output.last_error_s
    when = f", {before_s:.0f} s before" if before_s >= _LONG_BEFORE_S else ""
    return f"{told}; last on its standard error{when}: {last}"


def _by(running: Running, end: WorkerExit) -> str:
    if running.killed_for:
        return f"by SIGKILL of the supervisor: {running.killed_for}"
    if end.code < 0:
        name = signal_name(-end.code)
        asked = ", as it was asked to" if running.is_asked else ""
        if end.is_out_of_memory:
            return f"by {name}, out of memory: {_short_of(running)}"
        return f"by {name}{asked}"
    if running.is_asked:
        return f"with exit code {end.code}, as it was asked to"
    why = _SHELL.get(end.code, "") if running.group.command else ""
    return f"with exit code {end.code}" + (f": {why}" if why else "")


def _short_of(running: Running) -> str:
    if running.has_own_memory:
        return "it had more than its memory_bytes; raise them, or see `perfloop leaks`"
    return "the system killed where this fleet runs; give that more, or bound the workers by memory_bytes"
