"""Imports modules in the zygote, and finds out which of them do not survive a fork."""

from __future__ import annotations

import gc
import os
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from typing import Final, NamedTuple

_FDS: Final = "/dev/fd"
_WORKER: Final = "perfloop.process.worker"
_KINDS: Final = ((stat.S_ISSOCK, "a socket"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISREG, "a file"))


class Loaded(NamedTuple):
    """How the import of a module went."""

    name: str
    took_s: float
    wrong: str
    """Nothing where it is as it should be."""
    is_spoiled: bool
    """Whether this process is no longer fit to be forked."""


def preload(modules: Iterable[str], say: Callable[[str], None]) -> list[Loaded]:
    """Import each, and say its name before.

    A module that starts a thread or opens something on import must not be preloaded: the thread does not
    exist in a forked worker, and what is open would be shared by all. The collector rests meanwhile (about
    15 % of the time), and what is loaded is kept out of its later rounds: with psycopg, redis, httpx and
    pydantic loaded, a worker's first full collection copied 22 MB without this, and 1.5 MB with it.
    """
    gc.disable()
    try:
        loaded = [_load(name, say) for name in modules]
        rehearse()
        return loaded
    finally:
        gc.enable()
        gc.freeze()
        _flush()


def rehearse() -> None:
    """Go through a worker's start, if what it needs is loaded."""
    worker = sys.modules.get(_WORKER)
    if worker is not None:
        worker.rehearse()


def _load(name: str, say: Callable[[str], None]) -> Loaded:
    say(name)
    before, threads_before = _open_fds(), threads()
    begun_s = time.perf_counter()
    wrong = ""
    try:
        import_module(name)
    except SystemExit:
        wrong = "ends the process when it is imported"
    except Exception as error:  # noqa: BLE001  # whatever a module raises is told, and its workers import it themselves
        wrong = f"cannot be imported: {type(error).__name__}: {error}"
    took_s = time.perf_counter() - begun_s
    spoiled = "starts a thread when it is imported" if _keeps_threads(threads_before) else _opened(before)
    return Loaded(name, took_s, spoiled or wrong, bool(spoiled))


def _keeps_threads(before: int) -> bool:
    """Whether there are more threads than before that a fork would leave behind.

    Libraries that know of forks, as the linear algebra below numpy, end their threads before one and start
    them again when they need them: whether this one does, a fork shows.
    """
    if threads() <= before:
        return False
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > before:
        return True
    _flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 and later warn of what is tried here
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return threads() > before


def threads() -> int:
    """Threads of this process, those included that Python does not know, where the system tells."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        threading = sys.modules.get("threading")
        return threading.active_count() if threading else 1


def _opened(before: dict[int, tuple[int, int]]) -> str:
    """What was opened since, in words; nothing where that is nothing but devices, as random numbers."""
    for number, seen in _open_fds().items():
        if before.get(number) == seen:
            continue
        with suppress(OSError):
            mode = os.fstat(number).st_mode
            if not stat.S_ISCHR(mode):
                return f"opens {_kind(mode, number)} when it is imported"
    return ""


def _kind(mode: int, number: int) -> str:
    kind = next((word for is_kind, word in _KINDS if is_kind(mode)), "a selector or the like")
    if kind == "a file":
        with suppress(OSError):
            return os.readlink(f"/proc/self/fd/{number}")
    return kind


def _open_fds() -> dict[int, tuple[int, int]]:
    """The descriptors of this process, each with what it is open on; none where the system does not tell."""
    found = {}
    with suppress(OSError):
        for name in os.listdir(_FDS):
            with suppress(OSError):
                looked = os.fstat(int(name))
                found[int(name)] = (looked.st_dev, looked.st_ino)
    return found


def _flush() -> None:
    """What modules have printed is not to be printed again by each fork."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
