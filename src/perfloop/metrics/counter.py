"""A counter that loses nothing under threads, without a lock on its path."""

from __future__ import annotations

import sys
from itertools import repeat
from operator import length_hint
from threading import RLock
from typing import Final

from perfloop.errors import InvalidInput

_TICKS: Final = sys.maxsize
_AMOUNTS_LIMIT: Final = 4096


class Counter:
    """Only ever goes up; made by a Registry, which also restarts it in a forked child.

    A step of one is a step of an iterator that yields the same object a fixed number of times: one atomic
    instruction under the GIL, half the price of `itertools.count`, which makes a new int each time. What the
    iterator has left tells how often it stepped. Other amounts go to a buffer, so that no lock can be held
    when a signal handler or a finaliser counts as well. Whole amounts stay whole numbers.
    """

    __slots__ = ("_amounts", "_lock", "_settling", "_sum", "_ticks")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start from zero; in a forked child only."""
        self._ticks = repeat(None, _TICKS)
        self._amounts: list[float] = []
        self._sum: float = 0
        # Reentrant, with a flag: a signal handler that reads while its own thread settles must neither wait
        # for itself nor add the chunk in hand twice.
        self._lock = RLock()
        self._settling = False

    def inc(self, amount: float | None = None) -> None:
        """Add an amount, or one when none is given.

        Raises:
            InvalidInput: the amount is negative or not finite.
        """
        if amount is None:
            for _ in self._ticks:
                return
        else:
            self._add(amount)

    def _add(self, amount: float) -> None:
        if not 0 <= amount <= sys.float_info.max:
            raise InvalidInput(f"a counter cannot go up by {amount}; use a gauge for what also goes down")
        self._amounts.append(amount)
        if len(self._amounts) >= _AMOUNTS_LIMIT:
            self._settle()

    def _settle(self) -> None:
        with self._lock:
            if self._settling:
                return
            self._settling = True
            chunk = self._amounts[: len(self._amounts)]
            del self._amounts[: len(chunk)]
            self._sum += sum(chunk)
            self._settling = False

    @property
    def value(self) -> float:
        """The sum of all amounts so far."""
        self._settle()
        return self._sum + (_TICKS - length_hint(self._ticks))
