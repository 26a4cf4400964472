"""What a hit costs, tier by tier, beside cashews, aiocache and dogpile.cache.

    python benchmarks/cache_speed.py [--repeats 7] [--calls 50000] [--remote-calls 5000]

CPU time of this process, the best of several slices, since neighbours only ever add to it; the slices of all
take turns. Hits of the shared tier also have wall time, the lowest median of the slices, on one Redis on a
socket. Rivals that are not installed are left out: `pip install --group cache-peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from typing import Any

from benchmarks.page import host_line, met, table
from perfloop.adapters.servers import RedisServer, find_redis
from perfloop.cache import AsyncTieredCache, TieredCache

VALUE = {"id": 7, "name": "a user", "rows": [{"id": row, "text": "x" * 40} for row in range(8)]}
"""About 600 bytes."""
REMOTE_MARGIN_US = 10.0

AsyncCall = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way to a value that is cached: `call` for threads, or `call_async`."""

    name: str
    call: Callable[[], Any] | None = None
    call_async: AsyncCall | None = None
    before_each: Callable[[], Any] | None = None
    asked_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a path cost: the best slice."""

    path: Path
    cpu_us: float
    wall_us: float


async def main(repeats: int, calls: int, remote_calls: int) -> list[str]:
    """Measure all, and return the lines of the page."""
    async with AsyncExitStack() as stack:
        memory = [*await _memory_paths(stack), *await _rival_paths(stack)]
        figures = await measure(memory, repeats, calls)
        server = stack.enter_context(RedisServer(find_redis()))
        remote = await measure(await _remote_paths(stack, server.url), repeats, remote_calls)
    raw_us = remote[0].cpu_us
    lines = [host_line(server=str(server.binary.version)), "", "In the process, CPU µs a hit:", ""]
    lines += [_rows(figures), "", "The shared tier over asyncio, one socket, µs a hit:", ""]
    lines.append(
        table(
            ["path", "CPU", "wall, median", "asked", ""],
            [
                [
                    one.path.name,
                    f"{one.cpu_us:.1f}",
                    f"{one.wall_us:.1f}",
                    f"<= {raw_us + REMOTE_MARGIN_US:.1f}" if one.path.asked_us else "",
                    met(one.cpu_us <= raw_us + REMOTE_MARGIN_US) if one.path.asked_us else "",
                ]
                for one in remote
            ],
        )
    )
    return lines


def _rows(figures: list[Figure]) -> str:
    return table(
        ["path", "measured", "asked", ""],
        [
            [
                one.path.name,
                f"{one.cpu_us:.2f}",
                f"<= {one.path.asked_us}" if one.path.asked_us else "",
                met(one.cpu_us <= one.path.asked_us) if one.path.asked_us else "",
            ]
            for one in figures
        ],
    )


async def measure(paths: list[Path], repeats: int, calls: int) -> list[Figure]:
    """The best of the slices of each path; they take turns."""
    cpu: dict[str, list[float]] = {path.name: [] for path in paths}
    wall: dict[str, list[float]] = {path.name: [] for path in paths}
    for _ in range(repeats):
        for path in paths:
            cpu_s, wall_s = await _slice(path, calls)
            cpu[path.name].append(cpu_s)
            wall[path.name].append(wall_s)
    return [
        Figure(path=path, cpu_us=min(cpu[path.name]) * 1e6, wall_us=min(wall[path.name]) * 1e6)
        for path in paths
    ]


async def _slice(path: Path, calls: int) -> tuple[float, float]:
    """CPU seconds a call, and the median of the wall seconds where each call is prepared."""
    if path.before_each is not None and path.call_async is not None:
        return await _prepared_slice(path.call_async, path.before_each, calls)
    begun_s = time.process_time()
    if path.call is not None:
        call = path.call
        for _ in range(calls):
            call()
    elif path.call_async is not None:
        call_async = path.call_async
        for _ in range(calls):
            await call_async()
    each_s = (time.process_time() - begun_s) / calls
    return each_s, each_s


async def _prepared_slice(call: AsyncCall, before_each: Callable[[], Any], calls: int) -> tuple[float, float]:
    walls = []
    preparing_s = 0.0
    begun_s = time.process_time()
    for _ in range(calls):
        prepared_s = time.process_time()
        before_each()
        preparing_s += time.process_time() - prepared_s
        called_s = time.perf_counter()
        await call()
        walls.append(time.perf_counter() - called_s)
    return (time.process_time() - begun_s - preparing_s) / calls, median(walls)


async def _memory_paths(stack: AsyncExitStack) -> list[Path]:
    cache = await stack.enter_async_context(AsyncTieredCache())
    threads = stack.enter_context(ExitStack()).enter_context(TieredCache())

    async def load() -> Any:
        return VALUE

    @cache.cached("user:{user_id}", ttl_s=600, tags=("user-{user_id}",))
    async def user(user_id: int) -> Any:
        return VALUE

    @threads.cached("user:{user_id}", ttl_s=600, tags=("user-{user_id}",))
    def user_of_thread(user_id: int) -> Any:
        return VALUE

    def of_thread() -> Any:
        return threads.get_or_load("k", lambda: VALUE, ttl_s=600, stale_for_s=60, tags=("a", "b"))

    def of_task() -> Awaitable[Any]:
        return cache.get_or_load("k", load, ttl_s=600, stale_for_s=60, tags=("a", "b"))

    return [
        Path(name="perfloop, threads: get_or_load, two tags", call=of_thread, asked_us=0.5),
        Path(name="perfloop, asyncio: get_or_load, two tags", call_async=of_task, asked_us=0.8),
        Path(name="perfloop, threads: decorated", call=lambda: user_of_thread(7), asked_us=1.5),
        Path(name="perfloop, asyncio: decorated", call_async=lambda: user(7), asked_us=1.5),
    ]


async def _rival_paths(stack: AsyncExitStack) -> list[Path]:
    paths: list[Path] = []
    if find_spec("dogpile"):
        paths += _dogpile_paths()
    if find_spec("aiocache"):
        paths += await _aiocache_paths()
    if find_spec("cashews"):
        paths += await _cashews_paths()
    return paths


def _dogpile_paths() -> list[Path]:
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.memory", expiration_time=600)

    @region.cache_on_arguments()  # type: ignore[untyped-decorator]  # dogpile's decorators have no types
    def user(user_id: int) -> Any:
        return VALUE

    region.set("k", VALUE)
    return [
        Path(name="dogpile.cache, threads: get, no tags", call=lambda: region.get("k")),
        Path(name="dogpile.cache, threads: decorated, no tags", call=lambda: user(7)),
    ]


async def _aiocache_paths() -> list[Path]:
    from aiocache import SimpleMemoryCache, cached

    memory = SimpleMemoryCache()
    await memory.set("k", VALUE, ttl=600)

    @cached(ttl=600)  # type: ignore[untyped-decorator]  # aiocache's decorators have no types
    async def user(user_id: int) -> Any:
        return VALUE

    return [
        Path(name="aiocache, asyncio: get, no tags", call_async=lambda: memory.get("k")),
        Path(name="aiocache, asyncio: decorated, no tags", call_async=lambda: user(7)),
    ]


async def _cashews_paths() -> list[Path]:
    from cashews import Cache

    memory = Cache()
    memory.setup("mem://")
    await memory.set("k", VALUE, expire=600)

    @memory(ttl="10m", key="user:{user_id}")  # type: ignore[untyped-decorator]  # no stubs here
    async def user(user_id: int) -> Any:
        return VALUE

    return [
        Path(name="cashews, asyncio: get", call_async=lambda: memory.get("k")),
        Path(name="cashews, asyncio: decorated, no tags", call_async=lambda: user(7)),
    ]


async def _remote_paths(stack: AsyncExitStack, url: str) -> list[Path]:
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url)
    stack.push_async_callback(client.aclose)
    await client.set("raw", pickle.dumps(VALUE, 5))

    async def raw() -> Any:
        return pickle.loads(await client.get("raw"))  # type: ignore[arg-type]  # bytes, as it was set

    async def load() -> Any:
        return VALUE

    plain = await stack.enter_async_context(AsyncTieredCache(url, prefix="plain"))
    signed = await stack.enter_async_context(
        AsyncTieredCache(url, prefix="signed", serializer="pickle", secret=b"s" * 32)
    )

    def hit(cache: AsyncTieredCache) -> AsyncCall:
        return lambda: cache.get_or_load("k", load, ttl_s=600, tags=("a", "b"))

    def drop(cache: AsyncTieredCache) -> Callable[[], Any]:
        return lambda: cache._memory.invalidate(("k",))  # of the memory tier alone

    await hit(plain)()
    await hit(signed)()
    return [
        Path(name="redis-py: GET, unpickle", call_async=raw, before_each=lambda: None),
        Path(name="perfloop: msgpack", call_async=hit(plain), before_each=drop(plain), asked_us=1.0),
        Path(name="perfloop: pickle, signed", call_async=hit(signed), before_each=drop(signed), asked_us=1.0),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--remote-calls", type=int, default=5_000)
    options = parser.parse_args()
    print("\n".join(asyncio.run(main(options.repeats, options.calls, options.remote_calls))))
