"""What the stages of a pipeline decide, without a thread or a clock."""

from __future__ import annotations

from typing import Any

import pytest

from perfloop.control.batch_fit import BatchFit
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.linger import Linger
from perfloop.control.search_hold import SearchHold
from perfloop.control.slots import Slots
from perfloop.control.window import Window, summarise
from perfloop.errors import InvalidInput
from perfloop.process.pipeline.marks import RetryPolicy
from perfloop.process.pipeline.parcel import Outcome, Parcel, settle
from perfloop.process.pipeline.sequencing import Sequencer
from perfloop.process.pipeline.sizing import ChunkSize
from perfloop.process.pipeline.statistics import PipelineStatistics, StageStatistics
from perfloop.process.pipeline.steering import FREE_WINDOWS, BatchSteering

TWO_RETRIES = RetryPolicy(retries=2, first_s=0.5, jitter_ratio=0)
ERROR = ValueError("no")


def window(
    *, at_s: float = 1.0, p99_s: float = 0.01, items: int = 1000, is_saturated: bool = False
) -> Window:
    return Window(
        started_at_s=at_s - 1.0,
        ended_at_s=at_s,
        limit=1,
        completions=100,
        items=items,
        in_flight_mean=1.0,
        latencies=summarise([p99_s] * 100),
        is_saturated=is_saturated,
    )


def test_pauses_grow_to_the_longest() -> None:
    policy = RetryPolicy(first_s=1, factor=3, longest_s=20, jitter_ratio=0.5)

    assert [1, 3, 9, 20, 20, 10] == [
        *(policy.pause_s(attempt, 0.0) for attempt in (1, 2, 3, 4, 2000)),
        policy.pause_s(5, 1.0),
    ]


def test_a_policy_of_retries_refuses_what_cannot_be() -> None:
    with pytest.raises(InvalidInput, match=r"factor is 0\.5"):
        RetryPolicy(factor=0.5)


def test_only_the_items_that_failed_are_tried_again() -> None:
    settled = settle(
        Parcel([1, 2, 3], 0.0), Outcome([10, 30], [(1, ERROR)]), TWO_RETRIES, 0.0, is_ordered=False
    )

    assert ([10, 30], [([2], 1, 0.5)], 2, 1) == (
        settled.outputs,
        [(parcel.items, parcel.attempt, pause_s) for parcel, pause_s in settled.again],
        settled.through,
        settled.retried,
    )


def test_an_item_is_given_up_when_its_retries_are_used_up() -> None:
    settled = settle(
        Parcel([2], 0.0, attempt=2), Outcome([], [(0, ERROR)]), TWO_RETRIES, 0.0, is_ordered=False
    )

    assert ([], [(2, ERROR)], 3) == (settled.again, settled.given_up, settled.attempts)


def test_a_batch_that_failed_for_good_is_halved() -> None:
    failed = Outcome(failures=[(0, ERROR)], is_whole=True)
    settled = settle(Parcel([1, 2, 3], 0.0, attempt=2), failed, TWO_RETRIES, 0.0, is_ordered=False)

    assert [[1], [2, 3]] == [parcel.items for parcel, _ in settled.again]


def run_through(items: list[Any], bad: set[Any], *, is_whole: bool, policy: RetryPolicy) -> tuple[list, list]:
    """Settle a Parcel where order is kept until all of it is through: outputs and what was given up."""
    parcel, given_up = Parcel(items, 0.0, ticket=5), []
    while True:
        failed = [position for position, item in enumerate(parcel.items) if item in bad][:1]
        done = [] if is_whole and failed else parcel.items[: failed[0]] if failed else parcel.items
        failures = [(0 if is_whole else position, ERROR) for position in failed]
        settled = settle(parcel, Outcome(list(done), failures, is_whole), policy, 0.0, is_ordered=True)
        given_up += [item for item, _ in settled.given_up]
        if settled.outputs is not None:
            return settled.outputs, given_up
        [(parcel, _)] = settled.again
        assert 5 == parcel.ticket


@pytest.mark.parametrize("is_whole", [False, True], ids=["items", "batches"])
@pytest.mark.parametrize("policy", [RetryPolicy(retries=0), TWO_RETRIES], ids=["at once", "with retries"])
def test_where_order_is_kept_the_rest_stays_in_order_around_what_fails(
    is_whole: bool, policy: RetryPolicy
) -> None:
    outputs, given_up = run_through(list("abcdefg"), {"a", "d", "g"}, is_whole=is_whole, policy=policy)

    assert (list("bcef"), list("adg")) == (outputs, given_up)


def test_outputs_are_passed_on_in_the_order_of_their_tickets() -> None:
    sequencer = Sequencer()
    passed = [list(sequencer.bring(ticket, [ticket])) for ticket in (2, 1, 0, 3)]

    assert [[], [], [[0], [1], [2]], [[3]]] == passed


def test_slow_items_are_handed_over_one_by_one() -> None:
    size = ChunkSize(0.001, 100)
    for _ in range(10):
        size.observe(1, 0.005)

    assert 1 == size.size


def test_fast_items_are_handed_over_by_the_hundred() -> None:
    size, sizes = ChunkSize(0.001, 100), []
    for _ in range(4):
        size.observe(size.size, size.size * 1e-6)
        sizes.append(size.size)

    assert [8, 64, 100, 100] == sizes


def test_calls_become_longer_where_handing_over_is_slow() -> None:
    size = ChunkSize(0.1, 1000)
    for _ in range(100):
        size.observe(size.size, size.size * 0.001, overhead_s=0.015)

    assert 200 <= size.size <= 400


def test_the_chunk_is_left_alone_while_it_is_about_right() -> None:
    size = ChunkSize(0.001, 100)
    for _ in range(50):
        size.observe(size.size, size.size * 0.0001)
    before = size.size
    for item_s in (0.00008, 0.00013, 0.00009) * 5:
        size.observe(size.size, size.size * item_s)

    assert (8, 8) == (before, size.size)


def test_slots_grow_while_calls_are_late_and_items_over_their_budget() -> None:
    slots = Slots(0.02, highest=8)
    limits = []
    for at_s, p99_s in enumerate([0.08, 0.05, 0.03, 0.018], start=1):
        slots.update(window(at_s=at_s, p99_s=p99_s), is_late=True)
        limits.append(slots.limit)

    assert [2, 3, 4, 4] == limits


def test_a_slot_that_does_not_help_in_two_windows_is_taken_back() -> None:
    slots = Slots(0.02, highest=8)
    seen = enumerate([0.08, 0.5, 0.085, 0.085], start=1)
    moves = [slots.update(window(at_s=at_s, p99_s=p99_s), is_late=True) for at_s, p99_s in seen]

    assert [2, None, 1, None] == [move and move.after for move in moves]
    assert "back: p99 went from 80.0 to 85.0 ms" == (moves[2] and moves[2].reason)


def test_a_slot_that_helps_once_a_stall_is_over_stays() -> None:
    slots = Slots(0.02, highest=8)
    for at_s, p99_s in [(1, 0.08), (2, 0.5), (3, 0.015)]:
        slots.update(window(at_s=at_s, p99_s=p99_s), is_late=True)

    assert (2, False) == (slots.limit, slots.is_on_trial)


def steering(linger: Linger | float = 0.0, slots: Slots | None = None) -> BatchSteering:
    return BatchSteering(Fixed(4), FixedSize(50), most=1000, linger=linger, slots=slots)


def test_in_open_loop_the_slots_come_first_and_then_the_linger() -> None:
    steered = steering(Linger(0.02), Slots(0.02, highest=32))
    steered.update(window(at_s=1.0), 0.0)
    steered.update_linger(window(at_s=2.5, p99_s=0.05), is_late=True)
    assert (6, 0.0) == (steered.limit, steered.linger_s)
    steered.update_linger(window(at_s=3.6, p99_s=0.01), is_late=False)

    assert 6 == steered.limit
    assert 0.004 < steered.linger_s < 0.01


def test_a_window_in_which_something_moved_moves_nothing_else() -> None:
    steered = steering(Linger(0.02), Slots(0.02, highest=32))
    steered.update(window(at_s=1.0), 0.0)

    assert steered.update_linger(window(at_s=1.5, p99_s=0.001), is_late=False) is None


def test_a_stage_that_falls_behind_goes_on_with_the_slots_and_the_size_that_it_had() -> None:
    steered = BatchSteering(
        SearchHold(), BatchFit(), most=1000, linger=Linger(0.02), slots=Slots(0.02, highest=32)
    )
    steered.update(window(at_s=1.0), 0.0)
    for at_s, p99_s in [(2.0, 0.05), (3.0, 0.03), (4.0, 0.025)]:
        steered.update_linger(window(at_s=at_s, p99_s=p99_s), is_late=True)
    steered.update(window(at_s=4.5, items=6000), 0.0)
    before = steered.limit
    steered.update(window(at_s=5.0, items=90_000), 0.9)

    assert (4, 4, 60) == (before, steered.limit, steered.size)
    assert sorted(entry.at_s for entry in steered.entries()) == [entry.at_s for entry in steered.entries()]


def test_a_source_that_waits_makes_a_closed_loop_until_it_does_not_for_a_while() -> None:
    steered = steering()
    seen = []
    for held_ratio in [0.9, *[0.0] * FREE_WINDOWS]:
        steered.update(window(), held_ratio)
        seen.append(steered.is_behind)

    assert [True, True, True, False] == seen


def test_a_source_that_never_waited_stays_in_open_loop() -> None:
    steered, seen = steering(), []
    for _ in range(5):
        steered.update(window(), 0.0)
        seen.append(steered.is_behind)

    assert [False] * 5 == seen


def stage(name: str, *, full: float = 0.0, busy: float = 0.0, held: float = 0.0) -> StageStatistics:
    return StageStatistics(
        name=name,
        executor="threads",
        items=10,
        passed_on=10,
        calls=1,
        retries=0,
        dead_letters=0,
        rate_per_s=1.0,
        queue_length=0,
        wait_s=2.0,
        service_s=0.002,
        utilisation_ratio=busy,
        full_ratio=full,
        start_s=2.0 * held,
        start_held_ratio=held,
        limit=1,
        size=1,
        linger_s=0.0,
    )


@pytest.mark.parametrize(
    ("expected", "stages"),
    [
        ("source", [stage("fetch", busy=0.1), stage("store", busy=0.2)]),
        ("fetch", [stage("fetch", busy=0.9), stage("store", busy=0.2)]),
        ("store", [stage("fetch", full=0.9, busy=0.9), stage("store", full=0.8, busy=0.7)]),
        ("fetch", [stage("fetch", full=0.9, busy=0.4), stage("store", busy=0.7)]),
        ("the start of parse", [stage("fetch", full=0.4, busy=0.1), stage("parse", held=0.5, busy=0.3)]),
        ("fetch", [stage("fetch", busy=0.9), stage("parse", held=0.1, busy=0.1)]),
        ("source", [stage("fetch", full=0.2, busy=0.1), stage("parse", held=0.2, busy=0.1)]),
        ("parse", [stage("fetch", full=0.3, busy=0.1), stage("parse", held=0.35, busy=0.45)]),
    ],
)
def test_the_bottleneck_is_the_last_stage_that_others_wait_for(
    expected: str, stages: list[StageStatistics]
) -> None:
    assert expected == PipelineStatistics(elapsed_s=1.0, items_read=10, stages=tuple(stages)).bottleneck


def test_the_statistics_are_a_table_for_people() -> None:
    text = PipelineStatistics(elapsed_s=2.0, items_read=10, stages=(stage("fetch", busy=0.9),)).text()

    assert [
        "stage  items  per s  waiting   wait  service  busy  limit  size  retried  dead  start",
        "fetch     10      1        0  2.0 s   2.0 ms   90%      1     1        0     0   0 us",
        "10 items read in 2.0 s, 5/s; the bottleneck is fetch",
    ] == text.splitlines()
