"""What the statistics count, and what listeners are told, from each way in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, Gate, until, waiters

from perfloop.cache import CachePolicy, InMemoryServer

POLICY = CachePolicy(ttl_s=60, stale_for_s=300, fail_safe_for_s=600, jitter_ratio=0)
KEYS = ("a", "b", "c")


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def cache(kind: Any, clock: FakeClock, told: list[Any]) -> Iterator[Any]:
    with kind.cache(clock=clock, policy=POLICY, on_event=told.append) as cache:
        yield cache


def load_all(keys: Any) -> dict[str, int]:
    return dict.fromkeys(keys, 1)


def by_get_or_load(cache: Any) -> None:
    for key in KEYS:
        cache.get_or_load(key, lambda: 1)


def by_load_many(cache: Any) -> None:
    cache.load_many(KEYS, load_all)


def by_cached(cache: Any) -> None:
    function = cache.cached("{key}")(one)
    for key in KEYS:
        function(key)


def by_cached_many(cache: Any) -> None:
    cache.cached_many("{}")(load_all).many(KEYS)


def by_get(cache: Any) -> None:
    for key in KEYS:
        cache.get(key)


def by_get_many(cache: Any) -> None:
    cache.get_many(KEYS)


def one(key: str) -> int:
    del key
    return 1


WAYS = [by_get_or_load, by_load_many, by_cached, by_cached_many, by_get, by_get_many]
LOADING = WAYS[:4]
BATCHES = (by_load_many, by_cached_many, by_get_many)


@pytest.mark.parametrize("ask", WAYS)
def test_each_key_that_is_asked_for_and_missing_is_a_miss(cache: Any, ask: Callable[[Any], None]) -> None:
    ask(cache)
    found = cache.statistics()

    assert (3, 0, 0.0) == (found.asked, found.hits, found.hit_ratio)


@pytest.mark.parametrize("ask", WAYS)
def test_each_key_that_is_there_is_a_hit(cache: Any, ask: Callable[[Any], None]) -> None:
    cache.load_many(KEYS, load_all)
    ask(cache)
    found = cache.statistics()

    assert (6, 3, 0.5) == (found.asked, found.hits, found.hit_ratio)


@pytest.mark.parametrize("ask", WAYS)
def test_old_values_count_as_such_and_the_refresh_behind_is_no_request(
    cache: Any, clock: FakeClock, told: list[Any], ask: Callable[[Any], None]
) -> None:
    cache.load_many(KEYS, load_all)
    clock.advance(100)
    ask(cache)
    if ask in LOADING:
        until(lambda: cache.statistics().loaded_keys == 6)
    found = cache.statistics()
    stale = [event.key for event in told if type(event).__name__ == "StaleServed"]

    assert (6, 0, 3, 0.5) == (found.asked, found.hits, found.stale_hits, found.hit_ratio)
    assert found.loads - 1 == found.background_loads
    assert list(KEYS) == stale


@pytest.mark.parametrize("ask", WAYS)
def test_values_of_the_shared_tier_are_hits_of_each_who_asked(
    kind: Any, clock: FakeClock, ask: Callable[[Any], None]
) -> None:
    server = InMemoryServer(clock=clock)
    options = {"clock": clock, "policy": POLICY}
    with kind.cache(server, **options) as one, kind.cache(server, **options) as other:
        one.load_many(KEYS, load_all)
        ask(other)
        found = other.statistics()

    assert (3, 3, 1.0, 0) == (found.asked, found.remote_hits, found.hit_ratio, found.loads)


def test_who_waits_for_another_s_load_has_missed_too(kind: Any, cache: Any) -> None:
    gate = Gate(7)
    callers = [kind.start(cache.get_or_load, "k", gate) for _ in range(4)]
    until(lambda: waiters(cache, "k") == 4)
    gate.let()
    for caller in callers:
        caller.result()
    found = cache.statistics()

    assert (4, 0.0, 1, 1) == (found.asked, found.hit_ratio, found.loads, found.loaded_keys)


def test_a_value_that_stands_in_for_a_loader_that_fails_is_an_old_one(cache: Any, clock: FakeClock) -> None:
    cache.load_many(KEYS, load_all)
    clock.advance(400)

    def fail(*_: object) -> Any:
        raise LookupError("no row")

    cache.get_or_load("a", fail)
    cache.load_many(["b", "c"], fail)
    found = cache.statistics()

    assert (6, 3, 0.5) == (found.asked, found.stale_hits, found.hit_ratio)


def test_a_value_served_as_the_shared_tier_goes_away_is_one_hit(kind: Any, clock: FakeClock) -> None:
    server = InMemoryServer(clock=clock)
    with kind.cache(server, clock=clock, policy=CachePolicy(ttl_s=math.inf)) as cache:
        cache.get_or_load("k", lambda: 1)
        cache._memory.raise_epoch()
        server.go_away()
        cache.get_or_load("k", lambda: 2)
        found = cache.statistics()

    assert (2, 1, 1, 0.5) == (found.asked, found.unchecked_hits, found.hits, found.hit_ratio)


@pytest.mark.parametrize("ask", WAYS)
def test_all_that_was_missed_and_loaded_is_told_by_key(
    cache: Any, told: list[Any], ask: Callable[[Any], None]
) -> None:
    ask(cache)
    calls = [KEYS] if ask in BATCHES else [(key,) for key in KEYS]
    by_name = {
        name: [event.keys for event in told if type(event).__name__ == name]
        for name in ("Missed", "LoadEnded")
    }

    assert {"Missed": calls, "LoadEnded": calls if ask in LOADING else []} == by_name


def test_all_keys_of_a_batch_that_fails_are_told(cache: Any, told: list[Any]) -> None:
    def fail(keys: Any) -> Any:
        raise LookupError(f"none of {keys}")

    with pytest.raises(LookupError):
        cache.load_many(KEYS, fail)

    assert [KEYS] == [event.keys for event in told if type(event).__name__ == "LoadFailed"]
