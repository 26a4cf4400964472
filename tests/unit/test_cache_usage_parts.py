"""What the usage of a cache is counted with, each for itself."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfloop.cache import TieredCache
from perfloop.cache.changes import MAX_BYTES, Changes
from perfloop.cache.hot_keys import SIZE, HotKeys
from perfloop.cache.key_shapes import MAX_NODES, KeyShapes


@pytest.mark.parametrize(
    ("key", "template"),
    [
        ("user:7", "user:{}"),
        ("user-7", "user-{}"),
        ("v2:user:7", "v2:user:{}"),
        ("GET /feeds/12/items?page=3", "GET /feeds/{}/items?page={}"),
        ("session:550e8400-e29b-41d4-a716-446655440000", "session:{}"),
        ("report:2026-11-21", "report:{}-{}-{}"),
        ("etag:9f86d081884c7d659a2feaa0c55ad015", "etag:{}"),
        ("query:0123456789ab:9f86d081884c7d65", "query:0123456789ab:{}"),
        ("dashboard", "dashboard"),
        ("", ""),
        ("a:b:c:d:e:f:g:h:i:j", "a:b:c:d:e:f:g:h{}"),
    ],
)
def test_the_shape_of_a_key_tells_what_varies(key: str, template: str) -> None:
    assert template == KeyShapes().template(key)


def test_a_key_belongs_to_the_declared_template_that_says_the_most() -> None:
    shapes = KeyShapes()
    for template in ("{kind}:{number}", "user:{user_id}", "user:{user_id}:posts"):
        shapes.declare(template)

    assert "user:{user_id}" == shapes.template("user:a%3Ab")
    assert "user:{user_id}:posts" == shapes.template("user:7:posts")
    assert "{kind}:{number}" == shapes.template("feed:7")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=60))
def test_any_text_has_a_shape_and_folding_it_again_changes_nothing(keys: list[str]) -> None:
    shapes = KeyShapes()
    for key in keys:
        template = shapes.template(key)

        assert template is not None
        assert shapes.folded(shapes.folded(template)) == shapes.folded(template)


def test_shapes_are_bounded_whatever_the_keys_are() -> None:
    shapes, rng = KeyShapes(), random.Random(2)
    words = [f"{first}{second}" for first in "abcdefghijklmnopqr" for second in "abcdefghijklmnopqr"]

    templates = {shapes.template(":".join(rng.choices(words, k=6))) for _ in range(6000)}

    assert None in templates
    assert MAX_NODES >= shapes._nodes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 2.0))
def test_the_weight_of_a_key_lies_where_it_is_said_to(seed: int, exponent: float) -> None:
    rng = random.Random(seed)
    hot, exact = HotKeys(), Counter[str]()
    for _ in range(3000):
        key, weight = f"k{int(rng.paretovariate(exponent)) % 5000}", rng.randint(1, 9)
        hot.add(key, "", weight)
        exact[key] += weight

    told = hot.heaviest(SIZE)
    assert [] == [each for each in told if not each.weight - each.excess <= exact[each.key] <= each.weight]
    assert all(each.excess <= 2 / SIZE * exact.total() for each in told)


def test_values_without_a_digest_and_large_ones_are_not_compared() -> None:
    changes = Changes()
    large = "x" * (MAX_BYTES + 1)

    assert changes.digest("a", object()) is None
    assert changes.digest("a", {"n": 2**70}) is None
    assert changes.loaded("b", changes.digest("b", large), 1.0) is None
    assert changes.digest("b", large) is None


def test_as_more_keys_come_fewer_are_watched_and_those_that_are_still_are() -> None:
    changes = Changes(max_watched=100)

    def watched(turn_s: float) -> list[str]:
        keys = [f"key:{number}" for number in range(1000)]
        return [key for key in keys if changes.loaded(key, changes.digest(key, 1), turn_s) is not None]

    watched(1.0)
    second, third = watched(2.0), watched(3.0)
    assert 30 < len(second) <= 100
    assert second == third


def test_threads_lose_no_hit_to_one_another() -> None:
    cache = TieredCache(usage=True)

    def ask(number: int) -> None:
        for _ in range(4000):
            cache.get_or_load(f"a:{number % 2}", lambda: 1, ttl_s=60)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16_000 == cache.usage().requests == cache.statistics().asked


def test_a_hit_waits_for_nobody_who_counts() -> None:
    cache = TieredCache(usage=True)
    cache.get_or_load("a:1", lambda: 1, ttl_s=60)

    with cache._parts.counts.usage.tallies._lock:  # type: ignore[union-attr]  # it was asked for
        for _ in range(1000):
            cache.get("a:1")

    assert 1001 == cache.usage().requests == cache.statistics().asked


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_counts_although_a_thread_of_the_parent_was_counting() -> None:
    cache = TieredCache(usage=True)
    tallies = cache._parts.counts.usage.tallies  # type: ignore[union-attr]  # it was asked for
    reading, writing = os.pipe()

    with tallies._lock:
        child = os.fork()
        if child == 0:
            cache.get_or_load("a:1", lambda: 1, ttl_s=60)
            os.write(writing, str(cache.usage().requests).encode())
            os._exit(0)
    os.close(writing)

    assert b"1" == os.read(reading, 10)
    os.close(reading)
    os.waitpid(child, 0)
