"""Functions that a cache refuses to decorate or to call, with the reason."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cache_kinds import FakeClock

from perfloop.cache import AsyncTieredCache, TieredCache
from perfloop.errors import InvalidInput


@pytest.fixture
def cache(kind: Any, clock: FakeClock) -> Iterator[Any]:
    with kind.cache(clock=clock) as cache:
        yield cache


async def load(*_: object) -> dict[str, int]:
    return {"k": 1}


def load_at_once(*_: object) -> dict[str, int]:
    return {"k": 1}


def user(number: int) -> str:
    return f"user {number}"


def order(number: int) -> str:
    return f"order {number}"


def users(ids: list[int]) -> dict[int, str]:
    return dict.fromkeys(ids, "user")


class Shop:
    def __init__(self, rows: dict[int, str]) -> None:
        self.rows = rows

    def many(self, ids: list[int]) -> dict[int, str]:
        return {number: self.rows[number] for number in ids}


@pytest.mark.parametrize("decorate", ["cached", "cached_many"])
def test_a_cache_for_threads_decorates_no_async_function(decorate: str) -> None:
    with pytest.raises(InvalidInput, match="load is async; use AsyncTieredCache"):
        getattr(TieredCache(), decorate)("k", ttl_s=60)(load)


@pytest.mark.parametrize("loader", [load, lambda *_: load()], ids=["function", "lambda"])
def test_a_cache_for_threads_keeps_no_coroutine(loader: Any) -> None:
    cache = TieredCache()

    with pytest.raises(InvalidInput, match="is async; use AsyncTieredCache"):
        cache.get_or_load("k", loader, ttl_s=60)
    with pytest.raises(InvalidInput, match="is async; use AsyncTieredCache"):
        cache.load_many(["k"], loader, ttl_s=60)
    assert 0 == cache.statistics().memory.entries


def test_a_cache_for_asyncio_says_what_it_cannot_await() -> None:
    async def ask(name: str, key: Any) -> None:
        with pytest.raises(InvalidInput, match="make it `async def`, or use TieredCache"):
            await getattr(AsyncTieredCache(), name)(key, load_at_once, ttl_s=60)

    asyncio.run(ask("get_or_load", "k"))
    asyncio.run(ask("load_many", ["k"]))


def test_a_cache_for_asyncio_takes_a_plain_function_that_returns_what_can_be_awaited() -> None:
    assert {"k": 1} == asyncio.run(AsyncTieredCache().get_or_load("k", lambda: load(), ttl_s=60))


def test_two_functions_have_no_key_in_common(cache: Any) -> None:
    cache.cached("thing:{number}", ttl_s=60)(user)

    with pytest.raises(InvalidInput, match=r"user has the key 'thing:{number}' already, so that .*order"):
        cache.cached("thing:{number}", ttl_s=60)(order)


def test_nor_has_one_for_many_members(cache: Any) -> None:
    cache.cached_many("thing:{}", ttl_s=60)(users)

    with pytest.raises(InvalidInput, match="give each function a key of its own"):
        cache.cached_many("thing:{}", ttl_s=60)(lambda ids: {})


def test_a_function_that_is_defined_anew_may_have_its_key_again(cache: Any) -> None:
    values = [cache.cached("thing:{number}", ttl_s=60)(user)(7) for _ in range(2)]

    assert ["user 7", "user 7"] == values


def test_two_caches_may_have_one_template(kind: Any, cache: Any) -> None:
    with kind.cache() as other:
        functions = [
            cache.cached("thing:{number}", ttl_s=60)(user),
            other.cached("thing:{number}", ttl_s=60)(order),
        ]

        assert ["user 7", "order 7"] == [function(7) for function in functions]


def test_a_function_of_many_members_takes_them_alone(cache: Any) -> None:
    with pytest.raises(InvalidInput, match="has to take the list of members and nothing else"):
        cache.cached_many("thing:{}", ttl_s=60)(Shop.many)


def test_a_bound_method_of_many_members_may_be_cached(cache: Any) -> None:
    many = cache.cached_many("thing:{}", ttl_s=60)(functools.partial(Shop.many, Shop({7: "seven"})))
    bound = cache.cached_many("other:{}", ttl_s=60)(Shop({8: "eight"}).many)

    assert ({7: "seven"}, "eight") == (many.many([7]), bound(8))


CALLS: dict[str, Any] = {
    "load_many": lambda cache, rows: cache.load_many(["k"], rows, ttl_s=60),
    "many": lambda cache, rows: cache.cached_many("thing:{}", ttl_s=60)(rows).many([7]),
    "refresh": lambda cache, rows: cache.cached_many("thing:{}", ttl_s=60)(rows).refresh(7),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_function_of_many_members_has_to_say_whose_each_value_is(cache: Any, call: Any) -> None:
    def rows(ids: list[Any]) -> list[str]:
        return ["a row" for _ in ids]

    with pytest.raises(InvalidInput, match="rows returned a list; it has to return a mapping"):
        call(cache, rows)
