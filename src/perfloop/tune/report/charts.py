"""Where things stand on the charts' axes, in percent of the width, so that a chart fits every screen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from perfloop.model.outcome import Effect

_MARGIN_PERCENT = 5.0
"""Kept free at both ends, for marks and for the labels of ticks."""
_FARTHEST_RATIO = 30.0
"""An interval that reaches farther beyond all estimates than this ends at the edge."""
_MOST_TICKS = 6
_NARROW_RATIO = 8.0
"""An axis whose ends are closer than this has ticks at equal steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogScale:
    """A logarithmic axis from `low` to `high`, of ratios or of seconds."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_ratio: bool

    def at(self, value: float) -> float:
        """Where a value stands, in percent; values beyond the ends stand at the ends.

        >>> LogScale(low=0.1, high=10.0, ticks=(), is_ratio=True).at(1.0)
        50.0
        """
        if value <= self.low:
            return _MARGIN_PERCENT
        part = min(1.0, math.log(value / self.low) / math.log(self.high / self.low))
        return round(_MARGIN_PERCENT + part * (100 - 2 * _MARGIN_PERCENT), 2)


def ratio_scale(effects: Iterable[Effect]) -> LogScale:
    """An axis that holds 1, all estimates, and their intervals as far as that leaves the rest readable."""
    shown = [each for each in effects if each.ratio > 0]
    least = min((each.ratio for each in shown), default=1.0)
    most = max((each.ratio for each in shown), default=1.0)
    lows = [max(each.low, least / _FARTHEST_RATIO) for each in shown]
    highs = [min(each.high, most * _FARTHEST_RATIO) for each in shown]
    return _scale(min([*lows, 0.9]), max([*highs, 1.1]), is_ratio=True)


def seconds_scale(times_s: Iterable[float]) -> LogScale:
    """An axis for times above 0."""
    shown = [value for value in times_s if value > 0] or [1.0]
    return _scale(min(shown) / 1.1, max(shown) * 1.1, is_ratio=False)


def _scale(low: float, high: float, *, is_ratio: bool) -> LogScale:
    return LogScale(low=low, high=high, ticks=_ticks(low, high), is_ratio=is_ratio)


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """The finest steps that give not too many; 1 is always among them, if it is on the axis."""
    unit = 10.0 ** math.floor(math.log10(high))
    if high / low < _NARROW_RATIO:
        steps = [unit * part for part in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)]
        choices = [_multiples(low, high, step) for step in steps]
    else:
        choices = [_figures(low, high, figures) for figures in ((1, 2, 5), (1, 3), (1,))]
    fitting = [ticks for ticks in choices if len(ticks) <= _MOST_TICKS]
    return fitting[0] if fitting else _spread(choices[-1])


def _multiples(low: float, high: float, step: float) -> tuple[float, ...]:
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    return tuple(float(f"{number * step:.3g}") for number in numbers)


def _figures(low: float, high: float, figures: tuple[int, ...]) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{figure}e{decade}") for decade in decades for figure in figures]
    return tuple(value for value in values if low <= value <= high)


def _spread(powers: tuple[float, ...]) -> tuple[float, ...]:
    """Every second, third … power of ten, counted from 1."""
    every = math.ceil(len(powers) / _MOST_TICKS)
    return tuple(value for value in powers if round(math.log10(value)) % every == 0)
