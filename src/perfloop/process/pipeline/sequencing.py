"""Outputs in the order in which their items came in, whatever the order in which they were made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any


class Sequencer:
    """Who brings the outputs of the first open ticket passes on all that wait behind it; nobody waits."""

    __slots__ = ("_first", "_is_passing", "_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, list[Any]] = {}
        self._first = 0
        self._is_passing = False

    def bring(self, ticket: int, outputs: list[Any]) -> Iterator[list[Any]]:
        """The outputs to pass on now, in order. Each is asked for when the one before was passed on."""
        with self._lock:
            self._waiting[ticket] = outputs
            if self._is_passing:
                return
            self._is_passing = True
        while True:
            with self._lock:
                if self._first not in self._waiting:
                    self._is_passing = False
                    return
                outputs = self._waiting.pop(self._first)
                self._first += 1
            yield outputs

    def left(self) -> int:
        """Outputs that wait for a ticket which may never come."""
        with self._lock:
            return sum(len(outputs) for outputs in self._waiting.values())
