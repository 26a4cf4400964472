"""The exact interval of a share of trials, after Clopper and Pearson (1934): sure near 0 and 1, if wide."""

from __future__ import annotations

import math
from collections.abc import Callable


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share, by bisection on the binomial tail.

    >>> [round(end, 4) for end in clopper_pearson(0, 300)]
    [0.0, 0.0122]
    """
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _bisect(lambda p: _at_least(successes, trials, p) < tail)
    high = 1.0 if successes == trials else _bisect(lambda p: 1 - _at_least(successes + 1, trials, p) > tail)
    return low, high


def _at_least(successes: int, trials: int, p: float) -> float:
    return math.fsum(
        math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes, trials + 1)
    )


def _bisect(holds_below: Callable[[float], bool]) -> float:
    """The place in (0, 1) up to which the condition holds."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if holds_below(middle) else (low, middle)
    return (low + high) / 2
