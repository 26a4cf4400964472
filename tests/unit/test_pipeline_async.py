"""Pipelines with coroutine functions: in a loop of their own, or in the caller's."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from perfloop.control import FixedSize
from perfloop.errors import StageFailed
from perfloop.process import DeadLetter, Pipeline, RetryPolicy
from perfloop.process.pipeline import run

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield

    assert set() == set(threading.enumerate()) - before


async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


def test_coroutine_functions_run_in_a_loop_of_the_pipeline() -> None:
    seen: list[int] = []
    Pipeline(range(500)).stage(doubled, limiter=8).batch(seen.extend, limiter=1).run()

    assert [2 * number for number in range(500)] == sorted(seen)


def test_an_async_source_and_async_batches() -> None:
    seen: list[int] = []

    async def store(items: list[int]) -> None:
        await asyncio.sleep(0)
        seen.extend(items)

    summary = Pipeline(numbers(300)).stage(doubled).batch(store, size=50, linger_s=0.01).run()

    assert [2 * number for number in range(300)] == sorted(seen)
    assert ["async", "async"] == [stage.executor for stage in summary.stages]


def test_an_async_generator_function_makes_many_items() -> None:
    async def twice(number: int) -> AsyncIterator[int]:
        yield number
        yield number

    seen: list[int] = []
    Pipeline([1, 2]).stage(twice).batch(seen.extend, limiter=1).run()

    assert [1, 1, 2, 2] == sorted(seen)


def test_as_many_tasks_run_at_once_as_the_limit_says() -> None:
    under_way: list[int] = []
    most = 0
    all_there = asyncio.Event()

    async def meet(number: int) -> None:
        nonlocal most
        under_way.append(number)
        most = max(most, len(under_way))
        if len(under_way) == 20:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), DEADLINE_S)
        under_way.remove(number)

    Pipeline(range(20)).stage(meet, limiter=20).run()

    assert 20 == most


def test_order_is_kept_among_tasks() -> None:
    seen: list[int] = []

    async def early_ones_late(number: int) -> int:
        await asyncio.sleep(0.002 if number % 5 == 0 else 0.0)
        return number

    Pipeline(range(200)).stage(early_ones_late, limiter=10, ordered=True).stage(seen.append, limiter=1).run()

    assert list(range(200)) == seen


def test_failing_coroutines_are_tried_again_and_given_up() -> None:
    letters: list[DeadLetter] = []

    async def refuse(number: int) -> int:
        if number == 3:
            raise ValueError("refused")
        return number

    policy = RetryPolicy(retries=1, first_s=0.0)
    Pipeline(range(10), dead_letter=letters.append).stage(refuse, retries=policy).run()

    assert [(3, 2)] == [(letter.item, letter.attempts) for letter in letters]


def test_a_failure_cancels_the_calls_under_way() -> None:
    ended: list[str] = []

    async def hang(number: int) -> None:
        if number == 5:
            raise ValueError("refused")
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(StageFailed):
        Pipeline(range(6)).stage(hang, limiter=6).run()

    assert ["cancelled"] * 5 == ended


def test_run_async_calls_in_the_running_loop() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        async def check(number: int) -> int:
            assert asyncio.get_running_loop() is loop
            return number

        await Pipeline(numbers(200)).stage(check).batch(seen.extend, limiter=1).run_async()
        await Pipeline(range(200)).stage(check).batch(seen.extend, limiter=1).run_async()
        return seen

    assert sorted([*range(200), *range(200)]) == sorted(asyncio.run(main()))


def test_cancelling_run_async_ends_the_run() -> None:
    async def main() -> None:
        under_way = asyncio.Event()

        async def hang(number: int) -> None:
            under_way.set()
            await asyncio.sleep(DEADLINE_S)

        running = asyncio.create_task(Pipeline(itertools.count()).stage(hang, limiter=3).run_async())
        await under_way.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert 1 == len(asyncio.all_tasks())

    asyncio.run(main())


def test_stopping_an_async_source_without_an_end() -> None:
    async def endless() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(DEADLINE_S)

    seen: list[int] = []
    pipeline = Pipeline(endless())

    def work(number: int) -> None:
        seen.append(number)
        pipeline.stop()

    summary = pipeline.stage(work).run()

    assert ([1], False) == (seen, summary.is_complete)


def test_a_function_that_is_cancelled_by_others_fails_on_its_item() -> None:
    letters: list[DeadLetter] = []

    async def await_what_was_cancelled(number: int) -> int:
        if number == 3:
            raise asyncio.CancelledError
        return number

    Pipeline(range(10), dead_letter=letters.append).stage(await_what_was_cancelled, limiter=1).batch(
        await_batch_that_was_cancelled, size=3, linger_s=DEADLINE_S
    ).run()

    assert {3, 7} == {letter.item for letter in letters}


async def await_batch_that_was_cancelled(items: list[int]) -> None:
    if 7 in items:
        raise asyncio.CancelledError


def test_a_function_that_exits_ends_the_run() -> None:
    async def leave(number: int) -> None:
        if number == 3:
            raise SystemExit(7)

    with pytest.raises(SystemExit, match="7"):
        Pipeline(itertools.count()).stage(leave).run()


def test_what_waits_behind_a_call_that_is_cancelled_is_counted_as_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "GRACE_S", 0.1)
    done: list[int] = []

    async def first_one_hangs(number: int) -> int:
        if number == 0:
            await asyncio.sleep(DEADLINE_S)
        done.append(number)
        if len(done) == 5:
            pipeline.stop(drain=False)
        return number

    seen: list[int] = []
    pipeline = Pipeline(range(6)).stage(first_one_hangs, limiter=6, ordered=True)
    summary = pipeline.stage(seen.append, limiter=1).run()

    assert ([], 5) == (seen, len(done))
    assert (6, 6) == (summary.items_read, summary.dropped)


def test_a_coroutine_that_is_under_way_may_end_when_the_pipeline_is_stopped_at_once() -> None:
    done: list[int] = []

    async def stopping(number: int) -> None:
        pipeline.stop(drain=False)
        await asyncio.sleep(0.1)
        done.append(number)

    pipeline = Pipeline(range(1000)).stage(stopping, limiter=1)
    summary = pipeline.run()

    assert (1, [0]) == (summary.stages[0].items, done)
    assert summary.items_read == 1 + summary.dropped


def test_what_waits_for_room_when_it_is_cancelled_is_counted_as_dropped() -> None:
    async def same(number: int) -> int:
        return number

    stored: list[int] = []

    def stop_when_others_wait(items: list[int]) -> None:
        stored.extend(items)
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s:
            before, here = pipeline.statistics().stages
            if before.items > len(stored) + here.queue_length:
                break
            time.sleep(0.001)
        pipeline.stop(drain=False)

    pipeline = Pipeline(itertools.count()).stage(same, limiter=3)
    pipeline.batch(stop_when_others_wait, size=1, limiter=1, queue_items=1)
    summary = pipeline.run()

    assert summary.items_read == len(stored) + summary.dropped


def test_what_an_async_source_yields_while_it_is_stopped_is_worked_on() -> None:
    async def stopping_itself() -> AsyncIterator[int]:
        yield 1
        pipeline.stop()
        time.sleep(0.05)  # noqa: ASYNC251  # the loop is held up, so that whoever does not wait for it goes on
        yield 2

    seen: list[int] = []
    pipeline = Pipeline(stopping_itself()).stage(seen.append, limiter=1)
    summary = pipeline.run()

    assert list(range(1, 1 + summary.items_read)) == seen
    assert not summary.is_complete


class Broken(FixedSize):
    """A law of one's own with a fault."""

    def size_of_call(self, number: int) -> int:
        raise OSError("the law is broken")


def test_a_law_that_fails_ends_the_run_with_its_error() -> None:
    async def store(items: list[int]) -> None:
        pass

    with pytest.raises(OSError, match="the law is broken"):
        Pipeline(itertools.count()).stage(doubled).batch(store, size=Broken(8), limiter=1).stage(print).run()
