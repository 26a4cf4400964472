"""The cache where others fail: many callers, a hung server, news of other processes.

    python -m benchmarks.cache_stampede

Invalidations during loads are benchmarks/cache_fence.py. Every part runs on a Redis of its own
on a socket, and prints what was measured beside what is asked.
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
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier

from benchmarks.page import host_line, met, table
from perfloop.adapters.servers import RedisServer, find_redis
from perfloop.cache import AsyncTieredCache

NEWS_TIMEOUT_S = 2.0
"""Not the default's 0.04 s: a host that is busy for longer would end the measurement of news."""
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
    waits_s: Sequence[float]
    """Of the calls after the first, sorted."""
    alone_s: Sequence[float]
    """The same without a server; the calls take turns."""
    recovery_s: float

    def added_s(self, ratio: float) -> float:
        """What so many of the calls wait longer, at most; the rest waited for a neighbour of the host."""
        return _quantile(self.waits_s, ratio) - _quantile(self.alone_s, ratio)


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
        recovery_s = time.perf_counter() - begun_s
        waits_s, alone_s = (sorted(each) for each in zip(*waits, strict=True))
        return Hung(first_s=first_s, waits_s=waits_s, alone_s=alone_s, recovery_s=recovery_s)


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


def coherence(url: str, *, changes: int = 1000) -> list[float]:
    """Seconds from before a set in one process until another has dropped the old value from its memory."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=_drop, args=(theirs, url, changes))
    other.start()
    theirs.close()
    try:
        return asyncio.run(_change(ours, url, changes))
    finally:
        other.join()


async def _change(other: Connection, url: str, changes: int) -> list[float]:
    waits = []
    async with AsyncTieredCache(url, prefix="news", timeout_s=NEWS_TIMEOUT_S) as cache:
        for number in range(changes):
            await cache.set("k", number, ttl_s=60)
            other.send("hold it")
            other.recv()
            begun_s = time.monotonic()
            await cache.set("k", number + 1, ttl_s=60)
            waits.append(other.recv() - begun_s)
    return waits


def _drop(changer: Connection, url: str, changes: int) -> None:
    """Hold the value, say so, then say when it went; all processes of a host have one monotonic clock."""

    async def hold() -> None:
        async with AsyncTieredCache(url, prefix="news", timeout_s=NEWS_TIMEOUT_S) as cache:
            for _ in range(changes):
                changer.recv()
                while cache._memory.peek("k") is None:
                    await cache.get("k")
                    await asyncio.sleep(0.001)  # where the server seems away, get waits for nothing
                changer.send("held")
                await _until(lambda: cache._memory.peek("k") is None, SETTLED_S)
                changer.send(time.monotonic())

    asyncio.run(hold())


def main() -> list[str]:
    """Run all parts, and return the lines of the page."""
    host, rows = host_line(), []
    with RedisServer(find_redis()) as server:
        found = stampede(server.url)
    rows.append(_row("loader calls, 200 callers in 4 processes", found.loads, "", "1", found.loads == 1))
    rows.append(_row("slowest of them", found.slowest_s * 1e3, "ms", "130 ms", found.slowest_s <= 0.13))
    rows.append(_row("errors of them", found.errors, "", "0", found.errors == 0))
    with RedisServer(find_redis()) as server:
        outage = asyncio.run(hung(server))
    added_ms = outage.added_s(0.95) * 1e3
    rows.append(_row("server hung: first call", outage.first_s * 1e3, "ms", "50 ms", outage.first_s <= 0.05))
    rows.append(_row("server hung: added to 95 of 100 after", added_ms, "ms", "0.1 ms", added_ms <= 0.1))
    rows.append(_row("server back: used again after", outage.recovery_s * 1e3, "ms", "", True))
    with RedisServer(find_redis()) as server:
        waits = coherence(server.url)
    news_ms = _quantile(waits, 0.99) * 1e3
    rows.append(_row("news of another process, 99 of 100", news_ms, "ms", "5 ms", news_ms <= 5))
    return [host, "", table(["what", "measured", "asked at most", ""], rows)]


def _row(what: str, measured: float, unit: str, asked: str, fulfilled: bool) -> list[str]:
    text = f"{measured:.3g} {unit}" if unit else str(measured)
    return [what, text, asked, met(fulfilled) if asked else ""]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("\n".join(main()))
