"""Executes a zygote with next to nothing loaded: what is loaded before it, its workers wait for."""

from __future__ import annotations

import _socket
import os
import sys


def execute() -> tuple[int, int]:
    """A zygote that waits to be told what to load: its process id, and the descriptor that leads to it.

    It has a session of its own, so that Ctrl-C reaches the supervisor alone.
    """
    ours, theirs = _socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    command = [sys.executable, "-m", "perfloop.process.zygote", str(theirs.fileno())]
    pid = os.posix_spawn(sys.executable, command, os.environ, setsid=True)
    theirs.close()
    return pid, ours.detach()
