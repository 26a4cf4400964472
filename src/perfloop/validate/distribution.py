"""The values of a column as pg_stats describes them, to draw from: by frequency, or by order.

All draws take a position in [0, 1) instead of a generator, so that the caller can stratify them:
positions spread evenly give light and heavy values in their true proportion, even with five draws.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from perfloop.model.target import ColumnStatistics
from perfloop.model.value import Value


class Distribution(Value, frozen=True, kw_only=True):
    """Values that are in the table (never interpolated ones), with the share of rows each stands for."""

    values: tuple[str, ...]
    """The most common first, then those between in order."""
    weights: tuple[float, ...]

    def typical(self, position: float) -> str:
        """The value of a row: near position 0 the most common ones, near 1 the rare."""
        cumulated = list(accumulate(self.weights))
        return self.values[min(bisect_right(cumulated, position * cumulated[-1]), len(self.values) - 1)]

    def quantile(self, position: float) -> str:
        """The value below which that share of the rows lies."""
        order = sorted(range(len(self.values)), key=lambda index: order_key(self.values[index]))
        cumulated = list(accumulate(self.weights[index] for index in order))
        place = min(bisect_right(cumulated, position * cumulated[-1]), len(order) - 1)
        return self.values[order[place]]

    def stripped(self) -> Distribution:
        """The same without trailing spaces."""
        return Distribution(values=tuple(value.rstrip(" ") for value in self.values), weights=self.weights)

    @property
    def largest(self) -> str:
        return max(self.values, key=order_key)


def order_key(value: str) -> tuple[int, float, str]:
    """Orders numbers as numbers; ISO dates and times order as text."""
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value


def from_statistics(statistics: ColumnStatistics | None) -> Distribution | None:
    """What pg_stats knows of the column; None where it knows no values."""
    if statistics is None:
        return None
    common, bounds = statistics.common_values, statistics.histogram
    if not common and not bounds:
        return None
    ratios = statistics.common_ratios[: len(common)]
    ratios += (0.0,) * (len(common) - len(ratios))
    rest = max(0.0, 1.0 - statistics.null_ratio - sum(ratios)) if bounds else 0.0
    each = max(rest, 1e-9) / len(bounds) if bounds else 0.0
    return Distribution(
        values=common + bounds, weights=tuple(max(ratio, 1e-9) for ratio in ratios) + (each,) * len(bounds)
    )


def from_sample(values: tuple[str, ...]) -> Distribution | None:
    """Rows that were read: each counts the same."""
    return Distribution(values=values, weights=(1.0,) * len(values)) if values else None
