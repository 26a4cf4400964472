"""Who ended is started again by its kind, later each time, and not for ever."""

from __future__ import annotations

import pytest

from perfloop.errors import InvalidInput
from perfloop.process.supervisor.ordering import start_order
from perfloop.process.supervisor.restarting import (
    RestartDecision,
    RestartHistory,
    RestartKind,
    RestartPolicy,
    Strategy,
    decide,
    delay,
    restarted_with,
)


def after(
    policy: RestartPolicy,
    history: RestartHistory | None = None,
    *,
    code: int = 1,
    ran_s: float = 1.0,
    now_s: float = 0.0,
    rand: float = 0.5,
) -> RestartDecision:
    history = history or RestartHistory()
    return decide(policy, history, code=code, ran_s=ran_s, now_s=now_s, rand=rand)


@pytest.mark.parametrize(
    ("kind", "code", "is_restarted"),
    [
        (RestartKind.PERMANENT, 0, True),
        (RestartKind.PERMANENT, 1, True),
        (RestartKind.TRANSIENT, 0, False),
        (RestartKind.TRANSIENT, 3, True),
        (RestartKind.TRANSIENT, -9, True),
        (RestartKind.TEMPORARY, 1, False),
    ],
)
def test_its_kind_says_which_ends_are_followed_by_a_restart(
    kind: RestartKind, code: int, is_restarted: bool
) -> None:
    assert is_restarted == (after(RestartPolicy(kind=kind), code=code).delay_s is not None)


def test_the_first_restart_comes_at_once_and_each_later_one_later_up_to_the_longest() -> None:
    policy, history, delays = RestartPolicy(max_restarts=99), RestartHistory(), []
    for _ in range(12):
        decision = after(policy, history)
        history = decision.history
        delays.append(decision.delay_s)

    assert [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30] == pytest.approx(delays)


def test_a_delay_stays_the_longest_however_often_it_ended() -> None:
    assert 30.0 == delay(RestartPolicy(), 10**9)


def test_who_ran_steadily_begins_anew() -> None:
    history = RestartHistory(restarts_s=(0.0, 1.0, 2.0), in_a_row=3)

    assert 0 == after(RestartPolicy(), history, ran_s=11.0, now_s=20.0).delay_s


def test_jitter_spreads_a_delay_to_both_sides() -> None:
    history = RestartHistory(in_a_row=1)
    early, late = (after(RestartPolicy(), history, rand=rand).delay_s for rand in (0.0, 0.999_999))

    assert (0.09, 0.11) == pytest.approx((early, late), abs=1e-5)


def test_more_restarts_than_the_budget_end_it_for_good_and_say_why() -> None:
    policy, history = RestartPolicy(max_restarts=3, within_s=60), RestartHistory()
    for now_s in (0.0, 1.0, 2.0):
        history = after(policy, history, now_s=now_s).history
    decision = after(policy, history, now_s=3.0)

    assert decision.delay_s is None
    assert "it was restarted 3 times within 60 s" == decision.reason
    assert after(policy, history, now_s=61.0).delay_s is not None


def test_a_strategy_says_who_goes_with_it() -> None:
    group = ("a", "b", "c")

    assert ("b",) == restarted_with(Strategy.ONE_FOR_ONE, group, "b")
    assert group == restarted_with(Strategy.ONE_FOR_ALL, group, "b")
    assert ("b", "c") == restarted_with(Strategy.REST_FOR_ONE, group, "b")


def test_groups_start_after_what_they_need() -> None:
    needs = {"web": ("db", "cache"), "cache": (), "db": (), "mail": ("web",)}

    assert (("cache", "db"), ("web",), ("mail",)) == start_order(needs)


def test_a_circle_of_needs_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"circle: .*a"):
        start_order({"a": ("b",), "b": ("a",)})
    with pytest.raises(InvalidInput, match="a needs x, which is no group; there are a"):
        start_order({"a": ("x",)})


def test_a_long_way_to_ready_is_no_steady_run() -> None:
    """A worker that takes a minute to start and then ends is not started again without a delay."""
    history = RestartHistory(in_a_row=3, restarts_s=(0.0,))

    assert after(RestartPolicy(), history, ran_s=None, now_s=100.0).delay_s == pytest.approx(0.4)


def test_who_never_gets_ready_is_given_up_however_long_each_start_takes() -> None:
    policy, history = RestartPolicy(max_restarts=3, within_s=60), RestartHistory()
    for now_s in (100.0, 200.0, 300.0):
        history = after(policy, history, ran_s=None, now_s=now_s).history
    decision = after(policy, history, ran_s=None, now_s=400.0)

    assert decision.is_given_up
    assert "it was started 4 times in a row and never got ready" == decision.reason
    assert after(policy, history, ran_s=1.0, now_s=400.0).delay_s is not None
