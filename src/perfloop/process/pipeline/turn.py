"""How a thread waits until another one calls it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

Wake: TypeAlias = Callable[[], object]

ENDLESS: Final = math.inf


class Turn:
    """A thread that waits; called to wake it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self) -> None:
        self._lock.release()

    def wait(self, timeout_s: float = ENDLESS) -> None:
        self._lock.acquire(timeout=-1 if timeout_s == ENDLESS else max(0.0, timeout_s))
