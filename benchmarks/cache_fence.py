"""An invalidation while a load is under way: is the old value served afterwards? Beside other caches.

    python -m benchmarks.cache_fence [--rounds 10000]

A round is one invalidation, of the key or of a tag by turns of chance, among loads of that key that begin and
take as chance has it; with Redis in two caches, as two processes have. A value is stale where a read that
began after the invalidation had returned gets what was true before it: in the cache that invalidated at once,
in the other still after five seconds. Rivals that are not installed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from benchmarks.page import host_line, met, table
from perfloop.adapters.servers import RedisServer, find_redis
from perfloop.cache import AsyncTieredCache, TieredCache

SETTLED_S = 5.0
"""Within this another process must have heard, however crowded the host is."""
LONGEST_S = 0.004
"""Of a load, and of what passes before one."""
READERS = 2
"""In each cache."""
THREADS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One way to cache: `read(cache, key, tag, load)` and `invalidate(cache, key, tag, by_tag)`.

    Both are for threads, or give what can be awaited, as `load` does then; `caches` are numbered from 0.
    """

    name: str
    read: Callable[[int, str, str, Callable[[], Any]], Any]
    invalidate: Callable[[int, str, str, bool], Any]
    caches: int = 1
    has_tags: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of all rounds of one subject."""

    name: str
    rounds: int
    during_load: int
    """Rounds in which a load had read what was true before, and ended after the invalidation had begun."""
    stale_here: int
    stale_there: int

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("perfloop")

    @property
    def stale(self) -> int:
        return self.stale_here + self.stale_there


class Round:
    """One round, drawn beforehand; its database is one number."""

    def __init__(self, number: int, subject: Subject, draw: random.Random) -> None:
        self.key, self.tag = f"key-{number}", f"tag-{number}"
        self.by_tag = subject.has_tags and draw.random() < 0.5
        self.writer = draw.randrange(subject.caches)
        self.readers = [
            (cache, draw.random() * LONGEST_S, draw.random() * LONGEST_S)
            for cache in range(subject.caches)
            for _ in range(READERS)
        ]
        self.writes_after_s = draw.random() * 2 * LONGEST_S
        self.truth = 0
        self.is_during_load = False
        self.is_stale_here = self.is_stale_there = False

    def loaded(self, value: int) -> int:
        self.is_during_load = self.is_during_load or value < self.truth
        return value


async def play_async(subject: Subject, rounds: int, *, at_once: int = 12, seed: int = 1) -> Played:
    """All rounds over asyncio, some at a time."""
    played = _drawn(subject, rounds, seed)
    for begin in range(0, rounds, at_once):
        await asyncio.gather(*(_round_async(subject, each) for each in played[begin : begin + at_once]))
    return _summed(subject, played)


async def _round_async(subject: Subject, one: Round) -> None:
    async def load(load_s: float = 0.0) -> int:
        value = one.truth
        await asyncio.sleep(load_s)
        return one.loaded(value)

    async def read(cache: int, start_s: float = 0.0, load_s: float = 0.0) -> int:
        await asyncio.sleep(start_s)
        return int(await subject.read(cache, one.key, one.tag, lambda: load(load_s)))

    early = [asyncio.ensure_future(read(*reader)) for reader in one.readers]
    await asyncio.sleep(one.writes_after_s)
    one.truth = 1
    await subject.invalidate(one.writer, one.key, one.tag, one.by_tag)
    at_once = await read(one.writer)
    await asyncio.gather(*early)
    one.is_stale_here = (at_once, await read(one.writer)) != (1, 1)
    ends_s = time.monotonic() + SETTLED_S
    for other in set(range(subject.caches)) - {one.writer}:
        while not (one.is_stale_there or await read(other) == 1):
            one.is_stale_there = time.monotonic() > ends_s
            await asyncio.sleep(LONGEST_S)


def play_threads(subject: Subject, rounds: int, *, seed: int = 1) -> Played:
    """All rounds with threads, some at a time."""
    played = _drawn(subject, rounds, seed)
    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS // 4) as writers:
        list(writers.map(lambda one: _round_threads(subject, one, readers), played))
    return _summed(subject, played)


def _round_threads(subject: Subject, one: Round, pool: ThreadPoolExecutor) -> None:
    def load(load_s: float = 0.0) -> int:
        value = one.truth
        time.sleep(load_s)
        return one.loaded(value)

    def read(cache: int, start_s: float = 0.0, load_s: float = 0.0) -> int:
        time.sleep(start_s)
        return int(subject.read(cache, one.key, one.tag, lambda: load(load_s)))

    early = [pool.submit(read, *reader) for reader in one.readers]
    time.sleep(one.writes_after_s)
    one.truth = 1
    subject.invalidate(one.writer, one.key, one.tag, one.by_tag)
    at_once = read(one.writer)
    for reader in early:
        reader.result()
    one.is_stale_here = (at_once, read(one.writer)) != (1, 1)
    ends_s = time.monotonic() + SETTLED_S
    for other in set(range(subject.caches)) - {one.writer}:
        while not (one.is_stale_there or read(other) == 1):
            one.is_stale_there = time.monotonic() > ends_s
            time.sleep(LONGEST_S)


def _drawn(subject: Subject, rounds: int, seed: int) -> list[Round]:
    draw = random.Random(seed)
    return [Round(number, subject, draw) for number in range(rounds)]


def _summed(subject: Subject, played: Iterable[Round]) -> Played:
    played = list(played)
    return Played(
        name=subject.name,
        rounds=len(played),
        during_load=sum(one.is_during_load for one in played),
        stale_here=sum(one.is_stale_here for one in played),
        stale_there=sum(one.is_stale_there for one in played),
    )


def async_subject(name: str, *caches: AsyncTieredCache) -> Subject:
    """The cache for asyncio; each of `caches` is what one process has."""

    async def invalidate(cache: int, key: str, tag: str, by_tag: bool) -> None:
        await (caches[cache].invalidate_tag(tag) if by_tag else caches[cache].delete(key))

    def read(cache: int, key: str, tag: str, load: Callable[[], Awaitable[int]]) -> Awaitable[int]:
        return caches[cache].get_or_load(key, load, ttl_s=60, tags=(tag,))

    return Subject(name=name, read=read, invalidate=invalidate, caches=len(caches))


def threads_subject(name: str, *caches: TieredCache) -> Subject:
    """The same for threads."""

    def invalidate(cache: int, key: str, tag: str, by_tag: bool) -> None:
        if by_tag:
            caches[cache].invalidate_tag(tag)
        else:
            caches[cache].delete(key)

    def read(cache: int, key: str, tag: str, load: Callable[[], int]) -> int:
        return caches[cache].get_or_load(key, load, ttl_s=60, tags=(tag,))

    return Subject(name=name, read=read, invalidate=invalidate, caches=len(caches))


def cashews_subject() -> Subject:
    """By its decorator, with its lock."""
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://", size=100_000)
    cache.register_tag("{tag}", "{key}")

    async def read(_: int, key: str, tag: str, load: Callable[[], Awaitable[int]]) -> int:
        @cache(ttl=60, key="{key}", tags=("{tag}",), lock=True)  # type: ignore[untyped-decorator]  # no types
        async def cached(key: str, tag: str) -> int:
            return await load()

        return int(await cached(key, tag))

    async def invalidate(_: int, key: str, tag: str, by_tag: bool) -> None:
        await (cache.delete_tags(tag) if by_tag else cache.delete(key))

    return Subject(name="cashews, asyncio", read=read, invalidate=invalidate)


def aiocache_subject() -> Subject:
    """By its decorator against stampedes."""
    from aiocache import SimpleMemoryCache, cached_stampede

    cache = SimpleMemoryCache()

    async def read(_: int, key: str, tag: str, load: Callable[[], Awaitable[int]]) -> int:
        decorator = cached_stampede(lease=2, ttl=60, key_builder=lambda *_: key)
        decorator.cache = cache
        return int(await decorator.decorator(load))

    async def invalidate(_: int, key: str, tag: str, by_tag: bool) -> None:
        await cache.delete(key)

    return Subject(name="aiocache, asyncio", read=read, invalidate=invalidate, has_tags=False)


def dogpile_subject() -> Subject:
    """By `get_or_create`, which has a lock for each key."""
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.memory", expiration_time=60)
    return Subject(
        name="dogpile.cache, threads",
        read=lambda _, key, tag, load: region.get_or_create(key, load),
        invalidate=lambda _, key, tag, by_tag: region.delete(key),
        has_tags=False,
    )


def cachetools_subject() -> Subject:
    """By its decorator, with its lock."""
    from cachetools import TTLCache, cached

    store: TTLCache[str, int] = TTLCache(100_000, 60)
    lock = threading.Lock()

    def read(_: int, key: str, tag: str, load: Callable[[], int]) -> int:
        value: int = cached(store, key=lambda: key, lock=lock)(load)()
        return value

    def invalidate(_: int, key: str, tag: str, by_tag: bool) -> None:
        with lock:
            store.pop(key, None)

    return Subject(name="cachetools, threads", read=read, invalidate=invalidate, has_tags=False)


async def played_async(rounds: int, url: str) -> list[Played]:
    """This cache over asyncio, then its rivals."""
    async with AsyncExitStack() as stack:
        alone = await stack.enter_async_context(AsyncTieredCache())
        two = [await stack.enter_async_context(AsyncTieredCache(url, prefix="fence")) for _ in range(2)]
        subjects = [
            async_subject("perfloop, asyncio, in process", alone),
            async_subject("perfloop, asyncio, Redis", *two),
        ]
        subjects += [cashews_subject()] if find_spec("cashews") else []
        subjects += [aiocache_subject()] if find_spec("aiocache") else []
        return [await play_async(subject, rounds) for subject in subjects]


def played_threads(rounds: int, url: str) -> list[Played]:
    """The same with threads."""
    with ExitStack() as stack:
        alone = stack.enter_context(TieredCache())
        two = [stack.enter_context(TieredCache(url, prefix="fence-threads")) for _ in range(2)]
        subjects = [
            threads_subject("perfloop, threads, in process", alone),
            threads_subject("perfloop, threads, Redis", *two),
        ]
        subjects += [dogpile_subject()] if find_spec("dogpile") else []
        subjects += [cachetools_subject()] if find_spec("cachetools") else []
        return [play_threads(subject, rounds) for subject in subjects]


def main(rounds: int) -> list[str]:
    """Play all, and return the lines of the page."""
    host = host_line()
    with RedisServer(find_redis()) as server:
        played = [*asyncio.run(played_async(rounds, server.url)), *played_threads(rounds, server.url)]
    rows = [
        [
            one.name,
            f"{one.rounds}",
            f"{one.during_load}",
            f"{one.stale}",
            met(one.stale == 0) if one.is_ours else "",
        ]
        for one in played
    ]
    return [host, "", table(["cache", "rounds", "during a load", "stale", "must be 0"], rows)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10_000)
    print("\n".join(main(parser.parse_args().rounds)))
