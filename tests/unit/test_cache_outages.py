"""Two caches on a server that is cut, hangs, loses answers and comes back, at random, against a model.

The model is a version for each key. What a call reads must be at least as new as the last version that was
invalidated by the same cache before the call began, or by either while both were connected and had caught up.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
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
from perfloop.errors import TargetUnreachable
from perfloop.model.remote import Gap, News

KEYS = ("a", "b", "c")
TAGS = {"a": ("ab",), "b": ("ab", "bc"), "c": ("bc",)}
ALL = ("ab", "bc")
POLICIES = (
    CachePolicy(ttl_s=600, jitter_ratio=0),
    CachePolicy(ttl_s=600, jitter_ratio=0, refresh_ahead_ratio=0.9999),
    CachePolicy(ttl_s=600, jitter_ratio=0, hard_timeout_s=60),
)
SOON = BreakerPolicy(first_retry_s=0.001, longest_retry_s=0.002)
LEASE_S = 600.0
WITHIN_S = 20.0
WRITES = ("delete", "tag", "set")
READS = ("get", "load", "load", "many")


class Server(InMemoryServer):
    """Can be cut from single listeners, too, which are told of it as by a connection that ended."""

    def __init__(self) -> None:
        super().__init__()
        self.is_withholding = False
        self._cut: dict[int, Callable[[News], None]] = {}

    def cut(self, origin: int) -> None:
        with self._lock:
            hear = self._listeners.pop(origin, None)
            if hear is not None:
                self._cut[origin] = hear
                hear(Gap(is_over=False))

    def hold(self) -> None:
        self.is_withholding = True
        self.withhold_news()

    def restore(self) -> None:
        with self._lock:
            for origin, hear in self._cut.items():
                self._listen(origin, hear)
            self._cut.clear()
            self.is_withholding = False
            if self._withheld is not None:
                self.deliver_news()
            if self._is_away:
                self.come_back()


class Faults:
    """Of one cache's way to the server: refuses before the server has acted, or loses the answer."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.ratio = 0.0

    def strike(self) -> None:
        if self.draw.random() < self.ratio:
            raise TargetUnreachable("by the test")

    async def dawdle(self) -> None:
        for _ in range(self.draw.choice((0, 0, 1, 4))):
            await asyncio.sleep(0)


class AsyncFaulty(AsyncInMemoryRemote):
    def __init__(self, server: Server, faults: Faults) -> None:
        super().__init__(server)
        self.faults = faults

    async def _pass(self, call: Callable[..., Any], *args: Any, **terms: Any) -> Any:
        await self.faults.dawdle()
        self.faults.strike()
        answer = await call(*args, **terms)
        self.faults.strike()
        await self.faults.dawdle()
        return answer

    async def fetch(self, *args: Any, **terms: Any) -> Any:
        return await self._pass(super().fetch, *args, **terms)

    async def store(self, *args: Any) -> Any:
        return await self._pass(super().store, *args)

    async def invalidate(self, *args: Any) -> Any:
        return await self._pass(super().invalidate, *args)


class Faulty(InMemoryRemote):
    def __init__(self, server: Server, faults: Faults) -> None:
        super().__init__(server)
        self.faults = faults

    def _pass(self, call: Callable[..., Any], *args: Any, **terms: Any) -> Any:
        self.faults.strike()
        answer = call(*args, **terms)
        self.faults.strike()
        return answer

    def fetch(self, *args: Any, **terms: Any) -> Any:
        return self._pass(super().fetch, *args, **terms)

    def store(self, *args: Any) -> Any:
        return self._pass(super().store, *args)

    def invalidate(self, *args: Any) -> Any:
        return self._pass(super().invalidate, *args)


class Model:
    """What is true, and what each cache may still read."""

    def __init__(self, caches: Sequence[Any], server: Server, tiers: Sequence[Any]) -> None:
        self.caches = caches
        self.server = server
        self.tiers = tiers
        self.faults_begun = 0
        self.true = dict.fromkeys(KEYS, 0)
        self.told = dict.fromkeys(KEYS, 0)
        self.floors = [dict.fromkeys(KEYS, 0) for _ in caches]
        self._lock = threading.Lock()

    def load(self, key: str) -> int:
        return self.true[key]

    def write(self, key: str) -> int:
        with self._lock:
            self.true[key] += 1
            return self.true[key]

    @property
    def is_whole(self) -> bool:
        """Both are connected and have caught up."""
        hear = all(cache.statistics().hears_news for cache in self.caches)
        sound = not any(tier.faults.ratio for tier in self.tiers)
        return sound and hear and not self.server.is_withholding and all(map(_is_back, self.caches))

    def returned(self, which: int, key: str, version: int, since: tuple[bool, int]) -> None:
        """An invalidation of what is older than the version returned."""
        with self._lock:
            self.told[key] = max(self.told[key], version)
            everywhere = since == (True, self.faults_begun) and self.is_whole
            for floors in self.floors if everywhere else (self.floors[which],):
                floors[key] = max(floors[key], version)

    def check(self, which: int, floors: dict[str, int], read: dict[str, Any]) -> None:
        for key, version in read.items():
            assert version is None or version >= floors[key], (which, key, version, floors[key])

    def disturb(self, draw: random.Random) -> None:
        self.faults_begun += 1
        tier = draw.choice(self.tiers)
        match draw.choice(("away", "away", "cut", "hold", "lossy", "lossy", "gone", "restore")):
            case "away":
                self.server.go_away()
            case "cut":
                self.server.cut(tier._origin)
            case "hold":
                self.server.hold()
            case "lossy":
                tier.faults.ratio = 0.3
            case "gone":
                tier.faults.ratio = 1.0
            case _:
                self.restore()

    def restore(self) -> None:
        for tier in self.tiers:
            tier.faults.ratio = 0.0
        self.server.restore()

    def settled(self) -> None:
        """All that was told has arrived everywhere."""
        for cache in self.caches:
            assert cache.statistics().pending_invalidations == 0
        for floors in self.floors:
            floors.update(self.told)


def _is_back(cache: Any) -> bool:
    counted = cache.statistics()
    return not cache.is_alone and counted.breaker is BreakerState.CLOSED and cache._link._unsent.is_empty


async def one_act(model: Model, which: int, draw: random.Random, keeper: dict[str, asyncio.Lock]) -> None:
    cache, key = model.caches[which], draw.choice(KEYS)
    since = (model.is_whole, model.faults_begun)
    if draw.random() < 0.4:
        async with keeper[key]:  # whoever sets two versions at once says himself which is the later
            version = model.write(key)
            match draw.choice(WRITES):
                case "delete":
                    await cache.delete(key)
                case "tag":
                    await cache.invalidate_tag(*TAGS[key])
                case _:
                    await cache.set(key, version, tags=TAGS[key])
            model.returned(which, key, version, since)
        return
    floors = dict(model.floors[which])

    async def load() -> int:
        version = model.load(key)
        await asyncio.sleep(draw.choice((0, 0, 0.001)))
        return version

    async def load_many(keys: Sequence[str]) -> dict[str, int]:
        versions = {key: model.load(key) for key in keys}
        await asyncio.sleep(0)
        return versions

    match draw.choice(READS):
        case "get":
            model.check(which, floors, await cache.get_many(KEYS))
        case "many":
            model.check(which, floors, await cache.load_many(KEYS, load_many, tags=ALL))
        case _:
            model.check(which, floors, {key: await cache.get_or_load(key, load, tags=TAGS[key])})


async def one_turn(model: Model, draw: random.Random, keeper: dict[str, asyncio.Lock]) -> None:
    """Some acts at once, with a fault and a cancelled caller between them."""
    acts = [
        asyncio.create_task(one_act(model, draw.randrange(2), draw, keeper))
        for _ in range(draw.randrange(1, 6))
    ]
    for _ in range(draw.choice((0, 1, 3, 8))):
        await asyncio.sleep(0)
    if draw.random() < 0.5:
        model.disturb(draw)
    if draw.random() < 0.3:
        draw.choice(acts).cancel()
    _, late = await asyncio.wait(acts, timeout=0.03)
    if late:  # they wait for news that is withheld
        model.restore()
    async with asyncio.timeout(WITHIN_S):
        for outcome in await asyncio.gather(*acts, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def settle(model: Model) -> None:
    model.restore()
    async with asyncio.timeout(WITHIN_S):
        while not model.is_whole or any(cache._loading.crew for cache in model.caches):  # noqa: ASYNC110
            await asyncio.sleep(0.0005)  # nothing tells of it
    model.settled()
    for which in (0, 1):
        model.check(which, model.told, await model.caches[which].get_many(KEYS))


async def async_rounds(seed: int, rounds: int) -> None:
    draw = random.Random(seed)
    server = Server()
    tiers = [AsyncFaulty(server, Faults(draw)) for _ in range(2)]
    policy = draw.choice(POLICIES)
    caches = [AsyncTieredCache(remote=tier, policy=policy, breaker=SOON, lease_s=LEASE_S) for tier in tiers]
    async with caches[0], caches[1]:
        model = Model(caches, server, tiers)
        keeper = {key: asyncio.Lock() for key in KEYS}
        for _ in range(rounds):
            await one_turn(model, draw, keeper)
            if draw.random() < 0.15:
                await settle(model)
        await settle(model)


def act_in_thread(model: Model, which: int, draw: random.Random, keeper: dict[str, threading.Lock]) -> None:
    cache, key = model.caches[which], draw.choice(KEYS)
    since = (model.is_whole, model.faults_begun)
    if draw.random() < 0.4:
        with keeper[key]:
            version = model.write(key)
            match draw.choice(WRITES):
                case "delete":
                    cache.delete(key)
                case "tag":
                    cache.invalidate_tag(*TAGS[key])
                case _:
                    cache.set(key, version, tags=TAGS[key])
            model.returned(which, key, version, since)
        return
    floors = dict(model.floors[which])
    match draw.choice(READS):
        case "get":
            model.check(which, floors, cache.get_many(KEYS))
        case "many":
            loaded = cache.load_many(
                KEYS, lambda keys: {key: model.load(key) for key in keys}, tags=("ab", "bc")
            )
            model.check(which, floors, loaded)
        case _:
            loaded = {key: cache.get_or_load(key, lambda: model.load(key), tags=TAGS[key])}
            model.check(which, floors, loaded)


def turn_of_threads(model: Model, draw: random.Random, keeper: dict[str, threading.Lock]) -> None:
    """Two threads for each cache, with faults between them."""
    errors: list[BaseException] = []

    def work(which: int, seed: int) -> None:
        own = random.Random(seed)
        try:
            for _ in range(20):
                act_in_thread(model, which, own, keeper)
        except BaseException as error:  # noqa: BLE001  # told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n % 2, draw.randrange(10**9))) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        model.disturb(draw)
        time.sleep(draw.choice((0.0, 0.0005, 0.002)))
        if draw.random() < 0.3:
            model.restore()
    if errors:
        raise errors[0]


def settle_threads(model: Model) -> None:
    model.restore()
    until_s = time.monotonic() + WITHIN_S
    while not model.is_whole or any(len(cache._loading.crew) for cache in model.caches):
        assert time.monotonic() < until_s
        time.sleep(0.0005)
    model.settled()
    for which in (0, 1):
        model.check(which, model.told, model.caches[which].get_many(KEYS))


def sync_rounds(seed: int, rounds: int) -> None:
    draw = random.Random(seed)
    server = Server()
    tiers = [Faulty(server, Faults(random.Random(seed + which))) for which in range(2)]
    policy = draw.choice(POLICIES)
    caches = [TieredCache(remote=tier, policy=policy, breaker=SOON, lease_s=LEASE_S) for tier in tiers]
    with caches[0], caches[1]:
        model = Model(caches, server, tiers)
        keeper = {key: threading.Lock() for key in KEYS}
        for _ in range(rounds):
            turn_of_threads(model, draw, keeper)
            settle_threads(model)


@pytest.mark.parametrize("seed", range(4))
def test_no_outage_lets_tasks_read_what_was_invalidated_before(seed: int) -> None:
    asyncio.run(async_rounds(seed, rounds=40))


@pytest.mark.parametrize("seed", range(2))
def test_no_outage_lets_threads_read_what_was_invalidated_before(seed: int) -> None:
    sync_rounds(seed, rounds=6)


@pytest.mark.slow
def test_no_outage_of_many_lets_anybody_read_what_was_invalidated_before() -> None:
    for seed in range(100, 140):
        asyncio.run(async_rounds(seed, rounds=60))
    for seed in range(100, 110):
        sync_rounds(seed, rounds=12)
