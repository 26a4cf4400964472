"""Background jobs: do workers keep up, do jobs end well, does anybody end those that dead workers left?

perfloop runs no jobs, so each remedy is one for people. The limits are starting values: a service whose jobs
may wait for hours is told so all the same, once a queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.jobs import JobQueue
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import count_text, seconds_text, share_text

GROWN_BY = 100
GROWN_RATIO = 0.2
"""Of its depth, within the window or between two readings."""
FAST_GROWN_RATIO = 0.5
OLD_S = 300.0
VERY_OLD_S = 3600.0
FAILURES = 10
FAILURE_RATIO = 0.05
HIGH_FAILURE_RATIO = 0.25

Judge = Callable[[JobQueue], Iterator[Finding]]


def _of_queues(judge: Judge) -> Callable[[Snapshot], tuple[Finding, ...]]:
    def run(snapshot: Snapshot) -> tuple[Finding, ...]:
        return tuple(finding for queue in snapshot.jobs for finding in judge(queue))

    run.__name__ = judge.__name__.removeprefix("_")
    run.__doc__ = judge.__doc__
    return run


def judge_queues(queues: Iterable[JobQueue]) -> tuple[Finding, ...]:
    """The Findings of all checks on jobs, the most severe first; for those who look at queues alone."""
    found = [finding for queue in queues for judge in _JUDGES for finding in judge(queue)]
    return tuple(sorted(found, key=lambda each: (each.severity.rank, each.identity)))


def _finding(queue: JobQueue, check: str, severity: Severity, title: str, would_try: str) -> Finding:
    return Finding(
        check=f"job-{check}",
        severity=severity,
        title=f"{queue.system} queue {queue.name}: {title}",
        location=f"jobs: {queue.identity}",
        evidence=_evidence(queue),
        would_try=f"nothing in a lab: {would_try}",
    )


def _evidence(queue: JobQueue) -> tuple[Evidence, ...]:
    facts = [("waiting", count_text(queue.depth)), ("in progress", count_text(queue.in_progress))]
    if queue.oldest_age_s:
        facts.append(("oldest", seconds_text(queue.oldest_age_s)))
    if queue.finished is not None and queue.window_s is not None:
        facts.append((f"finished in {seconds_text(queue.window_s)}", count_text(queue.finished)))
    if queue.run_time_s is not None:
        facts.append(("a job takes", seconds_text(queue.run_time_s)))
    return tuple(Evidence(label=label, value=value) for label, value in facts)


def growth(queue: JobQueue) -> tuple[int, float] | None:
    """By how many jobs it grew in how many seconds; None where nobody can say.

    Between two readings it was seen. Otherwise it is what arrived less what ended, where jobs that ended are
    kept at all: with none of them on record, what arrived may all be done and deleted.
    """
    if queue.grown_by is not None and queue.grown_over_s:
        return queue.grown_by, queue.grown_over_s
    if queue.arrived is None or not queue.finished or not queue.window_s:
        return None
    return queue.arrived - queue.finished - (queue.failures or 0), queue.window_s


def _job_queue_grows(queue: JobQueue) -> Iterator[Finding]:
    """More jobs come than workers end."""
    grown = growth(queue)
    if grown is None:
        return
    by, over_s = grown
    if by >= GROWN_BY and by >= GROWN_RATIO * queue.depth > 0 and _time_to_empty_s(queue) >= OLD_S:
        yield _finding(
            queue,
            "queue-grows",
            Severity.HIGH if by >= FAST_GROWN_RATIO * queue.depth else Severity.MEDIUM,
            f"grew by {count_text(by)} jobs in {seconds_text(over_s)}: more come than workers end",
            "more workers, if the jobs wait and do not fill the processors; shorter jobs; or fewer of them",
        )


def _time_to_empty_s(queue: JobQueue) -> float:
    """At the rate of the window, if nothing more came: a burst that is worked off at once is no fault."""
    if not queue.finished or not queue.window_s:
        return math.inf
    return queue.depth * queue.window_s / queue.finished


def _job_queue_late(queue: JobQueue) -> Iterator[Finding]:
    """A job has been due for long."""
    age_s = queue.oldest_age_s
    if age_s is not None and age_s >= OLD_S:
        waits = "nobody works on it" if queue.in_progress == 0 else "workers do not keep up"
        yield _finding(
            queue,
            "queue-late",
            Severity.HIGH if age_s >= VERY_OLD_S else Severity.MEDIUM,
            f"its oldest job has been due for {seconds_text(age_s)}; {waits}",
            "see that workers run and listen to this queue; a queue of its own for what must not wait",
        )


def _job_failures(queue: JobQueue) -> Iterator[Finding]:
    """Jobs end badly."""
    failures, ratio = queue.failures, queue.failure_ratio
    if failures is None or failures < FAILURES or (ratio is not None and ratio < FAILURE_RATIO):
        return
    span = "" if queue.window_s is None else f" in {seconds_text(queue.window_s)}"
    share = "" if ratio is None else f", {share_text(ratio)} of those that ended"
    yield _finding(
        queue,
        "failures",
        Severity.HIGH if ratio is not None and ratio >= HIGH_FAILURE_RATIO else Severity.MEDIUM,
        f"{count_text(failures)} jobs failed{span}{share}",
        "the errors in the workers' logs; retries with a back-off for what fails for a moment",
    )


def _jobs_stuck(queue: JobQueue) -> Iterator[Finding]:
    """Jobs that dead workers left behind: they hold their locks, and nobody ends them."""
    if queue.stuck:
        jobs = "1 job is" if queue.stuck == 1 else f"{count_text(queue.stuck)} jobs are"
        yield _finding(
            queue,
            "stuck",
            Severity.HIGH,
            f"{jobs} in progress with a worker that is dead",
            _RECOVERIES.get(queue.system, "give them back to the queue"),
        )


_RECOVERIES = {
    "procrastinate": "a periodic task that retries what get_stalled_jobs() returns, in a queue of its own",
    "rq": "start a worker, whose maintenance moves them to the failed jobs; rq requeue brings them back",
    "dramatiq": "start a worker of this queue: its maintenance gives them back",
}
_JUDGES: tuple[Judge, ...] = (_jobs_stuck, _job_failures, _job_queue_grows, _job_queue_late)

job_queue_grows = _of_queues(_job_queue_grows)
job_queue_late = _of_queues(_job_queue_late)
job_failures = _of_queues(_job_failures)
jobs_stuck = _of_queues(_jobs_stuck)
