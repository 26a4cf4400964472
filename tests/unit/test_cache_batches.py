"""Batches: refreshed, replaced and given up as single keys are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, Gate, until

from perfloop.cache import CachePolicy, InMemoryServer
from perfloop.cache.remote import Fetched

POLICY = CachePolicy(ttl_s=10, jitter_ratio=0)
AHEAD = CachePolicy(ttl_s=10, jitter_ratio=0, refresh_ahead_ratio=0.5)


@dataclass(frozen=True)
class Point:
    x: int


class FaultyServer(InMemoryServer):
    """A tier with a fault that its contract does not know."""

    fetches = 0

    def _fetch(self, *_: Any, **__: Any) -> Mapping[str, Fetched]:
        self.fetches += 1
        raise UnicodeError("a tag that is no text")


def work_beside(cache: Any) -> int:
    """How many tasks or threads are at work for a cache."""
    return len(getattr(cache, "_cache", cache)._loading.crew)


def test_a_batch_is_refreshed_ahead_once(kind: Any, clock: FakeClock) -> None:
    loads: list[Sequence[str]] = []

    def load(keys: Sequence[str]) -> dict[str, int]:
        loads.append(keys)
        return dict.fromkeys(keys, len(loads))

    with kind.cache(InMemoryServer(clock=clock), clock=clock, policy=AHEAD) as cache:
        cache.load_many(["a", "b"], load)
        clock.advance(7)
        served = cache.load_many(["a", "b"], load)
        until(lambda: cache.get_many(["a", "b"]) == {"a": 2, "b": 2})
        until(lambda: work_beside(cache) == 0)
        served_then = cache.load_many(["a", "b"], load)

    assert ({"a": 1, "b": 1}, {"a": 2, "b": 2}, 2) == (served, served_then, len(loads))


def test_a_batch_begins_nothing_beside_its_caller_while_its_keys_are_refreshed(
    kind: Any, clock: FakeClock
) -> None:
    gate = Gate({"a": 2})
    with kind.cache(clock=clock, policy=AHEAD) as cache:
        cache.load_many(["a"], lambda keys: dict.fromkeys(keys, 1))
        clock.advance(7)
        cache.load_many(["a"], lambda keys: gate())
        gate.wait_begun()
        before = work_beside(cache)
        begun = []
        crew = getattr(cache, "_cache", cache)._loading.crew
        crew.spawn = lambda *work: begun.append(work)
        cache.load_many(["a"], lambda keys: gate())
        del crew.spawn
        after = work_beside(cache)
        gate.let()

    assert (before, []) == (after, begun)


def test_a_batch_replaces_shared_values_that_it_cannot_read(kind: Any, clock: FakeClock) -> None:
    server = InMemoryServer(clock=clock)
    options = {"clock": clock, "policy": POLICY}
    with kind.cache(server, secret=b"a" * 16, **options) as before:
        before.load_many(["a", "b"], lambda keys: dict.fromkeys(keys, "old"))
    with kind.cache(server, secret=b"b" * 16, **options) as cache:
        cache.load_many(["a", "b"], lambda keys: dict.fromkeys(keys, "new"))
    with kind.cache(server, secret=b"b" * 16, **options) as other:
        found = other.load_many(["a", "b"], lambda keys: dict.fromkeys(keys, "loaded again"))

    assert {"a": "new", "b": "new"} == found


@pytest.mark.parametrize("hard_timeout_s", [None, 5.0])
def test_a_fault_of_the_shared_tier_reaches_the_caller_of_a_batch_once(
    kind: Any, hard_timeout_s: float | None
) -> None:
    server = FaultyServer()
    policy = CachePolicy(ttl_s=60, hard_timeout_s=hard_timeout_s)
    with kind.cache(server, policy=policy) as cache:
        with pytest.raises(UnicodeError):
            cache.load_many(["a", "b"], lambda keys: dict.fromkeys(keys, 1))

        assert server.fetches == 1


def test_a_batch_that_cannot_begin_leaves_its_keys_to_other_processes(kind: Any, clock: FakeClock) -> None:
    def is_busy() -> bool:
        raise LookupError("no pool to ask")

    def load(members: Sequence[int]) -> dict[int, str]:
        return dict.fromkeys(members, "row")

    server = InMemoryServer(clock=clock)
    with kind.cache(server, policy=POLICY) as cache, kind.cache(server, policy=POLICY) as other:
        rows = cache.cached_many("row:{}", warm=True, is_busy=is_busy)(load)
        with pytest.raises(LookupError, match="no pool"):
            rows(7)
        loading = kind.start(other.get_or_load, "row:7", lambda: "of another")

        assert loading.result(5) == "of another"


def test_that_a_member_has_no_value_is_shared_although_values_have_a_type(kind: Any) -> None:
    def load(members: Sequence[int]) -> dict[int, Point]:
        return {member: Point(member) for member in members if member < 100}

    server = InMemoryServer()
    with kind.cache(server, policy=POLICY) as one, kind.cache(server, policy=POLICY) as other:
        one.cached_many("point:{}")(load).many([1, 200])
        found = other.cached_many("point:{}")(load).many([1, 200])
        told = [one.statistics().unencodable, other.statistics().loads, other.statistics().remote_hits]

    assert {1: Point(1)} == found
    assert [0, 0, 2] == told
