"""What a caller gives by mistake is told to him at once, and never taken for something else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    InMemoryRemote,
    InMemoryServer,
    Loaded,
    QueryCache,
    TieredCache,
)
from perfloop.errors import InvalidInput

ONE_TEXT: dict[str, Any] = {
    "get_or_load": lambda cache: cache.get_or_load("k", lambda: 1, ttl_s=60, tags="user-7"),
    "set": lambda cache: cache.set("k", 1, ttl_s=60, tags="user-7"),
    "load_many": lambda cache: cache.load_many(["k"], lambda keys: {}, ttl_s=60, tags="user-7"),
    "cached": lambda cache: cache.cached("k", ttl_s=60, tags="user-7"),
    "cached_many": lambda cache: cache.cached_many("k:{}", ttl_s=60, tags="user-7"),
    "a loader": lambda cache: cache.get_or_load("k", lambda: Loaded(value=1, tags="user-7"), ttl_s=60),  # type: ignore[arg-type]  # the mistake
}
NO_KEY: dict[str, Any] = {
    "get": lambda cache: cache.get(7),
    "get_many": lambda cache: cache.get_many([7]),
    "set": lambda cache: cache.set(7, 1, ttl_s=60),
    "get_or_load": lambda cache: cache.get_or_load(7, lambda: 1, ttl_s=60),
    "load_many": lambda cache: cache.load_many([7], lambda keys: {7: 1}, ttl_s=60),
    "delete": lambda cache: cache.delete(7),
    "delete of a list": lambda cache: cache.delete(["k"]),
}


@pytest.fixture(params=["alone", "shared"])
def cache(request: pytest.FixtureRequest) -> Any:
    remote = InMemoryRemote(InMemoryServer()) if request.param == "shared" else None
    with TieredCache(remote=remote) as opened:
        yield opened


@pytest.mark.parametrize("call", ONE_TEXT.values(), ids=ONE_TEXT)
def test_one_text_is_not_taken_for_a_tag_a_letter(cache: Any, call: Any) -> None:
    with pytest.raises(InvalidInput, match=r"write tags=\('user-7',\)"):
        call(cache)


@pytest.mark.parametrize("call", NO_KEY.values(), ids=NO_KEY)
def test_what_is_no_text_is_no_key(cache: Any, call: Any) -> None:
    with pytest.raises(InvalidInput, match=r"(7|\['k'\]) is no key: keys are text"):
        call(cache)


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.get_many("abc"),
        lambda cache: cache.load_many("abc", lambda keys: dict.fromkeys(keys, 1), ttl_s=60),
    ],
    ids=["get_many", "load_many"],
)
def test_one_text_is_not_taken_for_a_key_a_letter(cache: Any, call: Any) -> None:
    with pytest.raises(InvalidInput, match=r"give \['abc'\]"):
        call(cache)


@pytest.mark.parametrize("tag", [7, ["user-7"]], ids=["a number", "a list"])
def test_what_is_no_text_is_no_tag_to_invalidate(cache: Any, tag: Any) -> None:
    with pytest.raises(InvalidInput, match="is no tag: tags are text"):
        cache.invalidate_tag(tag)


def test_the_asynchronous_face_refuses_the_same() -> None:
    async def use() -> list[str]:
        told = []
        async with AsyncTieredCache(remote=AsyncInMemoryRemote(InMemoryServer())) as cache:
            for call in (cache.delete, cache.invalidate_tag, cache.get):
                with pytest.raises(InvalidInput) as caught:
                    await call(7)  # type: ignore[arg-type, call-overload]  # the mistake
                told.append(str(caught.value).split(":")[0])
        return told

    assert ["7 is no key", "7 is no tag", "7 is no key"] == asyncio.run(use())


def test_more_tags_than_the_shared_tier_can_take_are_refused(cache: Any) -> None:
    with pytest.raises(InvalidInput, match="has 70,000 tags; it may have 65,535"):
        cache.set("k", 1, ttl_s=60, tags=map(str, range(70_000)))


@pytest.mark.parametrize("option", ["row_security", "allow"])
def test_one_text_is_not_taken_for_a_setting_or_a_function_a_letter(option: str) -> None:
    with pytest.raises(InvalidInput, match=rf"write {option}=\('app.tenant',\)"):
        QueryCache(TieredCache(), **{option: "app.tenant"})  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"secret": "a text of sixteen or more"}, "a secret is bytes, 16 or more"),
        ({"redis": "redis://localhost", "timeout_s": float("inf")}, "at most an hour"),
        ({"redis": 6379}, "expected redis://"),
    ],
)
def test_options_that_cannot_be_used_say_so(options: Any, fact: str) -> None:
    with pytest.raises(InvalidInput, match=fact):
        TieredCache(**options)


def test_a_bound_that_is_smaller_than_one_entry_keeps_nothing_and_serves() -> None:
    cache = TieredCache(max_bytes=10)

    assert 1 == cache.get_or_load("k", lambda: 1, ttl_s=60)
    assert 1 == cache.statistics().memory.too_large
