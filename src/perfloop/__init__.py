"""Make a Python service on PostgreSQL and Redis faster, and prove it.

The names below are loaded when they are first used: a service that only counts with `perfloop.metrics`
does not load a database driver for it.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # what is loaded here is loaded before a fleet's workers: typing alone takes some 5 ms
if TYPE_CHECKING:
    from typing import Any

    from perfloop.adapters.store import Journal
    from perfloop.errors import PerfloopError
    from perfloop.model.analysis import Analysis
    from perfloop.tune.analysis import analyze_target
    from perfloop.tune.apply import apply_study
    from perfloop.tune.observer import Observer, Silence
    from perfloop.tune.recover import recover
    from perfloop.tune.study import StudyOptions, optimize
    from perfloop.tune.undo import undo_study

    __version__: str

__all__ = [
    "Analysis",
    "Journal",
    "Observer",
    "PerfloopError",
    "Silence",
    "StudyOptions",
    "__version__",
    "analyze_target",
    "apply_study",
    "optimize",
    "recover",
    "undo_study",
]

_HOMES = {
    "Analysis": "perfloop.model.analysis",
    "Journal": "perfloop.adapters.store",
    "Observer": "perfloop.tune.observer",
    "PerfloopError": "perfloop.errors",
    "Silence": "perfloop.tune.observer",
    "StudyOptions": "perfloop.tune.study",
    "analyze_target": "perfloop.tune.analysis",
    "apply_study": "perfloop.tune.apply",
    "optimize": "perfloop.tune.study",
    "recover": "perfloop.tune.recover",
    "undo_study": "perfloop.tune.undo",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("perfloop")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
