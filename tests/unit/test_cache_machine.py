"""Two caches on one server against a model: nothing read is older than an invalidation that returned."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.cache_kinds import FakeClock

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    CachePolicy,
    InMemoryRemote,
    InMemoryServer,
    Loaded,
    TieredCache,
)

KEYS = ("a", "b")
TAGS = {"a": ("ab",), "b": ("ab", "bc")}
POLICIES = (
    CachePolicy(ttl_s=10, jitter_ratio=0),
    CachePolicy(ttl_s=10, jitter_ratio=0, stale_for_s=20, fail_safe_for_s=20, refresh_ahead_ratio=0.5),
    CachePolicy(ttl_s=10, jitter_ratio=0.5, hard_timeout_s=60, negative_ttl_s=1),
)

which_cache = st.integers(0, 1)
which_key = st.sampled_from(KEYS)
some_turns = st.sampled_from([0, 1, 2, 3, 5, 8, 30])


class Dawdling(AsyncInMemoryRemote):
    """Takes any number of turns before it acts and after: what is sent first need not come first."""

    def __init__(self, server: InMemoryServer, draw: random.Random) -> None:
        super().__init__(server)
        self._draw = draw

    async def dawdle(self) -> None:
        for _ in range(self._draw.choice([0, 0, 1, 5])):
            await asyncio.sleep(0)

    async def fetch(self, *args: Any, **kwargs: Any) -> Any:
        await self.dawdle()
        fetched = await super().fetch(*args, **kwargs)
        await self.dawdle()
        return fetched

    async def store(self, *args: Any) -> Any:
        await self.dawdle()
        return await super().store(*args)

    async def invalidate(self, *args: Any) -> Any:
        await self.dawdle()
        told = await super().invalidate(*args)
        await self.dawdle()
        return told


class TwoCaches(RuleBasedStateMachine):
    """Tasks are begun by rules and get turns from another, so that their steps mix in any order."""

    @initialize(
        policy=st.sampled_from(POLICIES), capacity=st.sampled_from([2, 100]), seed=st.integers(0, 1000)
    )
    def open(self, policy: CachePolicy, capacity: int, seed: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.server = InMemoryServer(clock=self.clock)
        options: dict[str, Any] = {"clock": self.clock, "policy": policy, "capacity": capacity}
        draw = random.Random(seed)
        remotes = [Dawdling(self.server, draw) for _ in range(2)]
        self.caches = [AsyncTieredCache(remote=remote, **options) for remote in remotes]
        for cache in self.caches:
            self.loop.run_until_complete(cache.__aenter__())
        self.truth = dict.fromkeys(KEYS, 0)
        self.floor = dict.fromkeys(KEYS, 0)
        self.stale: list[str] = []
        self.running: set[asyncio.Task[None]] = set()

    def begin(self, coroutine: Coroutine[Any, Any, None], then: int) -> None:
        task = self.loop.create_task(coroutine)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        for _ in range(then):
            self.loop.run_until_complete(asyncio.sleep(0))

    def loader(self, key: str, turns: int, names_tags: bool) -> Any:
        async def load() -> Any:
            version = self.truth[key]
            for _ in range(turns):
                await asyncio.sleep(0)
            return Loaded(value=version, tags=TAGS[key]) if names_tags else version

        return load

    def judge(self, key: str, version: Any, floor: int) -> None:
        if version is not None and version < floor:
            self.stale.append(f"{key}: {version} was read after {floor} was told")

    @rule(
        at=which_cache,
        key=which_key,
        turns=st.sampled_from([0, 3, 40]),
        names_tags=st.booleans(),
        then=some_turns,
    )
    def read(self, at: int, key: str, turns: int, names_tags: bool, then: int) -> None:
        async def run() -> None:
            floor = self.floor[key]
            tags = () if names_tags else TAGS[key]
            version = await self.caches[at].get_or_load(key, self.loader(key, turns, names_tags), tags=tags)
            self.judge(key, version, floor)

        self.begin(run(), then)

    @rule(at=which_cache, key=which_key, then=some_turns)
    def look(self, at: int, key: str, then: int) -> None:
        async def run() -> None:
            floor = self.floor[key]
            self.judge(key, await self.caches[at].get(key), floor)

        self.begin(run(), then)

    @rule(at=which_cache, turns=st.integers(0, 12), then=some_turns)
    def read_all(self, at: int, turns: int, then: int) -> None:
        async def load(keys: Any) -> dict[str, int]:
            versions = {key: self.truth[key] for key in keys}
            for _ in range(turns):
                await asyncio.sleep(0)
            return versions

        async def run() -> None:
            floors = dict(self.floor)
            versions = await self.caches[at].load_many(KEYS, load, tags=("ab", "bc"))
            for key, version in versions.items():
                self.judge(key, version, floors[key])

        self.begin(run(), then)

    @rule(at=which_cache, key=which_key, turns=st.integers(0, 12), then=some_turns)
    def read_and_leave(self, at: int, key: str, turns: int, then: int) -> None:
        async def run() -> None:
            task = asyncio.ensure_future(
                self.caches[at].get_or_load(key, self.loader(key, 20, False), tags=TAGS[key])
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.begin(run(), then)

    @rule(at=which_cache, key=which_key, by_tag=st.booleans(), then=some_turns)
    def change(self, at: int, key: str, by_tag: bool, then: int) -> None:
        async def run() -> None:
            self.truth[key] += 1
            version = self.truth[key]
            if by_tag:
                await self.caches[at].invalidate_tag(TAGS[key][0])
            else:
                await self.caches[at].delete(key)
            self.floor[key] = max(self.floor[key], version)

        self.begin(run(), then)

    @precondition(lambda self: not self.running)
    @rule(at=which_cache, key=which_key)
    def set(self, at: int, key: str) -> None:
        """By itself: whoever sets a value while others change it has to know what is true."""
        self.truth[key] += 1
        self.loop.run_until_complete(self.caches[at].set(key, self.truth[key], tags=TAGS[key]))
        self.floor[key] = self.truth[key]

    @rule(how=st.sampled_from(["wait", "wait long", "lose a tag", "flush"]))
    def disturb(self, how: str) -> None:
        if how == "lose a tag":
            self.server.evict_tag("ab")
        elif how == "flush":
            self.server.flush()
        else:
            self.clock.advance(6 if how == "wait" else 15)

    @invariant()
    def nothing_stale_was_read(self) -> None:
        assert [] == getattr(self, "stale", [])

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loop.run_until_complete(asyncio.wait_for(self.settle(), 10))
        for cache in self.caches:
            self.loop.run_until_complete(cache.close())
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()
        assert [] == self.stale
        assert not any(cache.statistics().memory.flights for cache in self.caches)

    async def settle(self) -> None:
        while self.running:
            self.clock.advance(1)
            self.server.flush()
            await asyncio.gather(*self.running)


TestTwoCaches = TwoCaches.TestCase
TestTwoCaches.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


class Readers:
    """Threads that read one key until they are told to end, and remember what was too old."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.truth = 0
        self.floor = 0
        self.ends = threading.Event()
        self.stale: list[tuple[int, int]] = []

    def load(self) -> int:
        version = self.truth
        self.ends.wait(self.draw.random() * 0.0005)
        return version

    def read(self, cache: TieredCache) -> None:
        while not self.ends.is_set():
            floor = self.floor
            version = cache.get_or_load("k", self.load, ttl_s=60, tags=("t",))
            if version < floor:
                self.stale.append((version, floor))

    def change(self, cache: TieredCache) -> None:
        self.truth += 1
        if self.draw.random() < 0.5:
            cache.delete("k")
        else:
            cache.invalidate_tag("t")
        self.floor = self.truth


def test_threads_read_nothing_older_than_an_invalidation_that_returned() -> None:
    server, readers = InMemoryServer(), Readers(seed=7)
    with (
        TieredCache(remote=InMemoryRemote(server)) as one,
        TieredCache(remote=InMemoryRemote(server)) as other,
    ):
        threads = [threading.Thread(target=readers.read, args=(each,)) for each in (one, other, one, other)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            readers.change(readers.draw.choice([one, other]))
        readers.ends.set()
        for thread in threads:
            thread.join()

    assert [] == readers.stale
