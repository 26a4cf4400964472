"""A group has as many workers as its queue needs; more that gain nothing are taken away again."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from benchmarks.worker_scaling import SEASON, Played, cycle, play, ramp, steady, step_up, too_much
from msgspec import structs

from perfloop.control.adjustment import Outcome
from perfloop.control.budget import ConnectionBudget
from perfloop.errors import InvalidValue
from perfloop.process.scaling.policy import ScalingPolicy
from perfloop.process.scaling.queueing import erlang_c, mean_wait_s, servers_for
from perfloop.process.scaling.scaling import Demand, WorkerScaling
from perfloop.process.scaling.season import Season, SeasonPolicy

HOUR = 3600.0
POLICY = ScalingPolicy(highest=32)


def turns(played: Played) -> int:
    """How often the number went the other way than before."""
    steps = [after - before for before, after in pairwise(played.workers) if after != before]
    return sum((one > 0) != (other > 0) for one, other in pairwise(steps))


def test_erlang_s_formula_gives_the_published_values() -> None:
    assert (0.3333, 0.2, 1.0) == (round(erlang_c(2, 1.0), 4), round(erlang_c(1, 0.2), 4), erlang_c(2, 3.0))
    assert 1.0 == mean_wait_s(1, 0.5, 1.0)
    assert math.isinf(mean_wait_s(2, 3.0, 1.0))


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1), (1.0, 1), (70.0, 9), (800.0, 100)])
def test_servers_are_enough_for_the_wait_and_the_utilisation(rate: float, expected: int) -> None:
    assert expected == servers_for(rate, 0.1, wait_s=0.1, max_utilisation=0.8)


@pytest.mark.parametrize("seed", range(3))
def test_noise_does_not_change_a_number_that_is_right(seed: int) -> None:
    played = play(steady, HOUR, WorkerScaling(POLICY), workers=8, seed=seed)

    assert played.changes <= 2
    assert turns(played) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_a_step_up_is_followed_within_a_minute_and_a_step_down_later(seed: int) -> None:
    played = play(step_up, 1.5 * HOUR, WorkerScaling(POLICY), workers=3, seed=seed)
    at = {minute: played.workers[minute * 120] for minute in (19, 21, 49, 89)}

    assert at[19] <= 4
    assert at[21] >= 11
    assert at[49] >= 11
    assert at[89] <= 4
    assert max(played.queue) < 100 * 30
    assert max(played.queue[22 * 120 : 50 * 120]) < 100


def test_a_ramp_is_followed_without_a_queue() -> None:
    played = play(ramp, HOUR, WorkerScaling(POLICY), workers=2)

    assert max(played.queue) < 100
    assert turns(played) == 0


def test_a_cycle_is_followed_with_less_than_the_peak_needs_all_day() -> None:
    played = play(cycle, 4 * HOUR, WorkerScaling(POLICY), workers=2)
    peak = play(cycle, 4 * HOUR, None, workers=15)

    assert played.worker_hours < 0.65 * peak.worker_hours
    assert played.wait_s(0.99) < 0.1
    assert turns(played) <= 8


def test_what_a_season_brings_is_met_with_workers_that_are_ready() -> None:
    policy = ScalingPolicy(highest=32, start_s=60.0)
    alone = play(cycle, 4 * HOUR, WorkerScaling(policy), workers=2)
    known = play(cycle, 4 * HOUR, WorkerScaling(structs.replace(policy, season=SEASON)), workers=2)
    last = int(2 * HOUR / 0.5)

    assert max(known.queue[last:]) < max(alone.queue[last:])


@pytest.mark.parametrize("collapse", [0.0, 0.05])
def test_more_workers_that_gain_nothing_are_taken_away_again(collapse: float) -> None:
    scaling = WorkerScaling(POLICY)
    played = play(too_much, 1800, scaling, workers=6, capacity=60.0, collapse=collapse)
    vain = [each for each in scaling.entries() if each.outcome is Outcome.UNDONE]
    undone = [each for each in scaling.entries() if "something else is the bottleneck" in each.reason]

    assert vain
    assert len(vain) == len(undone)
    assert vain[0].goodput_after_per_s is not None
    assert sum(each > 6 for each in played.workers) < 0.15 * len(played.workers)
    assert 6 == played.workers[-1]


def test_the_connections_bound_the_workers() -> None:
    budget = ConnectionBudget(max_connections=100, reserved=10)
    played = play(too_much, 600, WorkerScaling(POLICY), workers=2, most=budget.workers(pool_size=10))

    assert 9 == max(played.workers)


def test_each_change_says_why() -> None:
    scaling = WorkerScaling(POLICY)
    demand = Demand(
        ended_at_s=5.0,
        length_s=5.0,
        workers=2,
        arrivals_per_s=60.0,
        completions_per_s=20.0,
        queue_length=200,
        service_s=0.1,
    )
    step = scaling.update(demand)
    assert step is not None

    assert (2, 6, Outcome.PENDING) == (step.before, step.after, step.outcome)
    assert "60.0/s arrive, each for 100 ms: 8 workers are needed" == step.reason


def test_nothing_is_forecast_before_a_period_is_full_or_where_it_was_different() -> None:
    policy = SeasonPolicy(period_s=100.0, bins=10, recent=3)
    season, other = Season(policy), Season(policy)
    for part in range(30):
        if part == 11:
            assert season.highest_per_s(10.0) is None
        rate = 100.0 if part % 10 == 5 else 10.0
        season.add(part * 10.0 + 9, 10.0, rate)
        other.add(part * 10.0 + 9, 10.0, rate if part < 20 else 300.0 * (part % 2) + 1)

    assert 10.0 == season.highest_per_s(10.0)
    assert 100.0 == season.highest_per_s(80.0)
    assert other.highest_per_s(80.0) is None


def test_bounds_that_contradict_are_refused() -> None:
    with pytest.raises(InvalidValue, match="bounds of 5 to 2"):
        ScalingPolicy(lowest=5, highest=2)
