"""The simulated cache against answers that are known without it."""

from __future__ import annotations

import math

import pytest

from perfloop.cache.advice import DrawnKeys, Life, RecordedKeys, Stream, simulate

ONE_KEY = DrawnKeys(shares=(1.0,))
PLENTY = 1_000_000


def zipf(keys: int, exponent: float = 0.9) -> DrawnKeys:
    weights = [1 / rank**exponent for rank in range(1, keys + 1)]
    total = sum(weights)
    return DrawnKeys(shares=tuple(weight / total for weight in weights))


@pytest.mark.parametrize(("rate_per_s", "ttl_s"), [(0.1, 10.0), (1.0, 5.0), (3.0, 60.0)])
def test_one_key_with_a_time_is_hit_as_the_renewal_formula_says(rate_per_s: float, ttl_s: float) -> None:
    expected = rate_per_s * ttl_s / (1 + rate_per_s * ttl_s)
    stream = Stream(rate_per_s=rate_per_s, keys=ONE_KEY, life=Life(ttl_s=ttl_s))
    (actual,) = simulate((stream,), capacity=10, seed=1, requests=40_000)

    assert expected == pytest.approx(actual.hit_ratio, abs=0.01)
    assert actual.stale_ratio == 0


@pytest.mark.parametrize("by", ["row_changes_per_s", "table_changes_per_s"])
def test_a_key_that_changes_is_hit_until_then_and_never_stale(by: str) -> None:
    mean_life_s = (1 - math.exp(-0.5 * 10)) / 0.5
    expected = 2.0 * mean_life_s / (1 + 2.0 * mean_life_s)
    stream = Stream(rate_per_s=2.0, keys=ONE_KEY, life=Life(ttl_s=10, until_change=True), **{by: 0.5})
    (actual,) = simulate((stream,), capacity=10, seed=2, requests=40_000)

    assert expected == pytest.approx(actual.hit_ratio, abs=0.015)
    assert actual.stale_ratio == 0


def test_with_a_time_alone_the_stale_share_is_that_of_requests_after_the_change() -> None:
    rate_per_s, ttl_s, changes_per_s = 5.0, 20.0, 0.1
    stale_s = ttl_s - (1 - math.exp(-changes_per_s * ttl_s)) / changes_per_s
    expected = rate_per_s * stale_s / (1 + rate_per_s * ttl_s)
    stream = Stream(
        rate_per_s=rate_per_s, keys=ONE_KEY, life=Life(ttl_s=ttl_s), row_changes_per_s=changes_per_s
    )
    (actual,) = simulate((stream,), capacity=10, seed=3, requests=60_000)

    assert expected == pytest.approx(actual.stale_ratio, abs=0.02)


def test_many_keys_in_plenty_of_room_are_hit_as_the_sum_of_their_formulas_says() -> None:
    keys, rate_per_s, ttl_s = zipf(5_000), 100.0, 60.0
    expected = sum(share * (rate := share * rate_per_s) * ttl_s / (1 + rate * ttl_s) for share in keys.shares)
    stream = Stream(rate_per_s=rate_per_s, keys=keys, life=Life(ttl_s=ttl_s))
    (actual,) = simulate((stream,), capacity=PLENTY, seed=4)

    assert expected == pytest.approx(actual.hit_ratio, abs=0.015)


def test_keys_change_as_often_as_they_are_asked_for_where_rows_do() -> None:
    keys = DrawnKeys(shares=(0.8, 0.2))
    lives_s = [(1 - math.exp(-share * 60)) / share for share in keys.shares]
    expected = sum(
        share * share * 10 * life_s / (1 + share * 10 * life_s)
        for share, life_s in zip(keys.shares, lives_s, strict=True)
    )
    stream = Stream(rate_per_s=10, keys=keys, life=Life(ttl_s=60, until_change=True), row_changes_per_s=1)
    (actual,) = simulate((stream,), capacity=10, seed=9)

    assert expected == pytest.approx(actual.hit_ratio, abs=0.01)


def test_recorded_keys_that_stay_are_hit_whenever_they_came_before() -> None:
    asked = [(number * number) % 997 if number % 3 else number for number in range(4_000)]
    seen: set[int] = set()
    hits = [key in seen or seen.add(key) is not None for key in asked]
    expected = sum(hits[2_000:]) / 2_000
    stream = Stream(rate_per_s=10, keys=RecordedKeys(keys=tuple(asked)), life=Life(ttl_s=1e9))
    (actual,) = simulate((stream,), capacity=PLENTY, seed=5)

    assert expected == pytest.approx(actual.hit_ratio, abs=0.02)


def test_a_cache_that_is_too_small_holds_the_most_asked_keys_and_no_more() -> None:
    keys = zipf(20_000, 1.0)
    stream = Stream(rate_per_s=1_000, keys=keys, life=Life(ttl_s=1e9))
    (actual,) = simulate((stream,), capacity=1_000, seed=6, requests=30_000)
    best = sum(sorted(keys.shares)[-1_000:])

    assert actual.entries == 1_000
    assert best - 0.08 < actual.hit_ratio < best


def test_an_even_rest_is_drawn_and_counted_without_a_list_of_it() -> None:
    keys = DrawnKeys(shares=(0.5,), others=10_000_000)
    stream = Stream(rate_per_s=100, keys=keys, life=Life(ttl_s=60))
    (actual,) = simulate((stream,), capacity=10_000, seed=7)

    assert pytest.approx(0.5, abs=0.02) == actual.hit_ratio


def test_streams_that_share_a_cache_are_told_apart_and_crowd_each_other() -> None:
    hot = Stream(rate_per_s=50, keys=DrawnKeys(others=20), life=Life(ttl_s=1e6))
    wide = Stream(rate_per_s=50, keys=DrawnKeys(others=2_000), life=Life(ttl_s=1e6))
    (alone,) = simulate((wide,), capacity=1_000, seed=8)
    first, second = simulate((hot, wide), capacity=1_000, seed=8)

    assert first.hit_ratio > 0.99
    assert second.hit_ratio < alone.hit_ratio < 0.6
    assert first.requests == pytest.approx(second.requests, rel=0.1)


def test_the_same_seed_gives_the_same_answer() -> None:
    stream = Stream(rate_per_s=9, keys=zipf(100), life=Life(ttl_s=30), table_changes_per_s=0.01)
    runs = [simulate((stream,), capacity=50, seed=seed, requests=2_000) for seed in (1, 1, 2)]

    assert runs[0] == runs[1]
    assert runs[1] != runs[2]
