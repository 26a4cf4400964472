"""Loads that do not end by themselves: how many there may be, and what cancelled ones leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, Gate, until

from perfloop.cache import AsyncInMemoryRemote, AsyncTieredCache, CachePolicy, InMemoryServer, TieredCache
from perfloop.cache.waiting import AsyncSignal
from perfloop.errors import InvalidInput, LoadTimedOut

IMPATIENT = CachePolicy(ttl_s=10, fail_safe_for_s=1000, jitter_ratio=0, hard_timeout_s=0.01)
PATIENT = CachePolicy(ttl_s=10, fail_safe_for_s=1000, jitter_ratio=0, hard_timeout_s=10)
WITHIN_S = 5


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def end_two_of(gate: Gate) -> None:
    for _ in range(2):
        gate.wait_begun()
        gate.let()


def test_of_a_key_whose_loader_hangs_two_threads_are_left_and_no_more() -> None:
    gate = Gate(*range(10))
    with TieredCache(policy=IMPATIENT) as cache:
        for _ in range(10):
            with pytest.raises(LoadTimedOut, match="hard_timeout_s"):
                cache.get_or_load("k", gate)
        end_two_of(gate)
        other = cache.get_or_load("another", lambda: "is loaded", policy=PATIENT)
        until(lambda: len(cache._loading.crew) == 0)
        again = cache.get_or_load("k", lambda: "again", policy=PATIENT)

        assert (2, "is loaded", "again") == (gate.calls, other, again)


class Stubborn:
    """A loader that goes on when it is cancelled."""

    def __init__(self) -> None:
        self.ends = asyncio.Event()
        self.calls = 0

    async def load(self) -> int:
        self.calls += 1
        while not self.ends.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.ends.wait()
        return self.calls


def test_of_a_key_whose_loader_ignores_its_end_two_tasks_are_left_and_no_more() -> None:
    async def run() -> tuple[int, int]:
        loader = Stubborn()
        async with AsyncTieredCache(policy=IMPATIENT) as cache:
            for _ in range(10):
                with pytest.raises(LoadTimedOut, match="hard_timeout_s"):
                    await cache.get_or_load("k", loader.load)
            calls = loader.calls
            loader.ends.set()
            while len(cache._loading.crew):  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.001)
            return calls, await cache.get_or_load("k", loader.load, policy=PATIENT)

    assert (2, 3) == asyncio.run(run())


def test_a_batch_whose_loader_hangs_takes_two_threads_and_no_more() -> None:
    gate = Gate({})
    with TieredCache(policy=IMPATIENT) as cache:
        for _ in range(10):
            with pytest.raises(LoadTimedOut, match="hard_timeout_s"):
                cache.load_many(["a", "b"], lambda keys: gate())
        end_two_of(gate)

        assert 2 == gate.calls


def test_with_loads_that_hang_a_spare_value_is_served_at_once(clock: FakeClock) -> None:
    gate = Gate("new")
    with TieredCache(clock=clock, policy=IMPATIENT) as cache:
        cache.get_or_load("k", lambda: "old")
        clock.advance(11)
        served = [cache.get_or_load("k", gate) for _ in range(5)]
        end_two_of(gate)

        assert (["old"] * 5, 2) == (served, gate.calls)


def test_a_load_that_hangs_behind_spare_values_is_given_up_after_the_hard_limit(
    kind: Any, clock: FakeClock
) -> None:
    policy = CachePolicy(
        ttl_s=10, fail_safe_for_s=1000, jitter_ratio=0, soft_timeout_s=0.01, hard_timeout_s=5
    )
    gate = Gate("hung", "new")
    with kind.cache(clock=clock, policy=policy) as cache:
        cache.get_or_load("k", lambda: "old")
        clock.advance(11)
        served = [cache.get_or_load("k", gate), cache.get_or_load("k", gate)]
        gate.wait_begun()
        calls = gate.calls
        clock.advance(6)
        served += [cache.get_or_load("k", gate), cache.get_or_load("k", gate)]
        gate.wait_begun()
        gate.let()
        gate.let()

        assert (["old"] * 4, 1, 2) == (served, calls, gate.calls)


def test_refreshes_that_hang_take_no_thread_beyond_the_limit(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfloop.cache.waiting.MOST_THREADS", 3)
    gate = Gate("new")
    keys = [str(number) for number in range(10)]
    with TieredCache(clock=clock) as cache:
        for key in keys:
            cache.get_or_load(key, lambda: "old", ttl_s=10, stale_for_s=100)
        clock.advance(11)
        served = [cache.get_or_load(key, gate, ttl_s=10, stale_for_s=100) for key in keys]
        threads = len(cache._loading.crew)
        for _ in range(threads):
            gate.let()

    assert (["old"] * 10, 3) == (served, threads)


@pytest.mark.parametrize("by_batch", [False, True])
def test_where_no_thread_can_be_started_nothing_is_left_behind(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, by_batch: bool
) -> None:
    def ask(value: str) -> str:
        if by_batch:
            return cache.load_many(["k"], lambda keys: {"k": value}, policy=PATIENT)["k"]
        return cache.get_or_load("k", lambda: value, policy=PATIENT)

    with TieredCache(clock=clock) as cache:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError, match="can't start"):
                ask("first")
        seen = [ask("first")]
        clock.advance(11)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            seen.append(ask("second"))
        seen.append(ask("second"))

    assert ["first", "first", "second"] == seen


@pytest.mark.parametrize("by_batch", [False, True])
def test_where_no_thread_can_be_started_a_stale_value_is_served_and_refreshed_later(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, by_batch: bool
) -> None:
    def ask(value: str) -> str:
        if by_batch:
            return cache.load_many(["k"], lambda keys: {"k": value}, ttl_s=10, stale_for_s=100)["k"]
        return cache.get_or_load("k", lambda: value, ttl_s=10, stale_for_s=100)

    with TieredCache(clock=clock) as cache:
        ask("old")
        clock.advance(11)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            served = ask("new")
        ask("new")
        until(lambda: cache.get("k") == "new")

    assert "old" == served


def test_a_loader_that_waits_for_its_own_key_says_so() -> None:
    with TieredCache(policy=CachePolicy(ttl_s=60)) as cache:
        with pytest.raises(InvalidInput, match="waits for 'k' itself"):
            cache.get_or_load("k", lambda: cache.get_or_load("k", lambda: 1))
        with pytest.raises(InvalidInput, match="waits for 'k' itself"):
            cache.get_or_load("k", lambda: cache.get_or_load("j", lambda: cache.get_or_load("k", lambda: 1)))
        with pytest.raises(InvalidInput, match="waits for 'k' itself"):
            cache.load_many(["k"], lambda keys: {"k": cache.get_or_load("k", lambda: 1)})

        assert 2 == cache.get_or_load("k", lambda: 2)


def test_a_loader_for_asyncio_that_waits_for_its_own_key_says_so() -> None:
    async def run() -> None:
        async with AsyncTieredCache(policy=CachePolicy(ttl_s=60)) as cache, asyncio.timeout(WITHIN_S):

            async def one() -> object:
                return await cache.get_or_load("k", one)

            async def two() -> object:
                return await cache.get_or_load("j", one)

            for loader in (one, two):
                with pytest.raises(InvalidInput, match="waits for 'k' itself"):
                    await cache.get_or_load("k", loader)

    asyncio.run(run())


def test_two_loaders_that_wait_for_each_other_say_so() -> None:
    both = threading.Barrier(2)

    with TieredCache(policy=CachePolicy(ttl_s=60)) as cache:

        def load(other: str) -> object:
            both.wait(WITHIN_S)
            return cache.get_or_load(other, lambda: 1)

        raised: list[BaseException] = []

        def ask(key: str, other: str) -> None:
            try:
                cache.get_or_load(key, lambda: load(other))
            except InvalidInput as error:
                raised.append(error)

        threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WITHIN_S)

        assert 2 == len(raised)


def test_a_loader_may_have_others_ask_for_its_key_while_it_goes_on() -> None:
    async def run() -> list[object]:
        async with AsyncTieredCache(policy=CachePolicy(ttl_s=60)) as cache, asyncio.timeout(WITHIN_S):
            asked: list[asyncio.Task[object]] = []

            async def load() -> object:
                asked.append(asyncio.ensure_future(cache.get_or_load("k", load)))
                await asyncio.sleep(0)
                return 7

            return [await cache.get_or_load("k", load), await asked[0]]

    assert [7, 7] == asyncio.run(run())


def test_a_call_that_is_cancelled_at_any_moment_keeps_no_other_process_waiting(clock: FakeClock) -> None:
    async def run() -> list[object]:
        server = InMemoryServer(clock=clock)
        policy = CachePolicy(ttl_s=60)

        def cache_on() -> AsyncTieredCache:
            return AsyncTieredCache(remote=AsyncInMemoryRemote(server), policy=policy)

        async def load() -> str:
            await asyncio.sleep(0)
            return "of the cancelled"

        async def load_too() -> str:
            return "of another"

        async with cache_on() as cache, cache_on() as other, asyncio.timeout(WITHIN_S):
            for turns in range(12):
                asking = asyncio.create_task(cache.get_or_load(f"k{turns}", load))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            return [await other.get_or_load(f"k{turns}", load_too) for turns in range(12)]

    found = asyncio.run(run())

    assert {"of another", "of the cancelled"} == set(found)


def test_a_signal_given_while_the_loop_was_held_up_has_come_in_time() -> None:
    async def run() -> bool:
        signal = AsyncSignal()
        waiting = asyncio.create_task(signal.wait(0.01))
        await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251  # it is to hold up the loop
        signal.give()
        return await waiting

    assert asyncio.run(run())


@pytest.mark.parametrize("by_batch", [False, True])
def test_who_waits_for_a_load_as_the_cache_is_closed_is_told_so(by_batch: bool) -> None:
    async def run() -> BaseException | None:
        begun = asyncio.Event()

        async def load(_: object = None) -> dict[str, int]:
            begun.set()
            await asyncio.Event().wait()
            return {}

        async with AsyncTieredCache(policy=CachePolicy(ttl_s=60)) as cache:
            asked = cache.load_many(["k"], load) if by_batch else cache.get_or_load("k", load)
            asking = asyncio.ensure_future(asked)
            await begun.wait()
        await asyncio.wait((asking,))
        return None if asking.cancelled() else asking.exception()

    error = asyncio.run(run())

    assert isinstance(error, InvalidInput)
    assert "the cache was closed" in str(error)
