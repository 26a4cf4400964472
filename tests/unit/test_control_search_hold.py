"""The default law on simulated sinks; the whole grid is in tests/statistical/test_adaptive_grid.py."""

from __future__ import annotations

import msgspec
import pytest
from benchmarks.sink_simulation import COLLAPSE, PLATEAU, Calls, Simulation, Sink, Steered, phase_ratio, score
from benchmarks.stalls import Stalls

from perfloop.control.adjustment import Adjustment, Outcome
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.law import ConcurrencyLaw
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.search_hold import SearchHold
from perfloop.control.window import Latencies, Window

SIZE = 8
SEED = 901


def play(law: ConcurrencyLaw, sink: Sink, length_s: float, seed: int = SEED) -> Calls:
    return Simulation(sink, Steered(law, FixedSize(SIZE)), seed).run(length_s)


def sink_of(contention: float, capacity: int, sigma: float) -> Sink:
    return Sink(contention=contention, capacity=((0.0, capacity),), sigma=sigma)


def window(at_s: float, limit: int, *, in_flight: float | None = None, latency_s: float = 0.01) -> Window:
    """A tenth of a second that is saturated, unless fewer calls than the limit are under way."""
    mean = float(limit) if in_flight is None else in_flight
    calls = round(0.1 * mean / latency_s)
    return Window(
        started_at_s=at_s,
        ended_at_s=at_s + 0.1,
        limit=limit,
        completions=calls,
        items=calls,
        in_flight_mean=mean,
        latencies=Latencies(
            mean_s=latency_s, p50_s=latency_s, p99_s=latency_s, typical_s=latency_s, typical_error=0.01
        ),
        is_saturated=in_flight is None,
    )


@pytest.mark.parametrize(
    ("contention", "capacity", "sigma"),
    [(PLATEAU, 6, 0.2), (PLATEAU, 16, 0.5), (COLLAPSE, 6, 0.5), (COLLAPSE, 16, 0.2)],
)
def test_it_finds_the_best_limit_without_hints(contention: float, capacity: int, sigma: float) -> None:
    sink, law = sink_of(contention, capacity, sigma), SearchHold()
    result = score(play(law, sink, 12.0), sink.best_items_per_s(SIZE, capacity), 12.0)

    assert result.steady_ratio >= 0.95
    assert result.reached_s <= 10
    assert abs(law.limit - capacity) <= 1


@pytest.mark.parametrize("seed", [901, 902])
def test_a_host_that_stalls_most_of_the_time_does_not_keep_it_from_the_knee(seed: int) -> None:
    sink, brought = sink_of(COLLAPSE, 16, 0.5), []
    for law in (SearchHold(), Fixed(16)):
        stalls = Stalls("crowded", seed, 30.0)
        calls = Simulation(sink, Steered(law, FixedSize(SIZE)), seed, stalls=stalls).run(30.0)
        brought.append(phase_ratio(calls, 15.0, 30.0, 1.0))

    assert brought[0] >= 0.85 * brought[1]


def test_it_follows_a_capacity_that_falls_and_rises() -> None:
    capacities = ((0.0, 16), (15.0, 6), (30.0, 32))
    sink = Sink(contention=COLLAPSE, capacity=capacities, sigma=0.2)
    calls = play(SearchHold(start=16), sink, 45.0)

    for at_s, capacity in capacities[1:]:
        assert phase_ratio(calls, at_s + 7, at_s + 15, sink.best_items_per_s(SIZE, capacity)) >= 0.9


class Interrupted(Steered):
    """Every third Window goes elsewhere, as in a stage whose source falls behind now and then."""

    seen = 0

    def update(self, window: Window) -> Adjustment | None:
        self.seen += 1
        return None if self.seen % 3 == 0 else super().update(window)


@pytest.mark.parametrize("contention", [PLATEAU, COLLAPSE])
def test_a_search_that_is_interrupted_every_few_windows_ends_at_the_knee(contention: float) -> None:
    sink, law = sink_of(contention, 16, 0.2), SearchHold()
    calls = Simulation(sink, Interrupted(law, FixedSize(SIZE)), SEED).run(20.0)

    assert abs(law.limit - 16) <= 2
    assert law.log.entries()
    assert score(calls, sink.best_items_per_s(SIZE, 16), 20.0).steady_ratio >= 0.9


def test_the_same_windows_lead_to_the_same_adjustments() -> None:
    first, second = SearchHold(), SearchHold()
    sink = sink_of(COLLAPSE, 6, 0.5)
    play(first, sink, 5.0)
    play(second, sink, 5.0)

    assert first.log.entries() == second.log.entries()


def test_every_adjustment_has_a_reason_and_what_did_not_pay_is_undone() -> None:
    law = SearchHold()
    play(law, sink_of(COLLAPSE, 6, 0.2), 10.0)
    undone = [entry for entry in law.log.entries() if entry.outcome is Outcome.UNDONE]

    assert all(entry.reason and entry.evidence.before for entry in law.log.entries())
    assert undone
    assert all(entry.evidence.after for entry in undone)
    assert all(entry.after > 6 or entry.after < entry.before for entry in undone)


def test_the_log_is_bounded_and_its_newest_is_the_last_move() -> None:
    law = SearchHold(AdjustmentPolicy(cool_down_s=0.0))
    play(law, sink_of(PLATEAU, 1, 0.5), 150.0)

    assert len(law.log.entries()) <= 256
    assert law.limit == law.log.entries()[-1].after


def test_it_stays_within_its_bounds() -> None:
    law = SearchHold(AdjustmentPolicy(lowest=3, highest=5))
    play(law, sink_of(PLATEAU, 64, 0.2), 3.0)

    assert 5 == law.limit
    assert all(3 <= entry.after <= 5 for entry in law.log.entries())


def test_it_does_not_move_while_no_work_waits() -> None:
    law = SearchHold(start=4)
    moves = [law.update(window(number * 0.1, 4, in_flight=1.0)) for number in range(200)]

    assert [None] * 200 == moves


@pytest.mark.parametrize("idle", [0, 1, 30])
def test_it_searches_and_settles_once_an_idle_source_has_work(idle: int) -> None:
    """Nothing lies between these Windows, although some begin a rounding error after the last one ended."""
    law, settled_after = SearchHold(), None
    for number in range(idle + 60):
        at_s = number * 0.1
        if number < idle:
            law.update(window(at_s, law.limit, in_flight=0.3))
        else:
            law.update(window(at_s, law.limit, latency_s=0.01 * max(1.0, law.limit / 8) ** 2))
        if law.is_settled and settled_after is None:
            settled_after = number - idle

    assert settled_after is not None
    assert abs(law.limit - 8) <= 1


def test_a_limit_on_trial_that_ends_the_waiting_stays() -> None:
    law, at_s = SearchHold(start=4), 0.0
    while law.limit == 4:
        law.update(window(at_s, 4))
        at_s += 0.1
    for _ in range(20):
        law.update(window(at_s, law.limit, in_flight=4.5))
        at_s += 0.1

    assert 8 == law.limit
    assert law.is_settled
    assert Outcome.KEPT is law.log.entries()[-1].outcome


def test_a_trial_is_not_kept_where_the_waiting_ended_at_the_other_limit() -> None:
    law, at_s = SearchHold(start=4), 0.0
    while len(law.log.entries()) < 2:
        law.update(window(at_s, law.limit, latency_s=0.01 if law.limit == 4 else 0.04))
        at_s += 0.1
    for _ in range(8):
        law.update(window(at_s, 4, in_flight=2.0))
        at_s += 0.1

    assert 4 == law.limit
    assert law.is_settled
    assert [Outcome.UNDONE, Outcome.KEPT] == [entry.outcome for entry in law.log.entries()]


def test_the_first_look_after_a_search_goes_up_and_soon() -> None:
    law, at_s, settled_at_s = SearchHold(start=4), 0.0, 0.0
    while settled_at_s == 0.0 or law.is_settled:
        law.update(window(at_s, law.limit, latency_s=0.01 * max(1.0, law.limit / 4) ** 2))
        at_s += 0.1
        if law.is_settled and settled_at_s == 0.0:
            settled_at_s = at_s

    assert 5 == law.limit
    assert at_s - settled_at_s <= 1.5


def test_calls_that_fail_count_against_a_limit() -> None:
    law, at_s = SearchHold(start=4), 0.0
    while not law.is_settled:
        whole = window(at_s, law.limit)
        if law.limit > 4:
            whole = msgspec.structs.replace(whole, failures=whole.completions)
        law.update(whole)
        at_s += 0.1

    assert 4 == law.limit


def test_a_limit_at_which_no_call_ends_well_is_undone() -> None:
    law, at_s = SearchHold(start=4), 0.0
    while law.limit == 4:
        law.update(window(at_s, 4))
        at_s += 0.1
    for _ in range(8):
        failing = msgspec.structs.replace(window(at_s, law.limit), completions=0, items=0, failures=50)
        law.update(msgspec.structs.replace(failing, latencies=None))
        at_s += 0.1

    assert 4 == law.limit
    assert [Outcome.UNDONE, Outcome.KEPT] == [entry.outcome for entry in law.log.entries()]


def test_windows_before_a_move_took_hold_are_not_counted() -> None:
    law = SearchHold(start=4)
    moves = [law.update(window(number * 0.1, 7)) for number in range(20)]

    assert [None] * 20 == moves
    assert law.update(window(2.0, 4)) is None
