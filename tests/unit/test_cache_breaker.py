from __future__ import annotations

from collections.abc import Iterator

import pytest

from perfloop.cache.breaker import Breaker, BreakerPolicy, BreakerState
from perfloop.errors import InvalidInput


@pytest.fixture
def breaker() -> Iterator[Breaker]:
    return Breaker(BreakerPolicy(first_retry_s=1, longest_retry_s=4))


def test_one_failure_opens_it_and_is_told_once(breaker: Breaker) -> None:
    told = [breaker.fail(10.0), breaker.fail(10.0)]

    assert [True, False] == told
    assert (BreakerState.OPEN, 1) == (breaker.state, breaker.openings)


def test_one_caller_probes_when_the_time_is_over(breaker: Breaker) -> None:
    breaker.fail(10.0)
    probes = [breaker.probe(10.9), breaker.probe(11.0), breaker.probe(11.0)]

    assert [False, True, False] == probes
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_probe_that_succeeds_closes_it(breaker: Breaker) -> None:
    breaker.fail(10.0)
    breaker.probe(11.0)

    assert breaker.succeed()
    assert breaker.state is BreakerState.CLOSED


def test_a_late_answer_from_before_does_not_close_it(breaker: Breaker) -> None:
    breaker.fail(10.0)

    assert not breaker.succeed()
    assert breaker.state is BreakerState.OPEN


def test_the_time_between_probes_doubles_up_to_its_limit_and_begins_anew(breaker: Breaker) -> None:
    breaker.fail(0.0)
    waits, now_s = [], 0.0
    for _ in range(4):
        waits.append(breaker.wait_s(now_s))
        now_s += waits[-1]
        breaker.probe(now_s)
        breaker.fail(now_s)
    now_s += breaker.wait_s(now_s)
    breaker.probe(now_s)
    breaker.succeed()
    breaker.fail(now_s)

    assert [1, 2, 4, 4, 1] == [*waits, breaker.wait_s(now_s)]
    assert breaker.openings == 2


def test_times_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidInput, match="first_retry_s"):
        BreakerPolicy(first_retry_s=0)
    with pytest.raises(InvalidInput, match="longest_retry_s"):
        BreakerPolicy(first_retry_s=2, longest_retry_s=1)
