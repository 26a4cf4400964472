"""The duty of process 1 in a container: it inherits processes whose parents are gone, and reaps them."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_OWN_S: Final = 1.0
"""In which whoever started a process reaps it; one that is still there is an orphan."""


class Orphans:
    """Reaps, on Linux, ended children that nobody in this process waits for."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Listen for ends of children, in the running loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._look_later)

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_OWN_S, self._look)

    def _look(self) -> None:
        self._timer = None
        ended = {pid for pid in _children() if _has_ended(pid)}
        for pid in ended & self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = ended - self._seen
        if self._seen:
            self._look_later()


def _children() -> set[int]:
    """Of all threads of this process."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
