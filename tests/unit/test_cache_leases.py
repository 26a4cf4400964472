"""What becomes of leases and sets whose calls were cancelled or failed: they end, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    BreakerPolicy,
    BreakerState,
    CachePolicy,
    InMemoryRemote,
    InMemoryServer,
    TieredCache,
)
from perfloop.cache.unsent import Unsent
from perfloop.errors import TargetUnreachable
from perfloop.model.remote import EVERYTHING, Lease, StoreOutcome, Write

POLICY = CachePolicy(ttl_s=60, jitter_ratio=0)
SOON = BreakerPolicy(first_retry_s=0.01, longest_retry_s=0.01)
LEASE_S = 60.0
WITHIN_S = 5.0


class Tier(AsyncInMemoryRemote):
    """Does what a test says after the server has acted, before the answer is there."""

    after: Callable[[str], Awaitable[None]] | None = None

    async def _act(self, name: str) -> None:
        if self.after is not None:
            await self.after(name)

    async def fetch(self, *args: Any, **terms: Any) -> Any:
        fetched = await super().fetch(*args, **terms)
        await self._act("fetch")
        return fetched

    async def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome]:
        outcomes = await super().store(writes)
        await self._act("store")
        return outcomes


def cache_on(tier: AsyncInMemoryRemote, **options: Any) -> AsyncTieredCache:
    return AsyncTieredCache(remote=tier, policy=POLICY, breaker=SOON, lease_s=LEASE_S, **options)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)


def is_back(cache: AsyncTieredCache) -> bool:
    return cache.statistics().breaker is BreakerState.CLOSED and not cache.is_alone


async def loaded(value: object) -> object:
    return value


async def cancelled_in(tier: Tier, name: str, call: Awaitable[Any]) -> None:
    """Cancel a call once the server has done what it asked, before it knows."""
    done = asyncio.Event()

    async def hang(acted: str) -> None:
        if acted == name:
            tier.after = None
            done.set()
            await asyncio.Event().wait()

    tier.after = hang
    calling = asyncio.ensure_future(call)
    await done.wait()
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)


def test_a_cancelled_look_up_ends_its_lease_and_leaves_the_value() -> None:
    async def run() -> tuple[object, object]:
        server = InMemoryServer()
        tier = Tier(server)
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(tier) as cache:
            await other.set("hot", "kept")
            await cancelled_in(tier, "fetch", cache.get_or_load("hot", lambda: loaded("anew")))
            await cancelled_in(tier, "fetch", cache.get_or_load("cold", lambda: loaded("late")))
            async with asyncio.timeout(WITHIN_S):
                return await other.get("hot"), await other.get_or_load("cold", lambda: loaded("soon"))

    assert ("kept", "soon") == asyncio.run(run())


def test_the_lease_that_another_claimed_since_is_not_ended() -> None:
    async def run() -> tuple[Lease | None, list[StoreOutcome]]:
        server = InMemoryServer()
        tier, others = Tier(server), AsyncInMemoryRemote(server)
        claimed: list[Lease | None] = []

        async def overtake(name: str) -> None:
            tier.after = None
            await others.invalidate(("k",))
            claimed.append((await others.fetch(("k",), lease_s=LEASE_S))["k"].lease)
            raise asyncio.CancelledError

        async with cache_on(tier) as cache:
            tier.after = overtake
            with pytest.raises(asyncio.CancelledError):
                await cache.get_or_load("k", lambda: loaded(1))
            assert cache._link is not None
            unsent = cache._link._unsent
            assert not unsent.is_empty
            await until(lambda: unsent.is_empty)
            end = Write(key="k", payload=None, lease=claimed[0])
            return claimed[0], list(await others.store((end,)))

    lease, outcomes = asyncio.run(run())

    assert lease is not None
    assert [StoreOutcome.RELEASED] == outcomes


def test_a_look_up_that_failed_ends_the_lease_it_may_have_on_return() -> None:
    async def run() -> tuple[object, object]:
        server = InMemoryServer()
        tier = Tier(server)
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(tier) as cache:
            await other.set("else", 1)

            async def lose_answer(name: str) -> None:
                tier.after = None
                raise TargetUnreachable("the answer was lost")

            tier.after = lose_answer
            first = await cache.get_or_load("k", lambda: loaded("alone"))
            await until(lambda: is_back(cache))
            async with asyncio.timeout(WITHIN_S):
                return first, await other.get_or_load("k", lambda: loaded("soon"))

    assert ("alone", "soon") == asyncio.run(run())


def test_a_loaded_value_whose_store_was_not_answered_stays_where_it_was_stored() -> None:
    async def run() -> object:
        server = InMemoryServer()
        tier = Tier(server)
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(tier) as cache:

            async def lose_answer(name: str) -> None:
                if name == "store":
                    tier.after = None
                    raise TargetUnreachable("the answer was lost")

            tier.after = lose_answer
            await cache.get_or_load("k", lambda: loaded("value"))
            await until(lambda: is_back(cache))
            return await other.get("k")

    assert "value" == asyncio.run(run())


def test_a_cancelled_set_is_made_all_the_same() -> None:
    async def run() -> tuple[object, object, int]:
        server = InMemoryServer()
        tier = Tier(server)
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(tier) as cache:
            await other.set("session", "old")
            setting = asyncio.create_task(cache.set("session", "new"))
            await asyncio.sleep(0)
            setting.cancel()
            await asyncio.gather(setting, return_exceptions=True)
            await until(lambda: not cache._loading.crew)
            pending = cache.statistics().pending_invalidations
            return await other.get("session"), await cache.get("session"), pending

    assert ("new", "new", 0) == asyncio.run(run())


def test_a_set_that_failed_leaves_no_old_value_behind_on_return() -> None:
    async def run() -> object:
        server = InMemoryServer()
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(Tier(server)) as cache:
            await other.set("k", "old")
            server.go_away()
            await cache.set("k", "new")
            server.come_back()
            await until(lambda: is_back(cache))
            return await other.get("k")

    assert asyncio.run(run()) is None


def test_a_call_of_the_server_that_is_cancelled_opens_no_breaker() -> None:
    async def run() -> int:
        tier = Tier(InMemoryServer())
        async with cache_on(tier) as cache:
            await cancelled_in(tier, "store", cache.get_or_load("k", lambda: loaded(1)))
            await cancelled_in(tier, "fetch", cache.get_or_load("l", lambda: loaded(1)))
            return cache.statistics().breaker_openings

    assert asyncio.run(run()) == 0


def test_what_another_fetched_before_a_set_came_through_is_not_kept_after_it() -> None:
    async def run() -> object:
        server = InMemoryServer()
        tier = Tier(server)
        async with cache_on(AsyncInMemoryRemote(server)) as other, cache_on(tier) as cache:
            await other.set("k", "old")
            inner = tier.store

            async def slow(writes: Sequence[Write]) -> Sequence[StoreOutcome]:
                await other.set("k", "theirs")  # its news lets our own readers begin anew
                await cache.get("k")
                return await inner(writes)

            tier.store = slow  # type: ignore[method-assign]  # the moment before it is sent
            await cache.set("k", "ours")
            return await cache.get("k")

    assert "ours" == asyncio.run(run())


def test_what_was_fetched_before_a_set_without_a_life_came_through_is_not_kept_after_it() -> None:
    class Slow(InMemoryRemote):
        def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
            cache.get("k")
            super().invalidate(keys, tags)

    server = InMemoryServer()
    none = CachePolicy(ttl_s=60, negative_ttl_s=0, jitter_ratio=0)
    cache = TieredCache(remote=Slow(server), policy=none)
    with cache, TieredCache(remote=InMemoryRemote(server), policy=none) as other:
        other.set("k", "old")
        cache.set("k", None)

        assert cache.get("k") is None


def test_what_is_noted_again_while_it_is_told_stays_to_be_told() -> None:
    unsent = Unsent()
    lease = Lease(key="k", token="1", birth=0)
    unsent.add(("k", "l"), ("t",), (lease,))
    message = unsent.all()
    unsent.add(("k",))
    unsent.remove(message)

    left = unsent.all()

    assert (["k"], [], []) == (list(left.keys), list(left.tags), list(left.leases))


def test_more_than_can_be_noted_becomes_everything_and_old_leases_run_out() -> None:
    unsent = Unsent()
    unsent.add(map(str, range(5)), (), [Lease(key=str(n), token="1", birth=0) for n in range(5)])
    unsent.limit(4)

    assert ([EVERYTHING], 0) == (list(unsent.all().tags), len(unsent.all().keys))

    unsent.add((), (), [Lease(key=str(n), token="1", birth=0) for n in range(5)])
    unsent.limit(4)

    assert ["1", "2", "3", "4"] == [lease.key for lease in unsent.all().leases]


@pytest.mark.parametrize("name", ["k", 7])
def test_a_lookup_of_any_name_leaves_nothing_to_tell(name: Any) -> None:
    async def run() -> int:
        async with cache_on(Tier(InMemoryServer())) as cache:
            if name == "k":
                await cache.delete(name)
            else:
                assert cache._link is not None
                with pytest.raises(AttributeError):
                    await cache._link.invalidate((name,), ())  # past the face, which refuses it
            return cache.statistics().pending_invalidations

    assert asyncio.run(run()) == 0
