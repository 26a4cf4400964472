"""Dramatiq on Redis: lists of message ids, hashes of messages, and what each worker has not acknowledged.

Its keys are those of the namespace `dramatiq`, its default. A queue leaves no key while it is empty, and no
message stays behind once it is done; only dead letters do, for seven days by default.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from perfloop.adapters.jobs.keys import document, matching_keys, text_of
from perfloop.adapters.jobs.reading import WINDOW_S
from perfloop.model.jobs import JobQueue, Unknown

SYSTEM = "dramatiq"
SILENT_S = 60.0
"""After which a worker without a heartbeat is dead; the broker's own default."""

_PREFIX = "dramatiq:"
_ACKS = f"{_PREFIX}__acks__."
_BEATS = f"{_PREFIX}__heartbeats__"
_UUID_LENGTH = 36
_FORGETS = "Dramatiq keeps nothing of a message once it is done"
_UNKNOWN: Unknown = (("arrived", _FORGETS), ("finished", _FORGETS), ("run_time_s", _FORGETS))


def read_dramatiq(client: Any, now_s: float) -> tuple[JobQueue, ...]:
    """The queues that hold something, or that a worker took something from; raises what the driver raises."""
    keys, _ = matching_keys(client, f"{_PREFIX}*")
    if not keys:
        return ()
    dead = {text_of(each) for each in client.zrangebyscore(_BEATS, 0, (now_s - SILENT_S) * 1000)}
    held: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        if key.startswith(_ACKS):
            worker, name = key[len(_ACKS) :][:_UUID_LENGTH], key[len(_ACKS) + _UUID_LENGTH + 1 :]
            held[name][worker] = key
    names = {_plain(name) for name in held}
    names |= {_plain(key.removeprefix(_PREFIX)) for key in keys if not key.startswith(f"{_PREFIX}__")}
    return tuple(_queue(client, name, held[name], dead, now_s) for name in sorted(names))


def _plain(name: str) -> str:
    """The queue that a key belongs to: its messages, its delayed ones and its dead letters."""
    name = name.removesuffix(".msgs")
    return name[:-3] if name.endswith((".DQ", ".XQ")) else name


def _queue(client: Any, name: str, held: dict[str, str], dead: set[str], now_s: float) -> JobQueue:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.llen(f"{_PREFIX}{name}")
        pipeline.lindex(f"{_PREFIX}{name}", 0)
        pipeline.hlen(f"{_PREFIX}{name}.DQ.msgs")
        pipeline.zcount(f"{_PREFIX}{name}.XQ", (now_s - WINDOW_S) * 1000, "+inf")
        for key in held.values():
            pipeline.scard(key)
        depth, first, scheduled, failures, *counts = pipeline.execute()
    oldest_age_s = _age_s(client, name, first, now_s) if depth else 0.0
    no_age: Unknown = (("oldest_age_s", "its oldest message is not in JSON"),)
    return JobQueue(
        name=name,
        system=SYSTEM,
        depth=depth,
        in_progress=sum(counts),
        scheduled=scheduled,
        oldest_age_s=oldest_age_s,
        window_s=WINDOW_S,
        failures=failures,
        stuck=sum(count for worker, count in zip(held, counts, strict=True) if worker in dead),
        unknown=_UNKNOWN if oldest_age_s is not None else _UNKNOWN + no_age,
    )


def _age_s(client: Any, name: str, message_id: bytes | None, now_s: float) -> float | None:
    if message_id is None:
        return None
    sent_ms = document(client.hget(f"{_PREFIX}{name}.msgs", message_id)).get("message_timestamp")
    return None if sent_ms is None else max(0.0, now_s - float(sent_ms) / 1000)
