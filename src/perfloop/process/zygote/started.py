"""Starts a zygote: the first thing that a fleet does, so that it imports while the rest is made ready."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

from perfloop.process.zygote import wire


class StartedZygote(NamedTuple):
    """A zygote that was told what to preload."""

    pid: int
    control: socket.socket


def start_zygote(preload: Sequence[str]) -> StartedZygote:
    """Execute a zygote in a session of its own, so that Ctrl-C reaches the supervisor alone."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    command = [sys.executable, "-m", "perfloop.process.zygote", str(theirs.fileno())]
    pid = os.posix_spawn(sys.executable, command, os.environ, setsid=True)
    theirs.close()
    wire.send(ours, {"preload": list(preload), "path": [each or os.getcwd() for each in sys.path]})
    return StartedZygote(pid, ours)
