"""The ghost caches tell what another capacity would do."""

import itertools
import random

import pytest
from benchmarks.cache_traces import trace, zipf

from perfloop.cache.ghosts import CAPACITY_RATIOS, HASHES, sampling_rate, spatial_hash
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy
from perfloop.cache.s3fifo import MOST_VISITS, Node, S3Fifo
from perfloop.errors import InvalidInput

POLICY = CachePolicy(ttl_s=1e9)


def _requests(name: str) -> list[str]:
    if name == "zipf":
        return list(zipf(0.9, keys=50_000, requests=80_000))
    try:
        return list(trace(name, 100_000))
    except InvalidInput as error:
        pytest.skip(str(error))


def _replay(
    tier: MemoryTier, requests: list[str], policy: CachePolicy = POLICY, tags: tuple[str, ...] = ()
) -> None:
    for key in requests:
        if tier.get(key) is None and tier.examine(key)[1] is None:
            tier.store(tier.begin(key).flight, key, policy=policy, tags=tags)


def _simulated_hit_ratio(requests: list[str], capacity: int) -> float:
    queues: S3Fifo[Node] = S3Fifo(capacity)
    hits = 0
    for key in requests:
        node = queues.nodes.get(key)
        if node is None:
            queues.admit(Node(key))
            continue
        hits += 1
        if node.visits < MOST_VISITS:
            node.visits += 1
    return hits / len(requests)


@pytest.mark.parametrize(
    ("name", "capacity"),
    [("orm-busy", 2500), ("orm-night", 2500), ("zipf", 1250), ("web07", 1200), ("nasa", 100)],
)
def test_a_sample_tells_the_gain_of_each_capacity_within_two_points(name: str, capacity: int) -> None:
    requests = _requests(name)
    simulated = [_simulated_hit_ratio(requests, int(capacity * ratio)) for ratio in CAPACITY_RATIOS]
    tier = MemoryTier(capacity, ghosts=True)

    _replay(tier, requests)

    estimates = tier.capacity_estimates()
    gains = [100 * (hit_ratio - simulated[1]) for hit_ratio in simulated]
    assert gains == pytest.approx([estimate.gain_points for estimate in estimates], abs=2.0)
    assert simulated == pytest.approx([estimate.hit_ratio for estimate in estimates], abs=0.03)
    assert [int(capacity * ratio) for ratio in CAPACITY_RATIOS] == [
        estimate.capacity for estimate in estimates
    ]


def test_no_capacity_is_said_to_help_where_lives_are_too_short_for_any_hit() -> None:
    seconds = itertools.count()
    tier = MemoryTier(1000, ghosts=True, clock=lambda: float(next(seconds)))
    requests = [f"key{number % 2000}" for number in range(20_000)]

    _replay(tier, requests, CachePolicy(ttl_s=100))

    assert [0, 0, 0, 0] == [estimate.gain_points for estimate in tier.capacity_estimates()]


@pytest.mark.parametrize("by_tag", [True, False])
def test_no_capacity_is_said_to_help_where_all_is_invalidated_before_it_comes_again(by_tag: bool) -> None:
    tier = MemoryTier(1000, ghosts=True)
    keys = [f"key{number}" for number in range(2000)]

    for _ in range(10):
        _replay(tier, keys, tags=("all",))
        if by_tag:
            tier.invalidate_tags(["all"])
        else:
            tier.invalidate(keys)

    assert [0, 0, 0, 0] == [estimate.hit_ratio for estimate in tier.capacity_estimates()]


def test_a_loop_that_only_fits_twice_the_capacity_is_told_so() -> None:
    tier = MemoryTier(4000, ghosts=True)
    requests = [f"key{number % 6_000}" for number in range(60_000)]

    _replay(tier, requests)

    half, own, double, fourfold = tier.capacity_estimates()
    assert half.hit_ratio < own.hit_ratio < double.hit_ratio
    assert 0.9 == pytest.approx(double.hit_ratio, abs=0.02)
    assert fourfold.gain_points == double.gain_points > 20


def test_by_bytes_large_entries_count_for_what_they_are() -> None:
    tier = MemoryTier(max_bytes=20_000_000, ghosts=True)
    rng = random.Random(3)

    for _ in range(40_000):
        key = f"key{rng.randrange(8000)}"
        if tier.get(key) is None and tier.examine(key)[1] is None:
            tier.store(tier.begin(key).flight, key, policy=POLICY, size_bytes=4_300)

    half, own, double, _fourfold = tier.capacity_estimates()
    assert own.hit_ratio == pytest.approx(tier.statistics().hits / 40_000, abs=0.03)
    assert half.gain_points < -15 < 15 < double.gain_points


def test_without_ghosts_or_requests_nothing_is_estimated() -> None:
    assert () == MemoryTier(10).capacity_estimates()
    assert () == MemoryTier(10, ghosts=True).capacity_estimates()


def test_hits_that_nobody_tells_the_ghosts_of_would_have_changed_nothing() -> None:
    requests = _requests("zipf")[:50_000]
    rate = sampling_rate(2000)
    tier = MemoryTier(2000, ghosts=True)
    sample = [key for key in requests if spatial_hash(key) < rate * HASHES]

    _replay(tier, requests)

    misses = [
        len(sample) - round(len(sample) * _simulated_hit_ratio(sample, int(2000 * rate * ratio)))
        for ratio in CAPACITY_RATIOS
    ]
    assert misses == [estimate.sampled_misses for estimate in tier.capacity_estimates()]


def test_hits_of_a_sampled_key_are_soon_as_cheap_as_all_others() -> None:
    tier = MemoryTier(1000, ghosts=True)
    keys = [f"key{number}" for number in range(200)]

    for _ in range(2 * MOST_VISITS):
        _replay(tier, keys)

    assert keys == [key for key in keys if tier.get(key) is not None]
