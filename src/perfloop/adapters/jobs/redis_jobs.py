"""Finds the job queues that a Redis or Valkey holds, of whichever library. It changes nothing."""

from __future__ import annotations

from functools import partial

from perfloop.adapters.jobs import celery, dramatiq, rq
from perfloop.adapters.jobs.reading import JobReading
from perfloop.adapters.redis import TIMEOUT_S, open_redis
from perfloop.model.jobs import JobQueue

SUBJECT = "jobs in Redis"
_RIGHTS = "+@read +select ~*"
_SYSTEMS = (
    (celery.SYSTEM, celery.read_celery),
    (dramatiq.SYSTEM, dramatiq.read_dramatiq),
    (rq.SYSTEM, rq.read_rq),
)


def read_redis_jobs(url: str, *, now_s: float, timeout_s: float = TIMEOUT_S) -> JobReading:
    """Read all queues once, with `timeout_s` for each answer; `now_s` is the Unix time that ages end at.

    Raises:
        InvalidInput: The URL is none of redis://, rediss:// or unix://.
    """
    queues: list[JobQueue] = []
    with open_redis(url, timeout_s=timeout_s, subject=SUBJECT, rights=_RIGHTS) as (client, log):
        if client is not None:
            for system, read in _SYSTEMS:
                queues.extend(log.read(f"the keys of {system}", partial(read, client, now_s), ()))
    return JobReading(queues=tuple(queues), limitations=tuple(log.limitations))
