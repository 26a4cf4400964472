"""How much a limit brings, from the Windows seen at it, and how surely that is known."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from perfloop.control.window import Window

MOST_WINDOWS: Final = 16
"""Older ones go: what a sink did seconds ago, on a host that has others to serve, says little of now."""
TRIMMED_SHARE: Final = 0.25
"""Of the Windows, left out at either end; from three on at least one, so that one stall decides nothing."""


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

    def __init__(self, limit: int, windows: Iterable[tuple[float, float, float]] = ()) -> None:
        self.limit = limit
        self._windows = list(windows)

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, window: Window) -> None:
        """Take one more telling Window; beyond MOST_WINDOWS the oldest goes."""
        error = window.latencies.typical_error if window.latencies else 0.0
        self._windows.append((log_rate(window), error, float(window.completions)))
        del self._windows[:-MOST_WINDOWS]

    def joined(self, other: Estimate) -> Estimate:
        """What both say together, of one limit."""
        return Estimate(self.limit, [*self._windows, *other._windows])

    @property
    def value(self) -> float:
        """Logarithm of the items per second: the mean of the central half, weighted by calls."""
        central = self._central()
        return sum(rate * weight for rate, _, weight in central) / sum(weight for _, _, weight in central)

    @property
    def error(self) -> float:
        """Standard error of `value`; infinite before the first Window.

        The larger of what the calls say and what the Windows say among themselves: on a busy host the second,
        from the winsorised variance, as the deviation of the outermost would be all there is to see.
        """
        if not self._windows:
            return math.inf
        central = self._central()
        total = sum(weight for _, _, weight in central)
        share = len(central) / len(self._windows)
        within = math.sqrt(share * sum((error * weight) ** 2 for _, error, weight in central)) / total
        least, most = central[0][0], central[-1][0]
        winsorised = [min(max(rate, least), most) for rate, _, _ in self._windows]
        mean = math.fsum(winsorised) / len(winsorised)
        variance = math.fsum((rate - mean) ** 2 for rate in winsorised) / len(winsorised)
        return max(within, math.sqrt(variance / len(winsorised)) / share)

    def _central(self) -> list[tuple[float, float, float]]:
        if len(self._windows) < 3:
            return sorted(self._windows)
        trimmed = max(1, int(TRIMMED_SHARE * len(self._windows)))
        return sorted(self._windows)[trimmed:-trimmed]


def elasticity(one: Estimate, other: Estimate) -> float:
    """Per cent more items for one per cent more calls at once: 1 below the knee, 0 or less above it."""
    return (one.value - other.value) / math.log(one.limit / other.limit)


def elasticity_error(one: Estimate, other: Estimate) -> float:
    """Standard error of the elasticity."""
    return math.hypot(one.error, other.error) / abs(math.log(one.limit / other.limit))
