"""Imports modules in the zygote, and refuses those that do not survive a fork."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path


def preload(modules: Iterable[str]) -> list[tuple[str, float, str]]:
    """Import each; its name, how long it took in seconds, and what is wrong with it, or nothing.

    A module that starts a thread or opens a socket on import must not be preloaded: the thread does not exist
    in a forked worker, and the socket would be shared by all. The collector rests meanwhile (about 15 % of
    the time), and what is loaded is kept out of its later rounds, so that workers go on sharing its pages.
    """
    gc.disable()
    try:
        return [(name, *_load(name)) for name in modules]
    finally:
        gc.enable()
        gc.freeze()


def _load(name: str) -> tuple[float, str]:
    begun_s = time.perf_counter()
    sockets = _sockets()
    try:
        import_module(name)
    except Exception as error:  # noqa: BLE001  # whatever a module raises is told, and its workers import it themselves
        return time.perf_counter() - begun_s, f"cannot be imported: {type(error).__name__}: {error}"
    took_s = time.perf_counter() - begun_s
    if threads() > 1:
        return took_s, "starts a thread when it is imported"
    if _sockets() > sockets:
        return took_s, "opens a socket when it is imported"
    return took_s, ""


def threads() -> int:
    """Threads of this process, those included that Python does not know; 1 where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        threading = sys.modules.get("threading")
        return threading.active_count() if threading else 1


def _sockets() -> int:
    """Open sockets of this process; 0 where that cannot be told."""
    try:
        return sum(_is_socket(each) for each in Path("/proc/self/fd").iterdir())
    except OSError:
        return 0


def _is_socket(link: Path) -> bool:
    try:
        return os.readlink(link).startswith("socket:")
    except OSError:
        return False
