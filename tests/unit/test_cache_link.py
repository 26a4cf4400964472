"""The way to the shared tier: what an outage, a cancelled call or a fault of the tier may and may not do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    BreakerPolicy,
    BreakerState,
    CachePolicy,
    InMemoryServer,
)
from perfloop.errors import TargetUnreachable

POLICY = CachePolicy(ttl_s=60, jitter_ratio=0)
SOON = BreakerPolicy(first_retry_s=0.01, longest_retry_s=0.01)
WITHIN_S = 5.0


class Tier(AsyncInMemoryRemote):
    """A tier whose acts a test can do things before and after."""

    before_fetch: Callable[[Sequence[str]], Coroutine[Any, Any, None]] | None = None
    after_invalidate: Callable[[], Coroutine[Any, Any, None]] | None = None
    gives_leases = True

    async def fetch(self, keys: Sequence[str], *, lease_s: float | None = None, **terms: Any) -> Any:
        if self.before_fetch is not None:
            await self.before_fetch(keys)
        return await super().fetch(keys, lease_s=lease_s if self.gives_leases else None, **terms)

    async def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        for name in (*keys, *tags):
            name.encode()
        await super().invalidate(keys, tags)
        if self.after_invalidate is not None:
            await self.after_invalidate()


def cache_on(tier: AsyncInMemoryRemote, **options: Any) -> AsyncTieredCache:
    return AsyncTieredCache(remote=tier, policy=POLICY, breaker=SOON, **options)


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)


async def until_back(cache: AsyncTieredCache) -> None:
    async def is_back() -> bool:
        return cache.statistics().breaker is BreakerState.CLOSED and not cache.is_alone

    await until(is_back)


async def loaded(value: object) -> object:
    return value


def test_a_read_that_is_cancelled_or_meets_an_outage_deletes_nothing() -> None:
    async def run() -> list[object]:
        server = InMemoryServer()
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(Tier(server)) as cache:
            await other.set("session", "logged in")
            reading = asyncio.create_task(cache.get("session"))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            found = [await other.get("session")]
            server.go_away()
            await cache.get_many(["session", "none"])
            server.come_back()
            await until_back(cache)
            return [*found, await other.get("session"), await cache.get("session")]

    assert ["logged in"] * 3 == asyncio.run(run())


def test_a_call_that_fails_late_keeps_no_tier_away() -> None:
    async def run() -> bool:
        server, ends = InMemoryServer(), asyncio.Event()
        tier = Tier(server)
        async with cache_on(tier) as cache:

            async def fail_late() -> None:
                if not ends.is_set():
                    ends.set()
                    await late

            async def hold(keys: Sequence[str]) -> None:
                if "slow" in keys:
                    await ends.wait()
                    raise TargetUnreachable("it failed late")
                if "perfloop-probe" in keys:
                    await fail_late()

            tier.before_fetch, tier.after_invalidate = hold, fail_late
            late = asyncio.create_task(cache.get("slow"))
            await asyncio.sleep(0)
            server.go_away()
            await cache.get("x")
            server.come_back()
            await until_back(cache)
            server.go_away()
            await cache.get("y")
            server.come_back()
            await until_back(cache)
            return cache.is_alone

    assert asyncio.run(run()) is False


def test_an_invalidation_that_is_cancelled_is_made_all_the_same_and_keeps_no_tier_away() -> None:
    async def run() -> tuple[bool, object]:
        server = InMemoryServer()
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(Tier(server)) as cache:
            await other.set("k", "old")
            deleting = asyncio.create_task(cache.delete("k"))
            await asyncio.sleep(0)
            deleting.cancel()
            await asyncio.gather(deleting, return_exceptions=True)
            is_alone = cache.is_alone

            async def is_gone() -> bool:
                return await other.get("k") is None

            await until(is_gone)
            return is_alone, await cache.get("k")

    assert (False, None) == asyncio.run(run())


def test_a_name_of_a_wrong_type_costs_its_caller_an_error_and_nobody_the_tier() -> None:
    async def run() -> bool:
        async with cache_on(Tier(InMemoryServer())) as cache:
            assert cache._link is not None
            with pytest.raises(AttributeError):
                await cache._link.invalidate((7,), ())  # type: ignore[arg-type]  # past the face, which refuses it
            return cache.is_alone

    assert asyncio.run(run()) is False


def test_what_is_invalidated_again_while_it_is_being_sent_is_sent_again() -> None:
    async def run() -> tuple[object, object]:
        server = InMemoryServer()
        tier = Tier(server)
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(tier) as cache:

            async def overtake() -> None:
                tier.after_invalidate = None
                await other.get_or_load("k", lambda: loaded("old"))
                await cache.delete("k")

            server.go_away()
            await cache.delete("k")
            tier.after_invalidate = overtake
            server.come_back()
            await until_back(cache)
            return await other.get("k"), await cache.get("k")

    assert (None, None) == asyncio.run(run())


def test_a_load_that_ends_during_an_outage_keeps_nobody_waiting_after_it() -> None:
    async def run() -> object:
        server = InMemoryServer()
        async with cache_on(Tier(server), lease_s=60.0) as cache:

            async def load() -> int:
                server.go_away()
                await cache.get("else")
                return 1

            await cache.get_or_load("k", load)
            server.come_back()
            await until_back(cache)
            async with asyncio.timeout(WITHIN_S):
                return await cache.get_or_load("k", lambda: loaded(2))

    assert 2 == asyncio.run(run())


def test_a_cache_that_was_closed_and_opened_again_comes_back_from_an_outage() -> None:
    async def run() -> bool:
        server = InMemoryServer()
        cache = cache_on(Tier(server))
        async with cache:
            pass
        async with cache:
            server.go_away()
            await cache.get("k")
            server.come_back()
            await until_back(cache)
            return cache.is_alone

    assert asyncio.run(run()) is False


def test_where_a_full_server_gives_no_lease_a_value_past_its_time_is_loaded() -> None:
    async def run() -> object:
        now_s = 0.0
        tier = Tier(InMemoryServer(clock=lambda: now_s))
        policy = CachePolicy(ttl_s=1, jitter_ratio=0, fail_safe_for_s=100)
        async with AsyncTieredCache(remote=tier, policy=policy, clock=lambda: now_s) as cache:
            await cache.get_or_load("k", lambda: loaded(1))
            now_s, tier.gives_leases = 5.0, False
            async with asyncio.timeout(WITHIN_S):
                return await cache.get_or_load("k", lambda: loaded(2))

    assert 2 == asyncio.run(run())
