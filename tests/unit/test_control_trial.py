"""Two limits held against each other, on a host that stalls and a sink that is slow for a while."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from perfloop.control.estimate import MOST_WINDOWS, Estimate
from perfloop.control.trial import LONGEST_TRIAL, LONGEST_VISIT, Trial
from perfloop.control.window import Latencies, Window

QUICK_S = 0.01


def window(limit: int, latency_s: float, error: float = 0.01) -> Window:
    """A saturated tenth of a second whose calls took `latency_s`."""
    calls = max(1, round(0.1 * limit / latency_s))
    return Window(
        started_at_s=0.0,
        ended_at_s=0.1,
        limit=limit,
        completions=calls,
        items=calls,
        in_flight_mean=float(limit),
        latencies=Latencies(
            mean_s=latency_s, p50_s=latency_s, p99_s=latency_s, typical_s=latency_s, typical_error=error
        ),
        is_saturated=True,
    )


def estimate(limit: int, latencies_s: Iterable[float]) -> Estimate:
    made = Estimate(limit)
    for latency_s in latencies_s:
        made.add(window(limit, latency_s))
    return made


def visit(trial: Trial, limit: int, latency_s: float, windows: int = 3) -> float | None:
    for _ in range(windows):
        trial.add(window(limit, latency_s))
    return trial.decide()


def test_one_stalled_window_of_three_moves_neither_the_value_nor_the_error() -> None:
    calm, stalled = estimate(4, [0.01, 0.01, 0.01]), estimate(4, [0.01, 0.5, 0.01])

    assert calm.value == pytest.approx(stalled.value, abs=0.05)
    assert calm.error == pytest.approx(stalled.error, rel=0.3)


def test_windows_that_disagree_widen_the_error_whatever_the_calls_say() -> None:
    agreeing = estimate(4, [0.010] * 8)
    disagreeing = estimate(4, [0.008, 0.012] * 4)

    assert disagreeing.error > 3 * agreeing.error


def test_only_the_newest_windows_count() -> None:
    moved = estimate(4, [0.05] * 40 + [0.01] * MOST_WINDOWS)

    assert MOST_WINDOWS == len(moved)
    assert estimate(4, [0.01]).value == pytest.approx(moved.value)


def test_a_limit_that_brings_what_it_adds_is_taken_at_once() -> None:
    trial = Trial(estimate(4, [QUICK_S] * 3), 8)

    assert 1.0 == pytest.approx(visit(trial, 8, QUICK_S, windows=2))


def test_a_limit_that_seems_worse_is_held_against_the_other_once_more() -> None:
    trial = Trial(estimate(4, [QUICK_S] * 3), 8)

    assert visit(trial, 8, 4 * QUICK_S) is None
    assert trial.is_visit_over()

    trial.change_over()

    assert -1.0 == pytest.approx(visit(trial, 4, QUICK_S))


def test_a_host_that_slows_down_between_two_visits_does_not_refuse_a_limit() -> None:
    trial = Trial(estimate(4, [QUICK_S] * 3), 8)
    visit(trial, 8, 4 * QUICK_S)
    trial.change_over()

    assert visit(trial, 4, 4 * QUICK_S) is None


def test_a_limit_that_brings_more_than_it_can_is_not_taken_for_it() -> None:
    trial = Trial(estimate(4, [10 * QUICK_S] * 3), 8)

    assert visit(trial, 8, 2 * QUICK_S) is None
    assert trial.is_visit_over()

    trial.change_over()

    assert visit(trial, 4, QUICK_S) is None


def test_a_visit_ends_where_nothing_can_be_told() -> None:
    trial = Trial(estimate(16, [0.008, 0.012, 0.01] * 5), 17)
    for number in range(LONGEST_VISIT):
        assert not trial.is_visit_over()
        trial.add(window(17, (0.006, 0.014, 0.01)[number % 3], error=0.3))

    assert trial.is_visit_over()


def test_a_trial_ends_by_what_is_likelier() -> None:
    trial = Trial(estimate(16, [0.01] * 3), 17)
    decisions = []
    for number in range(LONGEST_TRIAL):
        limit = (17, 16)[number // 3 % 2]
        trial.add(window(limit, 0.01, error=0.5))
        decisions.append(trial.decide())
        if number % 3 == 2 and number + 1 < LONGEST_TRIAL:
            trial.change_over()

    assert [None] * (LONGEST_TRIAL - 1) == decisions[:-1]
    assert decisions[-1] is not None


def test_what_was_seen_before_something_else_was_moved_is_not_counted() -> None:
    trial = Trial(estimate(4, [QUICK_S] * 3), 8)
    trial.begin_anew()

    assert visit(trial, 8, QUICK_S) is None

    trial.change_over()

    assert visit(trial, 4, QUICK_S) is not None
