"""The ratio of two means of which only counts, sums and sums of squares were kept.

A server's counters tell of each window how many calls there were, their mean time and its standard
deviation, and nothing of single calls.

Source: the delta method on the logarithm (Fieller's problem for independent means): log(b / a) is about
normal with variance (sd_a / a)^2 / n_a + (sd_b / b)^2 / n_b.

Assumptions: the calls are independent. They are not: neighbours on the machine slow whole minutes. So the
interval is a lower limit of the doubt, and a decision needs a margin on top of it.

Regimes: at least about 20 calls a window, where skewed times (lognormal, sigma 1) are covered in 89 instead
of 95 of 100 cases; with 200 calls in 95. A mean that a few huge calls dominate has a large deviation and
so a wide interval, which is what is wanted here.

Rejected: Welch's t on the difference (a ratio is what is decided on), and a fixed factor alone (it takes
ten calls for as firm as ten thousand).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from perfloop.errors import InvalidValue
from perfloop.stats.interval import RatioInterval


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOf:
    """A mean of `count` values above 0, with their standard deviation."""

    mean: float
    deviation: float
    count: int

    @property
    def relative_variance(self) -> float:
        """Variance of the mean over the mean's square."""
        return (self.deviation / self.mean) ** 2 / self.count


def ratio_of_means(before: MeanOf, after: MeanOf, *, confidence: float = 0.95) -> RatioInterval:
    """The interval of after over before.

    >>> steady = MeanOf(mean=10.0, deviation=5.0, count=100)
    >>> found = ratio_of_means(steady, MeanOf(mean=20.0, deviation=10.0, count=100))
    >>> round(found.low, 2), round(found.estimate, 2), round(found.high, 2)
    (1.74, 2.0, 2.3)

    Raises:
        InvalidValue: a mean that is not above 0, or no values.
    """
    if before.count < 1 or after.count < 1 or not (before.mean > 0 and after.mean > 0):
        raise InvalidValue("a ratio of means needs values in both windows, and means above 0")
    center = math.log(after.mean / before.mean)
    spread = math.sqrt(before.relative_variance + after.relative_variance)
    reach = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * spread
    return RatioInterval(
        estimate=math.exp(center),
        low=math.exp(center - reach),
        high=math.exp(center + reach),
        confidence=confidence,
    )
