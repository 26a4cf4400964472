"""The Limiter: never above its limit, in order, and no slot lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from perfloop.control import AdjustmentPolicy, AsyncLimiter, ConnectionBudget, Limiter, law_for
from perfloop.errors import InvalidValue

DEADLINE_S = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true"
        time.sleep(0.001)


def in_line(limiter: Limiter, names: list[str], served: list[str]) -> list[threading.Thread]:
    """Threads that wait in this order, note their name when served, and give the slot back."""
    threads = []
    for name in names:
        waiting = limiter.statistics().waiting

        def wait(name: str = name) -> None:
            with limiter.slot():
                served.append(name)

        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        wait_until(lambda waiting=waiting: limiter.statistics().waiting > waiting)  # type: ignore[misc]  # a default
    return threads


def test_slots_go_to_those_who_wait_in_order() -> None:
    limiter, served = Limiter(1), list[str]()
    begun_at_s = limiter.acquire()
    threads = in_line(limiter, ["first", "second", "third"], served)
    limiter.release(begun_at_s)
    for thread in threads:
        thread.join()

    assert ["first", "second", "third"] == served
    assert (0, 0) == (limiter.statistics().in_flight, limiter.statistics().waiting)


def test_nobody_overtakes_those_who_wait() -> None:
    limiter, served = Limiter(1), list[str]()
    begun_at_s = limiter.acquire()
    threads = in_line(limiter, ["first"], served)

    assert limiter.try_acquire() is None

    limiter.release(begun_at_s)
    threads[0].join()


def test_who_waits_gets_a_slot_when_the_limit_rises() -> None:
    limiter, served = Limiter(1), list[str]()
    begun_at_s = limiter.acquire()
    threads = in_line(limiter, ["first"], served)
    limiter.resize(2)
    threads[0].join()
    limiter.release(begun_at_s)

    assert ["first"] == served


def test_a_lower_limit_stops_nothing_and_lets_nothing_in() -> None:
    limiter = Limiter(3)
    begun = [limiter.acquire() for _ in range(3)]
    limiter.resize(1)
    limiter.release(begun[0])
    limiter.release(begun[1])

    assert limiter.try_acquire() is None

    limiter.release(begun[2])

    assert limiter.try_acquire() is not None


def test_a_wait_with_a_time_limit_ends_and_leaves_the_line() -> None:
    limiter = Limiter(1)
    limiter.acquire()

    assert limiter.try_acquire(0.01) is None
    assert 0 == limiter.statistics().waiting


def test_a_wait_with_a_time_limit_is_served_within_it() -> None:
    limiter, begun = Limiter(1), list[float | None]()
    held_since_s = limiter.acquire()
    thread = threading.Thread(target=lambda: begun.append(limiter.try_acquire(DEADLINE_S)))
    thread.start()
    wait_until(lambda: limiter.statistics().waiting == 1)
    limiter.release(held_since_s)
    thread.join()

    assert begun[0] is not None


def test_the_limit_holds_and_every_call_is_counted_under_many_threads() -> None:
    limiter, under_way, most = Limiter(3), [0], [0]
    counted = threading.Lock()
    completions = items = failures = 0

    def work() -> None:
        for number in range(200):
            begun_at_s = limiter.acquire()
            with counted:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            with counted:
                under_way[0] -= 1
            limiter.release(begun_at_s, 5, failed=number % 10 == 0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        window = limiter.drain()
        completions, failures = completions + window.completions, failures + window.failures
        items += window.items
        time.sleep(0.001)
    window = limiter.drain()

    assert (1440, 160, 7200) == (
        completions + window.completions,
        failures + window.failures,
        items + window.items,
    )
    assert most[0] <= 3
    assert 0 == limiter.statistics().in_flight


def test_a_block_that_raises_gives_its_slot_back_as_failed() -> None:
    limiter = Limiter(1)
    with pytest.raises(ZeroDivisionError), limiter.slot():
        raise ZeroDivisionError
    window = limiter.drain()

    assert (0, 1) == (window.completions, window.failures)


def test_an_async_block_that_raises_gives_its_slot_back_as_failed() -> None:
    async def scenario() -> tuple[int, int, int]:
        limiter = AsyncLimiter(1)
        with pytest.raises(ZeroDivisionError):
            async with limiter.slot():
                raise ZeroDivisionError
        async with limiter.slot() as slot:
            slot.items = 7
        window = limiter.drain()
        return window.completions, window.failures, window.items

    assert (1, 1, 7) == asyncio.run(scenario())


def test_the_items_of_a_block_may_be_told_at_its_end() -> None:
    limiter = Limiter(1)
    with limiter.slot() as slot:
        slot.items = 7

    assert 7 == limiter.drain().items


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue, match="lets nothing through"):
        Limiter(0)
    with pytest.raises(InvalidValue, match="lets nothing through"):
        Limiter(1).resize(0)


def test_a_cancelled_task_leaves_the_line() -> None:
    async def scenario() -> tuple[int, int]:
        limiter = AsyncLimiter(1)
        begun_at_s = await limiter.acquire()
        first, second = asyncio.create_task(limiter.acquire()), asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        limiter.release(begun_at_s)
        limiter.release(await second)
        return limiter.statistics().in_flight, limiter.statistics().waiting

    assert (0, 0) == asyncio.run(scenario())


def test_a_slot_that_came_as_its_task_was_cancelled_goes_to_the_next() -> None:
    async def scenario() -> tuple[bool, int]:
        limiter = AsyncLimiter(1)
        begun_at_s = await limiter.acquire()
        first, second = asyncio.create_task(limiter.acquire()), asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        limiter.release(begun_at_s)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        limiter.release(await asyncio.wait_for(second, DEADLINE_S))
        return first.cancelled(), limiter.statistics().in_flight

    assert (True, 0) == asyncio.run(scenario())


def test_a_slot_passes_over_a_task_that_is_being_cancelled() -> None:
    async def scenario() -> int:
        limiter = AsyncLimiter(1)
        begun_at_s = await limiter.acquire()
        first, second = asyncio.create_task(limiter.acquire()), asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        first.cancel()
        limiter.release(begun_at_s)
        limiter.release(await asyncio.wait_for(second, DEADLINE_S))
        await asyncio.gather(first, return_exceptions=True)
        return limiter.statistics().in_flight

    assert 0 == asyncio.run(scenario())


def test_tasks_are_served_in_order_and_counted() -> None:
    async def scenario() -> tuple[list[int], int, int]:
        limiter, served = AsyncLimiter(2), list[int]()

        async def work(number: int) -> None:
            async with limiter.slot(3):
                served.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(number) for number in range(10)))
        window = limiter.drain()
        return served, window.completions, window.items

    assert (list(range(10)), 10, 30) == asyncio.run(scenario())


def test_tasks_in_line_get_in_when_the_limit_rises() -> None:
    async def scenario() -> int:
        limiter = AsyncLimiter(1)
        await limiter.acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        limiter.resize(2)
        await asyncio.wait_for(waiting, DEADLINE_S)
        return limiter.statistics().in_flight

    assert 2 == asyncio.run(scenario())


def test_a_law_steers_a_pool_of_ones_own_within_the_connection_budget() -> None:
    budget = ConnectionBudget(max_connections=20, reserved=4)
    law = law_for("adaptive", budget.capped(AdjustmentPolicy(interval_s=0.02, calls=4), workers=4))
    most = 0

    async def query(limiter: AsyncLimiter) -> None:
        nonlocal most
        async with limiter.slot():
            most = max(most, limiter.statistics().in_flight)
            await asyncio.sleep(0.001)

    async def play() -> None:
        limiter = AsyncLimiter(law.limit)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as queries:
            while limiter.limit < 4:
                if limiter.statistics().waiting < 50:
                    queries.create_task(query(limiter))
                if limiter.is_due(law.policy.interval_s, law.policy.calls):
                    law.update(limiter.drain())
                    limiter.resize(law.limit)
                await asyncio.sleep(0)

    asyncio.run(play())

    assert 4 == law.limit
    assert most <= 4
