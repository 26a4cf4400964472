"""What a forked worker does before its own code: it sheds what was its parent's."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_prctl: Final = getattr(ctypes.CDLL(None), "prctl", None)
"""Looked up before the fork; None where the system has none (macOS), and there the channel's end tells."""


def run(order: Mapping[str, Any], fds: Mapping[str, int], parent: int) -> int:
    """Become the worker of this order, and do its work; its exit code."""
    shed(parent)
    place(order, fds)
    module, _, name = order["target"].partition(":")
    target = getattr(import_module(module), name)
    code = target(order["name"], fds["channel"], *order["arguments"])
    return code if isinstance(code, int) else 0


def shed(parent: int) -> None:
    """A session, signals, random numbers and a death of its own."""
    os.setsid()
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(parent)
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()


def die_with_parent(parent: int) -> None:
    """Be killed when the parent is; at once where it is gone already."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def place(order: Mapping[str, Any], fds: Mapping[str, int]) -> None:
    """Take the order's output, folder and environment."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if name in fds:
            os.dup2(fds[name], number)
            os.close(fds[name])
    if order["folder"]:
        os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
