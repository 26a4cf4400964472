"""Bundles in front of the real memory tier: sessions that repeat, and streams without structure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.cache_traces import zipf
from benchmarks.cache_warming import NextInBackground, Outcome, Replay, WithBundles, difference

from perfloop.cache.key_ranks import KeyRanks, load_order


def one_template(_: str) -> int:
    return 0


def sessions(count: int, *, pages: int = 600, seed: int = 3) -> Sequence[str]:
    """Pages of two to eight objects, popular ones more often, read in order but for one object in ten."""
    draw = random.Random(seed)
    objects = [[f"{page}-{number}" for number in range(draw.randint(2, 8))] for page in range(pages)]
    weights = [1 / (rank + 10) for rank in range(pages)]
    stream: list[str] = []
    for page in draw.choices(range(pages), weights, k=count):
        stream += [key for key in objects[page] if draw.random() < 0.9]
    return stream


def arms(keys: Sequence[str], capacity: int) -> tuple[Outcome, Outcome]:
    return Replay(capacity, one_template).run(keys), WithBundles(capacity, one_template).run(keys)


def test_sessions_that_repeat_are_loaded_in_less_than_half_of_the_calls() -> None:
    keys = sessions(8000)
    none, bundles = arms(keys, 400)
    points, _, high = difference(none, bundles)

    assert bundles.second_half_percent < 0.5 * none.second_half_percent
    assert points <= high < 0
    assert bundles.rows < 1.15 * none.rows


def test_what_the_statistics_claim_is_what_a_run_without_bundles_shows() -> None:
    keys = sessions(10_000)
    none, bundles = arms(keys, 400)
    (found,) = bundles.statistics
    true_ratio = sum(bundles.misses) / sum(none.misses)
    assert found.misses_ratio is not None
    claimed, low, high = (
        0.95 * ratio + 0.05
        for ratio in (found.misses_ratio.estimate, found.misses_ratio.low, found.misses_ratio.high)
    )

    assert low < true_ratio < high
    assert abs(claimed - true_ratio) < 0.1


def test_a_stream_without_structure_is_left_alone() -> None:
    none, bundles = arms(zipf(0.99, keys=10_000, requests=50_000), 1000)
    points, _, _ = difference(none, bundles)

    assert points < 0.3
    assert bundles.rows < 1.02 * none.rows


def test_the_next_item_in_the_background_comes_too_late() -> None:
    keys = sessions(3000)
    none, bundles = arms(keys, 400)
    background = NextInBackground(400, one_template).run(keys)

    assert background.late > 0.5 * background.ahead
    assert sum(background.misses) > sum(bundles.misses)
    assert background.rows > none.rows


def test_a_key_list_makes_a_restart_nearly_unseen() -> None:
    keys = sessions(16_000)
    half, capacity = len(keys) // 2, 800
    before, ranks = (
        Replay(capacity, one_template),
        KeyRanks(max_keys=capacity),
    )
    for start in range(0, half, half // 10):
        before.run(keys[start : start + half // 10])
        ranks.fade((half // 10) / (10 * capacity))
        held = (before.tier.peek(key) for key in set(keys[:half]))
        ranks.add((entry.key, entry.visits) for entry in held if entry is not None)
    listed = Replay(capacity, one_template)
    for key in load_order([key for key, _ in ranks.ranked()], capacity):
        listed.put(key, ahead=True)
    cold, warm, never = (
        arm.run(keys[half : half + capacity]).miss_percent
        for arm in (Replay(capacity, one_template), listed, before)
    )

    assert warm - never < 0.2 * (cold - never)
