"""The queue between stages: bounded, in chunks, with a linger and with later attempts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from perfloop.process.pipeline.parcel import Parcel
from perfloop.process.pipeline.stage_queue import StageQueue
from perfloop.process.pipeline.turn import ENDLESS


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Woken:
    """What waits, and how often it was woken."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def taken(queue: StageQueue, most: int = 10, linger_s: float = 0.0) -> Any:
    got = queue.try_take(most, linger_s, Woken(), is_returning=False)
    return got.items if isinstance(got, Parcel) else got


def test_items_come_out_in_order_whatever_the_chunks() -> None:
    queue = StageQueue(100)
    for chunk in ([1, 2, 3], [4], [5, 6, 7, 8]):
        assert queue.try_put(chunk, Woken())

    assert [[1, 2], [3, 4, 5], [6, 7, 8]] == [taken(queue, 2), taken(queue, 3), taken(queue, 5)]


def test_one_large_chunk_is_taken_in_parts() -> None:
    queue = StageQueue(10)
    queue.try_put(list(range(7)), Woken())

    assert [[0, 1, 2], [3, 4, 5], [6]] == [taken(queue, 3) for _ in range(3)]


def test_a_full_queue_takes_no_more_until_half_of_it_is_free() -> None:
    queue, wake = StageQueue(4), Woken()
    queue.try_put([1, 2, 3, 4], wake)

    assert not queue.try_put([5], wake)
    taken(queue, 1)
    assert 0 == wake.times
    taken(queue, 1)
    assert 1 == wake.times
    assert queue.try_put([5], wake)


def test_it_tells_for_how_long_it_was_full() -> None:
    clock = Clock()
    queue = StageQueue(1, clock=clock)
    queue.try_put([1], Woken())
    queue.try_put([2], Woken())
    clock.now_s += 3.0
    taken(queue)
    clock.now_s += 5.0

    assert 3.0 == queue.full_s


def test_a_few_items_wait_for_company_as_long_as_the_linger() -> None:
    clock = Clock()
    queue = StageQueue(100, clock=clock)
    queue.try_put([1, 2], Woken())
    clock.now_s += 0.5

    assert 0.5 == taken(queue, 10, linger_s=1.0)
    clock.now_s += 0.5
    assert [1, 2] == taken(queue, 10, linger_s=1.0)


def test_a_full_call_does_not_wait_for_the_linger() -> None:
    queue = StageQueue(100)
    queue.try_put([1, 2, 3], Woken())

    assert [1, 2] == taken(queue, 2, linger_s=60.0)


def test_only_one_taker_watches_the_clock_and_wakes_the_next() -> None:
    clock = Clock()
    queue = StageQueue(100, clock=clock)
    first, second = Woken(), Woken()
    assert ENDLESS == queue.try_take(10, 1.0, first, is_returning=False)
    queue.try_put([1], Woken())
    assert 1 == first.times
    assert 1.0 == queue.try_take(10, 1.0, first, is_returning=False)
    assert ENDLESS == queue.try_take(10, 1.0, second, is_returning=False)
    queue.try_put([2], Woken())
    assert (1, 0) == (first.times, second.times)
    clock.now_s += 1.0
    queue.forget(first)

    assert [1] == taken(queue, 1, linger_s=1.0)
    assert 1 == second.times


def test_what_is_there_at_once_with_all_others_busy_was_late() -> None:
    queue = StageQueue(100)
    queue.try_put([1, 2, 3], Woken())
    late = queue.try_take(1, 0.0, Woken(), is_returning=True)
    fresh = queue.try_take(1, 0.0, Woken(), is_returning=False)

    assert [True, False] == [isinstance(one, Parcel) and one.is_late for one in (late, fresh)]


def test_items_that_come_one_at_a_time_can_be_taken_before_their_chunk_is_full() -> None:
    clock = Clock()
    queue = StageQueue(100, clock=clock)
    queue.opened_at_s = clock.now_s
    queue.opened.append("a")
    queue.opened.append("b")

    assert ["a", "b"] == taken(queue)


def test_a_work_that_failed_comes_again_after_its_pause() -> None:
    clock = Clock()
    queue = StageQueue(100, clock=clock)
    queue.try_put([1], Woken())
    taken(queue)
    queue.finish([(Parcel([1], 0.0, attempt=1), 2.0)])
    queue.close()

    assert 2.0 == taken(queue)
    clock.now_s += 2.0
    assert [1] == taken(queue)


def test_it_ends_when_it_is_closed_and_nothing_is_under_way() -> None:
    ended = Woken()
    queue = StageQueue(100)
    queue.when_ended = ended
    queue.try_put([1], Woken())
    queue.close()
    taken(queue)
    assert (ENDLESS, 0) == (taken(queue), ended.times)
    queue.finish([])

    assert (None, 1) == (taken(queue), ended.times)


def test_cancelling_drops_and_counts_what_is_in_it_and_all_that_comes() -> None:
    ended = Woken()
    queue = StageQueue(2)
    queue.when_ended = ended
    waiting = Woken()
    queue.try_put([1, 2], waiting)
    queue.try_put([3], waiting)
    queue.cancel()
    queue.try_put([3], waiting)

    assert (3, 1, 1, None) == (queue.dropped, waiting.times, ended.times, taken(queue))


@pytest.mark.parametrize(("is_last", "expected"), [(True, 2), (False, 4)])
def test_outputs_that_wait_for_an_item_that_failed_are_dropped_with_it(is_last: bool, expected: int) -> None:
    """Behind the last stage nobody waits for them: their items are through."""
    queue = StageQueue(100)
    queue.is_last = is_last
    queue.try_put([1, 2, 3, 4], Woken())
    taken(queue)
    queue.finish([(Parcel([3], 0.0, attempt=1, outputs=["one", "two"], rest=[[4]]), 60.0)])
    queue.cancel()

    assert expected == queue.dropped


def test_where_order_is_kept_only_so_many_works_are_ahead_of_the_first() -> None:
    queue = StageQueue(100, window=2)
    queue.try_put([1, 2, 3], Woken())
    assert ([1], [2], ENDLESS) == (taken(queue, 1), taken(queue, 1), taken(queue, 1))
    queue.advance()

    assert [3] == taken(queue, 1)


def test_threads_that_put_and_take_lose_nothing() -> None:
    queue = StageQueue(50)
    seen: list[int] = []

    def put(first: int) -> None:
        for number in range(first, first + 2000, 10):
            queue.put(list(range(number, number + 10)))

    def take() -> None:
        while (parcel := queue.take(lambda: 7, lambda: 0.0)) is not None:
            seen.extend(parcel.items)
            queue.finish([])

    takers = [threading.Thread(target=take) for _ in range(4)]
    putters = [threading.Thread(target=put, args=(first,)) for first in range(0, 8000, 2000)]
    for thread in takers + putters:
        thread.start()
    for thread in putters:
        thread.join()
    queue.close()
    for thread in takers:
        thread.join()

    assert list(range(8000)) == sorted(seen)
