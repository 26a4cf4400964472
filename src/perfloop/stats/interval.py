"""Summaries of each arm over its slots (mean, throughput, p95), and their intervals by a bootstrap.

Source: Efron's percentile interval with the levels widened for small samples after
Hesterberg (2015), "What Teachers Should Know about the Bootstrap": the normal quantile is replaced by
that of Student's t and stretched by sqrt(n / (n - 1)), from Cornish and Fisher's series.

Assumptions: the pairs are exchangeable; the two slots of a pair stay together, so that what they share
cancels. The unit drawn is the slot, never the request: requests of one slot share its noise, and drawing
them singly called 8 to 88 % of A/A comparisons significant at 1 %.

Regimes: at least 5 pairs; the statistic must be smooth (a mean, a ratio of sums, a geometric mean of slot
percentiles). Below 10 pairs prefer the exact interval (`paired`).

Rejected: bootstrapping a median or any other percentile of few slots (takes few distinct values, too
narrow below 20 pairs); BCa (corrects skewness, not the narrowness that small samples suffer from); a t
interval of raw values (latencies are skewed; it may include negative ratios).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import TypeVar

from perfloop.errors import InvalidValue
from perfloop.stats.ratio import cost_ratio, log_ratio

_SlotT = TypeVar("_SlotT")

MIN_BOOTSTRAP_PAIRS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioInterval:
    """Treatment over control, with a two-sided interval at `confidence`."""

    estimate: float
    low: float
    high: float
    confidence: float


def bootstrap_interval(
    control: Sequence[_SlotT],
    treatment: Sequence[_SlotT],
    statistic: Callable[[Sequence[_SlotT]], float],
    *,
    rng: Random,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> RatioInterval:
    """Return statistic(treatment) / statistic(control) with an interval from redrawn pairs of slots.

    Args:
        control: one summary per slot, whatever `statistic` reads.
        treatment: the same slots' partners, in the same order.
        statistic: positive; `ratio_of_sums` for means and throughput, `geometric_mean` for slot percentiles.
        rng: seeded by the caller; the same seed gives the same interval.
        resamples: 2 000 fix the ends of a 95 % interval to a few per cent of its width.
        confidence: two-sided.

    Raises:
        InvalidValue: arms of unequal length, fewer than 5 pairs, or a statistic that is not positive.
    """
    pairs = len(control)
    if pairs != len(treatment) or pairs < MIN_BOOTSTRAP_PAIRS:
        raise InvalidValue(
            f"{pairs} control and {len(treatment)} treatment slots given; "
            f"at least {MIN_BOOTSTRAP_PAIRS} pairs are needed"
        )
    drawn: list[float] = []
    for _ in range(resamples):
        picks = rng.choices(range(pairs), k=pairs)
        drawn.append(
            log_ratio(
                statistic([control[pick] for pick in picks]), statistic([treatment[pick] for pick in picks])
            )
        )
    tail = _widened_level((1.0 - confidence) / 2.0, pairs)
    return RatioInterval(
        estimate=cost_ratio(log_ratio(statistic(control), statistic(treatment))),
        low=cost_ratio(quantile(drawn, 1.0 - tail)),
        high=cost_ratio(quantile(drawn, tail)),
        confidence=confidence,
    )


def ratio_of_sums(slots: Sequence[tuple[float, float]]) -> float:
    """Return sum of the first over sum of the second: (total time, operations) or (operations, seconds).

    Raises:
        InvalidValue: the second parts add up to zero.
    """
    divisor = math.fsum(slot[1] for slot in slots)
    if not divisor > 0.0:
        raise InvalidValue("the slots hold nothing to divide by; a slot needs operations and a length")
    return math.fsum(slot[0] for slot in slots) / divisor


def geometric_mean(values: Sequence[float]) -> float:
    """Return the mean of positive values on the log scale, where a doubling and a halving cancel.

    Raises:
        InvalidValue: no values, or one that is not positive and finite.
    """
    if not len(values) or not all(0.0 < value < math.inf for value in values):
        raise InvalidValue("a geometric mean needs values that are positive and finite, and at least one")
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def quantile(values: Sequence[float], q: float) -> float:
    """Return the q-quantile, interpolated linearly between the order statistics around 1 + (n - 1) * q.

    This is definition 7 of Hyndman and Fan (1996), which numpy, R and spreadsheets use by default.

    Raises:
        InvalidValue: no values, a value that is not a number, or q outside 0 to 1.
    """
    if not 0.0 <= q <= 1.0 or not len(values):
        raise InvalidValue(
            f"quantile {q} of {len(values)} values; q lies between 0 and 1 and one value is needed"
        )
    if any(map(math.isnan, values)):
        raise InvalidValue("a value is not a number; it has no rank")
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = ordered[math.floor(position)]
    high = ordered[math.ceil(position)]
    return low if low == high else low + (high - low) * (position % 1.0)


def _widened_level(level: float, pairs: int) -> float:
    """Return the bootstrap's tail level that stands for Student's t with `pairs - 1` degrees of freedom."""
    normal = NormalDist()
    z = normal.inv_cdf(1.0 - level)
    freedom = pairs - 1
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return normal.cdf(-student * math.sqrt(pairs / freedom))
