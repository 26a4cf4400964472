"""The ratio of two means from what counters keep of them."""

from __future__ import annotations

from random import Random
from statistics import fmean, pstdev

import pytest

from perfloop.errors import InvalidValue
from perfloop.stats.means import MeanOf, ratio_of_means


def window(rng: Random, count: int, factor: float = 1.0) -> MeanOf:
    """Skewed times, as calls have them."""
    times = [factor * rng.lognormvariate(0.0, 1.0) for _ in range(count)]
    return MeanOf(mean=fmean(times), deviation=pstdev(times), count=count)


@pytest.mark.parametrize(("count", "least"), [(20, 870), (200, 930)])
def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says(count: int, least: int) -> None:
    rng = Random(7)
    found = [ratio_of_means(window(rng, count), window(rng, count, 1.5)) for _ in range(1000)]

    assert least <= sum(each.low <= 1.5 <= each.high for each in found) <= 975


def test_more_calls_make_it_narrower() -> None:
    few, many = (MeanOf(mean=1.0, deviation=1.0, count=count) for count in (20, 2000))

    assert ratio_of_means(few, few).high > ratio_of_means(many, many).high > 1


@pytest.mark.parametrize(
    "bad", [MeanOf(mean=0.0, deviation=1.0, count=9), MeanOf(mean=1, deviation=1, count=0)]
)
def test_windows_without_time_or_calls_are_refused(bad: MeanOf) -> None:
    with pytest.raises(InvalidValue, match="needs values in both windows"):
        ratio_of_means(MeanOf(mean=1.0, deviation=1.0, count=9), bad)
