"""RQ: its queues are lists of job ids, its registries sorted sets, its jobs hashes.

A job that runs stands in the registry `rq:wip:…` until the time in its score, which its worker keeps pushing
on; past it, the worker is dead. Jobs that ended are kept for as long as their results.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from perfloop.adapters.jobs.keys import text_of, unix_s
from perfloop.adapters.jobs.reading import WINDOW_S
from perfloop.model.jobs import JobQueue, Unknown
from perfloop.model.value import Value

SYSTEM = "rq"
NEWEST_JOBS = 1000
_PREFIX = "rq:queue:"
_NONE_KEPT = "no job that ended well is kept; result_ttl says for how long"
_TOO_MANY = f"more than {NEWEST_JOBS:,} in the window"


class _Ended(Value, frozen=True, kw_only=True):
    """A job that is still in the registry of those that ended."""

    ended_at_s: float
    run_time_s: float | None
    kept_s: float
    """How long its registry keeps it."""


def read_rq(client: Any, now_s: float) -> tuple[JobQueue, ...]:
    """The queues that RQ has ever used; raises what the driver raises."""
    names = sorted(text_of(key).removeprefix(_PREFIX) for key in client.smembers("rq:queues"))
    return tuple(_queue(client, name, now_s) for name in names)


def _queue(client: Any, name: str, now_s: float) -> JobQueue:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.llen(f"{_PREFIX}{name}")
        pipeline.lindex(f"{_PREFIX}{name}", 0)
        pipeline.zcard(f"rq:wip:{name}")
        pipeline.zcount(f"rq:wip:{name}", "-inf", now_s - 1)
        pipeline.zcard(f"rq:scheduled:{name}")
        depth, first, in_progress, stuck, scheduled = pipeline.execute()
    finished, failed = (_ended(client, f"rq:{kind}:{name}") for kind in ("finished", "failed"))
    window_s = min([WINDOW_S, *(each.kept_s for each in finished)])
    counted = [each for each in finished if each.ended_at_s >= now_s - window_s]
    failures = [each for each in failed if each.ended_at_s >= now_s - window_s]
    times = [each.run_time_s for each in (*counted, *failures) if each.run_time_s is not None]
    oldest_age_s = _age_s(client, first, now_s) if depth else 0.0
    return JobQueue(
        name=name,
        system=SYSTEM,
        depth=depth,
        in_progress=in_progress,
        scheduled=scheduled,
        oldest_age_s=oldest_age_s,
        window_s=window_s,
        finished=len(counted) if 0 < len(finished) < NEWEST_JOBS else None,
        failures=len(failures),
        run_time_s=fmean(times) if times else None,
        stuck=stuck,
        unknown=_unknown(len(finished), has_times=bool(times), has_age=oldest_age_s is not None),
    )


def _unknown(finished: int, *, has_times: bool, has_age: bool) -> Unknown:
    unknown: Unknown = (("arrived", "RQ keeps no record of it"),)
    if not finished or finished >= NEWEST_JOBS:
        unknown += (("finished", _TOO_MANY if finished else _NONE_KEPT),)
    if not has_times:
        unknown += (("run_time_s", _NONE_KEPT),)
    return unknown if has_age else (*unknown, ("oldest_age_s", "the first job of the queue has no time"))


def _age_s(client: Any, job_id: bytes | None, now_s: float) -> float | None:
    """Of the job that workers take next; one that was put first out of turn makes the queue look young."""
    if job_id is None:
        return None
    enqueued_s = unix_s(client.hget(b"rq:job:" + job_id, "enqueued_at"))
    return None if enqueued_s is None else max(0.0, now_s - enqueued_s)


def _ended(client: Any, registry: str) -> list[_Ended]:
    """Of the jobs in a registry those that it keeps longest, which with one result_ttl are the newest."""
    entries = client.zrevrange(registry, 0, NEWEST_JOBS - 1, withscores=True)
    with client.pipeline(transaction=False) as pipeline:
        for job_id, _ in entries:
            pipeline.hmget(b"rq:job:" + job_id, "started_at", "ended_at")
        times = pipeline.execute()
    found = []
    for (_, kept_until_s), (started, ended) in zip(entries, times, strict=True):
        started_s, ended_s = unix_s(started), unix_s(ended)
        if ended_s is not None:
            run_time_s = None if started_s is None else max(0.0, ended_s - started_s)
            found.append(_Ended(ended_at_s=ended_s, run_time_s=run_time_s, kept_s=kept_until_s - ended_s))
    return found
