"""What a load is asked for, what its loader says besides, and what of that passes the shared tier."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, until

from perfloop.cache import CachePolicy, InMemoryServer, Loaded
from perfloop.cache.loaded import kind_of
from perfloop.errors import InvalidInput


class Moody:
    """A serialiser that fails in a way of its own."""

    def dumps(self, value: Any, /) -> bytes:
        raise LookupError("no schema")

    def loads(self, body: bytes, /) -> Any:
        raise LookupError("no schema")


@dataclass(eq=False)
class Odd:
    """Compares with nothing."""

    number: int

    def __eq__(self, other: object) -> bool:
        raise LookupError("no comparison")

    __hash__ = None  # type: ignore[assignment]  # as Python has it for what defines `__eq__` alone


def load_odd() -> Odd:
    return Odd(7)


def test_a_loader_s_terms_hold_in_the_processes_that_fetch_its_value(kind: Any, clock: FakeClock) -> None:
    server = InMemoryServer(clock=clock)
    asked = {"ttl_s": 10, "stale_for_s": 100}
    with kind.cache(server, clock=clock) as one, kind.cache(server, clock=clock) as other:
        loader = lambda: Loaded(value="old", stale_for_s=0.0)  # noqa: E731  # of two calls the same
        loaded = [cache.get_or_load("k", loader, **asked) for cache in (one, other)]
        clock.advance(15)
        then = [cache.get_or_load("k", lambda: "new", **asked) for cache in (one, other)]

    assert (["old"] * 2, ["new"] * 2) == (loaded, then)


def test_terms_that_keep_no_spare_value_go_with_a_soft_time_limit(kind: Any, clock: FakeClock) -> None:
    server = InMemoryServer(clock=clock)
    careful = CachePolicy(ttl_s=10, fail_safe_for_s=100, soft_timeout_s=1)
    with kind.cache(server, clock=clock) as one, kind.cache(server, clock=clock) as other:
        one.get_or_load("k", lambda: 1, ttl_s=10)

        assert 1 == other.get_or_load("k", lambda: 2, policy=careful)


@pytest.mark.parametrize("by_batch", [False, True])
def test_a_none_that_is_not_kept_ends_the_shared_old_value(
    kind: Any, clock: FakeClock, by_batch: bool
) -> None:
    policy = CachePolicy(ttl_s=10, jitter_ratio=0, stale_for_s=100, negative_ttl_s=0)
    server = InMemoryServer(clock=clock)

    def ask(cache: Any) -> Any:
        if by_batch:
            return cache.load_many(["k"], lambda keys: {}).get("k")
        return cache.get_or_load("k", lambda: None)

    with (
        kind.cache(server, clock=clock, policy=policy) as cache,
        kind.cache(server, clock=clock, policy=policy) as other,
    ):
        cache.get_or_load("k", lambda: "old")
        clock.advance(11)
        ask(cache)  # stale, with a refresh behind
        until(lambda: ask(cache) is None)

        assert (None, None) == (ask(cache), ask(other))


@pytest.mark.parametrize("by_batch", [False, True])
def test_a_value_that_no_serialiser_takes_still_reaches_its_callers(kind: Any, by_batch: bool) -> None:
    with kind.cache(InMemoryServer(), serializer=Moody(), policy=CachePolicy(ttl_s=60)) as cache:
        load: Callable[[], Any] = (
            (lambda: cache.load_many(["k"], lambda keys: {"k": 7})["k"])
            if by_batch
            else (lambda: cache.get_or_load("k", lambda: 7))
        )

        assert (7, 7, 1) == (load(), load(), cache.statistics().unencodable)
        with pytest.raises(LookupError, match="no schema"):
            cache.set("k", 7)


def test_a_value_that_cannot_be_compared_still_reaches_its_callers(kind: Any) -> None:
    with kind.cache(InMemoryServer(), policy=CachePolicy(ttl_s=60)) as cache:
        found = cache.get_or_load("k", load_odd)

        assert 7 == found.number


@pytest.mark.parametrize("tag", ["t" * 70_000, 7])
def test_what_the_shared_tier_takes_for_no_tag_is_refused_before_the_load(kind: Any, tag: Any) -> None:
    loads: list[None] = []
    with kind.cache(InMemoryServer(), policy=CachePolicy(ttl_s=60)) as cache:
        with pytest.raises(InvalidInput, match="tag"):
            cache.get_or_load("k", lambda: loads.append(None), tags=(tag,))
        with pytest.raises(InvalidInput, match="tag"):
            cache.set("k", 7, tags=(tag,))
        with pytest.raises(InvalidInput, match="tag"):
            cache.get_or_load("j", lambda: Loaded(value=7, tags=(tag,)))

        assert ([], 8) == (loads, cache.get_or_load("j", lambda: 8))


def test_closures_of_one_name_have_each_its_own_type() -> None:
    def repository(model: type) -> Callable[[], Any]:
        def get() -> Any: ...

        get.__annotations__["return"] = model
        return get

    kinds = [kind_of(repository(model)) for model in (int, str, int)]

    assert [int, str, int] == kinds


def test_a_type_is_looked_up_once_for_all_closures_that_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def loader() -> Callable[[], list[int]]:
        return lambda_of()

    def lambda_of() -> Callable[[], list[int]]:
        def load() -> list[int]:
            return [1]

        return load

    first = kind_of(loader())
    monkeypatch.setattr("perfloop.cache.loaded.get_type_hints", inspect.getmembers)

    assert (list[int], list[int]) == (first, kind_of(loader()))
