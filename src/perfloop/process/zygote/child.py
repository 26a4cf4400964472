"""What a forked worker does before its own code: it sheds what was its parent's.

Whatever can be found out before the fork is: each page that a worker writes to is its own from then on, and
to count through signals or variables is to write to the pages of each of them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn

CHANNEL: Final = "PERFLOOP_CHANNEL"
"""The environment variable in which a command finds the number of its channel's descriptor."""
CANNOT_BEGIN: Final = 125
"""The exit code of a worker for which its order could not be fulfilled."""
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_prctl: Final = getattr(ctypes.CDLL(None), "prctl", None)
"""Looked up before the fork; None where the system has none (macOS), and there the channel's end tells."""
_TIMES_OF_UUIDS: Final = ("_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7")
"""Up to Python 3.14. To look for them would be to copy the pages of all names of that module."""
_AS_PYTHON_HAS_THEM: Final[dict[int, Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGPIPE: signal.SIG_IGN,
    signal.SIGXFSZ: signal.SIG_IGN,
}


class Forked(NamedTuple):
    """What a fork finds itself to be."""

    order: dict[str, Any]
    fds: list[int]
    environment: dict[str, str | None]
    """What is to change in it."""
    signals: dict[int, Any]
    """That are to be reset."""
    parent: int


def changed_signals() -> dict[int, Any]:
    """Signals that are not as Python has them, and how it has them; asked before the fork."""
    found = {}
    for each in signal.valid_signals():
        given = _AS_PYTHON_HAS_THEM.get(each, signal.SIG_DFL)
        if signal.getsignal(each) not in (given, None):
            found[int(each)] = given
    return found


def changed_environment(wanted: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str | None]:
    """What has to change for the own environment to be the wanted one, None to go; asked before the fork."""
    gone = {name: None for name in own if name not in wanted}
    return gone | {name: text for name, text in wanted.items() if own.get(name) != text}


def shed(name: str, parent: int, signals: Mapping[int, Any]) -> None:
    """A session, signals, random numbers, a name and a death of its own; again, only the name is another."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    die_with_parent(parent)
    call_itself(name)
    signal.set_wakeup_fd(-1)
    for each, given in signals.items():
        signal.signal(each, given)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _renew_identity()


def die_with_parent(parent: int) -> None:
    """Be killed when the parent is; at once where it is gone already."""
    _die_with(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def call_itself(name: str) -> None:
    """Be seen under a name by who lists processes, where the system has that."""
    if _prctl is not None:
        _prctl(_PR_SET_NAME, name.encode()[:15])


def outlive_parent() -> None:
    """Be told of the parent's end by nothing but the end of its socket."""
    _die_with(0)


def _die_with(number: int) -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number)


def _renew_identity() -> None:
    """What is drawn or counted per process. `random` and what OpenSSL draws renew themselves at a fork."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    uuid = sys.modules.get("uuid")
    for name in _TIMES_OF_UUIDS:
        if hasattr(uuid, name):
            setattr(uuid, name, None)


def place(order: Mapping[str, Any], environment: Mapping[str, str | None], stdout: int, stderr: int) -> None:
    """Take the order's output, environment, folder and limits."""
    for given, number in ((stdout, 1), (stderr, 2)):
        os.dup2(given, number)
        os.close(given)
    for name, text in environment.items():
        if text is None:
            del os.environ[name]
        else:
            os.environ[name] = text
    if "TZ" in environment:
        time.tzset()
    try:
        if order["folder"]:
            os.chdir(order["folder"])
        limit(order["limits"])
    except (OSError, ValueError) as error:
        refuse(CANNOT_BEGIN, f"{order['name']} cannot begin: {error}")


def limit(limits: Mapping[str, Any]) -> None:
    """Take limits upon this process and all that it starts.

    Raises:
        OSError: It has no right to, or the system has no such processor.
        ValueError: The system has no such limit, or less than it.
    """
    if limits["nice"]:
        os.nice(limits["nice"])
    if limits["cpus"]:
        if not hasattr(os, "sched_setaffinity"):
            raise ValueError("this system lets nobody choose processors; leave cpus out")
        os.sched_setaffinity(0, limits["cpus"])
    if limits["rlimits"]:
        resource = import_module("resource")
        for name, most in limits["rlimits"].items():
            number = getattr(resource, f"RLIMIT_{name}", None)
            if number is None:
                raise ValueError(f"this system has no limit {name}")
            resource.setrlimit(number, (most, resource.getrlimit(number)[1]))


def execute(command: list[str], channel: int) -> NoReturn:
    """Become another program, which inherits the channel."""
    os.set_inheritable(channel, True)
    for each in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(each, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        refuse(code, f"cannot run {command[0]}: {error.strerror}")


def refuse(code: int, sentence: str) -> NoReturn:
    """End before any code of the worker's own was run, and say why where it would write."""
    os.write(2, f"perfloop: {sentence}\n".encode())
    os._exit(code)
