"""Celery with Redis as its broker, and as its result backend where the same database is.

kombu leaves a set of bindings for each queue that was ever declared; a queue is a list, or one for each
priority. A message has no time and an unacknowledged one no worker, so that the age of the oldest job, the
time that jobs take and those of dead workers are not to be had from Redis: they need Celery's own events.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from perfloop.adapters.jobs.keys import document, matching_keys, text_of, unix_s
from perfloop.adapters.jobs.reading import WINDOW_S
from perfloop.model.jobs import JobQueue, Unknown
from perfloop.model.value import Value

SYSTEM = "celery"
MOST_RESULTS = 2000
"""Results that are read; their values come with them."""
MOST_UNACKNOWLEDGED = 2000

_BINDING = "_kombu.binding."
_RESULT = "celery-task-meta-"
_SEPARATOR = "\x06\x16"
_PRIORITIES = range(1, 10)
_NO_TIME = "a Celery message has no time; the events of its workers have"
_NO_WORKER = "Redis does not say which worker has a message; after the visibility timeout it is given back"
_NO_RESULTS = "no result is in this database; they may be in another one, or ignored"
_NO_QUEUE = "results do not name their queue; set result_extended"
_TOO_MANY = f"there are more than {MOST_RESULTS:,} results"


class _Results(Value, frozen=True, kw_only=True):
    finished: Mapping[str | None, int] = {}
    """By queue; None for the results that do not name theirs."""
    failures: Mapping[str | None, int] = {}
    why_not: str | None = None


def read_celery(client: Any, now_s: float) -> tuple[JobQueue, ...]:
    """The queues that were ever declared; raises what the driver raises."""
    bindings, _ = matching_keys(client, f"{_BINDING}*")
    names: set[str] = set()
    for key in bindings:
        exchange = key.removeprefix(_BINDING)
        if not exchange.endswith("celery.pidbox") and exchange != "celeryev":
            names.update(text_of(each).rpartition(_SEPARATOR)[2] for each in client.smembers(key))
    if not names:
        return ()
    held = _unacknowledged(client)
    results = _results(client, now_s)
    return tuple(_queue(client, name, held, results, is_only=len(names) == 1) for name in sorted(names))


def _queue(client: Any, name: str, held: Mapping[str, int], results: _Results, *, is_only: bool) -> JobQueue:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.llen(name)
        for priority in _PRIORITIES:
            pipeline.llen(f"{name}{_SEPARATOR}{priority}")
        depth = sum(pipeline.execute())
    why_not = results.why_not
    if why_not is None and not is_only and None in results.finished.keys() | results.failures.keys():
        why_not = _NO_QUEUE
    own = (name, None) if is_only else (name,)
    return JobQueue(
        name=name,
        system=SYSTEM,
        depth=depth,
        in_progress=held.get(name, 0),
        oldest_age_s=None if depth else 0.0,
        window_s=WINDOW_S,
        finished=None if why_not else sum(results.finished.get(each, 0) for each in own),
        failures=None if why_not else sum(results.failures.get(each, 0) for each in own),
        unknown=_unknown(why_not, is_empty=depth == 0),
    )


def _unknown(why_not: str | None, *, is_empty: bool) -> Unknown:
    unknown: Unknown = (
        ("scheduled", "workers hold what is not due yet; it counts as in progress"),
        ("arrived", _NO_TIME),
        ("run_time_s", _NO_TIME),
        ("stuck", _NO_WORKER),
    )
    if why_not:
        unknown += (("finished", why_not), ("failures", why_not))
    return unknown if is_empty else (("oldest_age_s", _NO_TIME), *unknown)


def _unacknowledged(client: Any) -> Counter[str]:
    """Messages that workers have taken, by queue; ones beyond the most that are read count by share."""
    total = client.hlen("unacked")
    if not total:
        return Counter()
    _, sample = client.hscan("unacked", 0, count=MOST_UNACKNOWLEDGED)
    queues = Counter(_routing_key(each) for each in sample.values())
    share = total / max(1, queues.total())
    return Counter({name: round(count * share) for name, count in queues.items()})


def _routing_key(entry: bytes) -> str:
    """The last of the message, its exchange and its routing key, which by default is the queue's name."""
    try:
        return str(json.loads(entry)[2])
    except (ValueError, LookupError, TypeError):
        return ""


def _results(client: Any, now_s: float) -> _Results:
    keys, is_whole = matching_keys(client, f"{_RESULT}*")
    if not keys:
        return _Results(why_not=_NO_RESULTS)
    if len(keys) > MOST_RESULTS or not is_whole:
        return _Results(why_not=_TOO_MANY)
    ended: dict[str, Counter[str | None]] = {"SUCCESS": Counter(), "FAILURE": Counter()}
    for start in range(0, len(keys), 100):
        for value in client.mget(keys[start : start + 100]):
            result = document(value)
            done_s = unix_s(result.get("date_done"))
            if done_s is not None and done_s >= now_s - WINDOW_S and result.get("status") in ended:
                ended[result["status"]][result.get("queue")] += 1
    return _Results(finished=ended["SUCCESS"], failures=ended["FAILURE"])
