from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, Gate, until, waiters

from perfloop.cache import BreakerPolicy, BreakerState, CachePolicy, InMemoryServer, Loaded
from perfloop.errors import InvalidInput, LoadTimedOut


@pytest.fixture
def cache(kind: Any, clock: FakeClock) -> Iterator[Any]:
    with kind.cache(clock=clock, policy=CachePolicy(ttl_s=60, jitter_ratio=0)) as cache:
        yield cache


def never() -> Any:
    raise AssertionError("this value was to come from the cache")


def test_a_value_is_loaded_once_and_then_kept(cache: Any) -> None:
    first = cache.get_or_load("k", lambda: 7)

    assert (7, 7, 7) == (first, cache.get_or_load("k", never), cache.get("k"))


def test_of_all_who_ask_at_once_one_loads(kind: Any, cache: Any) -> None:
    gate = Gate(7)
    callers = [kind.start(cache.get_or_load, "k", gate) for _ in range(50)]
    until(lambda: waiters(cache, "k") == 50)
    gate.let()
    values = [caller.result() for caller in callers]

    assert ([7] * 50, 1) == (values, gate.calls)


def test_a_loader_s_error_reaches_all_who_wait_as_it_is_and_the_next_call_loads_again(
    kind: Any, cache: Any
) -> None:
    error = LookupError("no row")
    begun, let = threading.Event(), threading.Event()

    def failing() -> None:
        begun.set()
        let.wait(10)
        raise error

    callers = [kind.start(cache.get_or_load, "k", failing) for _ in range(5)]
    until(lambda: waiters(cache, "k") == 5)
    let.set()
    raised = [caller.exception() for caller in callers]

    assert [error] * 5 == raised
    assert cache.get_or_load("k", lambda: 8) == 8


def test_a_key_deleted_while_it_is_loaded_keeps_nothing_of_the_old_value(kind: Any, cache: Any) -> None:
    gate = Gate("old")
    early = kind.start(cache.get_or_load, "k", gate)
    gate.wait_begun()
    cache.delete("k")
    late = cache.get_or_load("k", lambda: "new")
    gate.let()

    assert ("old", "new", "new") == (early.result(), late, cache.get_or_load("k", never))


def test_a_tag_invalidated_while_a_member_is_loaded_keeps_nothing_of_the_old_value(
    kind: Any, cache: Any
) -> None:
    gate = Gate("old")
    early = kind.start(cache.get_or_load, "k", gate, tags=("t",))
    gate.wait_begun()
    cache.invalidate_tag("t")
    late = cache.get_or_load("k", lambda: "new", tags=("t",))
    gate.let()

    assert ("old", "new", "new") == (early.result(), late, cache.get_or_load("k", never))


def test_a_caller_after_the_invalidation_of_a_tag_that_only_the_value_names_gets_a_new_value(
    kind: Any, cache: Any
) -> None:
    gate = Gate(Loaded(value="old", tags=("t",)), Loaded(value="new", tags=("t",)))
    early = kind.start(cache.get_or_load, "k", gate)
    gate.wait_begun()
    cache.invalidate_tag("t")
    late = kind.start(cache.get_or_load, "k", gate)
    until(lambda: waiters(cache, "k") == 2)
    gate.let()
    gate.let()

    assert ("old", "new") == (early.result(), late.result())


def test_a_value_set_while_its_key_is_loaded_stays(kind: Any, cache: Any) -> None:
    gate = Gate("loaded")
    early = kind.start(cache.get_or_load, "k", gate)
    gate.wait_begun()
    cache.set("k", "set")
    gate.let()

    assert ("loaded", "set") == (early.result(), cache.get("k"))


def test_a_stale_value_is_served_while_one_load_goes_on_behind(
    kind: Any, cache: Any, clock: FakeClock
) -> None:
    gate = Gate("new")
    cache.get_or_load("k", lambda: "old", stale_for_s=300)
    clock.advance(61)
    served = [cache.get_or_load("k", gate, stale_for_s=300) for _ in range(5)]
    gate.let()
    until(lambda: cache.get("k") == "new")

    assert (["old"] * 5, 1) == (served, gate.calls)


def test_a_value_that_is_due_is_refreshed_ahead(kind: Any, cache: Any, clock: FakeClock) -> None:
    policy = CachePolicy(ttl_s=100, jitter_ratio=0, refresh_ahead_ratio=0.8)
    cache.get_or_load("k", lambda: "old", policy=policy)
    clock.advance(79)
    before = cache.get_or_load("k", never, policy=policy)
    clock.advance(2)
    served = cache.get_or_load("k", lambda: "new", policy=policy)
    until(lambda: cache.get("k") == "new")

    assert ("old", "old") == (before, served)


def test_an_old_value_stands_in_for_a_loader_that_fails(cache: Any, clock: FakeClock) -> None:
    policy = CachePolicy(ttl_s=60, fail_safe_for_s=600)
    cache.get_or_load("k", lambda: "old", policy=policy)
    clock.advance(100)

    assert cache.get_or_load("k", never, policy=policy) == "old"
    assert cache.get_or_load("k", lambda: "new", policy=policy) == "new"


def test_an_old_value_stands_in_for_a_slow_loader_whose_load_goes_on(
    kind: Any, cache: Any, clock: FakeClock
) -> None:
    policy = CachePolicy(ttl_s=60, fail_safe_for_s=600, soft_timeout_s=0.02)
    gate = Gate("new")
    cache.get_or_load("k", lambda: "old", policy=policy)
    clock.advance(100)
    served = cache.get_or_load("k", gate, policy=policy)
    gate.let()
    until(lambda: cache.get("k") == "new")

    assert ("old", 1) == (served, gate.calls)


def test_a_loader_that_takes_too_long_is_given_up_and_begun_anew_by_the_next(kind: Any, cache: Any) -> None:
    policy = CachePolicy(ttl_s=60, hard_timeout_s=0.02)
    gate = Gate("late")
    with pytest.raises(LoadTimedOut, match=r"'k' took over 0\.02 s"):
        cache.get_or_load("k", gate, policy=policy)
    gate.let()

    assert cache.get_or_load("k", lambda: "new", policy=CachePolicy(ttl_s=60)) == "new"


def test_a_batch_that_takes_too_long_is_given_up_and_begun_anew_by_the_next(kind: Any, cache: Any) -> None:
    policy = CachePolicy(ttl_s=60, hard_timeout_s=0.02)
    gate = Gate({"a": "late"})
    with pytest.raises(LoadTimedOut, match="'a' took over"):
        cache.load_many(["a"], lambda keys: gate(), policy=policy)
    fresh = cache.load_many(["a"], lambda keys: dict.fromkeys(keys, "new"), policy=CachePolicy(ttl_s=60))
    gate.let()

    assert {"a": "new"} == fresh


def test_a_none_has_a_life_of_its_own(cache: Any, clock: FakeClock) -> None:
    policy = CachePolicy(ttl_s=60, negative_ttl_s=5, jitter_ratio=0)
    cache.get_or_load("k", lambda: None, policy=policy)
    clock.advance(4)
    kept = cache.get_or_load("k", never, policy=policy)
    clock.advance(2)

    assert (None, 7) == (kept, cache.get_or_load("k", lambda: 7, policy=policy))


def test_a_loader_may_say_how_long_its_value_lives(cache: Any, clock: FakeClock) -> None:
    cache.get_or_load("k", lambda: Loaded(value=1, ttl_s=5))
    clock.advance(6)

    assert cache.get("k") is None


def test_a_load_without_a_length_of_life_says_how_to_give_one(kind: Any) -> None:
    with kind.cache() as cache, pytest.raises(InvalidInput, match="ttl_s=60"):
        cache.get_or_load("k", lambda: 7)


def test_a_batch_loads_what_is_missing_in_one_call_and_leaves_out_what_there_is_not(cache: Any) -> None:
    calls = []

    def rows(keys: list[str]) -> dict[str, str]:
        calls.append(list(keys))
        return {key: key.upper() for key in keys if key != "z"}

    cache.set("a", "set")
    first = cache.load_many(["a", "b", "z", "b"], rows)
    second = cache.load_many(["a", "b", "z"], rows)

    assert {"a": "set", "b": "B"} == first == second
    assert [["b", "z"]] == calls


def test_two_batches_load_what_they_share_once(kind: Any, cache: Any) -> None:
    gate = Gate({"a": 1, "b": 2})
    first = kind.start(cache.load_many, ["a", "b"], lambda keys: gate())
    gate.wait_begun()
    second = kind.start(cache.load_many, ["b", "c"], lambda keys: dict.fromkeys(keys, 3))
    until(lambda: waiters(cache, "b") == 2)
    gate.let()

    assert ({"a": 1, "b": 2}, {"b": 2, "c": 3}) == (first.result(), second.result())


def test_a_batch_whose_loader_fails_raises_its_error_and_serves_spare_values(
    cache: Any, clock: FakeClock
) -> None:
    policy = CachePolicy(ttl_s=60, fail_safe_for_s=600)
    cache.load_many(["a", "b"], lambda keys: dict.fromkeys(keys, 1), policy=policy)
    clock.advance(100)

    def failing(keys: list[str]) -> dict[str, int]:
        raise LookupError("gone")

    assert {"a": 1, "b": 1} == cache.load_many(["a", "b"], failing, policy=policy)
    with pytest.raises(LookupError, match="gone"):
        cache.load_many(["a", "c"], failing, policy=policy)


def test_stale_members_of_a_batch_are_loaded_behind_in_one_call(
    kind: Any, cache: Any, clock: FakeClock
) -> None:
    calls = []

    def rows(keys: list[str]) -> dict[str, int]:
        calls.append(sorted(keys))
        return dict.fromkeys(keys, len(calls))

    cache.load_many(["a", "b"], rows, stale_for_s=300)
    clock.advance(61)
    served = cache.load_many(["a", "b"], rows, stale_for_s=300)
    until(lambda: cache.get("b") == 2)

    assert {"a": 1, "b": 1} == served
    assert [["a", "b"], ["a", "b"]] == calls


def test_many_values_are_got_at_once(cache: Any) -> None:
    cache.set("a", 1)
    cache.set("b", None)

    assert {"a": 1, "b": None} == cache.get_many(["a", "b", "c"])


def test_statistics_tell_hits_loads_and_what_was_refused(kind: Any, cache: Any) -> None:
    gate = Gate(1)
    early = kind.start(cache.get_or_load, "k", gate)
    gate.wait_begun()
    cache.delete("k")
    gate.let()
    early.result()
    cache.get_or_load("k", lambda: 2)
    cache.get_or_load("k", never)
    statistics = cache.statistics()

    assert (1, 2, 1, 1) == (
        statistics.hits,
        statistics.loads,
        statistics.refused_stores,
        statistics.memory.entries,
    )


def test_what_happens_is_told_but_hits_are_not(kind: Any) -> None:
    told: list[str] = []
    with kind.cache(on_event=lambda event: told.append(type(event).__name__)) as cache:
        cache.get_or_load("k", lambda: 1, ttl_s=60)
        cache.get_or_load("k", lambda: 1, ttl_s=60)
        with pytest.raises(AssertionError):
            cache.get_or_load("other", never, ttl_s=60)

    assert ["Missed", "LoadEnded", "Missed", "LoadFailed"] == told


def test_a_listener_that_fails_costs_nobody_a_value(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("the listener's own fault")

    with kind.cache(on_event=fail) as cache:
        values = [cache.get_or_load("k", lambda: 1, ttl_s=60), cache.get_or_load("k", never, ttl_s=60)]

    assert [1, 1] == values
    assert "the listener's own fault" in caplog.text


def test_a_listener_that_fails_keeps_no_tier_away(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("the listener's own fault")

    server = InMemoryServer()
    with kind.cache(server, on_event=fail, breaker=BreakerPolicy(first_retry_s=0.01)) as cache:
        server.go_away()
        cache.get_or_load("k", lambda: 1, ttl_s=60)
        server.come_back()
        until(lambda: cache.statistics().breaker is BreakerState.CLOSED)

    assert "is away" in caplog.text
