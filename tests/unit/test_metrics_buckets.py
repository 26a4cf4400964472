from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import InvalidInput
from perfloop.metrics.buckets import EMPTY, MIN_SCALE, SCALE, Buckets, coarsen, edge, merge, tally

HALF_WIDTH = (2 ** (1 / 64) - 1) / (2 ** (1 / 64) + 1)
ordinary = st.floats(min_value=1e-12, max_value=1e12)
anything = st.one_of(st.floats(), ordinary, st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, 5e-324]))


def tallied(values: list[float]) -> Buckets:
    return tally(np.array(values, dtype=np.float64))


def facts(buckets: Buckets) -> tuple[object, ...]:
    """All that two equal sets of buckets have in common, however the empty ends are stored."""
    filled = {buckets.offset + int(at): int(buckets.counts[at]) for at in buckets.counts.nonzero()[0]}
    slots = (buckets.zero, buckets.negative, buckets.infinite, buckets.nan)
    return buckets.scale, filled, slots, buckets.smallest, buckets.largest


@given(st.floats(min_value=2.2250738585072014e-308, allow_infinity=False))
def test_a_value_lies_above_the_lower_and_up_to_the_upper_edge_of_its_bucket(value: float) -> None:
    buckets = tallied([value])

    assert [1] == buckets.counts.tolist()
    assert edge(buckets.offset) < value <= edge(buckets.offset + 1)


@given(st.integers(min_value=-1000 * 64, max_value=1000 * 64))
def test_a_value_on_an_edge_belongs_to_the_bucket_that_ends_there(index: int) -> None:
    on_it, beyond = edge(index), math.nextafter(edge(index), math.inf)

    assert index - 1 == tallied([on_it]).offset
    assert index == tallied([beyond]).offset


@given(st.integers(min_value=0, max_value=63))
def test_edges_are_the_floats_nearest_to_the_roots_of_two(k: int) -> None:
    here = Fraction(edge(k))
    ulp = Fraction(math.ulp(edge(k)))

    assert (here - ulp / 2) ** 64 <= 2**k <= (here + ulp / 2) ** 64


@given(st.lists(anything), st.lists(anything))
def test_counting_in_two_parts_is_counting_at_once(first: list[float], second: list[float]) -> None:
    apart, together = merge(tallied(first), tallied(second)), tallied(first + second)

    assert facts(together) == facts(apart)
    assert len(first) + len(second) == apart.count


@given(st.lists(anything), st.integers(min_value=MIN_SCALE, max_value=SCALE))
def test_a_coarser_scale_keeps_every_count_between_its_own_edges(values: list[float], scale: int) -> None:
    fine = tallied(values)
    coarse = coarsen(fine, scale)

    assert fine.count == coarse.count
    for position, count in enumerate(coarse.counts.tolist()):
        low, high = edge(coarse.offset + position, scale), edge(coarse.offset + position + 1, scale)
        # Edges below the smallest float collapse to zero; what lies there is in the zero slot.
        inside = sum(1 for value in values if 2.3e-308 < value < math.inf and low < value <= high)
        if low > 2.3e-308:
            assert inside == count


@given(st.lists(anything), st.integers(min_value=MIN_SCALE, max_value=SCALE))
def test_coarsening_step_by_step_is_coarsening_at_once(values: list[float], scale: int) -> None:
    by_steps = tallied(values)
    for step in range(SCALE - 1, scale - 1, -1):
        by_steps = coarsen(by_steps, step)

    assert facts(coarsen(tallied(values), scale)) == facts(by_steps)


@given(st.lists(ordinary), st.lists(ordinary), st.integers(min_value=MIN_SCALE, max_value=SCALE))
def test_merging_takes_the_coarser_scale(first: list[float], second: list[float], scale: int) -> None:
    merged = merge(coarsen(tallied(first), scale), tallied(second))

    assert facts(coarsen(tallied(first + second), scale)) == facts(merged)


@given(st.lists(ordinary, min_size=1), st.floats(min_value=0.0, max_value=1.0))
def test_a_quantile_is_within_half_a_bucket_of_the_value_of_its_rank(values: list[float], q: float) -> None:
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]

    assert tallied(values).quantile(q) == pytest.approx(exact, rel=HALF_WIDTH * 1.000001)


@given(st.lists(ordinary, min_size=1))
def test_the_ends_are_exact(values: list[float]) -> None:
    buckets = tallied(values)

    assert min(values) == buckets.quantile(0.0)
    assert max(values) == buckets.quantile(1.0)


def test_each_kind_of_value_has_its_slot() -> None:
    buckets = tallied([math.nan, -math.inf, -3.0, -0.0, 0.0, 5e-324, -5e-324, 0.5, math.inf, math.nan])

    assert 2 == buckets.nan
    assert 2 == buckets.negative
    assert 4 == buckets.zero
    assert 1 == buckets.infinite
    assert 1 == int(buckets.counts.sum())
    assert 10 == buckets.count
    assert pytest.approx(-2.5) == buckets.total
    assert (-math.inf, math.inf) == (buckets.smallest, buckets.largest)


def test_quantiles_walk_through_the_slots_in_order() -> None:
    buckets = tallied([-2.0, 0.0, 0.0, 1.0, 3.0, math.inf, math.nan])

    assert [-2.0, 0.0, 0.0] == [buckets.quantile(rank / 6) for rank in (1, 2, 3)]
    assert pytest.approx(1.0, rel=0.0055) == buckets.quantile(4 / 6)
    assert math.inf == buckets.quantile(1.0)


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(EMPTY.quantile(0.5))
    assert math.isnan(tallied([math.nan]).quantile(0.5))


def test_a_sum_beyond_the_largest_float_is_infinite() -> None:
    assert math.inf == tallied([1.7e308, 1.7e308]).total


@pytest.mark.parametrize("q", [-0.1, 1.1, 99, math.nan])
def test_a_quantile_outside_zero_to_one_is_refused(q: float) -> None:
    with pytest.raises(InvalidInput, match=r"99th percentile is 0\.99"):
        tallied([1.0]).quantile(q)


@pytest.mark.parametrize("scale", [SCALE + 1, MIN_SCALE - 1])
def test_a_scale_that_buckets_cannot_have_is_refused(scale: int) -> None:
    with pytest.raises(InvalidInput, match="ask for -4 to 6"):
        coarsen(tallied([1.0]), scale)


def test_counts_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        tallied([1.0]).counts[0] = 2
