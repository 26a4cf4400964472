"""Options that would do nothing are refused, on both kinds of cache."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    CachePolicy,
    InMemoryRemote,
    InMemoryServer,
    TieredCache,
)
from perfloop.cache.key_list import KeyListPolicy
from perfloop.errors import InvalidInput

KINDS: list[tuple[Any, Any]] = [(TieredCache, InMemoryRemote), (AsyncTieredCache, AsyncInMemoryRemote)]


@pytest.fixture(params=KINDS, ids=["sync", "async"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    made: tuple[Any, Any] = request.param
    return made


def test_two_shared_tiers_are_refused(pair: tuple[Any, Any]) -> None:
    cache, remote = pair

    with pytest.raises(InvalidInput, match="two shared tiers"):
        cache("redis://localhost", remote=remote(InMemoryServer()))


def test_a_time_limit_for_a_tier_of_one_s_own_is_refused(pair: tuple[Any, Any]) -> None:
    cache, remote = pair

    with pytest.raises(InvalidInput, match="timeout_s is for redis"):
        cache(remote=remote(InMemoryServer()), timeout_s=1)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"capacity": 10, "max_bytes": 10_000}, "two bounds"),
        ({"key_list_policy": KeyListPolicy()}, "give key_list, too"),
        ({"timeout_s": 0}, "timeout_s is 0; it must be above 0"),
        ({"lease_s": 0}, "lease_s is 0; it must be above 0"),
    ],
)
def test_what_would_do_nothing_is_refused(pair: tuple[Any, Any], options: Any, fact: str) -> None:
    with pytest.raises(InvalidInput, match=fact):
        pair[0](**options)


def test_nobody_is_asked_whether_he_is_busy_where_nothing_is_warmed(pair: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput, match="give warm"):
        pair[0]().cached_many("k:{}", ttl_s=60, is_busy=lambda: True)


def test_what_is_said_for_redis_may_stay_where_there_is_none(pair: tuple[Any, Any], tmp_path: Path) -> None:
    cache = pair[0](None, secret=b"s" * 16, serializer="pickle", timeout_s=1, lease_s=5)
    bounded = pair[0](max_bytes=10_000, key_list=tmp_path / "keys")

    assert [False, False] == [cache.is_alone, bounded._parts.is_alone]


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"soft_timeout_s": 1}, "give fail_safe_for_s"),
        ({"soft_timeout_s": 2, "hard_timeout_s": 2, "fail_safe_for_s": 9}, "has to be shorter"),
    ],
)
def test_a_soft_time_limit_that_never_ends_a_wait_is_refused(options: Any, fact: str) -> None:
    with pytest.raises(InvalidInput, match=fact):
        CachePolicy(ttl_s=60, **options)


def test_a_set_says_what_no_serialiser_takes_and_what_to_do(pair: tuple[Any, Any]) -> None:
    cache, remote = pair

    async def run_async() -> None:
        async with cache(remote=remote(InMemoryServer())) as opened:
            await opened.set("k", {1, 2}, ttl_s=60)

    def run() -> None:
        if cache.__name__.startswith("Async"):
            asyncio.run(run_async())
            return
        with cache(remote=remote(InMemoryServer())) as opened:
            opened.set("k", {1, 2}, ttl_s=60)

    with pytest.raises(InvalidInput, match="or kind= for a set"):
        run()


def test_a_signature_is_bound_to_the_keys_of_its_tier_whatever_the_prefix_of_the_cache() -> None:
    class Scoped(InMemoryRemote):
        scope = ""  # each its own, as those on Redis have by their prefix

    def cache(scope: str, prefix: str = "perfloop") -> TieredCache:
        tier = Scoped(server)
        tier.scope = scope
        return TieredCache(remote=tier, prefix=prefix, secret=b"s" * 16)

    server = InMemoryServer()
    with cache("a") as one, cache("a", "another") as same, cache("b") as other:
        one.set("k", 1, ttl_s=60)

        assert (1, None) == (same.get("k"), other.get("k"))
        assert other.statistics().unreadable == 1
