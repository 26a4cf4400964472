"""The exact Wilcoxon signed-rank test, its confidence bounds and the Hodges-Lehmann estimate.

Source: Wilcoxon (1945) for the test; Tukey (1949) for counting it as positive Walsh averages; Hodges and
Lehmann (1963) for the estimate; Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods",
chapter 3, for the bounds that invert the test.

What it stands on: every difference is `shift + noise`, where the noise is as likely positive as negative,
given its size. A pair of slots whose order was drawn by a fair coin has this property by construction,
whatever drifts underneath: swapping the order flips the sign of the noise and keeps its size. No shape of
the noise is assumed, neither equal variances nor independence of sizes.

The statistic W is the number of Walsh averages (d[i] + d[j]) / 2, i <= j, above zero; without ties that
is the sum of the ranks of the positive differences. Test and bounds are one thing: the lower bound at a
level is above zero exactly when the one-sided p-value is at most that level.

Zeros and ties: a Walsh average of exactly zero counts as not positive. This is the worst of all ways to
break the ties and to sign the zeros, and any way that ignores the signs has the exact null distribution,
so the p-value can only be too large and the bounds too wide. Nothing is dropped, so the number of pairs,
and with it the critical value, stays what was planned.

Regimes: 1 to 500 differences. The distribution is exact for up to 53 (every probability is a multiple of
2**-53) and right to about 1e-14, relatively, above. Below log2(1 / level) pairs no bound exists; it is
infinite.

Rejected: the normal approximation (0.0047 instead of 0.0029 at 10 pairs); dropping zeros
(Wilcoxon) and mid-ranks (both cut the test loose from the bounds); the paired t-test (outlier slots cost
it a third of its power here); Mann-Whitney on unpaired slots (drift eats its power); Brunner-Munzel
(undefined when the arms separate completely, which is what the best improvements do); a percentile
bootstrap of the median (too narrow below about 20 pairs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from perfloop.errors import InvalidValue

MAX_DIFFERENCES = 500

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftBounds:
    """Where the shift lies, in the unit of the differences; `low` and `high` are one-sided bounds."""

    low: float
    estimate: float
    high: float


def p_value(differences: Sequence[float]) -> float:
    """Return the one-sided p-value of "the shift is not above zero".

    Raises:
        InvalidValue: no differences, more than 500, or one that is not finite.
    """
    averages = _walsh_averages(differences)
    at_or_below_zero = int(np.count_nonzero(averages <= 0.0))
    return float(_null_cumulative(len(differences))[at_or_below_zero])


def lower_bound(differences: Sequence[float], level: float) -> float:
    """Return the value that the shift exceeds with confidence `1 - level`; minus infinity for too few pairs.

    Raises:
        InvalidValue: as `p_value`, or a level outside 0 to 0.5.
    """
    return shift_bounds(differences, lower_level=level, upper_level=level).low


def upper_bound(differences: Sequence[float], level: float) -> float:
    """Return the value that the shift stays below with confidence `1 - level`; infinity for too few pairs.

    Raises:
        InvalidValue: as `p_value`, or a level outside 0 to 0.5.
    """
    return shift_bounds(differences, lower_level=level, upper_level=level).high


def hodges_lehmann(differences: Sequence[float]) -> float:
    """Return the median of the Walsh averages: the shift at which the signed ranks balance.

    Raises:
        InvalidValue: as `p_value`.
    """
    return _middle(np.sort(_walsh_averages(differences)))


def shift_bounds(differences: Sequence[float], *, lower_level: float, upper_level: float) -> ShiftBounds:
    """Return both one-sided bounds, each at its own level, and the estimate, from one sort.

    Raises:
        InvalidValue: as `p_value`, or a level outside 0 to 0.5.
    """
    averages = np.sort(_walsh_averages(differences))
    below = cut_count(len(differences), lower_level)
    above = cut_count(len(differences), upper_level)
    return ShiftBounds(
        low=float(averages[below - 1]) if below else float("-inf"),
        estimate=_middle(averages),
        high=float(averages[-above]) if above else float("inf"),
    )


@lru_cache(maxsize=1024)
def cut_count(pairs: int, level: float) -> int:
    """Return k such that the k-th smallest (largest) Walsh average is the exact lower (upper) bound.

    k - 1 is the critical value of the tables: the largest w with P(W <= w) <= level. 0 means that so few
    pairs cannot reach the level.

    Raises:
        InvalidValue: the number of pairs is outside 1 to 500 or the level outside 0 to 0.5.
    """
    if not 0.0 < level < 0.5:
        raise InvalidValue(f"a one-sided level lies between 0 and 0.5, not at {level}")
    return int(np.searchsorted(_null_cumulative(pairs), level, side="right"))


@lru_cache(maxsize=128)
def _null_cumulative(pairs: int) -> _Floats:
    """Return P(W <= w) for w from 0 to pairs * (pairs + 1) / 2, by adding one rank after the other.

    Each rank is in W or not, by a fair coin. Halving loses no bit, and all terms are positive, so the
    rounding error stays below `pairs` units in the last place.
    """
    _check_count(pairs)
    probability = np.zeros(pairs * (pairs + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, pairs + 1):
        probability[rank:] += probability[:-rank].copy()
        probability *= 0.5
    cumulative = np.minimum(np.cumsum(probability), 1.0)
    cumulative.setflags(write=False)
    return cumulative


@lru_cache(maxsize=128)
def _pair_indices(pairs: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    return np.triu_indices(pairs)


def _walsh_averages(differences: Sequence[float]) -> _Floats:
    """Return the averages of all pairs i <= j, unsorted; halves are added, so that no sum overflows."""
    _check_count(len(differences))
    halves = np.asarray(differences, dtype=np.float64) * 0.5
    if not np.isfinite(halves).all():
        raise InvalidValue("a difference is not finite; void the pair and measure it again")
    first, second = _pair_indices(len(differences))
    averages: _Floats = halves[first] + halves[second]
    return averages


def _middle(ordered: _Floats) -> float:
    """Return the median of sorted values; `np.median` would sort them once more."""
    half = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[half])
    return float(ordered[half - 1] + ordered[half]) * 0.5


def _check_count(pairs: int) -> None:
    if not 1 <= pairs <= MAX_DIFFERENCES:
        raise InvalidValue(
            f"{pairs} differences given, 1 to {MAX_DIFFERENCES} can be ranked; pair slots, not requests"
        )
