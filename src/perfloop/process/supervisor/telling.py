"""Where a fleet tells what happens, as long as nobody says otherwise: the log of Python, `perfloop.fleet`.

Where a program sets up no logging, Python writes warnings to the standard error.
"""

from __future__ import annotations

import logging
from typing import Final

from perfloop.process.supervisor.events import Event

_WARNINGS: Final = frozenset(
    {
        "gave-up",
        "hung",
        "launch-failed",
        "leak-alarm",
        "message-given-up",
        "messages-lost",
        "not-limited",
        "not-preloaded",
        "not-started",
        "recycle-failed",
        "restart-stopped",
        "restarting",
        "trim-failed",
        "untended",
    }
)
_log = logging.getLogger("perfloop.fleet")


def log_line(name: str, stream: str, line: str) -> None:
    """A worker wrote a line: a warning where it is on its standard error."""
    _log.log(logging.WARNING if stream == "err" else logging.INFO, "%s %s | %s", name, stream, line)


def log_event(event: Event) -> None:
    """Something happened: a warning where it was not asked for."""
    level = logging.WARNING if event.kind in _WARNINGS else logging.INFO
    if _log.isEnabledFor(level):
        _log.log(level, "%s: %s", event.name, event.text())
