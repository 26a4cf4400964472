"""The memory tier by examples; the model and the interleavings are in test_cache_memory_machine."""

import gc
import math
import os
import time
import tracemalloc
import weakref
from collections.abc import Iterable

import pytest

from perfloop.cache.memory import MemoryTier
from perfloop.cache.object_size import object_bytes
from perfloop.cache.policy import CachePolicy, Freshness
from perfloop.cache.tag_cells import TagCells
from perfloop.model.remote import EVERYTHING

POLICY = CachePolicy(ttl_s=60)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def _load(
    tier: MemoryTier, key: str, value: object, tags: Iterable[str] = (), policy: CachePolicy = POLICY
) -> bool:
    return tier.store(tier.begin(key).flight, value, policy=policy, tags=tags)


def test_a_stored_value_is_found_with_its_tags() -> None:
    tier = MemoryTier()
    _load(tier, "user:7", "Ann", ["user-7", "dashboard", "user-7"])

    entry = tier.get("user:7")

    assert entry is not None
    assert ("Ann", ("user-7", "dashboard")) == (entry.value, entry.tags)


def test_statistics_count_each_request_once() -> None:
    tier = MemoryTier()
    assert tier.get("a") is None
    tier.examine("a")
    _load(tier, "a", 1)
    tier.get("a")
    tier.get("a")

    statistics = tier.statistics()

    assert (2, 1, 0, 1) == (statistics.hits, statistics.misses, statistics.stale, statistics.entries)


def test_lives_are_jittered_so_that_they_do_not_end_together() -> None:
    clock = Clock()
    tier = MemoryTier(clock=clock)
    for number in range(1000):
        _load(tier, f"k{number}", number, policy=CachePolicy(ttl_s=100, jitter_ratio=0.5))

    clock.now_s += 75

    alive = sum(tier.get(f"k{number}") is not None for number in range(1000))
    assert 400 < alive < 600


def test_a_refresh_that_is_due_leads_to_examine_and_is_a_hit() -> None:
    clock = Clock()
    tier = MemoryTier(clock=clock)
    _load(tier, "a", 1, policy=CachePolicy(ttl_s=100, jitter_ratio=0, refresh_ahead_ratio=0.8))
    clock.now_s += 79
    assert tier.get("a") is not None
    clock.now_s += 2

    assert tier.get("a") is None
    found, entry = tier.examine("a")
    assert found is Freshness.DUE
    assert entry is not None
    assert 2 == tier.statistics().hits


def test_the_age_that_a_value_has_from_a_remote_tier_shortens_its_life_here() -> None:
    clock = Clock()
    tier = MemoryTier(clock=clock)
    tier.store(tier.begin("a").flight, 1, policy=POLICY, life_s=50, age_s=40)
    clock.now_s += 9.9
    assert tier.get("a") is not None
    clock.now_s += 0.2

    assert tier.get("a") is None


def test_a_none_is_kept_by_its_own_life_and_not_at_all_where_that_is_nought() -> None:
    tier = MemoryTier()

    assert _load(tier, "kept", None, policy=CachePolicy(ttl_s=60, negative_ttl_s=5))
    assert not _load(tier, "not", None, policy=CachePolicy(ttl_s=60, negative_ttl_s=0))
    assert tier.get("kept") is not None
    assert tier.examine("not") == (Freshness.EXPIRED, None)


def test_a_none_that_is_not_kept_ends_the_value_before_it() -> None:
    tier = MemoryTier()
    _load(tier, "a", 1)

    _load(tier, "a", None, policy=CachePolicy(ttl_s=60, negative_ttl_s=0))

    assert tier.get("a") is None


def test_callers_after_an_invalidation_start_a_load_of_their_own() -> None:
    tier = MemoryTier()
    first = tier.begin("a")
    waiting = tier.begin("a")
    tier.invalidate(["a"])
    later = tier.begin("a")

    assert (True, False, True) == (first.leads, waiting.leads, later.leads)
    assert not tier.store(first.flight, "old", policy=POLICY)
    assert first.flight.serves(waiting.number)
    assert tier.store(later.flight, "new", policy=POLICY)


def test_callers_after_the_invalidation_of_a_tag_that_was_named_start_a_load_of_their_own() -> None:
    tier = MemoryTier()
    tier.begin("a", ["t"])
    tier.invalidate_tags(["t"])

    assert tier.begin("a", ["t"]).leads


def test_a_caller_after_the_invalidation_of_a_tag_that_only_the_value_names_is_not_served_by_it() -> None:
    tier = MemoryTier()
    first = tier.begin("a")
    before = tier.begin("a")
    tier.invalidate_tags(["t"])
    after = tier.begin("a")

    assert not tier.store(first.flight, "old", policy=POLICY, tags=["t"])
    assert [True, False] == [first.flight.serves(caller.number) for caller in (before, after)]


def test_a_flood_of_invalidations_of_other_tags_refuses_no_load() -> None:
    tier = MemoryTier()
    flight = tier.begin("a").flight
    for number in range(5_000):
        tier.invalidate_tags([f"other{number}"])

    assert tier.store(flight, 1, policy=POLICY, tags=["mine"])
    assert 1 == tier.statistics().tags


def test_more_idle_tags_than_are_kept_refuse_the_load_rather_than_forget() -> None:
    cells = TagCells(idle_limit=2)
    for number in (1, 2, 3):
        cells.invalidate(f"t{number}", number, oldest_birth=0)
    fresh = cells.join(["t1"])

    assert [False, False] == [cells.allow([tag], 0) for tag in ("t1", "unknown")]
    assert cells.allow(["t1", "unknown"], 1)
    assert not cells.allow(["t2"], 1)
    assert 1 == fresh[0].number


def test_clearing_everything_takes_one_step_and_fences_loads_without_tags() -> None:
    tier = MemoryTier()
    _load(tier, "a", 1)
    flight, joined = tier.begin("b").flight, tier.begin("c").flight

    tier.invalidate_tags([EVERYTHING])

    assert tier.get("a") is None
    assert tier.examine("a") == (Freshness.EXPIRED, None)
    assert tier.begin("b").leads
    assert not tier.store(flight, 2, policy=POLICY)
    assert not tier.store(joined, 3, policy=POLICY)


def test_after_an_epoch_entries_ask_to_be_checked_and_a_new_store_serves_again() -> None:
    tier = MemoryTier()
    _load(tier, "a", 1)

    tier.raise_epoch()

    assert tier.get("a") is None
    assert Freshness.UNCHECKED is tier.examine("a")[0]
    assert Freshness.FRESH is tier.examine("a", trusting=True)[0]
    _load(tier, "a", 1)
    assert tier.get("a") is not None


def test_callers_after_the_invalidation_of_a_tag_of_the_old_value_do_not_board_its_refresh() -> None:
    clock = Clock()
    tier = MemoryTier(clock=clock)
    _load(tier, "a", "old", ["t"], CachePolicy(ttl_s=1, jitter_ratio=0, fail_safe_for_s=100))
    clock.now_s += 2
    assert Freshness.SPARE is tier.examine("a")[0]
    tier.begin("a")

    tier.invalidate_tags(["t"])

    assert tier.begin("a").leads


@pytest.mark.parametrize("goes_by", ["invalidation", "new value", "eviction"])
def test_a_value_that_went_is_not_kept_alive_by_the_sweep(goes_by: str) -> None:
    class Large:
        """Can be referred to weakly."""

    tier = MemoryTier(1)
    value = Large()
    gone = weakref.ref(value)
    tier.put("a", value, policy=POLICY)
    del value
    tier.sweep(1)

    if goes_by == "invalidation":
        tier.invalidate(["a"])
    else:
        tier.put("a" if goes_by == "new value" else "b", 1, policy=POLICY)

    gc.collect()
    assert gone() is None


def test_a_load_from_before_an_epoch_is_not_kept_as_checked() -> None:
    tier = MemoryTier()
    flight = tier.begin("a").flight

    tier.raise_epoch()

    assert not tier.store(flight, "old", policy=POLICY)
    assert tier.get("a") is None
    assert (Freshness.EXPIRED, None) == tier.examine("a")


def test_who_comes_after_an_epoch_does_not_board_a_load_from_before() -> None:
    tier = MemoryTier()
    first = tier.begin("a")
    tier.raise_epoch()
    later = tier.begin("a")

    assert later.leads
    assert [True, False] == [first.flight.serves(caller.number) for caller in (first, later)]


@pytest.mark.parametrize("stores", [True, False])
def test_a_load_that_was_given_up_still_knows_that_a_tag_of_its_value_was_invalidated(stores: bool) -> None:
    tier = MemoryTier()
    first = tier.begin("a")
    tier.invalidate_tags(["t"])
    after = tier.begin("a")

    tier.end(first.flight)
    if stores:
        assert not tier.store(first.flight, "old", policy=POLICY, tags=["t"])

    assert [True, False] == [first.flight.serves(caller.number) for caller in (first, after)]


def test_ending_a_load_that_was_kept_takes_its_value_from_nobody() -> None:
    tier = MemoryTier()
    first = tier.begin("a")
    tier.invalidate_tags(["other"])
    after = tier.begin("a")

    assert tier.store(first.flight, 1, policy=POLICY)
    tier.end(first.flight)

    assert first.flight.serves(after.number)


def test_expired_entries_go_although_nobody_asks_for_them() -> None:
    clock = Clock()
    tier = MemoryTier(clock=clock)
    for number in range(1000):
        _load(tier, f"old{number}", number)
    clock.now_s += 61

    for number in range(600):
        _load(tier, f"new{number}", number)

    assert 600 == tier.statistics().entries
    assert 1000 == tier.statistics().expirations


def test_a_sweep_looks_at_no_more_than_it_is_told_and_goes_on_where_it_ended() -> None:
    clock = Clock()
    tier = MemoryTier(clock=clock)
    for number in range(100):
        _load(tier, f"k{number}", number, ["t"])
    tier.invalidate_tags(["t"])

    swept = [tier.sweep(30) for _ in range(5)]

    assert [30, 30, 30, 10, 0] == swept
    assert 0 == tier.statistics().tags


def test_a_value_that_comes_back_to_the_cache_when_it_goes_does_not_block_it() -> None:
    tier = MemoryTier(1)

    class Returning:
        def __del__(self) -> None:
            tier.invalidate(["other"])

    _load(tier, "a", Returning())
    _load(tier, "b", 1)
    _load(tier, "b", Returning())
    tier.put("b", 2, policy=POLICY)
    _load(tier, "b", Returning())
    tier.invalidate(["b"])
    _load(tier, "c", Returning(), ["t"])
    tier.invalidate_tags(["t"])
    tier.sweep(10)

    assert 0 == tier.statistics().entries


@pytest.mark.parametrize("tags_each", [0, 2])
def test_by_bytes_the_memory_really_used_stays_within_the_bound(tags_each: int) -> None:
    gc.collect()
    tracemalloc.start()
    tier = MemoryTier(max_bytes=1_500_000)
    try:
        for number in range(6_000):
            tags = [f"tag{number}-{part}" for part in range(tags_each)]
            _load(tier, f"key:{number}", b"x" * (number % 700), tags)
        gc.collect()
        used_bytes, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    statistics = tier.statistics()
    assert 1_490_000 < statistics.size_bytes <= 1_500_000
    assert 0.6 * statistics.size_bytes < used_bytes < 1.1 * statistics.size_bytes


def test_a_value_larger_than_the_tier_is_not_kept_and_counted() -> None:
    tier = MemoryTier(max_bytes=10_000)

    assert not _load(tier, "a", b"x" * 20_000, ["t"])
    statistics = tier.statistics()
    assert (1, 0, 0) == (statistics.too_large, statistics.entries, statistics.tags)


def test_by_entries_the_size_is_estimated_from_a_sample() -> None:
    tier = MemoryTier()
    for number in range(1000):
        _load(tier, f"k{number}", "x" * 1000)

    assert 1_550_000 < tier.statistics().size_bytes < 1_700_000


def test_a_stream_of_keys_with_tags_of_their_own_and_of_foreign_invalidations_does_not_grow_it() -> None:
    tier = MemoryTier(500)
    used = []
    tracemalloc.start()
    try:
        for number in range(24_000):
            flight = tier.begin(f"key:{number}").flight
            tier.invalidate_tags([f"foreign{number}"])
            tier.store(flight, number, policy=POLICY, tags=[f"tag:{number}"])
            if number % 8_000 == 7_999:
                used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    statistics = tier.statistics()
    assert (500, 500) == (statistics.entries, statistics.tags)
    assert used[-1] < 1.2 * used[0]


def test_many_loads_at_once_cost_no_more_each_than_few() -> None:
    def seconds_each(loads: int) -> float:
        tier = MemoryTier()
        flights = [tier.begin(f"k{number}").flight for number in range(loads)]
        begun_s = time.thread_time()
        for flight in flights:
            tier.end(flight)
        return (time.thread_time() - begun_s) / loads

    few_s = min(seconds_each(1_000) for _ in range(3))

    assert seconds_each(60_000) < 6 * few_s


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_while_another_thread_held_the_lock_can_use_the_tier() -> None:
    tier = MemoryTier()
    _load(tier, "a", 1)
    tier.begin("b")
    with tier._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if _load(tier, "b", 2) and tier.get("b") is not None else 1)
    _, status = os.waitpid(child, 0)

    assert 0 == os.waitstatus_to_exitcode(status)


def test_an_object_is_measured_with_what_it_holds() -> None:
    class Slotted:
        __slots__ = ("payload",)

        def __init__(self) -> None:
            self.payload = b"x" * 5000

    class Plain:
        def __init__(self) -> None:
            self.rows = [{"name": "n" * 100} for _ in range(1000)]

    assert 5000 < object_bytes(Slotted()) < 5300
    assert 300_000 < object_bytes(Plain()) < 500_000
    assert math.isclose(object_bytes(["x" * 1000] * 3), 3 * 1049 + 80, rel_tol=0.05)
