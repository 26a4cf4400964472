"""Counters that hardly vary are compared by size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import InvalidValue
from perfloop.stats.work import counter_change

counts = st.floats(0.0, 1e15)


@pytest.mark.parametrize(
    ("control", "treatment", "ratio", "changed"),
    [
        (1000.0, 100.0, 0.1, True),
        (1000.0, 985.0, 0.985, False),  # within 2 % of the larger
        (3.0, 2.0, 2 / 3, False),  # within 5 buffers
        (3.0, 30.0, 10.0, True),
        (1e9, 1e9 + 1000.0, 1.000001, False),
        (0.0, 0.0, 1.0, False),
        (0.0, 100.0, math.inf, True),
        (100.0, 0.0, 0.0, True),
    ],
)
def test_a_change_must_clear_both_tolerances(
    control: float, treatment: float, ratio: float, changed: bool
) -> None:
    found = counter_change(control, treatment, tolerance_ratio=0.02, tolerance_abs=5.0)

    assert ratio == pytest.approx(found.ratio)
    assert changed is found.changed


def test_without_tolerances_any_difference_counts() -> None:
    assert counter_change(7, 8).changed
    assert not counter_change(7, 7).changed


@given(counts, counts, st.floats(0.0, 1.0), st.floats(0.0, 100.0))
def test_swapping_the_arms_never_alters_the_answer(a: float, b: float, ratio: float, amount: float) -> None:
    there = counter_change(a, b, tolerance_ratio=ratio, tolerance_abs=amount)
    back = counter_change(b, a, tolerance_ratio=ratio, tolerance_abs=amount)

    assert there.changed == back.changed


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_what_is_no_count_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidValue, match="not negative"):
        counter_change(1.0, wrong)
