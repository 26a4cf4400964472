"""The intervals and summaries that reports quote."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import InvalidValue
from perfloop.stats.interval import bootstrap_interval, geometric_mean, quantile, ratio_of_sums
from perfloop.stats.paired import paired_interval

positive = st.floats(1e-3, 1e6)


def slots(rng: Random, count: int, *, centre: float) -> list[float]:
    return [centre * math.exp(rng.gauss(0.0, 0.1)) for _ in range(count)]


def test_the_paired_interval_inverts_the_textbook_bounds() -> None:
    before = (1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
    after = (0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
    found = paired_interval([b - a for b, a in zip(before, after, strict=True)])
    expected = (math.exp(-0.786), math.exp(-0.46), math.exp(-0.01))

    assert expected == pytest.approx((found.low, found.estimate, found.high))


def test_five_pairs_cannot_carry_95_percent() -> None:
    found = paired_interval([0.1, 0.2, 0.3, 0.4, 0.5])

    assert (0.0, math.inf) == (found.low, found.high)


def test_the_bootstrap_repeats_itself_under_the_same_seed() -> None:
    rng = Random(3)
    control, treatment = slots(rng, 12, centre=10.0), slots(rng, 12, centre=9.0)
    first = bootstrap_interval(control, treatment, fmean, rng=Random(5), resamples=300)
    second = bootstrap_interval(control, treatment, fmean, rng=Random(5), resamples=300)

    assert first == second
    assert fmean(treatment) / fmean(control) == pytest.approx(first.estimate)
    assert first.low < first.estimate < first.high


def test_what_both_slots_of_a_pair_share_cancels() -> None:
    control = [1.0, 50.0, 3.0, 700.0, 2.0, 9.0]
    found = bootstrap_interval(
        control, [0.8 * cost for cost in control], geometric_mean, rng=Random(1), resamples=200
    )

    assert (0.8, 0.8, 0.8) == pytest.approx((found.low, found.estimate, found.high))


def test_throughput_is_read_from_operations_and_seconds() -> None:
    control = [(100.0, 1.0), (110.0, 1.0), (90.0, 1.0), (100.0, 1.0), (105.0, 1.0)]
    treatment = [(2 * operations, seconds) for operations, seconds in control]
    found = bootstrap_interval(control, treatment, ratio_of_sums, rng=Random(1), resamples=200)

    assert 2.0 == pytest.approx(found.estimate)


def test_more_confidence_widens_the_bootstrap() -> None:
    rng = Random(3)
    control, treatment = slots(rng, 12, centre=10.0), slots(rng, 12, centre=9.0)
    narrow = bootstrap_interval(control, treatment, fmean, rng=Random(5), confidence=0.8)
    wide = bootstrap_interval(control, treatment, fmean, rng=Random(5), confidence=0.99)

    assert wide.low < narrow.low < narrow.high < wide.high


def test_unequal_or_few_slots_are_refused() -> None:
    with pytest.raises(InvalidValue, match="at least 5 pairs"):
        bootstrap_interval([1.0] * 6, [1.0] * 5, fmean, rng=Random(1))
    with pytest.raises(InvalidValue, match="at least 5 pairs"):
        bootstrap_interval([1.0] * 4, [1.0] * 4, fmean, rng=Random(1))


def test_slots_without_operations_have_no_ratio() -> None:
    with pytest.raises(InvalidValue, match="nothing to divide by"):
        ratio_of_sums([(0.0, 0.0), (1.0, 0.0)])


@pytest.mark.parametrize(("q", "expected"), [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.95, 3.85), (1.0, 4.0)])
def test_quantiles_are_interpolated_by_definition_seven(q: float, expected: float) -> None:
    assert expected == pytest.approx(quantile([4.0, 1.0, 3.0, 2.0], q))


@given(st.lists(positive, min_size=1), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_quantiles_ascend_within_the_range(values: list[float], first: float, second: float) -> None:
    lower, upper = sorted((first, second))
    slack = 1.0 + 1e-12

    assert min(values) <= quantile(values, lower) * slack
    assert quantile(values, lower) <= quantile(values, upper) * slack
    assert quantile(values, upper) <= max(values) * slack


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1), ([1.0, math.nan], 0.5)])
def test_a_quantile_of_nothing_is_refused(values: list[float], q: float) -> None:
    with pytest.raises(InvalidValue):
        quantile(values, q)


def test_a_doubling_and_a_halving_cancel() -> None:
    assert 1.0 == pytest.approx(geometric_mean([2.0, 0.5]))


@given(st.lists(positive, min_size=1), positive)
def test_the_geometric_mean_scales_with_its_values(values: list[float], factor: float) -> None:
    assert geometric_mean(values) * factor == pytest.approx(geometric_mean([v * factor for v in values]))


@pytest.mark.parametrize("wrong", [[], [0.0, 1.0], [-1.0], [math.inf]])
def test_a_geometric_mean_needs_positive_values(wrong: list[float]) -> None:
    with pytest.raises(InvalidValue):
        geometric_mean(wrong)
