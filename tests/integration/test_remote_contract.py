"""What every shared tier of the cache keeps: the fake and the real servers, for asyncio and for threads.

A test is a coroutine over the tiers of several processes. Those for threads are called in place, for one call
is one step of the server whoever makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from perfloop.adapters.remote._async.tier import AsyncRedisTier
from perfloop.adapters.remote._sync.tier import RedisTier
from perfloop.adapters.servers import RedisServer, installed_redis
from perfloop.cache.in_memory_remote import AsyncInMemoryRemote, InMemoryRemote, InMemoryServer
from perfloop.cache.remote import (
    EVERYTHING,
    AsyncRemoteTier,
    Fetched,
    Gap,
    KeysChanged,
    Lease,
    LoadsFinished,
    News,
    RemoteTier,
    StoreOutcome,
    TagsChanged,
    Write,
)

TIMEOUT_S = 30.0
LEASE_S = 30.0
ODD_NAMES = ("", "*", "ü 漢 \n\0", "{}:v:", "x" * 5000, "\ud800")

_prefixes = itertools.count()


class Turned:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class InPlace:
    """A tier for threads in the coat of one for asyncio; it listens in a thread."""

    def __init__(self, tier: RemoteTier) -> None:
        self._tier = tier

    async def __aenter__(self) -> InPlace:
        self._tier.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._tier.__exit__(None, None, None)

    @property
    def scope(self) -> str:
        return self._tier.scope

    async def fetch(self, keys: Sequence[str], *, lease_s: float | None = None, **terms: Any) -> Any:
        return self._tier.fetch(keys, lease_s=lease_s, **terms)

    async def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome]:
        return self._tier.store(writes)

    async def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        self._tier.invalidate(keys, tags)

    async def listen(self, hear: Callable[[News], None]) -> None:
        thread = threading.Thread(target=self._tier.listen, args=(hear,), daemon=True)
        thread.start()
        await asyncio.Event().wait()


class Ground:
    """Where the processes of a test meet: one server, or one fake."""

    def __init__(
        self, make: Callable[[], AsyncRemoteTier], evict_lease: Callable[[str], object], clock: Turned | None
    ) -> None:
        self._make = make
        self.evict_lease = evict_lease
        self._clock = clock

    @contextlib.asynccontextmanager
    async def processes(self, count: int = 2) -> AsyncIterator[list[AsyncRemoteTier]]:
        async with contextlib.AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self._make()) for _ in range(count)]

    async def pass_time(self, length_s: float) -> None:
        if self._clock is None:
            await asyncio.sleep(length_s)
        else:
            self._clock.now_s += length_s


class Hearing:
    """What one tier hears."""

    def __init__(self, tier: AsyncRemoteTier) -> None:
        self.heard: list[News] = []
        self._task = asyncio.create_task(tier.listen(self.heard.append))

    async def __aenter__(self) -> Hearing:
        await self.until(Gap(is_over=True))
        self.heard.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def until(self, news: News) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while news not in self.heard:  # noqa: ASYNC110 - told by a thread where the tier is one for threads
                await asyncio.sleep(0.002)


@pytest.fixture(scope="session")
def contract_urls() -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:
        yield {one.flavour: stack.enter_context(RedisServer(one)).url for one in installed_redis()}


@pytest.fixture(params=["fake", "redis", "valkey"])
def place(request: pytest.FixtureRequest) -> str | None:
    """The URL of a server, or None for the fake."""
    if request.param == "fake":
        return None
    urls = request.getfixturevalue("contract_urls")
    if request.param not in urls:
        pytest.skip(f"no {request.param} is installed")
    url: str = urls[request.param]
    return url


@pytest.fixture(params=["asyncio", "threads"])
def ground(request: pytest.FixtureRequest, place: str | None) -> Ground:
    is_async = request.param == "asyncio"
    if place is not None:
        prefix = f"contract-{next(_prefixes)}"

        def evict(key: str) -> None:
            with redis.Redis.from_url(place) as connection:
                assert connection.delete(f"{{{prefix}}}:l:{key}") == 1

        if is_async:
            return Ground(lambda: AsyncRedisTier(place, prefix=prefix, timeout_s=TIMEOUT_S), evict, None)
        return Ground(lambda: InPlace(RedisTier(place, prefix=prefix, timeout_s=TIMEOUT_S)), evict, None)
    clock = Turned()
    server = InMemoryServer(clock=clock)
    if is_async:
        return Ground(lambda: AsyncInMemoryRemote(server), server._claims.pop, clock)
    return Ground(lambda: InPlace(InMemoryRemote(server)), server._claims.pop, clock)


async def claim(tier: AsyncRemoteTier, key: str = "k", lease_s: float = LEASE_S) -> Lease:
    lease = (await tier.fetch((key,), lease_s=lease_s))[key].lease
    assert lease is not None
    return lease


async def read(tier: AsyncRemoteTier, key: str = "k", lease_s: float | None = None) -> Fetched:
    return (await tier.fetch((key,), lease_s=lease_s))[key]


async def payload_of(tier: AsyncRemoteTier, key: str = "k") -> bytes | None:
    entry = (await read(tier, key)).entry
    return None if entry is None else entry.payload


async def load(tier: AsyncRemoteTier, payload: bytes = b"v", *, key: str = "k", **kept: Any) -> StoreOutcome:
    lease = await claim(tier, key)
    (outcome,) = await tier.store((Write(key=key, payload=payload, lease=lease, **{"ttl_s": 60.0} | kept),))
    return outcome


def test_a_miss_lets_one_process_load_and_its_value_is_a_hit_for_all(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other):
            lease = await claim(one)
            second = await read(other, lease_s=LEASE_S)

            assert second.entry is None
            assert second.lease is None
            assert second.held_for_s is not None
            assert LEASE_S - 5 < second.held_for_s <= LEASE_S

            write = Write(key="k", payload=b"v", ttl_s=60, stale_for_s=5, tags=("a", "b"), lease=lease)
            outcomes = await one.store((write,))
            hit = await read(other, lease_s=LEASE_S)

            assert [StoreOutcome.STORED] == list(outcomes)
            assert hit.lease is None
            assert hit.held_for_s is None
            assert hit.entry is not None
            assert (b"v", ("a", "b"), 60, 5, 0) == (
                hit.entry.payload,
                hit.entry.tags,
                hit.entry.ttl_s,
                hit.entry.stale_for_s,
                hit.entry.fail_safe_for_s,
            )
            assert 0 <= hit.entry.age_s < 5

    asyncio.run(test())


def test_a_fetch_without_a_lease_claims_nothing(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other):
            assert Fetched() == await read(one)
            await claim(one)

            assert Fetched() == await read(other)

    asyncio.run(test())


@pytest.mark.parametrize("by", ["key", "tag", "other tag", "everything", "set", "release"])
def test_whatever_is_invalidated_during_a_load_refuses_its_store(ground: Ground, by: str) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other):
            await load(one, b"before", key="member", tags=("t", "u"))
            lease = await claim(one)
            if by == "set":
                await other.store((Write(key="k", payload=b"newer", ttl_s=60),))
            elif by == "release":
                await one.store((Write(key="k", payload=None, lease=lease),))
            else:
                keys = ("k",) if by == "key" else ()
                tags = {"tag": ("t",), "other tag": ("u",), "everything": (EVERYTHING,)}.get(by, ())
                await other.invalidate(keys, tags)
            write = Write(key="k", payload=b"old", ttl_s=60, tags=("t", "u"), lease=lease)

            assert [StoreOutcome.FENCED] == list(await one.store((write,)))
            assert (b"newer" if by == "set" else None) == await payload_of(other)

    asyncio.run(test())


def test_a_tag_that_was_never_stored_fences_as_well(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other):
            lease = await claim(one)
            await other.invalidate(tags=("new",))
            write = Write(key="k", payload=b"old", ttl_s=60, tags=("new",), lease=lease)

            assert [StoreOutcome.FENCED] == list(await one.store((write,)))
            assert StoreOutcome.STORED == await load(one, tags=("new",))

    asyncio.run(test())


def test_the_first_member_of_a_tag_does_not_fence_the_loads_beside_it(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other):
            leases = [await claim(tier, key) for tier, key in ((one, "a"), (other, "b"), (other, "c"))]
            writes = [Write(key=it.key, payload=b"v", ttl_s=60, tags=("new",), lease=it) for it in leases]
            outcomes = [*await one.store(writes[:1]), *await other.store(writes[1:])]

            assert [StoreOutcome.STORED] * 3 == outcomes
            assert [b"v"] * 3 == [await payload_of(one, key) for key in "abc"]

    asyncio.run(test())


def test_a_tag_clears_its_members_and_nothing_else(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other):
            for key, tags in (("a", ("t",)), ("b", ("t", "u")), ("c", ("u",)), ("d", ())):
                await load(one, key=key, tags=tags)
            await other.invalidate(tags=("t",))

            assert [None, None, b"v", b"v"] == [await payload_of(one, key) for key in "abcd"]

            await other.invalidate(tags=(EVERYTHING,))

            assert [None] * 4 == [await payload_of(one, key) for key in "abcd"]
            assert StoreOutcome.STORED == await load(one, key="a", tags=("t",))
            assert b"v" == await payload_of(other, "a")

    asyncio.run(test())


def test_a_tag_outlives_its_longest_member(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(1) as (one,):
            await load(one, key="long", tags=("t",), ttl_s=60)
            await load(one, key="short", tags=("t",), ttl_s=0.02)
            await ground.pass_time(0.05)

            assert [b"v", None] == [await payload_of(one, key) for key in ("long", "short")]

            await one.invalidate(tags=("t",))

            assert await payload_of(one, "long") is None

    asyncio.run(test())


def test_an_invalidated_key_stays_so_until_it_is_loaded_again(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other):
            await load(one)
            await other.invalidate(("k", "never stored"))

            assert await payload_of(one) is None
            assert StoreOutcome.STORED == await load(other, b"again")
            assert b"again" == await payload_of(one)

    asyncio.run(test())


def test_a_load_that_renews_is_heard_as_a_change_unless_it_is_refused(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other), Hearing(other) as others:
            for is_fenced in (False, True):
                lease = (await one.fetch(("k",), lease_s=10, early_s=math.inf))["k"].lease
                assert lease is not None
                if is_fenced:
                    await other.invalidate(tags=("t",))
                await one.store(
                    (Write(key="k", payload=b"v", ttl_s=60, tags=("t",), lease=lease, renews=True),)
                )
            await one.invalidate(("last",))
            await others.until(KeysChanged(keys=("last",)))

            assert [KeysChanged(keys=("k",)), KeysChanged(keys=("last",))] == others.heard

    asyncio.run(test())


def test_changes_are_heard_by_all_other_processes_and_not_by_their_own(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other), Hearing(one) as own, Hearing(other) as others:
            await load(one, tags=("t",))
            await one.invalidate(("k", "l"), ("t", "u"))
            await one.store((Write(key="m", payload=b"v", ttl_s=60),))
            await one.invalidate(tags=(EVERYTHING,))
            await other.invalidate(("last",))
            await others.until(Gap(is_over=True))
            await own.until(KeysChanged(keys=("last",)))

            assert [KeysChanged(keys=("last",))] == own.heard
            assert [
                KeysChanged(keys=("k", "l")),
                TagsChanged(tags=("t", "u")),
                KeysChanged(keys=("m",)),
                Gap(is_over=True),
            ] == others.heard

    asyncio.run(test())


@pytest.mark.parametrize("end", ["store", "release", "invalidate", "set"])
def test_who_waits_for_a_load_hears_of_its_end_however_it_ends(ground: Ground, end: str) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other), Hearing(other) as news:
            lease = await claim(one)
            await read(other, lease_s=LEASE_S)
            if end == "invalidate":
                await other.invalidate(("k",))
            elif end == "set":
                await other.store((Write(key="k", payload=b"v", ttl_s=60),))
            else:
                payload = b"v" if end == "store" else None
                await one.store((Write(key="k", payload=payload, ttl_s=60, lease=lease),))
            await news.until(LoadsFinished(keys=("k",)))
            then = await read(other, lease_s=LEASE_S)

            if end in ("store", "set"):
                assert then.entry is not None
            else:
                assert then.lease is not None

    asyncio.run(test())


@pytest.mark.parametrize("has_successor", [False, True])
@pytest.mark.parametrize("end", ["store", "release"])
def test_who_waits_for_a_load_whose_lease_was_evicted_hears_of_its_end(
    ground: Ground, end: str, has_successor: bool
) -> None:
    """The lease took along that somebody waits; the one who took its place knows nothing of it either."""

    async def test() -> None:
        async with ground.processes(3) as (one, other, third), Hearing(other) as news:
            lease = await claim(one)
            assert (await read(other, lease_s=LEASE_S)).held_for_s is not None

            ground.evict_lease("k")
            if has_successor:
                await claim(third)
            payload = b"v" if end == "store" else None
            outcomes = await one.store((Write(key="k", payload=payload, ttl_s=60, lease=lease),))

            assert [StoreOutcome.FENCED] == list(outcomes)

            await news.until(LoadsFinished(keys=("k",)))

    asyncio.run(test())


@pytest.mark.parametrize("stale_for_s", [60, 0])
def test_who_waits_behind_a_value_that_is_served_meanwhile_hears_of_the_load(
    ground: Ground, stale_for_s: float
) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other), Hearing(other) as news:
            await load(one, b"old", ttl_s=0.02, stale_for_s=stale_for_s, fail_safe_for_s=60)
            await ground.pass_time(0.05)
            lease = await claim(one)
            answer = await read(other, lease_s=LEASE_S)
            assert answer.held_for_s is not None
            assert answer.entry is not None

            await one.store((Write(key="k", payload=b"new", ttl_s=60, lease=lease),))
            await news.until(LoadsFinished(keys=("k",)))

            assert b"new" == await payload_of(other)

    asyncio.run(test())


def test_who_waits_for_a_fresh_value_that_is_claimed_early_hears_of_the_load(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other), Hearing(other) as news:
            await load(one, ttl_s=60)
            lease = (await one.fetch(("k",), lease_s=LEASE_S, early_s=120))["k"].lease
            assert lease is not None
            assert (await other.fetch(("k",), lease_s=LEASE_S, early_s=120))["k"].held_for_s is not None

            await one.store((Write(key="k", payload=None, lease=lease),))
            await news.until(LoadsFinished(keys=("k",)))

    asyncio.run(test())


def test_a_set_tells_of_the_change_and_then_of_the_load_that_it_ended(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(3) as (one, other, third), Hearing(third) as news:
            await claim(one)
            await read(other, lease_s=LEASE_S)
            await other.store(tuple(Write(key=key, payload=b"v", ttl_s=60) for key in ("k", "l")))
            await news.until(LoadsFinished(keys=("k",)))

            assert [KeysChanged(keys=("k", "l")), LoadsFinished(keys=("k",))] == news.heard

    asyncio.run(test())


def test_what_is_no_text_is_no_name(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(1) as (one,):
            number: Any = 7
            for call in (
                lambda: one.fetch((number,)),
                lambda: one.invalidate((number,)),
                lambda: one.invalidate((), (number,)),
                lambda: one.store((Write(key="k", payload=b"v", ttl_s=60, tags=(number,)),)),
            ):
                with pytest.raises(AttributeError):
                    await call()

            assert (await read(one)).entry is None

    asyncio.run(test())


def test_nothing_is_told_of_a_load_that_nobody_waits_for(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other), Hearing(other) as news:
            await load(one)
            await one.invalidate(("end",))
            await news.until(KeysChanged(keys=("end",)))

            assert [KeysChanged(keys=("end",))] == news.heard

    asyncio.run(test())


def test_a_stale_value_is_served_to_all_and_refreshed_by_one(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(3) as (one, other, third):
            await load(one, b"old", ttl_s=0.02, stale_for_s=60)
            await ground.pass_time(0.05)
            answers = [await read(tier, lease_s=LEASE_S) for tier in (one, other, third)]

            assert [b"old"] * 3 == [answer.entry.payload for answer in answers if answer.entry]
            assert [True, False, False] == [answer.lease is not None for answer in answers]
            assert [False, True, True] == [answer.held_for_s is not None for answer in answers]

            lease = answers[0].lease
            await one.store((Write(key="k", payload=b"new", ttl_s=60, lease=lease),))

            assert b"new" == await payload_of(third)

    asyncio.run(test())


def test_a_value_past_its_life_is_kept_for_when_its_loader_fails(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(1) as (one,):
            await load(one, ttl_s=0.01, stale_for_s=0.01, fail_safe_for_s=60)
            await ground.pass_time(0.05)
            answer = await read(one, lease_s=LEASE_S)

            assert answer.lease is not None
            assert answer.entry is not None
            assert answer.entry.age_s > answer.entry.ttl_s + answer.entry.stale_for_s

    asyncio.run(test())


def test_a_value_ends_with_its_whole_time(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(1) as (one,):
            await load(one, ttl_s=0.01, stale_for_s=0.01, fail_safe_for_s=0.01)
            await ground.pass_time(0.06)

            assert Fetched() == await read(one)

    asyncio.run(test())


def test_a_fresh_value_can_be_claimed_early(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(1) as (one,):
            await load(one, ttl_s=60)
            late = (await one.fetch(("k",), lease_s=LEASE_S, early_s=30))["k"]
            early = (await one.fetch(("k",), lease_s=LEASE_S, early_s=61))["k"]
            always = (await one.fetch(("k",), lease_s=LEASE_S, early_s=float("inf")))["k"]

            assert (False, False) == (late.entry is None, late.lease is not None)
            assert (False, True) == (early.entry is None, early.lease is not None)
            assert (False, True) == (always.entry is None, always.held_for_s is not None)

    asyncio.run(test())


def test_one_process_takes_over_when_the_holder_of_a_lease_died(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(3) as (dead, one, other):
            lost = await claim(dead, lease_s=0.05)
            held = await read(one, lease_s=LEASE_S)
            await ground.pass_time(held.held_for_s or 0.0)
            async with asyncio.timeout(TIMEOUT_S):
                while (taken := await read(one, lease_s=LEASE_S)).lease is None:  # noqa: ASYNC110 - polls a server
                    await asyncio.sleep(0.005)

            assert (await read(other, lease_s=LEASE_S)).held_for_s is not None
            assert [StoreOutcome.FENCED] == list(
                await dead.store((Write(key="k", payload=b"late", ttl_s=60, lease=lost),))
            )
            assert [StoreOutcome.STORED] == list(
                await one.store((Write(key="k", payload=b"v", ttl_s=60, lease=taken.lease),))
            )

    asyncio.run(test())


def test_a_thousand_keys_are_one_call(ground: Ground) -> None:
    async def test() -> None:
        keys = [f"key-{number}" for number in range(1000)]
        async with ground.processes() as (one, other):
            claimed = await one.fetch(keys, lease_s=LEASE_S)
            writes = [
                Write(key=key, payload=key.encode(), ttl_s=60, tags=("all",), lease=claimed[key].lease)
                for key in keys
            ]
            outcomes = await one.store(writes)
            found = await other.fetch(keys, lease_s=LEASE_S)

            assert [StoreOutcome.STORED] * 1000 == list(outcomes)
            assert keys == [it.entry.payload.decode() for it in found.values() if it.entry]

            await other.invalidate(keys[:500])
            await other.invalidate(tags=[f"tag-{number}" for number in range(1000)])

            assert 500 == sum(it.entry is None for it in (await one.fetch(keys)).values())

    asyncio.run(test())


@pytest.mark.parametrize("name", ODD_NAMES, ids=["empty", "star", "unicode", "braces", "long", "surrogate"])
def test_any_text_is_a_key_and_a_tag(ground: Ground, name: str) -> None:
    async def test() -> None:
        async with ground.processes() as (one, other), Hearing(other) as news:
            tag = f"tag {name}"
            await load(one, key=name, tags=(tag, name) if name != EVERYTHING else (tag,))

            assert b"v" == await payload_of(other, name)

            await one.invalidate((name,), (tag,))
            await news.until(KeysChanged(keys=(name,)))
            await news.until(TagsChanged(tags=(tag,)))

            assert await payload_of(other, name) is None

    asyncio.run(test())


def test_nothing_asked_is_nothing_done(ground: Ground) -> None:
    async def test() -> None:
        async with ground.processes(1) as (one,):
            await one.invalidate()

            assert {} == await one.fetch((), lease_s=LEASE_S)
            assert [] == list(await one.store(()))

    asyncio.run(test())


class Truth:
    """A source of values, of which each version is invalidated by its key or by its tag."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.versions = dict.fromkeys("ab", 1)
        self.told = dict.fromkeys("ab", 1)
        """The version below which nothing may be served any more."""

    async def turn(self, most: int = 4) -> None:
        for _ in range(self.chance.randrange(most)):
            await asyncio.sleep(0)

    async def use(self, tier: AsyncRemoteTier, key: str) -> None:
        """What a caller does: fetch, and load where it was given the lease."""
        await self.turn()
        oldest = self.told[key]
        fetched = await read(tier, key, lease_s=LEASE_S)
        if fetched.entry is not None:
            assert int(fetched.entry.payload) >= oldest
        if fetched.lease is None:
            return
        await self.turn()
        loaded = self.versions[key]
        await self.turn(20)
        tags = self.chance.choice(((), ("t",), ("t", key)))
        # A change of the value is told by its key or its tag, so that a value without tags needs its key.
        write = Write(
            key=key, payload=b"%d" % loaded, ttl_s=60, tags=(*tags, f"of-{key}"), lease=fetched.lease
        )
        await tier.store((write,))

    async def change(self, tier: AsyncRemoteTier, key: str) -> None:
        """What a writer does: change the value, then tell."""
        await self.turn()
        self.versions[key] += 1
        version = self.versions[key]
        await self.turn()
        if self.chance.random() < 0.5:
            await tier.invalidate((key,))
        else:
            await tier.invalidate(tags=(f"of-{key}", "t")[: self.chance.choice((1, 2))])
        self.told[key] = max(self.told[key], version)


@pytest.mark.parametrize("seed", range(2))
def test_no_interleaving_brings_back_what_was_invalidated(
    ground: Ground, place: str | None, seed: int
) -> None:
    """850 of them for each ground and seed, 10,200 in all."""

    async def test() -> None:
        chance = random.Random(seed)
        async with ground.processes(3) as tiers:
            for number in range(850):
                truth = Truth(chance)
                keys = chance.choices("ab", k=4)
                await asyncio.gather(
                    *(truth.use(chance.choice(tiers), key) for key in keys[:3]),
                    truth.change(chance.choice(tiers), keys[3]),
                )
                for key in "ab":
                    final = await payload_of(chance.choice(tiers), key)

                    assert final is None or int(final) >= truth.told[key], f"interleaving {number}"
                await tiers[0].invalidate(("a", "b"))

    asyncio.run(test())
