"""The looks of the paired procedure, its guardrails and its predictions."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import InvalidValue
from perfloop.stats.ratio import log_ratio
from perfloop.stats.sequential import (
    LONG_POLICY,
    STANDARD_POLICY,
    Answer,
    SequentialPolicy,
    exceeds,
    look,
    replay,
    resolvable_effect,
    robust_sd,
)

costs = st.floats(1e-6, 1e9)


def pairs_around(shift: float, *, spread: float, pairs: int) -> list[float]:
    """Values spread evenly and symmetrically around a shift."""
    return [shift + spread * (2 * place / (pairs - 1) - 1) for place in range(pairs)]


def test_a_clear_saving_is_kept_at_the_first_look() -> None:
    seen = look(pairs_around(log_ratio(100.0, 90.0), spread=0.02, pairs=10), STANDARD_POLICY)

    assert Answer.KEEP == seen.answer
    assert 0.9 == pytest.approx(seen.ratio)
    assert seen.ratio_low < seen.ratio < seen.ratio_high < 1.0


def test_a_sure_saving_below_what_is_worth_keeping_is_dropped() -> None:
    seen = look(pairs_around(0.01, spread=0.005, pairs=10), STANDARD_POLICY)

    assert Answer.DROP == seen.answer
    assert seen.low > 0.0


def test_a_regression_is_dropped() -> None:
    assert Answer.DROP == look(pairs_around(-0.10, spread=0.02, pairs=10), STANDARD_POLICY).answer


def test_noise_goes_on_and_ends_undecided() -> None:
    answers = [
        look(pairs_around(0.03, spread=0.5, pairs=n), STANDARD_POLICY).answer for n in STANDARD_POLICY.looks
    ]

    assert [Answer.CONTINUE] * 4 + [Answer.UNDECIDED] == answers


def test_a_clear_saving_is_not_answered_between_the_looks() -> None:
    clear = pairs_around(0.5, spread=0.02, pairs=39)
    answered = [n for n in range(1, 40) if look(clear[:n], STANDARD_POLICY).answer is not Answer.CONTINUE]

    assert [10, 14, 20, 28] == answered


def test_before_nine_pairs_the_interval_is_open() -> None:
    seen = look([0.5] * 5, STANDARD_POLICY)

    assert (-math.inf, math.inf) == (seen.low, seen.high)
    assert (0.0, math.inf) == (seen.ratio_low, seen.ratio_high)


def test_replay_stops_at_the_first_look_that_answers() -> None:
    late = [-0.3, 0.35] * 6 + [0.4] * 28
    end = replay(late, STANDARD_POLICY)

    assert (Answer.KEEP, 20) == (end.answer, end.pairs)


def test_replay_of_pairs_that_were_cut_short_goes_on() -> None:
    end = replay([-0.5, 0.6] * 8 + [0.1], STANDARD_POLICY)

    assert (Answer.CONTINUE, 17) == (end.answer, end.pairs)


@pytest.mark.parametrize(
    ("pairs", "expected"), [(0, 10), (9, 10), (10, 14), (28, 40), (40, None), (55, None)]
)
def test_the_next_look_follows_the_plan(pairs: int, expected: int | None) -> None:
    assert expected == STANDARD_POLICY.next_look(pairs)


def test_the_long_policy_looks_seven_times_at_a_stricter_level() -> None:
    assert 80 == LONG_POLICY.max_pairs
    assert 56 == LONG_POLICY.next_look(40)
    assert LONG_POLICY.lower_level < STANDARD_POLICY.lower_level


def test_two_primary_metrics_may_halve_the_level() -> None:
    halved = replace(STANDARD_POLICY, lower_level=STANDARD_POLICY.lower_level / 2)

    assert Answer.KEEP == look(pairs_around(0.2, spread=0.02, pairs=10), halved).answer


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"looks": ()}, "ascend"),
        ({"looks": (10, 10)}, "ascend"),
        ({"looks": (5, 10)}, "first look at 9"),
        ({"upper_level": 0.7}, "one-sided level"),
        ({"min_effect_ratio": 0.0}, "min_effect_ratio"),
        ({"looks": (10, 600)}, "500"),
    ],
)
def test_a_policy_that_cannot_hold_its_level_is_refused(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        SequentialPolicy(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_more_pairs_than_planned_are_refused() -> None:
    with pytest.raises(InvalidValue, match="40 planned"):
        look([0.1] * 41, STANDARD_POLICY)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_a_cost_without_a_logarithm_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidValue, match="counter_change"):
        log_ratio(1.0, wrong)


@given(st.lists(st.tuples(costs, costs), min_size=10, max_size=10), st.sampled_from((1e-3, 60.0, 1e6)))
def test_the_unit_of_the_metric_does_not_matter(arms: list[tuple[float, float]], unit: float) -> None:
    seen = look([log_ratio(a, b) for a, b in arms], STANDARD_POLICY)
    rescaled = look([log_ratio(a * unit, b * unit) for a, b in arms], STANDARD_POLICY)

    assert seen.estimate == pytest.approx(rescaled.estimate, abs=1e-9)
    assert seen.low == pytest.approx(rescaled.low, abs=1e-9)
    assert seen.high == pytest.approx(rescaled.high, abs=1e-9)


@given(st.lists(st.tuples(costs, costs), min_size=10, max_size=40))
def test_a_change_and_its_reverse_are_never_both_kept(arms: list[tuple[float, float]]) -> None:
    there = replay([log_ratio(a, b) for a, b in arms], STANDARD_POLICY)
    back = replay([log_ratio(b, a) for a, b in arms], STANDARD_POLICY)

    assert not (there.answer is Answer.KEEP and back.answer is Answer.KEEP)


@given(st.lists(st.floats(-1e300, 1e300), min_size=10, max_size=10))
def test_a_look_at_any_finite_pairs_has_ordered_ratios(d: list[float]) -> None:
    seen = look(d, STANDARD_POLICY)

    assert 0.0 <= seen.ratio_low <= seen.ratio <= seen.ratio_high


def test_harm_counts_only_when_proven_beyond_the_margin() -> None:
    slower = pairs_around(log_ratio(1.0, 1.10), spread=0.02, pairs=10)

    assert exceeds(slower, margin_ratio=0.05, level=0.0032)
    assert not exceeds(slower, margin_ratio=0.10, level=0.0032)
    assert not exceeds([-d for d in slower], margin_ratio=0.0, level=0.0032)
    assert not exceeds(slower[:5], margin_ratio=0.0, level=0.0032)


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(InvalidValue, match="margin"):
        exceeds([0.1] * 10, margin_ratio=-0.1, level=0.0032)


def test_the_robust_spread_ignores_an_outlier() -> None:
    calm = pairs_around(0.0, spread=0.05, pairs=20)

    assert robust_sd(calm) == pytest.approx(robust_sd([*calm[:-1], 9.0]), rel=0.1)


@pytest.mark.parametrize("pairs", [10, 20])
def test_the_robust_spread_of_few_normal_pairs_is_right_on_average(pairs: int) -> None:
    rng = Random(7)
    found = [robust_sd([rng.gauss(0.3, 2.0) for _ in range(pairs)]) for _ in range(4000)]

    assert 2.0 == pytest.approx(sum(found) / len(found), rel=0.03)


def test_one_pair_has_no_spread() -> None:
    with pytest.raises(InvalidValue, match="at least two"):
        robust_sd([0.1])


def test_the_resolvable_effect_follows_the_rule_of_thumb() -> None:
    noisy = pairs_around(0.0, spread=0.25, pairs=20)
    by_rule = -math.expm1(-robust_sd(noisy) * math.sqrt(14.0 / 40))

    assert by_rule == pytest.approx(resolvable_effect(noisy), rel=0.01)


def test_without_noise_the_resolvable_effect_is_the_smallest_worth_keeping() -> None:
    assert 0.03 == pytest.approx(resolvable_effect([0.0] * 10))


def test_more_pairs_resolve_less_and_more_power_needs_more() -> None:
    noisy = pairs_around(0.0, spread=0.25, pairs=20)

    assert resolvable_effect(noisy, LONG_POLICY) < resolvable_effect(noisy)
    assert resolvable_effect(noisy, power=0.95) > resolvable_effect(noisy)
