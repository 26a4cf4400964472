"""Judging the queues of background jobs: what grows, what fails, and what nobody can say."""

from __future__ import annotations

from msgspec.structs import replace

from perfloop.analyze.jobs import growth, judge_queues
from perfloop.model.advice import Severity
from perfloop.model.jobs import JobQueue, with_growth

QUEUE = JobQueue(name="mail", system="procrastinate", depth=400, in_progress=2, oldest_age_s=20.0)


def checks(queue: JobQueue) -> dict[str, Severity]:
    return {each.check: each.severity for each in judge_queues([queue])}


def test_growth_that_was_seen_goes_before_what_events_say() -> None:
    told = replace(QUEUE, window_s=3600.0, arrived=1000, finished=500, failures=100)
    (seen,) = with_growth((replace(QUEUE, depth=390),), (told,), 10.0)

    assert (400, 3600.0) == growth(told)
    assert (10, 10.0) == growth(seen)


def test_growth_of_a_queue_without_events_and_a_second_look_is_unknown() -> None:
    assert None is growth(QUEUE)
    assert {} == checks(QUEUE)


def test_a_queue_that_was_not_there_before_has_grown_from_nothing() -> None:
    (seen,) = with_growth((), (QUEUE,), 10.0)

    assert 400 == seen.grown_by
    assert {"job-queue-grows": Severity.HIGH} == checks(seen)


def test_a_burst_that_workers_soon_end_is_no_fault() -> None:
    burst = replace(QUEUE, grown_by=400, grown_over_s=10.0, window_s=3600.0)

    assert {} == checks(replace(burst, finished=36_000))
    assert {"job-queue-grows": Severity.HIGH} == checks(replace(burst, finished=360))


def test_few_failures_and_a_small_share_of_them_are_no_fault() -> None:
    def failing(failures: int, finished: int | None) -> dict[str, Severity]:
        return checks(replace(QUEUE, window_s=3600.0, failures=failures, finished=finished))

    assert {} == failing(9, 0)
    assert {} == failing(10, 1000)
    assert {"job-failures": Severity.MEDIUM} == failing(10, None)
    assert {"job-failures": Severity.HIGH} == failing(30, 70)


def test_a_queue_on_which_nobody_works_is_said_to_be_so() -> None:
    (busy,) = judge_queues([replace(QUEUE, oldest_age_s=600.0)])
    (idle,) = judge_queues([replace(QUEUE, oldest_age_s=7200.0, in_progress=0)])

    assert (Severity.MEDIUM, True) == (busy.severity, "workers do not keep up" in busy.title)
    assert (Severity.HIGH, True) == (idle.severity, "nobody works on it" in idle.title)
