"""Looks at the job queues of a service again and again, and shows their numbers to scrapers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg

from perfloop.adapters.connection import connect
from perfloop.adapters.jobs.procrastinate import read_procrastinate
from perfloop.adapters.jobs.reading import JobReading
from perfloop.adapters.jobs.redis_jobs import read_redis_jobs
from perfloop.adapters.probe import ProbeLog
from perfloop.errors import InvalidInput
from perfloop.metrics.exposition import Reading, Series
from perfloop.metrics.registry import Registry
from perfloop.model.jobs import JobQueue, with_growth

_LABELS = ("system", "queue")
_GAUGES: tuple[tuple[str, str, Callable[[JobQueue], float | None]], ...] = (
    ("waiting", "Jobs that wait for a worker and are due", lambda queue: queue.depth),
    ("in_progress", "Jobs that workers have", lambda queue: queue.in_progress),
    ("scheduled", "Jobs that are not due yet", lambda queue: queue.scheduled),
    ("oldest_age_seconds", "Since the oldest job that waits was due", lambda queue: queue.oldest_age_s),
    ("finished", "Jobs that ended well in the last hour", lambda queue: queue.finished),
    ("failures", "Jobs that ended badly in the last hour", lambda queue: queue.failures),
    ("run_time_seconds", "Mean time of the jobs of the last hour", lambda queue: queue.run_time_s),
    ("stuck", "Jobs of workers that are dead", lambda queue: queue.stuck),
)


class JobWatch:
    """The job queues of one service; opened by `with`.

    Growth is between two calls of `read`. The gauges `perfloop_jobs_…` show the last one: a scrape reads no
    database. What a system does not tell has no series.

        with JobWatch(dsn, redis_url=url, registry=metrics.registry) as watch:
            for queue in watch.read(now_s=time.time()).queues: ...
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        redis_url: str | None = None,
        registry: Registry | None = None,
        statement_timeout_s: float = 10.0,
    ) -> None:
        if dsn is None and redis_url is None:
            raise InvalidInput("there is nowhere to look for jobs; give a DSN, the URL of a Redis, or both")
        self._dsn = dsn
        self._redis_url = redis_url
        self._registry = registry
        self._statement_timeout_s = statement_timeout_s
        self._stack = ExitStack()
        self._connection: psycopg.Connection[Any] | None = None
        self._last = JobReading()
        self._last_s: float | None = None

    def __enter__(self) -> JobWatch:
        with ExitStack() as stack:
            if self._dsn is not None:
                self._connection = stack.enter_context(
                    connect(self._dsn, read_only=True, statement_timeout_s=self._statement_timeout_s)
                )
            if self._registry is not None:
                self._registry.attach("perfloop_jobs", self._exported)
                stack.callback(self._registry.detach, "perfloop_jobs")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, *, now_s: float) -> JobReading:
        """Look once.

        Args:
            now_s: Unix time, from which the ages of what is in Redis count.

        Raises:
            TargetUnreachable: PostgreSQL went away. A Redis that did is a Limitation of the reading.
        """
        queues: tuple[JobQueue, ...] = ()
        limitations = []
        if self._connection is not None:
            log = ProbeLog(self._connection.info.user)
            queues = read_procrastinate(self._connection, log)
            limitations += log.limitations
        if self._redis_url is not None:
            told = read_redis_jobs(self._redis_url, now_s=now_s)
            queues += told.queues
            limitations += told.limitations
        if self._last_s is not None:
            queues = with_growth(self._last.queues, queues, now_s - self._last_s)
        self._last, self._last_s = JobReading(queues=queues, limitations=tuple(limitations)), now_s
        return self._last

    def statistics(self) -> tuple[JobQueue, ...]:
        """The queues as the last `read` found them."""
        return self._last.queues

    def _exported(self) -> Iterator[Reading]:
        for name, help_text, read in _GAUGES:
            values = ((queue, read(queue)) for queue in self._last.queues)
            yield Reading(
                name=f"perfloop_jobs_{name}",
                kind="gauge",
                help_text=help_text,
                label_names=_LABELS,
                series=tuple(
                    Series(label_values=(queue.system, queue.name), value=value)
                    for queue, value in values
                    if value is not None
                ),
            )
