"""How much a limit brings, from the Windows seen at it, and how surely that is known."""

from __future__ import annotations

import math
from typing import Final

from perfloop.control.window import Window

MOST_WINDOWS: Final = 64
"""Older ones go: what a sink did long ago says little of now."""
TRIM_FROM: Final = 5
"""With this many Windows the best and the worst are left out, so that one stall decides nothing."""


def log_rate(window: Window) -> float:
    """Logarithm of the items handled per second: Little's law, times the share that ended well.

    Steadier than counting ends, as it needs no call to begin or end within the Window.
    Raises ZeroDivisionError or ValueError for a Window without a completion; ask `is_telling` first.
    """
    ended_well = window.completions / (window.completions + window.failures)
    return math.log(window.throughput_per_s * ended_well * window.items / window.completions)


def is_telling(window: Window) -> bool:
    """Whether the Window says anything of its limit: it was used up, work waited, and calls ended well."""
    return window.is_saturated and window.completions > 0 and window.items > 0 and window.in_flight_mean > 0


class Estimate:
    """The rate at one limit, gathered over Windows."""

    __slots__ = ("_windows", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._windows: list[tuple[float, float, float]] = []

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, window: Window) -> None:
        """Take one more telling Window."""
        error = window.latencies.typical_error if window.latencies else 0.0
        self._windows.append((log_rate(window), error, float(window.completions)))
        del self._windows[:-MOST_WINDOWS]

    def forget(self) -> None:
        self._windows.clear()

    @property
    def value(self) -> float:
        """Logarithm of the items per second; weighted by calls, without the best and the worst Window."""
        rated = self._trimmed()
        return sum(rate * weight for rate, _, weight in rated) / sum(weight for _, _, weight in rated)

    @property
    def error(self) -> float:
        """Standard error of `value`; infinite before the first Window.

        The larger of what the calls say and what the Windows say among themselves: on a busy host the second.
        """
        if not self._windows:
            return math.inf
        rated = self._trimmed()
        total = sum(weight for _, _, weight in rated)
        within = math.sqrt(sum((error * weight) ** 2 for _, error, weight in rated)) / total
        if len(rated) < 3:
            return within
        mean = self.value
        spread = sum(weight * (rate - mean) ** 2 for rate, _, weight in rated) / total
        return max(within, math.sqrt(spread / (len(rated) - 1)))

    def _trimmed(self) -> list[tuple[float, float, float]]:
        if len(self._windows) < TRIM_FROM:
            return self._windows
        return sorted(self._windows)[1:-1]


def elasticity(lower: Estimate, upper: Estimate) -> float:
    """Per cent more items for one per cent more calls at once: 1 below the knee, 0 or less above it."""
    return (upper.value - lower.value) / math.log(upper.limit / lower.limit)


def elasticity_error(lower: Estimate, upper: Estimate) -> float:
    """Standard error of the elasticity."""
    return math.hypot(upper.error, lower.error) / math.log(upper.limit / lower.limit)
