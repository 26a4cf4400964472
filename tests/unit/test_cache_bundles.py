"""What the learner of bundles predicts, and how little it remembers."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.cache.bundles import BundlePolicy, Bundles, Trail
from perfloop.errors import InvalidValue

SESSION = ["order", "customer", "address", "basket", "prices"]


def learner(**changes: float) -> Bundles[str]:
    return Bundles(BundlePolicy(**changes))  # type: ignore[arg-type]  # whole numbers, as the fields want them


def miss_all(bundles: Bundles[str], members: list[str], times: int = 1) -> None:
    for _ in range(times):
        trail: Trail[str] = Trail()
        for member in members:
            bundles.missed(trail, member)


def test_what_was_missed_in_one_order_twice_comes_whole_with_its_first_member() -> None:
    bundles = learner()
    miss_all(bundles, SESSION, times=2)

    assert SESSION[1:] == list(bundles.missed(Trail(), "order"))


def test_what_was_seen_once_is_not_predicted() -> None:
    bundles = learner()
    miss_all(bundles, SESSION)

    assert [] == list(bundles.missed(Trail(), "order"))


def test_a_chain_ends_where_the_product_of_confidences_falls_below_the_floor() -> None:
    bundles = learner()
    for member, follower in ("ab", "bc", "cd"):  # each step is right in two of three cases
        for other in (follower, follower, "x"):
            miss_all(bundles, [member, other], times=3)

    assert ["b", "c"] == list(bundles.missed(Trail(), "a"))  # 0.67, 0.44; d would have 0.296


def test_a_bundle_has_at_most_so_many_members() -> None:
    bundles = learner()
    miss_all(bundles, [f"step {number}" for number in range(30)], times=3)

    assert [f"step {number}" for number in range(1, 9)] == list(bundles.missed(Trail(), "step 0"))


def test_a_circle_is_gone_round_once() -> None:
    bundles = learner()
    miss_all(bundles, ["a", "b", "c"] * 5)

    assert ["b", "c"] == list(bundles.missed(Trail(), "a"))


def test_contexts_that_run_at_the_same_time_do_not_mix() -> None:
    bundles = learner()
    for _ in range(3):
        trails: tuple[Trail[str], Trail[str]] = (Trail(), Trail())
        for mine, yours in zip(["a", "b", "c"], ["x", "y", "z"], strict=True):
            bundles.missed(trails[0], mine)
            bundles.missed(trails[1], yours)

    assert ["b", "c"] == list(bundles.missed(Trail(), "a"))
    assert ["y", "z"] == list(bundles.missed(Trail(), "x"))


def test_a_prediction_that_comes_true_keeps_being_learned() -> None:
    bundles = learner()
    miss_all(bundles, ["a", "b", "c"], times=2)
    for _ in range(200):  # from now on only a is missed
        trail: Trail[str] = Trail()
        bundles.missed(trail, "a")
        bundles.used(trail, "b")
        bundles.used(trail, "c")
        miss_all(bundles, ["a", f"stranger {_ % 40}"], times=_ % 5 == 0)

    assert ["b", "c"] == list(bundles.missed(Trail(), "a"))


def test_a_new_habit_replaces_an_old_one() -> None:
    bundles = learner()
    miss_all(bundles, ["a", "old"], times=1000)
    miss_all(bundles, ["a", "new"], times=100)

    assert ["new"] == list(bundles.missed(Trail(), "a"))


def test_a_fifth_follower_takes_the_place_of_the_weakest() -> None:
    bundles = learner(min_confidence=0.05)
    for weak in ("w1", "w2", "w3", "w4"):
        miss_all(bundles, ["a", weak])
    miss_all(bundles, ["a", "strong"], times=6)

    assert ["strong"] == list(bundles.missed(Trail(), "a"))


def test_members_that_come_back_outlive_a_scan() -> None:
    bundles = learner(max_bytes=100 * 330)
    for _ in range(4):
        miss_all(bundles, SESSION)
    miss_all(bundles, [f"once {number}" for number in range(280)])

    assert SESSION[1:] == list(bundles.missed(Trail(), "order"))


@given(st.lists(st.integers(0, 12), max_size=300), st.integers(1000, 6000))
def test_a_bundle_has_no_member_twice_and_the_table_keeps_its_bound(stream: list[int], bound: int) -> None:
    bundles: Bundles[int] = Bundles(BundlePolicy(max_bytes=bound))
    trail: Trail[int] = Trail()
    for member in stream:
        bundle = list(bundles.missed(trail, member))

        assert len(set(bundle)) == len(bundle) <= 8
        assert member not in bundle
        assert bundles.size_bytes <= bound


def test_the_estimated_size_covers_the_true_one() -> None:
    draw = random.Random(3)
    stream = [f"product:{draw.randrange(1000)}" for _ in range(15_000)]  # every record has four followers
    bundles: Bundles[str] = Bundles(BundlePolicy())
    trail: Trail[str] = Trail()
    tracemalloc.start()
    try:
        for member in stream:
            bundles.missed(trail, f"{member}!")
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert 1000 == len(bundles)
    assert held_bytes <= 1.2 * bundles.size_bytes


def test_a_policy_that_would_learn_nothing_is_refused() -> None:
    for wrong in ({"min_confidence": 0.0}, {"halved_at": 300}, {"max_followers": 0}):
        with pytest.raises(InvalidValue):
            BundlePolicy(**wrong)  # type: ignore[arg-type]  # each is of its field's type
