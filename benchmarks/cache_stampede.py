"""The cache where others fail: many callers, a hung server, an invalidation during a load, news of others.

    python benchmarks/cache_stampede.py [--interleavings 10000]

Every part runs on a Redis of its own on a socket, and prints what was measured beside what is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier

from benchmarks.page import host_line, met, table
from perfloop.adapters.servers import RedisServer, find_redis
from perfloop.cache import AsyncTieredCache

SETTLED_S = 1.0
"""Within this a process must have heard of what another did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stampede:
    """What came of many callers of one cold key."""

    loads: int
    slowest_s: float
    median_s: float
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hung:
    """What a server that hangs costs callers that load, beside a cache that has no server."""

    first_s: float
    then_s: float
    """95 of 100 calls after the first wait no longer; the rest are where a neighbour had the processor."""
    alone_s: float
    """The same without a server; the calls take turns."""
    recovery_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleavings:
    """How often a value was stale after its invalidation had returned."""

    rounds: int
    stale_here: int
    """In the process that invalidated, at once."""
    stale_there: int
    """In another, for ever."""


def stampede(url: str, *, processes: int = 4, callers: int = 50, load_s: float = 0.1) -> Stampede:
    """All callers of all processes ask for one key at the same moment."""
    context = multiprocessing.get_context("spawn")
    barrier, loads = context.Barrier(processes), context.Value("i", 0)
    key = f"stampede-{random.getrandbits(64)}"
    with context.Pool(processes, _become_caller, (url, key, callers, load_s, barrier, loads)) as pool:
        waits = [each for waits in pool.map(_call_at_once, range(processes), chunksize=1) for each in waits]
    answered = sorted(wait for wait in waits if wait is not None)
    return Stampede(
        loads=loads.value,
        slowest_s=answered[-1],
        median_s=answered[len(answered) // 2],
        errors=len(waits) - len(answered),
    )


_caller: Callable[[], list[float | None]]


def _become_caller(
    url: str, key: str, callers: int, load_s: float, barrier: Barrier, loads: Synchronized[int]
) -> None:
    async def ask() -> list[float | None]:
        async def load() -> int:
            with loads.get_lock():
                loads.value += 1
            await asyncio.sleep(load_s)
            return 7

        async def call() -> float | None:
            begun_s = time.perf_counter()
            value = await cache.get_or_load(key, load, ttl_s=60)
            return time.perf_counter() - begun_s if value == 7 else None

        async with AsyncTieredCache(url) as cache:
            await cache.get("connect")
            await asyncio.get_running_loop().run_in_executor(None, barrier.wait)
            return await asyncio.gather(*(call() for _ in range(callers)))

    global _caller
    _caller = lambda: asyncio.run(ask())  # noqa: E731 - what this process is for


def _call_at_once(_: int) -> list[float | None]:
    return _caller()


async def hung(server: RedisServer, *, calls: int = 2000) -> Hung:
    """Stop the server under a cache, call on, let it go on."""
    async with AsyncTieredCache(server.url) as cache, AsyncTieredCache() as alone:
        await _load_cold(cache, -1)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            first_s = await _timed(functools.partial(_load_cold, cache, -2))
            waits = [
                [await _timed(functools.partial(_load_cold, one, at)) for one in (cache, alone)]
                for at in range(calls)
            ]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        begun_s = time.perf_counter()
        await _until(lambda: cache.statistics().breaker == "closed", 60.0)
        then_s, alone_s = (_quantile(each, 0.95) for each in zip(*waits, strict=True))
        recovery_s = time.perf_counter() - begun_s
        return Hung(first_s=first_s, then_s=then_s, alone_s=alone_s, recovery_s=recovery_s)


async def _load_cold(cache: AsyncTieredCache, number: int) -> int:
    async def load() -> int:
        return 7

    return await cache.get_or_load(f"cold-{number}", load, ttl_s=600)


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    begun_s = time.perf_counter()
    await call()
    return time.perf_counter() - begun_s


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    ends_s = time.monotonic() + within_s
    while not condition() and time.monotonic() < ends_s:  # noqa: ASYNC110 - what is awaited gives no signal
        await asyncio.sleep(0)


def _quantile(waits: Sequence[float], ratio: float) -> float:
    return sorted(waits)[int(len(waits) * ratio)]


async def interleavings(url: str, *, rounds: int, at_once: int = 20, seed: int = 1) -> Interleavings:
    """Loads here and there, an invalidation in between, in random order and with random waits."""
    draw = random.Random(seed)
    stale_here = stale_there = 0
    async with AsyncTieredCache(url, prefix="race") as here, AsyncTieredCache(url, prefix="race") as there:
        for begin in range(0, rounds, at_once):
            numbers = range(begin, min(begin + at_once, rounds))
            races = [Race(number, here, there, draw) for number in numbers]
            for is_stale_here, is_stale_there in await asyncio.gather(*(race.run() for race in races)):
                stale_here += is_stale_here
                stale_there += is_stale_there
    return Interleavings(rounds=rounds, stale_here=stale_here, stale_there=stale_there)


class Race:
    """One invalidation, of a key or of a tag, against two loads in each of two processes."""

    def __init__(
        self, number: int, here: AsyncTieredCache, there: AsyncTieredCache, draw: random.Random
    ) -> None:
        self._key, self._tag = f"key-{number}", f"tag-{number}"
        self._by_tag = draw.random() < 0.5
        self._writer, self._other = (here, there) if draw.random() < 0.5 else (there, here)
        self._starts_s = [draw.random() * 0.004 for _ in range(4)]
        self._loads_s = [draw.random() * 0.004 for _ in range(4)]
        self._writes_after_s = draw.random() * 0.008
        self._truth = 0

    async def run(self) -> tuple[bool, bool]:
        """Whether a stale value was served here after the invalidation, and whether one stays there."""
        both = (self._writer, self._other) * 2
        early = [
            asyncio.create_task(self._read(cache, start_s, load_s))
            for cache, start_s, load_s in zip(both, self._starts_s, self._loads_s, strict=True)
        ]
        await asyncio.sleep(self._writes_after_s)
        self._truth = 1
        if self._by_tag:
            await self._writer.invalidate_tag(self._tag)
        else:
            await self._writer.delete(self._key)
        at_once = await self._read(self._writer)
        await asyncio.gather(*early)
        there = 0
        ends_s = time.monotonic() + SETTLED_S
        while there != 1 and time.monotonic() < ends_s:
            there = await self._read(self._other)
            await asyncio.sleep(0.0005)
        return (at_once, await self._read(self._writer)) != (1, 1), there != 1

    async def _read(self, cache: AsyncTieredCache, start_s: float = 0.0, load_s: float = 0.0) -> int:
        async def load() -> int:
            value = self._truth
            await asyncio.sleep(load_s)
            return value

        await asyncio.sleep(start_s)
        return await cache.get_or_load(self._key, load, ttl_s=60, tags=(self._tag,))


async def coherence(url: str, *, changes: int = 1000) -> list[float]:
    """Seconds from before a set in one process until another has dropped the old value."""
    waits = []
    async with AsyncTieredCache(url, prefix="news") as here, AsyncTieredCache(url, prefix="news") as there:
        for number in range(changes):
            await here.set("k", number, ttl_s=60)
            await there.get("k")
            begun_s = time.perf_counter()
            change = asyncio.create_task(here.set("k", number + 1, ttl_s=60))
            await _until(lambda: there._memory.peek("k") is None, SETTLED_S)
            waits.append(time.perf_counter() - begun_s)
            await change
    return waits


def main(rounds: int) -> list[str]:
    """Run all parts, and return the lines of the page."""
    host, rows = host_line(), []
    with RedisServer(find_redis()) as server:
        found = stampede(server.url)
    rows.append(_row("loader calls, 200 callers in 4 processes", found.loads, "", "1", found.loads == 1))
    rows.append(_row("slowest of them", found.slowest_s * 1e3, "ms", "130 ms", found.slowest_s <= 0.13))
    rows.append(_row("errors of them", found.errors, "", "0", found.errors == 0))
    with RedisServer(find_redis()) as server:
        outage = asyncio.run(hung(server))
    added_ms = (outage.then_s - outage.alone_s) * 1e3
    rows.append(_row("server hung: first call", outage.first_s * 1e3, "ms", "50 ms", outage.first_s <= 0.05))
    rows.append(_row("server hung: added to 95 of 100 after", added_ms, "ms", "0.1 ms", added_ms <= 0.1))
    rows.append(_row("server back: used again after", outage.recovery_s * 1e3, "ms", "", True))
    with RedisServer(find_redis()) as server:
        played = asyncio.run(interleavings(server.url, rounds=rounds))
        waits = asyncio.run(coherence(server.url))
    stale = played.stale_here + played.stale_there
    rows.append(_row(f"stale values, {played.rounds} interleavings", stale, "", "0", stale == 0))
    news_ms = _quantile(waits, 0.99) * 1e3
    rows.append(_row("news, 99 of 100", news_ms, "ms", "5 ms", news_ms <= 5))
    return [host, "", table(["what", "measured", "asked at most", ""], rows)]


def _row(what: str, measured: float, unit: str, asked: str, fulfilled: bool) -> list[str]:
    text = f"{measured:.3g} {unit}" if unit else str(measured)
    return [what, text, asked, met(fulfilled) if asked else ""]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interleavings", type=int, default=10_000)
    print("\n".join(main(parser.parse_args().interleavings)))
