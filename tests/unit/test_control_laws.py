"""The laws to choose from, the numbers they share, and who has the turn."""

from __future__ import annotations

import pytest
from benchmarks.open_loop import OpenLoop, SteeredOpenLoop
from benchmarks.sink_simulation import (
    COLLAPSE,
    PLATEAU,
    Coordinated,
    Simulation,
    Sink,
    Steered,
    phase_ratio,
    score,
)
from benchmarks.stalls import Stalls

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob, Outcome
from perfloop.control.aimd import Aimd
from perfloop.control.batch_fit import BatchFit
from perfloop.control.budget import ConnectionBudget
from perfloop.control.choice import LAWS, law_for, size_law_for
from perfloop.control.coordinator import Coordinator
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.gradient2 import Gradient2
from perfloop.control.hill_climbing import HillClimbing
from perfloop.control.law import BatchLaw, ConcurrencyLaw
from perfloop.control.linger import Linger
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.search_hold import SearchHold
from perfloop.control.slots import Slots
from perfloop.control.window import Latencies, Window
from perfloop.errors import InvalidInput, InvalidValue
from perfloop.process.pipeline.steering import BatchSteering

SEED = 905
SINK = Sink(contention=COLLAPSE, capacity=((0.0, 16),), sigma=0.2)


def share_of_best(
    law: ConcurrencyLaw, contention: float, *, interval_s: float, length_s: float = 30.0
) -> float:
    sink = Sink(contention=contention, capacity=((0.0, 16),), sigma=0.2)
    calls = Simulation(sink, Steered(law, FixedSize(8)), SEED, interval_s=interval_s).run(length_s)
    return phase_ratio(calls, length_s / 2, length_s, sink.best_items_per_s(8, 16))


def test_hill_climbing_climbs_to_the_knee() -> None:
    assert share_of_best(HillClimbing(), PLATEAU, interval_s=0.1) >= 0.95


def test_gradient2_fills_a_sink_that_queues_and_overfills_one_that_collapses() -> None:
    assert share_of_best(Gradient2(), PLATEAU, interval_s=1.0) >= 0.95
    assert share_of_best(Gradient2(), COLLAPSE, interval_s=1.0) < 0.9


def test_aimd_rises_by_one_and_falls_by_a_tenth() -> None:
    law = Aimd(start=20, timeout_s=0.02)
    rise = law.update(window(0.0, latency_s=0.01, limit=20))
    fall = law.update(window(1.0, latency_s=0.03, limit=21))

    assert rise is not None
    assert fall is not None
    assert (21, 18) == (rise.after, fall.after)


def test_aimd_falls_where_calls_fail_and_waits_where_slots_are_idle() -> None:
    law = Aimd(start=20, timeout_s=0.02)
    idle = law.update(window(0.0, latency_s=0.01, limit=20, in_flight=2.0))
    failing = law.update(window(1.0, latency_s=0.01, limit=20, failures=1))

    assert idle is None
    assert failing is not None
    assert 18 == failing.after


@pytest.mark.parametrize("name", LAWS)
def test_every_word_makes_a_law_that_begins_where_it_is_told_and_keeps_its_bounds(name: str) -> None:
    law = law_for(name, AdjustmentPolicy(lowest=2, highest=9), start=4)
    limits = [law.limit]
    for number in range(100):
        law.update(window(number * 1.0, latency_s=0.01 + 0.001 * (number % 3), limit=law.limit))
        limits.append(law.limit)

    assert 4 == limits[0]
    assert all(2 <= limit <= 9 for limit in limits)


def test_laws_that_move_with_each_window_ask_for_long_ones() -> None:
    paces = {name: law_for(name).policy.interval_s for name in LAWS}

    assert {"adaptive": 0.1, "aimd": 1.0, "fixed": 0.1, "gradient2": 1.0, "hill-climbing": 0.1} == paces


def test_a_number_or_the_word_fixed_never_moves() -> None:
    laws = [law_for(7), law_for("fixed", start=7)]
    sizes: list[BatchLaw] = [size_law_for(7), size_law_for("fixed", start=7)]
    seen = window(0.0, latency_s=0.01, limit=7)

    assert [None] * 4 == [law.update(seen) for law in [*laws, *sizes]]
    assert [7] * 4 == [*(law.limit for law in laws), *(law.size_of_call(3) for law in sizes)]


def test_a_word_that_is_no_law_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInput, match=r"adaptive, aimd, fixed, gradient2, hill-climbing, or a number"):
        law_for("vegas")
    with pytest.raises(InvalidInput, match="of a size"):
        size_law_for("vegas")
    with pytest.raises(InvalidInput, match="leave it out"):
        size_law_for(100, p99_budget_s=0.02)


def test_a_batch_grows_to_the_p99_budget_and_stays_below_it() -> None:
    law = BatchFit(p99_budget_s=0.025)
    calls = Simulation(SINK, Steered(Fixed(16), law), SEED).run(20.0)
    result = score(calls, SINK.best_items_per_s(200, 16), 20.0)

    assert result.steady_ratio >= 0.93
    assert result.p99_s <= 0.025
    assert result.reached_s <= 10


def test_without_a_budget_a_batch_grows_until_little_is_left_to_gain() -> None:
    law = BatchFit(AdjustmentPolicy(highest=5000))
    Simulation(SINK, Steered(Fixed(16), law), SEED).run(20.0)

    assert 1900 == pytest.approx(law.size, rel=0.25)


def test_a_budget_that_not_even_one_item_keeps_costs_no_throughput_and_is_told_of_once() -> None:
    sink = Sink(contention=COLLAPSE, capacity=((0.0, 16),), sigma=0.2, call_s=0.05, item_s=0.0005)
    law = BatchFit(p99_budget_s=0.025)
    calls = Simulation(sink, Steered(Fixed(16), law), SEED).run(50.0)
    told = [entry for entry in law.log.entries() if entry.before == entry.after]

    assert phase_ratio(calls, 20.0, 50.0, sink.best_items_per_s(1000, 16)) >= 0.9
    assert 1 == len(told)
    assert told[0] in law.log.untold()
    assert "no size keeps p99 within 25 ms" in told[0].reason


def test_a_batch_that_is_interrupted_every_few_windows_grows_and_settles() -> None:
    law = BatchFit(start=8, p99_budget_s=0.025)
    for number in range(100):
        slow = 0.005 + 0.00005 * law.size
        if number % 3:
            law.update(window(float(number), latency_s=slow, limit=4, size=law.size, calls=100))

    assert law.size >= 100
    assert law.is_settled


def test_a_batch_that_gains_nothing_from_its_size_is_taken_back() -> None:
    law = BatchFit(start=8)
    for number in range(20):
        slow = 0.001 * law.size**2 / 8
        law.update(window(number * 0.1, latency_s=slow, limit=4, size=law.size, calls=400))

    assert law.size <= 16
    assert Outcome.UNDONE in {entry.outcome for entry in law.log.entries()}


def test_a_batch_that_is_not_filled_does_not_grow() -> None:
    law = BatchFit(start=100)
    for number in range(20):
        law.update(window(number * 0.1, latency_s=0.01, limit=4, size=3, calls=400))

    assert 100 == law.size
    assert law.is_settled


def test_both_numbers_by_turns_reach_the_best_setting_within_the_budget() -> None:
    coordinator = Coordinator(SearchHold(), BatchFit(p99_budget_s=0.025))
    calls = Simulation(SINK, Coordinated(coordinator), SEED).run(30.0)
    result = score(calls, SINK.best_items_per_s(200, 16), 30.0)

    assert result.steady_ratio >= 0.95
    assert result.p99_s <= 0.025
    assert result.reached_s <= 10


def test_never_do_two_numbers_move_in_one_window() -> None:
    coordinator = Coordinator(SearchHold(), BatchFit(p99_budget_s=0.025))
    Simulation(SINK, Coordinated(coordinator), SEED).run(20.0)
    entries = coordinator.entries()
    moments = [entry.at_s for entry in entries]

    assert {Knob.LIMIT, Knob.BATCH_SIZE} == {entry.knob for entry in entries}
    assert len(moments) == len(set(moments))
    assert sorted(moments) == moments


def test_a_fixed_number_takes_no_turns() -> None:
    moved = Coordinator(SearchHold(), FixedSize(8))
    sized = Coordinator(Fixed(16), BatchFit(p99_budget_s=0.025))
    Simulation(SINK, Coordinated(moved), SEED).run(12.0)
    Simulation(SINK, Coordinated(sized), SEED).run(12.0)

    assert (8, 16) == (moved.size, sized.limit)
    assert abs(moved.limit - 16) <= 1
    assert sized.size > 100


def test_items_linger_as_long_as_the_budget_leaves() -> None:
    greedy = OpenLoop(10_000, None, SEED).run(20.0)
    lingering = OpenLoop(10_000, Linger(0.02), SEED).run(20.0)

    assert greedy.calls_per_s > 1000
    assert lingering.calls_per_s <= 200
    assert lingering.p99_s <= 0.020


def test_items_do_not_linger_for_company_that_does_not_come() -> None:
    linger = Linger(0.02)
    OpenLoop(5, linger, SEED).run(300.0)

    assert 0.0 == linger.linger_s


def test_items_do_not_linger_where_the_budget_is_spent_already() -> None:
    linger, lingers = Linger(0.02, start_s=0.01), []
    for number in range(3):
        linger.update(window(float(number), latency_s=0.05, limit=16))
        lingers.append(linger.linger_s)

    assert [0.01, 0.01, 0.0] == lingers


def test_what_was_seen_before_something_else_moved_does_not_shorten_the_linger() -> None:
    linger = Linger(0.02, start_s=0.01)
    for at_s in (0.0, 1.0, 3.0, 4.0):
        linger.update(window(at_s, latency_s=0.05, limit=16))

    assert 0.01 == linger.linger_s


class OneStall(Stalls):
    """The host stands still once."""

    def __init__(self, begins_s: float, ends_s: float) -> None:
        self._begins_s, self._ends_s = [begins_s], [ends_s]


@pytest.mark.parametrize("seed", [SEED, 11])
def test_a_host_that_stands_still_once_does_not_shorten_the_linger(seed: int) -> None:
    linger = Linger(0.02)
    OpenLoop(10_000, linger, seed, stalls=OneStall(8.0, 8.2)).run(11.0)
    after = [entry.after for entry in linger.log.entries() if entry.at_s > 8.0]

    assert linger.linger_s >= 0.005
    assert min([*after, linger.linger_s]) >= 0.005


@pytest.mark.parametrize("seed", [SEED, 913, 918])
def test_a_stage_in_open_loop_finds_its_slots_and_its_linger_within_seven_seconds(seed: int) -> None:
    """From one call at once; the second half of the run is scored."""
    steering = BatchSteering(
        SearchHold(),
        FixedSize(8),
        most=1000,
        linger=Linger(0.02),
        slots=Slots(0.02, highest=128),
    )
    result = SteeredOpenLoop(10_000, steering, seed).run(14.0)

    assert result.calls_per_s <= 200
    assert result.p99_s <= 0.020


def test_connections_are_shared_among_workers() -> None:
    budget = ConnectionBudget(max_connections=100, reserved=10)

    assert (90, 5, 18) == (budget.available, budget.pool_size(workers=16), budget.workers(pool_size=5))
    assert 5 == budget.capped(AdjustmentPolicy(highest=64), workers=16).highest


def test_who_wants_few_connections_gets_them_and_the_rest_is_parted() -> None:
    budget = ConnectionBudget(max_connections=23, reserved=3)

    assert {"api": 8, "jobs": 8, "probe": 2, "web": 2} == budget.shares(
        {"web": 2, "jobs": 50, "api": 50, "probe": 2}
    )
    assert {"api": 1, "web": 2} == budget.shares({"web": 2, "api": 1})


def test_more_workers_than_connections_are_refused() -> None:
    with pytest.raises(InvalidInput, match="pgbouncer"):
        ConnectionBudget(max_connections=10, reserved=3).pool_size(workers=8)
    with pytest.raises(InvalidInput, match="leaves none"):
        ConnectionBudget(max_connections=3)


def test_a_log_tells_of_each_adjustment_once() -> None:
    log = AdjustmentLog(2)
    told = []
    for number in range(4):
        seen = window(float(number), latency_s=0.01, limit=1)
        log.moved(seen, Knob.LIMIT, before=number, after=number + 1, reason="")
        told += [entry.after for entry in log.untold()]

    assert ([1, 2, 3, 4], ()) == (told, log.untold())


def test_a_log_keeps_the_newest_and_knows_what_is_pending() -> None:
    log = AdjustmentLog(length=2)
    for number in range(3):
        log.add(
            Adjustment(at_s=number, knob=Knob.LIMIT, before=number, after=number + 1, reason="for a test")
        )
    log.settle(Outcome.UNDONE, None)

    assert [1, 2] == [entry.before for entry in log.entries()]
    assert [Outcome.KEPT, Outcome.UNDONE] == [entry.outcome for entry in log.entries()]


def test_a_policy_with_its_bounds_crossed_is_refused() -> None:
    with pytest.raises(InvalidValue, match="bounds of 5 to 4"):
        AdjustmentPolicy(lowest=5, highest=4)


def window(
    at_s: float,
    *,
    latency_s: float,
    limit: int,
    in_flight: float | None = None,
    failures: int = 0,
    size: int = 1,
    calls: int = 200,
) -> Window:
    """A second in which as many calls were under way as the limit lets, unless told otherwise."""
    return Window(
        started_at_s=at_s,
        ended_at_s=at_s + (0.1 if calls > 200 else 1.0),
        limit=limit,
        completions=calls,
        failures=failures,
        items=calls * size,
        in_flight_mean=float(limit) if in_flight is None else in_flight,
        latencies=Latencies(
            mean_s=latency_s, p50_s=latency_s, p99_s=latency_s, typical_s=latency_s, typical_error=0.01
        ),
        is_saturated=in_flight is None,
    )
