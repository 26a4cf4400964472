"""Effects and moments as text: a ratio becomes a percentage, so exact that it never reads -100 %."""

# ruff: noqa: RUF001, RUF002  the signs of minus and times are what this module is there to print

from __future__ import annotations

import math
from datetime import UTC, datetime

from perfloop.model.outcome import Effect
from perfloop.model.units import count_text, seconds_text

MINUS = "−"
METRIC_NAMES = {
    "mean_s": "Mean time per call",
    "p95_s": "95th percentile of the calls",
    "throughput_per_s": "Calls per second",
    "cpu_s": "CPU time per call",
}
_MOST_DIGITS = 4
FACTOR_FROM_RATIO = 3.0
"""From here on people read a factor more easily than a percentage."""


def change_text(ratio: float) -> str:
    """A ratio as the change it means.

    >>> change_text(0.16), change_text(1.042), change_text(0.0004), change_text(12.3), change_text(1.0)
    ('−84 %', '+4.2 %', '−99.96 %', '12.3×', '±0 %')
    """
    if ratio >= FACTOR_FROM_RATIO:
        return f"{_factor(ratio)}×"
    return f"{_signed(ratio, _digits(ratio))} %"


def effect_text(effect: Effect) -> str:
    """The change with its interval.

    >>> effect_text(Effect(metric="cpu_s", ratio=0.16, low=0.14, high=0.18, pairs=20))
    '−84 % [−86, −82]'
    """
    ratios = (effect.ratio, effect.low, effect.high)
    if max(ratios) >= FACTOR_FROM_RATIO:
        value, low, high = (_factor(each) for each in ratios)
        return f"{value}× [{low}, {high}]"
    digits = _common_digits(effect)
    value, low, high = (_signed(each, digits) for each in ratios)
    return f"{value} % [{low}, {high}]"


def moved_text(effect: Effect) -> str:
    """The change as a verb with its interval; for an effect whose interval leaves out 1.

    >>> moved_text(Effect(metric="mean_s", ratio=0.16, low=0.14, high=0.18, pairs=20))
    'fell by 84 % [82, 86]'
    """
    ratios = (effect.ratio, effect.low, effect.high)
    if max(ratios) >= FACTOR_FROM_RATIO:
        value, low, high = (_factor(each) for each in ratios)
        return f"rose to {value} times [{low}, {high}]"
    digits = _common_digits(effect)
    value, low, high = (f"{abs(each - 1) * 100:.{digits}f}" for each in ratios)
    if effect.ratio < 1:
        return f"fell by {value} % [{high}, {low}]"
    return f"rose by {value} % [{low}, {high}]"


def times_text(ratio: float) -> str:
    """A ratio as a factor, for axes and limits.

    >>> times_text(0.001), times_text(1.15), times_text(200.0)
    ('0.001×', '1.15×', '200×')
    """
    return f"{_factor(ratio)}×"


def value_text(metric: str, value: float) -> str:
    """A Metric's own value with its unit.

    >>> value_text("mean_s", 0.0113), value_text("throughput_per_s", 1235)
    ('11.3 ms', '1,235 /s')
    """
    if metric.endswith("_per_s"):
        return f"{count_text(value) if value >= 100 else f'{value:.3g}'} /s"
    return seconds_text(value)


def metric_text(metric: str) -> str:
    """What people call a Metric of the confirmation."""
    return METRIC_NAMES.get(metric, metric)


def amount_text(number: float) -> str:
    """A count per call, with about three digits.

    >>> amount_text(0), amount_text(2.345), amount_text(12345.6)
    ('0', '2.35', '12,346')
    """
    return count_text(number) if abs(number) >= 100 else f"{number:.3g}"


def moment_text(unix_s: float) -> str:
    """A moment in UTC.

    >>> moment_text(1.7e9)
    '2023-11-14 22:13 UTC'
    """
    return datetime.fromtimestamp(unix_s, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _digits(ratio: float) -> int:
    """Decimals of the percentage: one within 10 % of 0 and of -100 %, and more where it would read -100."""
    if abs(ratio - 1) < 0.0005:
        return 0
    if 0 < ratio < 0.1:
        return min(_MOST_DIGITS, max(1, math.ceil(-math.log10(ratio)) - 2))
    return 1 if abs(ratio - 1) < 0.0995 else 0


def _common_digits(effect: Effect) -> int:
    """So many that the ends of an interval with a width do not read the same."""
    digits = max(_digits(each) for each in (effect.ratio, effect.low, effect.high))
    while digits < _MOST_DIGITS and effect.low < effect.high:
        if _signed(effect.low, digits) != _signed(effect.high, digits):
            break
        digits += 1
    return digits


def _signed(ratio: float, digits: int) -> str:
    text = f"{abs(ratio - 1) * 100:.{digits}f}"
    if float(text) == 0:
        return f"±{text}"
    return f"{MINUS if ratio < 1 else '+'}{text}"


def _factor(ratio: float) -> str:
    return count_text(ratio) if ratio >= 100 else f"{ratio:.3g}"
