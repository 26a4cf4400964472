"""Two caches on one server in memory, as two processes have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from tests.cache_kinds import FakeClock, Gate, until, waiters

from perfloop.cache import BreakerPolicy, BreakerState, CachePolicy, InMemoryServer
from perfloop.cache._async import link as async_link
from perfloop.cache._sync import link as sync_link

POLICY = CachePolicy(ttl_s=60, stale_for_s=300, fail_safe_for_s=600, jitter_ratio=0)


class Two(NamedTuple):
    one: Any
    other: Any
    server: InMemoryServer


@pytest.fixture
def two(kind: Any, clock: FakeClock) -> Iterator[Two]:
    server = InMemoryServer(clock=clock)
    breaker = BreakerPolicy(first_retry_s=0.002)
    options = {"clock": clock, "policy": POLICY, "breaker": breaker, "rand": lambda: 0.5}
    with kind.cache(server, **options) as one, kind.cache(server, **options) as other:
        yield Two(one, other, server)


def never() -> Any:
    raise AssertionError("this value was to come from the cache")


def test_what_one_loaded_the_other_finds(two: Two) -> None:
    two.one.get_or_load("k", lambda: [1, "a"])

    assert two.other.get_or_load("k", never) == [1, "a"]
    assert two.other.statistics().remote_hits == 1


def test_one_of_both_loads_and_the_other_waits_for_it(kind: Any, two: Two) -> None:
    gate = Gate("value")
    leader = kind.start(two.one.get_or_load, "k", gate)
    gate.wait_begun()
    follower = kind.start(two.other.get_or_load, "k", never)
    until(lambda: two.other._link._hearing.awaited)
    gate.let()

    assert ("value", "value") == (leader.result(), follower.result())


def test_the_other_loads_where_the_one_who_loads_dies(kind: Any, two: Two, clock: FakeClock) -> None:
    gate = Gate("late")
    leader = kind.start(two.one.get_or_load, "k", gate)
    gate.wait_begun()
    clock.advance(11)  # the lease of 10 s has run out

    assert two.other.get_or_load("k", lambda: "mine") == "mine"
    gate.let()
    leader.result()


def test_a_load_that_fails_lets_the_other_load_at_once(kind: Any, two: Two) -> None:
    gate = Gate(None)

    def failing() -> None:
        gate()
        raise LookupError("gone")

    leader = kind.start(two.one.get_or_load, "k", failing)
    gate.wait_begun()
    follower = kind.start(two.other.get_or_load, "k", lambda: "mine")
    until(lambda: two.other._link._hearing.awaited)
    gate.let()

    assert isinstance(leader.exception(), LookupError)
    assert follower.result() == "mine"


@pytest.mark.parametrize("how", ["key", "tag"])
def test_an_invalidation_by_the_other_wins_over_a_load(kind: Any, two: Two, how: str) -> None:
    gate = Gate("old")
    early = kind.start(two.one.get_or_load, "k", gate, tags=("t",))
    gate.wait_begun()
    if how == "key":
        two.other.delete("k")
    else:
        two.other.invalidate_tag("t")
    gate.let()
    early.result()

    assert ("new", "new") == (
        two.one.get_or_load("k", lambda: "new", tags=("t",)),
        two.other.get_or_load("k", never, tags=("t",)),
    )


@pytest.mark.parametrize("how", ["key", "tag"])
def test_an_invalidation_by_the_other_wins_although_its_news_is_late(kind: Any, two: Two, how: str) -> None:
    gate = Gate("old")
    early = kind.start(two.one.get_or_load, "k", gate, tags=("t",))
    gate.wait_begun()
    two.server.withhold_news()
    if how == "key":
        two.other.delete("k")
    else:
        two.other.invalidate_tag("t")
    gate.let()
    early.result()

    assert two.one.get_or_load("k", lambda: "new", tags=("t",)) == "new"


def test_what_one_set_or_deleted_the_other_no_longer_serves(two: Two) -> None:
    two.one.set("k", 1)
    first = two.other.get("k")
    two.one.set("k", 2)
    second = two.other.get("k")
    two.one.delete("k")

    assert (1, 2, None) == (first, second, two.other.get("k"))


def test_a_set_without_a_life_is_a_deletion(two: Two) -> None:
    two.one.set("k", 1)
    two.one.set("k", None, policy=CachePolicy(ttl_s=60, negative_ttl_s=0))

    assert ("none", "none") == (two.one.get("k", "none"), two.other.get("k", "none"))


def test_a_stale_value_is_refreshed_by_one_of_both(kind: Any, two: Two, clock: FakeClock) -> None:
    gate = Gate("new")
    two.one.get_or_load("k", lambda: "old")
    two.other.get_or_load("k", never)
    clock.advance(61)
    served = [cache.get_or_load("k", gate) for cache in (two.one, two.other, two.one, two.other)]
    gate.let()
    until(lambda: two.one.get("k") == "new" and two.other.get("k") == "new")

    assert (["old"] * 4, 1) == (served, gate.calls)


def test_a_process_that_has_only_heard_of_a_stale_value_refreshes_it(
    kind: Any, two: Two, clock: FakeClock
) -> None:
    two.one.get_or_load("k", lambda: "old")
    clock.advance(61)
    served = two.other.get_or_load("k", lambda: "new")
    until(lambda: two.other.get("k") == "new")

    assert served == "old"


def test_a_spare_value_of_the_server_stands_in_for_a_loader_that_fails(two: Two, clock: FakeClock) -> None:
    two.one.get_or_load("k", lambda: "old")
    clock.advance(400)

    assert two.other.get_or_load("k", never) == "old"


def test_a_batch_takes_what_the_server_has_and_loads_the_rest(two: Two) -> None:
    calls = []

    def rows(keys: list[str]) -> dict[str, int]:
        calls.append(list(keys))
        return dict.fromkeys(keys, 1)

    two.one.load_many(["a", "b"], rows)

    assert {"a": 1, "b": 1, "c": 1} == two.other.load_many(["a", "b", "c"], rows)
    assert [["a", "b"], ["c"]] == calls
    assert {"a": 1, "c": 1} == two.one.get_many(["a", "c", "d"])


def test_a_batch_waits_for_what_another_process_loads(kind: Any, two: Two) -> None:
    gate = Gate("value")
    leader = kind.start(two.one.get_or_load, "a", gate)
    gate.wait_begun()
    follower = kind.start(two.other.load_many, ["a", "b"], lambda keys: dict.fromkeys(keys, "mine"))
    until(lambda: two.other._link._hearing.awaited)
    gate.let()

    assert ("value", {"a": "value", "b": "mine"}) == (leader.result(), follower.result())


def test_a_server_that_is_away_costs_nothing_but_itself(two: Two) -> None:
    two.one.get_or_load("kept", lambda: 1)
    two.server.go_away()
    values = [two.one.get_or_load("kept", never), two.one.get_or_load("new", lambda: 2)]

    assert [1, 2, 2] == [*values, two.one.get_or_load("new", never)]
    assert two.one.statistics().breaker_openings == 1


def test_what_was_invalidated_while_the_server_was_away_is_invalid_when_it_is_back(
    two: Two, clock: FakeClock
) -> None:
    for key in ("by-key", "by-tag", "by-set"):
        two.one.get_or_load(key, lambda: "old", tags=("t",) if key == "by-tag" else ())
        two.other.get_or_load(key, never)
    two.server.go_away()
    two.one.delete("by-key")
    two.one.invalidate_tag("t")
    two.one.set("by-set", "new")
    pending = two.one.statistics().pending_invalidations
    two.server.come_back()
    clock.advance(1)  # the next probe is due
    until(lambda: two.one.statistics().breaker is BreakerState.CLOSED)
    until(lambda: two.other.get("by-key") is None and two.other.get("by-set") is None)

    assert 3 == pending
    assert ["new"] * 3 == [
        two.other.get_or_load(key, lambda: "new", tags=("t",) if key == "by-tag" else ())
        for key in ("by-key", "by-tag", "by-set")
    ]


def test_more_invalidations_than_can_be_kept_clear_everything(
    two: Two, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for link in (async_link, sync_link):
        monkeypatch.setattr(link, "PENDING_LIMIT", 10)
    two.one.get_or_load("k", lambda: "old")
    two.server.go_away()
    for number in range(12):
        two.one.delete(f"other-{number}")
    pending = two.one.statistics().pending_invalidations
    two.server.come_back()
    clock.advance(1)  # the next probe is due
    until(lambda: two.one.statistics().breaker is BreakerState.CLOSED)

    assert pending <= 3
    assert two.other.get("k") is None


def test_a_cache_opens_although_the_server_is_away(kind: Any) -> None:
    server = InMemoryServer()
    server.go_away()
    with kind.cache(server, policy=POLICY) as cache:
        assert cache.get_or_load("k", lambda: 1) == 1


def test_a_gap_in_the_news_has_what_is_kept_checked_again(two: Two) -> None:
    two.one.get_or_load("k", lambda: "old")
    two.server.withhold_news()
    two.other.set("k", "new")
    two.server.flush()  # a gap, and nothing is left

    assert two.one.get_or_load("k", lambda: "loaded") == "loaded"


@pytest.mark.parametrize("by", ["a gap", "an outage", "the tag of everything"])
def test_what_was_to_be_checked_and_was_not_is_no_value_for_a_later_outage(
    two: Two, clock: FakeClock, by: str
) -> None:
    two.one.get_or_load("k", lambda: "old")
    if by != "the tag of everything":
        two.server.withhold_news()
    if by == "an outage":
        two.server.go_away()
        two.one.get_or_load("other", lambda: 1)  # notes it
        two.other.delete("k")
        two.server.come_back()
        clock.advance(1)  # the next probe is due
        for cache in (two.one, two.other):
            until(lambda cache=cache: cache.statistics().breaker is BreakerState.CLOSED)  # type: ignore[misc]  # a lambda's default
    elif by == "a gap":
        two.other.delete("k")
        two.server.flush()
    else:
        two.other.invalidate_tag("*")
    two.one.get_or_load("since then", lambda: "kept")
    two.server.go_away()

    assert two.one.get_or_load("k", lambda: "new") == "new"
    assert two.one.get_or_load("since then", never) == "kept"
    assert two.one.get_or_load("k", never) == "new"


def test_a_value_that_no_serialiser_takes_is_kept_in_this_process(two: Two) -> None:
    value = object()

    assert two.one.get_or_load("k", lambda: value) is value
    assert two.one.get_or_load("k", never) is value
    assert two.one.statistics().unencodable == 1


def test_an_endless_life_goes_to_the_server_too(two: Two) -> None:
    two.one.get_or_load("k", lambda: 1, ttl_s=float("inf"))

    assert two.other.get_or_load("k", never) == 1


def test_a_caller_waits_no_longer_than_its_hard_timeout_for_another_process(kind: Any, two: Two) -> None:
    gate = Gate("value")
    leader = kind.start(two.one.get_or_load, "k", gate)
    gate.wait_begun()
    with pytest.raises(TimeoutError):
        two.other.get_or_load("k", never, policy=CachePolicy(ttl_s=60, hard_timeout_s=0.05))
    gate.let()

    assert leader.result() == "value"
    assert waiters(two.other, "k") == 0


def test_a_get_as_the_shared_tier_goes_away_gives_what_is_in_memory(two: Two, clock: FakeClock) -> None:
    for key in ("fresh", "old"):
        two.one.get_or_load(key, lambda: key, ttl_s=600 if key == "fresh" else 1)  # noqa: B023 - called at once
        two.other.get(key)
    clock.advance(2)
    two.server.go_away()

    assert {"fresh": "fresh", "old": "old"} == two.other.get_many(["fresh", "old", "none"])
    assert (1, 1) == (two.other.statistics().unchecked_hits, two.other.statistics().stale_hits)
