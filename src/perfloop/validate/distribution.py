"""The values of a column as pg_stats describes them, to draw from: by frequency, or by order.

All draws take a position in [0, 1) instead of a generator, so that the caller can stratify them:
positions spread evenly give light and heavy values in their true proportion, even with five draws.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from perfloop.model.target import ColumnStatistics
from perfloop.model.value import Value


class Distribution(Value, frozen=True, kw_only=True):
    """Values that are in the table (never interpolated ones), with the share of rows each stands for."""

    values: tuple[str, ...]
    """The most common first, then those between in order."""
    cumulated: tuple[float, ...]
    """Running sums of the shares, in that order."""
    ordered: tuple[str, ...]
    """The same values by size."""
    ordered_cumulated: tuple[float, ...]

    def typical(self, position: float) -> str:
        """The value of a row: near position 0 the most common ones, near 1 the rare."""
        return self.values[_place(self.cumulated, position)]

    def quantile(self, position: float) -> str:
        """The value below which that share of the rows lies."""
        return self.ordered[_place(self.ordered_cumulated, position)]

    @property
    def largest(self) -> str:
        return self.ordered[-1]


def distribution(values: Sequence[str], weights: Sequence[float]) -> Distribution:
    """The Distribution of values of any weight above 0."""
    order = sorted(range(len(values)), key=lambda index: order_key(values[index]))
    return Distribution(
        values=tuple(values),
        cumulated=tuple(accumulate(weights)),
        ordered=tuple(values[index] for index in order),
        ordered_cumulated=tuple(accumulate(weights[index] for index in order)),
    )


def _place(cumulated: tuple[float, ...], position: float) -> int:
    return min(bisect_right(cumulated, position * cumulated[-1]), len(cumulated) - 1)


def order_key(value: str) -> tuple[int, float, str]:
    """Orders numbers as numbers; ISO dates and times order as text."""
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value


def from_statistics(statistics: ColumnStatistics | None, *, padded: bool = False) -> Distribution | None:
    """What pg_stats knows of the column; None where it knows no values. `char(n)` is padded with spaces."""
    if statistics is None:
        return None
    common, bounds = statistics.common_values, statistics.histogram
    if padded:
        common, bounds = tuple(map(str.rstrip, common)), tuple(map(str.rstrip, bounds))
    if not common and not bounds:
        return None
    ratios = statistics.common_ratios[: len(common)]
    ratios += (0.0,) * (len(common) - len(ratios))
    rest = max(0.0, 1.0 - statistics.null_ratio - sum(ratios)) if bounds else 0.0
    each = max(rest, 1e-9) / len(bounds) if bounds else 0.0
    weights = [*(max(ratio, 1e-9) for ratio in ratios), *(each for _ in bounds)]
    return distribution((*common, *bounds), weights)


@lru_cache(maxsize=256)
def from_sample(values: tuple[str, ...]) -> Distribution | None:
    """Rows that were read: each counts the same."""
    return distribution(values, [1.0] * len(values)) if values else None
