"""What wakes who waits for another process's load, and what is left when a cache is closed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    BreakerPolicy,
    CachePolicy,
    InMemoryRemote,
    InMemoryServer,
    TieredCache,
)
from perfloop.cache._async.hearing import RECENT, AsyncAwaited
from perfloop.errors import InvalidInput, MissingRights, TargetUnreachable
from perfloop.model.remote import Gap, News, Write

POLICY = CachePolicy(ttl_s=60, jitter_ratio=0)
NEVER = BreakerPolicy(first_retry_s=600, longest_retry_s=600)
LEASE_S = 600.0
WITHIN_S = 4.0


class Tier(AsyncInMemoryRemote):
    """Counts what it is asked, and loses the answer for some keys."""

    fetches = 0
    lost: Sequence[str] = ()

    async def fetch(self, keys: Sequence[str], **terms: Any) -> Any:
        self.fetches += 1
        fetched = await super().fetch(keys, **terms)
        if set(keys) & set(self.lost):
            raise TargetUnreachable("the answer was lost")
        return fetched


def cache_on(tier: AsyncInMemoryRemote, breaker: BreakerPolicy | None = None) -> AsyncTieredCache:
    return AsyncTieredCache(remote=tier, policy=POLICY, breaker=breaker, lease_s=LEASE_S)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)


async def loaded(value: object) -> object:
    return value


async def waiting(cache: AsyncTieredCache, key: str = "k") -> asyncio.Task[object]:
    """A caller of a key whose lease another process holds."""
    link = cache._link
    assert link is not None
    begun = asyncio.create_task(cache.get_or_load(key, lambda: loaded("own")))
    await until(lambda: len(link._hearing.awaited))
    return begun


def test_a_wait_that_ends_unheard_leaves_nothing_behind() -> None:
    async def run() -> tuple[int, int]:
        awaited = AsyncAwaited()
        await awaited.wait("timed out", awaited.number, 0.0)
        task = asyncio.create_task(awaited.wait("cancelled", awaited.number, LEASE_S))
        await asyncio.sleep(0)
        places = len(awaited)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return places, len(awaited)

    assert (1, 0) == asyncio.run(run())


def test_news_that_came_since_the_look_up_is_not_waited_for_however_much_came_after_it() -> None:
    async def run() -> None:
        awaited = AsyncAwaited()
        for later in (0, 1, 10 * RECENT):
            seen = awaited.number
            awaited.heard(("k",))
            for number in range(later):
                awaited.heard((f"other {number}",))
            async with asyncio.timeout(WITHIN_S):
                await awaited.wait("k", seen, LEASE_S)

    asyncio.run(run())


def test_news_of_other_keys_is_no_reason_to_ask_again() -> None:
    async def run() -> tuple[object, int]:
        server = InMemoryServer()
        others, tier = AsyncInMemoryRemote(server), Tier(server)
        async with cache_on(tier) as cache:
            lease = (await others.fetch(("k",), lease_s=LEASE_S))["k"].lease
            task = await waiting(cache)
            before = tier.fetches
            for number in range(100):
                await others.invalidate((f"busy {number}",))
            asked = tier.fetches - before
            assert lease is not None
            await others.invalidate(("k",))
            return await task, asked

    assert ("own", 0) == asyncio.run(run())


def test_an_outage_wakes_who_waits_for_another_process() -> None:
    async def run() -> object:
        server = InMemoryServer()
        tier = Tier(server)
        async with cache_on(tier, NEVER) as cache:
            await AsyncInMemoryRemote(server).fetch(("k",), lease_s=LEASE_S)
            task = await waiting(cache)
            tier.lost = ("lost",)
            await cache.get_or_load("lost", lambda: loaded(1))
            async with asyncio.timeout(WITHIN_S):
                return await task

    assert "own" == asyncio.run(run())


def test_closing_wakes_threads_that_wait_for_another_process() -> None:
    server = InMemoryServer()
    cache = TieredCache(remote=InMemoryRemote(server), policy=POLICY, lease_s=LEASE_S)
    InMemoryRemote(server).fetch(("k",), lease_s=LEASE_S)
    values: list[object] = []
    cache.open()
    thread = threading.Thread(target=lambda: values.append(cache.get_or_load("k", lambda: "own")))
    thread.start()
    deadline_s = time.monotonic() + WITHIN_S
    while not cache._link._hearing.awaited:  # type: ignore[union-attr]  # it has a remote
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    cache.close()
    thread.join(WITHIN_S)

    assert ["own"] == values
    assert time.monotonic() < deadline_s


def test_what_could_not_be_told_is_told_when_the_cache_is_closed() -> None:
    async def run() -> object:
        server = InMemoryServer()
        async with cache_on(AsyncInMemoryRemote(server)) as other:
            async with cache_on(AsyncInMemoryRemote(server), NEVER) as cache:
                await other.set("k", "old")
                server.go_away()
                await cache.delete("k")
                server.come_back()
            return await other.get("k")

    assert asyncio.run(run()) is None


def test_what_can_not_be_told_at_all_is_counted_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        server = InMemoryServer()
        async with cache_on(AsyncInMemoryRemote(server), NEVER) as cache:
            server.go_away()
            await cache.delete("k", "l")
            await cache.invalidate_tag("t")

    with caplog.at_level(logging.WARNING, "perfloop.cache"):
        asyncio.run(run())

    assert "closed with 3 invalidations unsent" in caplog.text


def test_a_closed_cache_takes_no_invalidation_that_it_could_tell_nobody() -> None:
    async def run() -> object:
        cache = cache_on(AsyncInMemoryRemote())
        async with cache:
            pass
        with pytest.raises(InvalidInput, match="open it again"):
            await cache.delete("k")
        with pytest.raises(InvalidInput, match="open it again"):
            await cache.set("k", 1)
        return await cache.get_or_load("k", lambda: loaded("own"))

    assert "own" == asyncio.run(run())


class Silent(AsyncInMemoryRemote):
    """Tells nothing when it is listened to."""

    is_entered = False

    async def __aenter__(self) -> Any:
        self.is_entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_entered = False

    async def listen(self, hear: Callable[[News], None]) -> None:
        await asyncio.Event().wait()


def test_opening_that_is_cancelled_leaves_nothing_open() -> None:
    async def run() -> tuple[bool, bool, int]:
        tier = Silent()
        opening = asyncio.create_task(cache_on(tier).open())
        await asyncio.sleep(0.01)
        was_entered = tier.is_entered
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        return was_entered, tier.is_entered, len(asyncio.all_tasks()) - 1

    assert (True, False, 0) == asyncio.run(run())


def test_listening_that_a_missing_right_ended_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(AsyncInMemoryRemote):
        ends = 1

        async def listen(self, hear: Callable[[News], None]) -> None:
            hear(Gap(is_over=True))
            if self.ends:
                self.ends -= 1
                await asyncio.sleep(0.01)
                raise MissingRights("the right was taken away")
            await asyncio.Event().wait()

    async def run() -> None:
        tier = Forgetful()
        async with cache_on(tier) as cache:
            await until(lambda: not cache.statistics().hears_news)
            await until(lambda: cache.statistics().hears_news)

    monkeypatch.setattr("perfloop.cache._async.hearing.LISTEN_AGAIN_S", 0.02)
    asyncio.run(run())


def test_who_hears_nothing_asks_again_for_what_another_process_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> object:
        server = InMemoryServer()
        others = AsyncInMemoryRemote(server)
        lease = (await others.fetch(("k",), lease_s=LEASE_S))["k"].lease
        async with cache_on(Silent(server)) as cache:
            task = await waiting(cache)
            await others.store((Write(key="k", payload=None, lease=lease),))
            async with asyncio.timeout(WITHIN_S):
                return await task

    monkeypatch.setattr("perfloop.cache._async.link.GREETING_S", 0.01)

    assert "own" == asyncio.run(run())


def test_what_was_found_invalid_after_a_gap_is_not_served_when_the_tier_goes_away() -> None:
    async def run() -> tuple[object, ...]:
        server = InMemoryServer()
        tier = AsyncInMemoryRemote(server)
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(tier, NEVER) as cache:
            await other.set("k", "old", tags=("t",))
            found = [await cache.get("k")]
            hear = server._listeners[tier._origin]
            server._leave(tier._origin)
            await other.invalidate_tag("t")
            server._listen(tier._origin, hear)
            found.append(await cache.get("k"))
            server.go_away()
            await cache.get("else")
            return *found, cache.is_alone, await cache.get("k")

    assert ("old", None, True, None) == asyncio.run(run())
