"""Celery with Redis as its broker, and as its result backend where the same database is.

kombu leaves a set of bindings for each queue that was ever declared; a queue is a list, or one for each
priority. A message has no time and an unacknowledged one no worker, so that the age of the oldest job, the
time that jobs take and those of dead workers are not to be had from Redis: they need Celery's own events.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from perfloop.adapters.jobs.keys import matching_keys, text_of, unix_s
from perfloop.adapters.jobs.reading import WINDOW_S
from perfloop.model.jobs import JobQueue, Unknown
from perfloop.model.value import Value

SYSTEM = "celery"
MOST_RESULTS = 2000
"""Results of which the ends are read."""
RESULTS_AT_ONCE = 100
MOST_UNACKNOWLEDGED = 2000

_BINDING = "_kombu.binding."
_RESULT = "celery-task-meta-"
_SEPARATOR = "\x06\x16"
_PRIORITIES = range(1, 10)
_HEAD_BYTES = 64
_TAIL_BYTES = 4096
_STATUS = re.compile(rb'\{"status": "(\w+)"')
_DONE = re.compile(rb'"date_done": "([^"]+)"')
_QUEUE = re.compile(rb'"queue": "([^"]+)"')
_NO_TIME = "a Celery message has no time; the events of its workers have"
_NO_WORKER = "Redis does not say which worker has a message; after the visibility timeout it is given back"
_NO_RESULTS = "no result is in this database; they may be in another one, or ignored"
_NOT_JSON = "results are not in JSON"
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
    queues: dict[str, str] = {}
    for key in bindings:
        exchange = key.removeprefix(_BINDING)
        if not exchange.endswith("celery.pidbox") and exchange != "celeryev":
            queues.update(_route(text_of(each)) for each in client.smembers(key))
    names = set(queues.values())
    if not names:
        return ()
    held = _unacknowledged(client, queues)
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


def _route(binding: str) -> tuple[str, str]:
    """The routing key and the queue of a binding; an empty key is the queue's name."""
    key, _, queue = binding.split(_SEPARATOR, 2) if binding.count(_SEPARATOR) == 2 else ("", "", binding)
    return key or queue, queue


def _unacknowledged(client: Any, queues: Mapping[str, str]) -> Counter[str]:
    """Messages that workers have taken, by queue; ones beyond the most that are read count by share.

    `queues` has the queue of each routing key. What came by another one, as through a topic, counts for the
    only queue if there is but one, and for none otherwise.
    """
    names = set(queues.values())
    otherwise = next(iter(names)) if len(names) == 1 else ""
    total = client.hlen("unacked")
    if not total:
        return Counter()
    _, sample = client.hscan("unacked", 0, count=MOST_UNACKNOWLEDGED)
    held = Counter(queues.get(_routing_key(each), otherwise) for each in sample.values())
    share = total / max(1, held.total())
    return Counter({name: round(count * share) for name, count in held.items()})


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
    is_json = False
    for start in range(0, len(keys), RESULTS_AT_ONCE):
        for status, done_s, queue in _ends(client, keys[start : start + RESULTS_AT_ONCE]):
            is_json = is_json or status is not None
            if done_s is not None and done_s >= now_s - WINDOW_S and status in ended:
                ended[status][queue] += 1
    if not is_json:
        return _Results(why_not=_NOT_JSON)
    return _Results(finished=ended["SUCCESS"], failures=ended["FAILURE"])


def _ends(client: Any, keys: list[str]) -> Iterator[tuple[str | None, float | None, str | None]]:
    """The status, the time and the queue of results, by the two ends of each: what is between may be large.

    Celery writes the status first and the others after the value. A quote inside of a value has a backslash
    before it, so that what looks like a field is one; the last of a name is Celery's own.
    """
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.getrange(key, 0, _HEAD_BYTES)
            pipeline.getrange(key, -_TAIL_BYTES, -1)
        ends = pipeline.execute()
    for head, tail in zip(ends[::2], ends[1::2], strict=True):
        status = _STATUS.match(head)
        done, queue = _DONE.findall(tail), _QUEUE.findall(tail)
        yield (
            status[1].decode() if status else None,
            unix_s(done[-1]) if done else None,
            text_of(queue[-1]) if queue else None,
        )
