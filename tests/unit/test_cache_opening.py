"""A cache that shares is opened before it is used, by `with` or by hand, and says so where it was not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perfloop.cache import AsyncInMemoryRemote, AsyncTieredCache, InMemoryRemote, InMemoryServer, TieredCache
from perfloop.errors import InvalidInput

CALLS = [
    ("get", ("k",), {}),
    ("get_many", (["k"],), {}),
    ("set", ("k", 1), {"ttl_s": 60}),
    ("delete", ("k",), {}),
    ("invalidate_tag", ("t",), {}),
]


async def load(keys: object = None) -> dict[str, int]:
    del keys
    return {"k": 1}


def load_at_once(keys: object = None) -> dict[str, int]:
    del keys
    return {"k": 1}


@pytest.mark.parametrize(
    ("name", "arguments", "terms"),
    [*CALLS, ("get_or_load", ("k",), {"ttl_s": 60}), ("load_many", (["k"],), {"ttl_s": 60})],
)
def test_a_shared_cache_that_nobody_opened_says_so(name: str, arguments: Any, terms: Any) -> None:
    cache = TieredCache(remote=InMemoryRemote(InMemoryServer()))
    other = AsyncTieredCache(remote=AsyncInMemoryRemote(InMemoryServer()))
    loads = "load" in name

    with pytest.raises(InvalidInput, match=r"`with cache`, or `open\(\)`"):
        getattr(cache, name)(*arguments, *([load_at_once] if loads else ()), **terms)
    with pytest.raises(InvalidInput, match=r"`async with cache`, or `open\(\)`"):
        asyncio.run(getattr(other, name)(*arguments, *([load] if loads else ()), **terms))


def test_it_opens_and_closes_by_hand() -> None:
    cache = TieredCache(remote=InMemoryRemote(InMemoryServer()))
    cache.open()
    cache.set("k", 1, ttl_s=60)
    with pytest.raises(InvalidInput, match="open already"):
        cache.open()
    seen = cache.get("k")
    cache.close()
    cache.close()

    assert 1 == seen


def test_the_one_for_asyncio_does_so_too() -> None:
    async def use() -> object:
        cache = AsyncTieredCache(remote=AsyncInMemoryRemote(InMemoryServer()))
        await cache.open()
        await cache.set("k", 1, ttl_s=60)
        with pytest.raises(InvalidInput, match="open already"):
            await cache.open()
        seen = await cache.get("k")
        await cache.close()
        await cache.close()
        return seen

    assert 1 == asyncio.run(use())


def test_a_cache_whose_loop_has_ended_serves_nothing_of_which_it_heard_no_more() -> None:
    server = InMemoryServer()
    cache = AsyncTieredCache(remote=AsyncInMemoryRemote(server))

    async def use() -> object:
        await cache.open()
        await cache.set("k", "old", ttl_s=60)
        return await cache.get("k")

    async def use_on() -> object:
        return await cache.get("k")

    before = asyncio.run(use())
    with TieredCache(remote=InMemoryRemote(server)) as other:
        other.set("k", "new", ttl_s=60)

    assert ("old", "new") == (before, asyncio.run(use_on()))


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"


def waited_s(run: Callable[[], object]) -> float:
    begun_s = time.monotonic()
    run()
    return time.monotonic() - begun_s


def test_redis_is_waited_for_as_long_as_was_said(silent_url: str) -> None:
    cache = TieredCache(silent_url, timeout_s=0.3)
    cache._link._was_opened = True  # type: ignore[union-attr]  # opening waits for the news as well
    first_s = waited_s(lambda: cache.get("k"))
    cache.close()

    assert 0.28 <= first_s < 2


def test_redis_is_waited_for_as_long_as_was_said_with_asyncio(silent_url: str) -> None:
    async def use() -> None:
        cache = AsyncTieredCache(silent_url, timeout_s=0.3)
        cache._link._was_opened = True  # type: ignore[union-attr]  # as above
        await cache.get("k")

    assert 0.28 <= waited_s(lambda: asyncio.run(use())) < 2
