"""Starts a zygote: the first thing that a fleet does, so that it imports while the rest is made ready."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from perfloop.process.zygote import wire
from perfloop.process.zygote.executing import execute


class StartedZygote(NamedTuple):
    """A zygote that runs."""

    pid: int
    control: socket.socket


def execute_zygote() -> StartedZygote:
    """A zygote that waits to be told what to load."""
    pid, control = execute()
    return StartedZygote(pid, socket.socket(fileno=control))


def tell_zygote(zygote: StartedZygote, preload: Sequence[str], path: Sequence[str] = ()) -> None:
    """Have it load modules.

    Args:
        zygote: That was not told before.
        preload: Modules to load once.
        path: Folders in which modules are looked for before all others.
    """
    whole = [*path, *(each or os.getcwd() for each in sys.path)]
    zygote.control.sendall(wire.packed({"preload": list(preload), "path": whole}))


EARLY: Final[dict[tuple[tuple[str, ...], tuple[str, ...]], StartedZygote]] = {}
"""Zygotes that were started before it was known who uses them, by what they load."""


def start_zygote(preload: Sequence[str], path: Sequence[str] = ()) -> StartedZygote:
    """A zygote that loads modules, an early one if there is; the arguments are those of `tell_zygote`."""
    zygote = EARLY.pop((tuple(preload), tuple(path)), None)
    while EARLY:
        end_zygote(EARLY.popitem()[1])
    if zygote is None:
        zygote = execute_zygote()
        tell_zygote(zygote, preload, path)
    return zygote


def end_zygote(zygote: StartedZygote) -> int:
    """Kill it, if it still runs; its exit code, as far as this process was the one to be told it."""
    zygote.control.close()
    with suppress(ProcessLookupError):
        os.kill(zygote.pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(zygote.pid, 0)[1])
    except ChildProcessError:  # the first process of a container reaps whatever ends
        return -signal.SIGKILL
