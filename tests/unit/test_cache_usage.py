"""What a cache tells of its use, template by template."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.cache_traces import trace, zipf
from tests.cache_kinds import FakeClock

from perfloop.cache import (
    CachePolicy,
    InMemoryServer,
    TemplateUsage,
    TieredCache,
    UsagePolicy,
    UsageProfile,
    read_usage,
    write_usage,
)
from perfloop.cache.usage import OTHER, merged
from perfloop.errors import InvalidInput

POLICY = CachePolicy(ttl_s=60, jitter_ratio=0)


@pytest.fixture
def cache(kind: Any, clock: FakeClock) -> Iterator[Any]:
    with kind.cache(clock=clock, policy=POLICY, usage=True) as cache:
        yield cache


def _of(cache: Any, template: str) -> TemplateUsage:
    return next(each for each in cache.usage().templates if each.template == template)


def _by_template(cache: Any) -> dict[str, int]:
    return {each.template: each.requests for each in cache.usage().templates}


def test_requests_are_counted_by_the_template_of_the_function_or_by_the_shape_of_the_key(cache: Any) -> None:
    @cache.cached("user:{user_id}")
    def user(user_id: object) -> object:
        return user_id

    @cache.cached_many("product:{}")
    def products(ids: Any) -> dict[int, int]:
        return {each: each for each in ids}

    for _ in range(3):
        user(7)
        user("ada:lovelace")
        products.many([1, 2])
        cache.get_or_load("invoice:9:lines", lambda: 1)

    by_template = {"user:{user_id}": 6, "product:{}": 6, "invoice:{}:lines": 3}
    assert by_template == _by_template(cache)
    assert ["invoice:{}:lines"] == [each.template for each in cache.usage().templates if each.is_derived]


def test_each_request_is_counted_once_however_many_hits_are_sampled(kind: Any, clock: FakeClock) -> None:
    with kind.cache(clock=clock, policy=POLICY, usage=True, capacity=50) as cache:
        for number in range(4_000):
            cache.get_or_load(f"key:{number % 7 * number % 90}", lambda: 1)

        usage, statistics = _of(cache, "key:{}"), cache.statistics()

    assert 4_000 == usage.requests
    assert (statistics.memory.hits, statistics.loads) == (usage.hits, usage.loads)
    assert statistics.memory.evictions == usage.evictions > 0
    assert statistics.memory.entries == usage.entries == 50


def test_loader_time_is_shared_by_the_keys_of_a_batch(cache: Any, clock: FakeClock) -> None:
    def load(keys: Any) -> dict[str, int]:
        clock.advance(0.4)
        return dict.fromkeys(keys, 1)

    cache.load_many(["a:1", "a:2", "a:3", "b:1"], load)
    cache.load_many(["a:1", "a:2"], load)

    a, b = _of(cache, "a:{}"), _of(cache, "b:{}")
    assert (pytest.approx(0.3), 1, 3, 2) == (a.load_s, a.loads, a.loaded_keys, a.hits)
    assert pytest.approx(0.1) == a.load_mean_s == b.load_mean_s
    assert pytest.approx(0.2, abs=0.001) == a.saved_s
    assert 0 > (b.saved_s or 0.0)


def test_what_the_shared_tier_served_is_no_miss(kind: Any, clock: FakeClock) -> None:
    server = InMemoryServer(clock=clock)
    with kind.cache(server, policy=POLICY, clock=clock, usage=True) as one:
        one.get_or_load("a:1", lambda: 1)
        with kind.cache(server, policy=POLICY, clock=clock, usage=True) as other:
            other.get_or_load("a:1", lambda: 1)
            other.get("a:2")

            usage = _of(other, "a:{}")

    assert (1, 1, 0) == (usage.remote_hits, usage.misses, usage.loads)


def test_an_old_value_that_is_served_is_counted_apart(kind: Any, clock: FakeClock) -> None:
    policy = CachePolicy(ttl_s=60, stale_for_s=300, jitter_ratio=0)
    with kind.cache(clock=clock, policy=policy, usage=True) as cache:
        cache.get_or_load("a:1", lambda: 1)
        clock.advance(61)
        cache.get("a:1")

        usage = _of(cache, "a:{}")

    assert (1, 1, True) == (usage.stale_hits, usage.misses, usage.refreshes_behind)


def test_what_leaves_unread_is_told_by_how_it_left(cache: Any, clock: FakeClock) -> None:
    for name in ("a", "b"):
        for number in range(4):
            cache.get_or_load(f"{name}:{number}", lambda: 1, tags=(name,))
    cache.get("a:0")
    clock.advance(10)

    cache.delete("a:0", "a:1")
    cache.invalidate_tag("b")
    clock.advance(60)
    for number in range(4):
        cache.get(f"a:{number}")
        cache.get(f"b:{number}")

    a, b = _of(cache, "a:{}"), _of(cache, "b:{}")
    assert (2, 1, 20.0) == (a.invalidated, a.invalidated_unread, a.invalidated_age_s)
    assert (2, 2) == (a.expirations, a.expired_unread)
    assert (4, 4, 0) == (b.invalidated, b.invalidated_unread, b.entries)


def test_values_that_are_loaded_anew_are_compared_unless_they_were_invalidated(
    cache: Any, clock: FakeClock
) -> None:
    def turn(value: Any) -> None:
        cache.get_or_load("same:1", lambda: {"rows": [1, 2]})
        cache.get_or_load("new:1", lambda: value)
        cache.get_or_load("told:1", lambda: value)
        cache.get_or_load("odd:1", lambda: object())
        clock.advance(30)
        cache.delete("told:1")
        clock.advance(31)

    for number in range(3):
        turn(number)

    compared = {
        each.template: (each.compared, each.changed, each.compared_age_s) for each in cache.usage().templates
    }
    expected = {
        "same:{}": (2, 0, 122.0),
        "new:{}": (2, 2, 122.0),
        "told:{}": (0, 0, 0.0),
        "odd:{}": (0, 0, 0.0),
    }
    assert expected == compared


def test_many_templates_fall_together_and_names_of_people_become_one(kind: Any, clock: FakeClock) -> None:
    policy = UsagePolicy(max_templates=8)
    with kind.cache(clock=clock, policy=POLICY, usage=policy) as cache:
        for letter in "abcdefghijklmnopqrstuvwxyz":
            cache.get(f"mail:{letter}x:inbox")
            cache.get(f"{letter}:7")

        by_template = _by_template(cache)

    assert 8 + 1 >= len(by_template)
    assert 52 == sum(by_template.values())
    assert by_template[OTHER] > 10


def test_words_in_one_place_become_one_template_when_there_are_too_many(cache: Any) -> None:
    for first in "abcdefghij":
        for second in "abcdefghij":
            cache.get(f"mail:{first}{second}:inbox")

    assert {"mail:{}:inbox": 100} == _by_template(cache)


@pytest.mark.parametrize("name", ["nasa", "zipf"])
def test_the_hottest_keys_are_found_within_the_bound_that_is_told(name: str) -> None:
    try:
        requests = trace("nasa") if name == "nasa" else zipf(0.99, keys=20_000, requests=40_000)
    except InvalidInput as error:
        pytest.skip(str(error))
    cache = TieredCache(usage=True, rand=random.Random(5).random)

    for key in requests:
        cache.get_or_load(key, lambda: 1, ttl_s=1e9)

    counts = Counter(requests)
    found = cache.usage().hot_keys
    (hottest, most), *_ = counts.most_common(1)
    assert hottest == found[0].key
    assert most == pytest.approx(found[0].hits, rel=3 / found[0].samples ** 0.5)


def test_without_hot_keys_the_profile_names_no_key(kind: Any, clock: FakeClock) -> None:
    with kind.cache(clock=clock, policy=POLICY, usage=UsagePolicy(max_hot_keys=0)) as cache:
        for _ in range(1_000):
            cache.get_or_load("secret", lambda: 1)

        assert () == cache.usage().hot_keys


def test_a_cache_that_was_not_asked_to_count_says_so(kind: Any, clock: FakeClock) -> None:
    with kind.cache(clock=clock) as cache, pytest.raises(InvalidInput, match="usage=True"):
        cache.usage()


def test_a_profile_comes_back_from_its_file(cache: Any, tmp_path: Path) -> None:
    cache.get_or_load("a:1", lambda: 1)
    cache.get_or_load("b:1", lambda: 1, ttl_s=float("inf"))
    profile: UsageProfile = cache.usage()
    path = tmp_path / "usage.json"

    write_usage(path, profile)

    assert profile == read_usage(path)
    assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 1}', b'{"version": 99}', b"\xff"])
def test_a_file_that_is_no_profile_is_refused_with_its_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    path.write_bytes(content)

    with pytest.raises(InvalidInput, match=r"usage\.json is"):
        read_usage(path)


def test_profiles_of_several_processes_are_one(kind: Any, clock: FakeClock) -> None:
    profiles = []
    for count in (3, 5):
        with kind.cache(clock=clock, policy=POLICY, usage=True) as cache:
            for _ in range(count):
                cache.get_or_load("a:1", lambda: 1)
            profiles.append(cache.usage())

    one = merged(profiles)

    assert (2, 8, 6, 2) == (one.processes, one.requests, one.templates[0].hits, one.templates[0].entries)
    with pytest.raises(InvalidInput, match="none"):
        merged([])
