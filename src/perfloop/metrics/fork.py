"""What must start afresh in a forked child.

A child inherits buffers full of its parent's observations, which the parent will count as well, and locks
that a thread held which does not exist in the child. Whoever registers here is told to start over, before
any other code runs in the child. The parent is left alone.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Final, Protocol
from weakref import WeakValueDictionary


class Restartable(Protocol):
    """Something that owns buffers, locks or threads."""

    def restart(self) -> None:
        """Drop what was inherited; called in the child, where only the calling thread exists."""


# Keyed by a running number, so that they restart in the order in which they were made: a registry before the
# thread that drains it.
_live: Final[WeakValueDictionary[int, Restartable]] = WeakValueDictionary()
_numbers: Final = count()


def restart_in_child(thing: Restartable) -> None:
    """Have `thing.restart()` called in every child forked from now on, as long as the thing is alive."""
    _live[next(_numbers)] = thing


def _restart_all() -> None:
    for _, thing in sorted(_live.items()):
        thing.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_all)
