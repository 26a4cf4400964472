"""Reads what is going on: sessions of all databases, counters and size of this one."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import psycopg
from psycopg.rows import DictRow

from perfloop.adapters.probe import ProbeLog, grant_monitor, read_rows
from perfloop.adapters.queries import query
from perfloop.model.snapshot import Activity, Limitation

_UNREAD = Activity(
    connections=0,
    active=0,
    idle_in_transaction=0,
    hit_blocks=0,
    read_blocks=0,
    temp_bytes=0,
    temp_files=0,
    database_bytes=0,
    counted_for_s=None,
)
_PARTS = (
    ("pg_stat_activity", "read_sessions"),
    ("pg_stat_database", "read_database_counters"),
    ("size of the database", "read_database_size"),
)


def read_activity(connection: psycopg.Connection[Any], log: ProbeLog, role: str) -> Activity:
    """The sessions and counters; what could not be read is 0, and `log` says so."""
    facts: dict[str, Any] = msgspec.structs.asdict(_UNREAD)
    for subject, block in _PARTS:
        rows: list[DictRow] = log.read(subject, partial(read_rows, connection, query(block)), [])
        facts |= rows[0] if rows else {}
    if hidden := facts.get("hidden"):
        log.limitations.append(
            Limitation(
                subject="pg_stat_activity",
                reason=f"the state of {hidden} sessions of other roles is hidden, so too few count as active",
                remedy=grant_monitor(role),
            )
        )
    return msgspec.convert(facts, Activity)
