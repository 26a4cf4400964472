"""The signed-rank test, its bounds and the Hodges-Lehmann estimate."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import InvalidValue
from perfloop.stats.signed_rank import (
    cut_count,
    hodges_lehmann,
    lower_bound,
    p_value,
    shift_bounds,
    upper_bound,
)

# The depression scores before and after treatment that the textbooks work through (Hollander and Wolfe).
HAMILTON_BEFORE = (1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
HAMILTON_AFTER = (0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
HAMILTON = [before - after for before, after in zip(HAMILTON_BEFORE, HAMILTON_AFTER, strict=True)]

# Multiples of 1/1024 add and halve without rounding, so that the properties hold to the last bit.
grid = st.integers(-4096, 4096).map(lambda step: step / 1024)
differences = st.lists(grid, min_size=1, max_size=40)
levels = st.sampled_from((0.001, 0.0032, 0.0167, 0.05, 0.1, 0.25))


@pytest.mark.parametrize(
    ("pairs", "at_5", "at_2_5", "at_1", "at_0_5"),
    [
        (10, 10, 8, 5, 3),
        (12, 17, 13, 9, 7),
        (15, 30, 25, 19, 15),
        (20, 60, 52, 43, 37),
        (30, 151, 137, 120, 109),
    ],
)
def test_critical_values_are_those_of_the_printed_tables(
    pairs: int, at_5: int, at_2_5: int, at_1: int, at_0_5: int
) -> None:
    found = [cut_count(pairs, level) - 1 for level in (0.05, 0.025, 0.01, 0.005)]

    assert [at_5, at_2_5, at_1, at_0_5] == found


def test_the_textbook_example_comes_out_as_printed() -> None:
    assert 0.01953125 == p_value(HAMILTON)
    assert 0.46 == pytest.approx(hodges_lehmann(HAMILTON))
    assert 0.175 == pytest.approx(lower_bound(HAMILTON, 0.05))
    assert (0.01, 0.786) == pytest.approx((lower_bound(HAMILTON, 0.025), upper_bound(HAMILTON, 0.025)))


@pytest.mark.parametrize("pairs", range(1, 13))
def test_the_null_distribution_is_that_of_all_sign_patterns(pairs: int) -> None:
    sums = [
        sum(rank for rank, positive in enumerate(signs, start=1) if positive)
        for signs in product((False, True), repeat=pairs)
    ]
    for level in (0.001, 0.0032, 0.01, 0.05, 0.2):
        reached = [w for w in range(max(sums) + 1) if sum(s <= w for s in sums) / len(sums) <= level]

        assert len(reached) == cut_count(pairs, level)


@pytest.mark.parametrize("pairs", [3, 8, 11])
def test_the_p_value_is_the_share_of_sign_patterns_with_as_large_a_rank_sum(pairs: int) -> None:
    sizes = [1.3**power for power in range(pairs)]
    sums = {
        signs: sum(rank for rank, sign in enumerate(signs, start=1) if sign > 0)
        for signs in product((-1.0, 1.0), repeat=pairs)
    }
    for signs in list(sums)[:: max(1, len(sums) // 40)]:
        as_large = sum(other >= sums[signs] for other in sums.values()) / len(sums)

        assert as_large == pytest.approx(p_value([s * x for s, x in zip(signs, sizes, strict=True)]))


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 2, 2, 3, 3), (0, 0, 1, 1, 2, 5, 5, 8), (1,) * 9, (0, 1, 2, 3, 4)]
)
def test_ties_and_zeros_never_make_false_alarms_more_frequent(sizes: tuple[int, ...]) -> None:
    patterns = list(product((-1.0, 1.0), repeat=len(sizes)))
    found = [p_value([sign * size for sign, size in zip(signs, sizes, strict=True)]) for signs in patterns]
    for level in (0.01, 0.02, 0.05, 0.1, 0.3):
        assert sum(p <= level for p in found) / len(patterns) <= level


def test_eighty_pairs_are_exact_in_the_far_tail() -> None:
    counts = [1]
    for rank in range(1, 81):
        shifted = [0] * rank + counts
        counts = [a + b for a, b in zip(counts + [0] * rank, shifted, strict=True)]
    cumulative, total = [], 0
    for count in counts:
        total += count
        cumulative.append(total)

    for level in (1e-9, 0.0023, 0.0167, 0.4):
        assert sum(count <= level * 2**80 for count in cumulative) == cut_count(80, level)


def test_too_few_pairs_have_no_bound() -> None:
    assert 0 == cut_count(8, 0.0032)
    assert 1 == cut_count(9, 0.0032)
    assert -math.inf == lower_bound([0.5] * 8, 0.0032)
    assert math.inf == upper_bound([0.5] * 8, 0.0032)
    assert 0.5 == lower_bound([0.5] * 9, 0.0032)


def test_one_wild_slot_moves_the_estimate_little() -> None:
    calm = [0.05, 0.06, 0.04, 0.05, 0.07, 0.03, 0.05, 0.06, 0.04, 0.05]

    assert hodges_lehmann(calm) == pytest.approx(hodges_lehmann([*calm[:-1], 40.0]), abs=0.01)


@given(differences, levels)
def test_the_lower_bound_is_above_zero_exactly_when_the_test_rejects(d: list[float], level: float) -> None:
    assert (p_value(d) <= level) == (lower_bound(d, level) > 0.0)


@given(differences, levels, levels)
def test_swapping_the_arms_mirrors_bounds_and_estimate(d: list[float], low: float, high: float) -> None:
    found = shift_bounds(d, lower_level=low, upper_level=high)
    mirrored = shift_bounds([-x for x in d], lower_level=high, upper_level=low)

    assert (-found.high, -found.estimate, -found.low) == (mirrored.low, mirrored.estimate, mirrored.high)


@given(differences, levels, levels)
def test_more_confidence_never_narrows_a_bound(d: list[float], first: float, second: float) -> None:
    strict, loose = sorted((first, second))

    assert lower_bound(d, strict) <= lower_bound(d, loose)
    assert upper_bound(d, strict) >= upper_bound(d, loose)


@given(differences, levels)
def test_the_estimate_lies_between_its_bounds(d: list[float], level: float) -> None:
    assert lower_bound(d, level) <= hodges_lehmann(d) <= upper_bound(d, level)


@given(differences, levels, grid, st.sampled_from((0.25, 0.5, 2.0, 8.0)))
def test_bounds_move_and_stretch_with_the_differences(
    d: list[float], level: float, shift: float, factor: float
) -> None:
    moved = [x * factor + shift for x in d]

    assert lower_bound(d, level) * factor + shift == lower_bound(moved, level)
    assert hodges_lehmann(d) * factor + shift == hodges_lehmann(moved)


@given(differences, levels, st.data())
def test_a_pair_that_favours_the_treatment_more_never_lowers_the_bound(
    d: list[float], level: float, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(d) - 1))
    better = [*d[:place], d[place] + 0.5, *d[place + 1 :]]

    assert lower_bound(better, level) >= lower_bound(d, level)
    assert p_value(better) <= p_value(d)


@pytest.mark.parametrize("wrong", [[], [math.nan], [0.1, math.inf], [0.0] * 501])
def test_what_cannot_be_ranked_is_refused(wrong: list[float]) -> None:
    with pytest.raises(InvalidValue):
        p_value(wrong)


@pytest.mark.parametrize("level", [0.0, -0.1, 0.5, 1.0, math.nan])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(InvalidValue, match="one-sided level"):
        lower_bound([0.1, 0.2], level)
