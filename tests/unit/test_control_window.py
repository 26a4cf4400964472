"""What a Tally counts, and what its Windows say."""

from __future__ import annotations

import math

import pytest

from perfloop.control.tally import KEPT_CALLS, LONGEST_INTERVALS, Tally
from perfloop.control.window import Window, relate, summarise
from perfloop.errors import InvalidValue


def test_a_window_holds_what_ended_within_it() -> None:
    tally = Tally(10.0)
    tally.begin(10.0)
    tally.begin(10.5)
    tally.end(10.0, 11.0, 8)
    tally.fail(11.5)

    window = tally.drain(12.0, 4)

    assert (1, 1, 8) == (window.completions, window.failures, window.items)
    assert 0.5 == window.calls_per_s
    assert 4.0 == window.items_per_s


def test_calls_under_way_are_weighted_by_time_across_windows() -> None:
    tally = Tally(0.0)
    tally.begin(0.0)
    tally.begin(1.0)
    first = tally.drain(2.0, 4)
    tally.end(0.0, 3.0, 1)
    second = tally.drain(4.0, 4)
    third = tally.drain(6.0, 4)

    assert [1.5, 1.5, 1.0] == [first.in_flight_mean, second.in_flight_mean, third.in_flight_mean]


def test_a_slot_given_back_unused_leaves_no_trace() -> None:
    tally = Tally(0.0)
    tally.begin_after_waiting(0.5)
    tally.withdraw(0.5)
    window = tally.drain(1.0, 1)

    assert (0, 0.0) == (window.completions, window.in_flight_mean)


def test_a_call_from_an_earlier_window_is_given_back_unused_too() -> None:
    tally = Tally(0.0)
    tally.begin(0.5)
    tally.drain(1.0, 1)
    tally.withdraw(0.5)

    assert 0.0 == tally.drain(2.0, 1).in_flight_mean


def test_no_call_is_lost_where_more_end_than_are_kept() -> None:
    tally = Tally(0.0)
    calls = 3 * KEPT_CALLS
    for number in range(calls):
        tally.begin(number * 1e-4)
        tally.end(number * 1e-4, number * 1e-4 + 0.001, 2)
    window = tally.drain(10.0, 4)

    assert (calls, 2 * calls) == (window.completions, window.items)
    assert window.latency_p50_s == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("waits", "queue_length", "is_saturated"),
    [(0, None, False), (1, None, False), (2, None, True), (0, 3, True), (4, 0, False)],
)
def test_a_limit_is_saturated_where_work_waits_for_it(
    waits: int, queue_length: int | None, is_saturated: bool
) -> None:
    tally = Tally(0.0)
    for number in range(4):
        begin = tally.begin_after_waiting if number < waits else tally.begin
        begin(0.0)
    window = tally.drain(1.0, 4, queue_length=queue_length)

    assert is_saturated == window.is_saturated


def test_a_limit_that_is_hardly_used_is_not_saturated() -> None:
    tally = Tally(0.0)
    tally.begin_after_waiting(0.0)

    assert not tally.drain(1.0, 4, queue_length=9).is_saturated


def test_a_window_waits_for_its_calls_but_not_for_ever() -> None:
    tally = Tally(0.0)
    tally.begin(0.0)
    tally.begin(0.0)
    tally.end(0.0, 0.05, 1)

    assert not tally.is_due(0.2, 0.1, 2)
    assert tally.is_due(0.1 * LONGEST_INTERVALS, 0.1, 2)

    tally.fail(0.3)

    assert tally.is_due(0.3, 0.1, 2)


def test_a_stall_moves_the_mean_and_not_the_typical_latency() -> None:
    latencies = summarise([0.010] * 99 + [1.0])

    assert latencies is not None
    assert 0.010 == pytest.approx(latencies.typical_s)
    assert 0.0199 == pytest.approx(latencies.mean_s)


def test_the_error_of_the_typical_latency_shrinks_with_the_root_of_the_calls() -> None:
    few = summarise([0.01 * math.exp(0.2 * math.sin(number)) for number in range(100)])
    many = summarise([0.01 * math.exp(0.2 * math.sin(number)) for number in range(10_000)])

    assert few is not None
    assert many is not None
    assert 10 == pytest.approx(few.typical_error / many.typical_error, rel=0.1)


def test_without_calls_there_is_no_latency() -> None:
    assert summarise([]) is None
    assert 0.0 == Tally(0.0).drain(1.0, 1).throughput_per_s


def test_the_slope_of_latency_over_size_is_found_again() -> None:
    sizes = [10, 20, 30, 40]
    relation = relate(sizes, [0.005 + 0.001 * size for size in sizes])

    assert relation is not None
    assert 0.001 == pytest.approx(relation.covariance_s / relation.variance, rel=0.02)


def test_calls_of_one_size_relate_nothing() -> None:
    assert relate([5, 5, 5], [0.1, 0.2, 0.3]) is None
    assert relate([], []) is None


def test_a_window_that_ends_before_it_began_is_refused() -> None:
    with pytest.raises(InvalidValue, match="before it began"):
        Window(
            started_at_s=2.0,
            ended_at_s=1.0,
            limit=1,
            completions=0,
            items=0,
            in_flight_mean=0.0,
            latencies=None,
            is_saturated=False,
        )
