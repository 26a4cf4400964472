"""What a policy takes, and what is due when."""

import math
import random
import sys

import pytest

from perfloop.cache.policy import (
    LONGEST_DRAW,
    CachePolicy,
    Freshness,
    drawn_life_s,
    fetches_early,
    freshness,
    quiet_s,
)
from perfloop.errors import InvalidValue


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl_s": 0},
        {"ttl_s": -1},
        {"ttl_s": math.nan},
        {"ttl_s": 1, "stale_for_s": -1},
        {"ttl_s": 1, "fail_safe_for_s": -0.1},
        {"ttl_s": 1, "negative_ttl_s": -1},
        {"ttl_s": 1, "jitter_ratio": 1},
        {"ttl_s": 1, "jitter_ratio": -0.1},
        {"ttl_s": 1, "refresh_ahead_ratio": 0},
        {"ttl_s": 1, "refresh_ahead_ratio": 1},
        {"ttl_s": 1, "xfetch_beta": 0},
        {"ttl_s": 1, "soft_timeout_s": 0},
        {"ttl_s": 1, "hard_timeout_s": -1},
    ],
)
def test_a_policy_refuses_what_makes_no_sense_and_names_it(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=list(wrong)[-1]):
        CachePolicy(**wrong)


@pytest.mark.parametrize(
    ("left_s", "expected"),
    [
        (10.0, Freshness.FRESH),
        (0.001, Freshness.FRESH),
        (0.0, Freshness.STALE),
        (-4.9, Freshness.STALE),
        (-5.0, Freshness.SPARE),
        (-24.9, Freshness.SPARE),
        (-25.0, Freshness.EXPIRED),
    ],
)
def test_a_value_is_fresh_then_stale_then_spare_then_nothing(left_s: float, expected: Freshness) -> None:
    policy = CachePolicy(ttl_s=10, stale_for_s=5, fail_safe_for_s=20)

    assert expected == freshness(policy, life_s=10, left_s=left_s, load_s=1, rand=0.5)


def test_refresh_ahead_is_due_after_its_share_of_the_drawn_life() -> None:
    policy = CachePolicy(ttl_s=10, refresh_ahead_ratio=0.8)

    found = [freshness(policy, life_s=5, left_s=left_s, load_s=1, rand=0.5) for left_s in (1.01, 0.99)]

    assert [Freshness.FRESH, Freshness.DUE] == found


def test_an_endless_life_is_never_due() -> None:
    policy = CachePolicy(ttl_s=math.inf, refresh_ahead_ratio=0.8)

    assert Freshness.FRESH is freshness(policy, life_s=math.inf, left_s=math.inf, load_s=1, rand=0.5)


def test_jitter_only_ever_shortens_a_life_and_by_no_more_than_its_ratio() -> None:
    policy = CachePolicy(ttl_s=100, jitter_ratio=0.2)
    rng = random.Random(1)

    lives = [drawn_life_s(policy, rng.random()) for _ in range(10_000)]

    assert 80 < min(lives) < 80.1
    assert 99.9 < max(lives) <= 100


def test_a_negative_result_has_its_own_life() -> None:
    own = CachePolicy(ttl_s=100, negative_ttl_s=5, jitter_ratio=0)
    none = CachePolicy(ttl_s=100, jitter_ratio=0)

    lives = [
        drawn_life_s(policy, 0.5, negative=negative) for policy in (own, none) for negative in (True, False)
    ]

    assert [5, 100, 100, 100] == lives


def test_xfetch_refreshes_with_the_chance_that_the_paper_gives() -> None:
    rng = random.Random(2)

    early = sum(fetches_early(1.0, load_s=2.0, left_s=3.0, rand=rng.random()) for _ in range(100_000))

    assert math.exp(-1.5) == pytest.approx(early / 100_000, rel=0.03)


def test_before_the_quiet_time_ends_no_draw_whatever_makes_xfetch_load() -> None:
    policy = CachePolicy(ttl_s=100, xfetch_beta=1.5)
    quiet = quiet_s(policy, 100, 0.5)
    least = sys.float_info.epsilon / 2

    assert 100 - 0.75 * LONGEST_DRAW == pytest.approx(quiet)
    for rand in (0.0, least):
        before = freshness(policy, life_s=100, left_s=100 - quiet + 0.001, load_s=0.5, rand=rand)
        after = freshness(policy, life_s=100, left_s=100 - quiet - 0.001, load_s=0.5, rand=rand)
        assert (Freshness.FRESH, Freshness.DUE) == (before, after)


def test_a_slow_load_leaves_no_quiet_time_but_never_less_than_none() -> None:
    assert quiet_s(CachePolicy(ttl_s=10, xfetch_beta=1), 10, load_s=5) == 0
