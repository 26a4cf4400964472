"""A value that goes up and down."""

from __future__ import annotations

from threading import RLock


class Gauge:
    """The last value set, moved by `inc` and `dec`; made by a Registry, restarted in a forked child."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start from zero; in a forked child only."""
        # Reentrant, so that a finaliser that moves the same gauge does not wait for itself.
        self._lock = RLock()
        self._value = 0.0

    def set(self, value: float) -> None:
        with self._lock:
            self._value = float(value)

    def inc(self, amount: float = 1.0) -> None:
        with self._lock:
            self._value += amount

    def dec(self, amount: float = 1.0) -> None:
        with self._lock:
            self._value -= amount

    @property
    def value(self) -> float:
        return self._value
