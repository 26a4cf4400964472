"""What concerns tasks, threads and processes, and so one kind of cache alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perfloop import cache as public
from perfloop.cache import AsyncInMemoryRemote, AsyncTieredCache, InMemoryRemote, InMemoryServer, TieredCache


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), 10))  # type: ignore[arg-type]  # main is a coroutine function


def test_a_caller_who_is_cancelled_leaves_the_load_to_the_others() -> None:
    async def main() -> tuple[Any, int]:
        calls = 0
        begun, let = asyncio.Event(), asyncio.Event()

        async def load() -> int:
            nonlocal calls
            calls += 1
            begun.set()
            await let.wait()
            return 7

        cache = AsyncTieredCache()
        leader = asyncio.create_task(cache.get_or_load("k", load, ttl_s=60))
        await begun.wait()
        follower = asyncio.create_task(cache.get_or_load("k", load, ttl_s=60))
        await asyncio.sleep(0)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        let.set()
        return await follower, calls

    assert run(main) == (7, 1)


def test_a_load_that_nobody_waits_for_any_more_is_cancelled() -> None:
    async def main() -> list[str]:
        ends: list[str] = []
        begun = asyncio.Event()

        async def load() -> int:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            return 7

        async def quick() -> int:
            return 8

        async with AsyncTieredCache() as cache:
            leader = asyncio.create_task(cache.get_or_load("k", load, ttl_s=60))
            await begun.wait()
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            ends.append(str(await cache.get_or_load("k", quick, ttl_s=60)))
        return sorted(ends)

    assert run(main) == ["8", "cancelled"]


def test_a_leader_cancelled_at_the_server_lets_another_take_over() -> None:
    async def main() -> Any:
        server = InMemoryServer()

        async def load() -> int:
            return 7

        async with AsyncTieredCache(remote=AsyncInMemoryRemote(server)) as cache:
            leader = asyncio.create_task(cache.get_or_load("k", load, ttl_s=60))
            await asyncio.sleep(0)
            follower = asyncio.create_task(cache.get_or_load("k", load, ttl_s=60))
            await asyncio.sleep(0)
            leader.cancel()
            return await follower

    assert run(main) == 7


def test_a_closed_cache_leaves_no_task() -> None:
    async def main() -> set[Any]:
        before = asyncio.all_tasks()
        server = InMemoryServer()
        clock_s = 0.0

        async def hangs() -> int:
            await asyncio.Event().wait()
            return 1

        async def one() -> int:
            return 1

        async with AsyncTieredCache(remote=AsyncInMemoryRemote(server), clock=lambda: clock_s) as cache:
            await cache.get_or_load("k", one, ttl_s=1, stale_for_s=100)
            clock_s = 2.0
            await cache.get_or_load("k", hangs, ttl_s=1, stale_for_s=100)
            server.go_away()
            await cache.delete("k")
        return asyncio.all_tasks() - before

    assert run(main) == set()


def test_a_closed_cache_leaves_no_thread() -> None:
    before = threading.active_count()
    server = InMemoryServer()
    with TieredCache(remote=InMemoryRemote(server)) as cache:
        cache.get_or_load("k", lambda: 1, ttl_s=60)
        server.go_away()
        cache.delete("k")

    assert before == threading.active_count()


def test_methods_are_kept_by_their_arguments() -> None:
    async def main() -> list[Any]:
        cache = AsyncTieredCache()
        calls: list[int] = []

        class Shop:
            def __init__(self, number: int) -> None:
                self.number = number

            @cache.cached("price:{self.number}:{product}", ttl_s=60)
            async def price(self, product: int) -> int:
                calls.append(product)
                return self.number * product

        shop = Shop(3)
        values = [await shop.price(7), await Shop(3).price(product=7), await Shop(4).price(7)]
        await shop.price.invalidate(7)
        values.append(await shop.price(7))
        return [*values, shop.price.key(7), calls, await Shop.price.original(shop, 1)]

    assert run(main) == [21, 21, 28, 21, "price:3:7", [7, 7, 7, 1], 3]


def test_a_cache_works_in_a_forked_child() -> None:
    server = InMemoryServer()
    with TieredCache(remote=InMemoryRemote(server)) as cache:
        cache.get_or_load("kept", lambda: 1, ttl_s=60)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            answer = b"failed"
            try:
                values = (
                    cache.get_or_load("kept", lambda: 2, ttl_s=60),
                    cache.get_or_load("new", lambda: 3, ttl_s=60),
                )
                cache.invalidate_tag("t")
                answer = repr(values).encode()
            finally:
                os.write(writer, answer)
                os._exit(0)
        os.waitpid(child, 0)
        answer = os.read(reader, 100)
        os.close(reader)
        os.close(writer)

    assert answer == b"(1, 3)"


def test_public_names_are_there_once() -> None:
    assert len(set(public.__all__)) == len(public.__all__)
    assert all(getattr(public, name) is not None for name in public.__all__)


def test_a_cache_in_the_process_needs_no_redis() -> None:
    script = (
        "import sys; sys.modules['redis'] = None;"
        "from perfloop.cache import AsyncTieredCache, TieredCache; TieredCache(), AsyncTieredCache()"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_is_fetched_while_the_server_is_being_told_of_an_invalidation_is_not_kept() -> None:
    class Slow(AsyncInMemoryRemote):
        async def invalidate(self, *args: Any) -> Any:
            told.set()
            await let.wait()
            return await super().invalidate(*args)

    async def main() -> list[int]:
        async def old() -> int:
            return 1

        async def new() -> int:
            return 2

        async with AsyncTieredCache(remote=Slow(InMemoryServer())) as cache:
            await cache.get_or_load("k", old, ttl_s=60)
            deletion = asyncio.create_task(cache.delete("k"))
            await told.wait()
            between = await cache.get_or_load("k", new, ttl_s=60)
            let.set()
            await deletion
            return [between, await cache.get_or_load("k", new, ttl_s=60)]

    told, let = asyncio.Event(), asyncio.Event()

    assert run(main) == [1, 2]
