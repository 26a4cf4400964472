"""procrastinate: its jobs, their events and its workers' heartbeats, in PostgreSQL.

Read are the jobs that have not ended, by the indexes that procrastinate itself needs, and the newest events;
tables with millions of ended jobs cost no more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from perfloop.adapters.jobs.reading import WINDOW_S
from perfloop.adapters.probe import ProbeLog, quoted, read_rows
from perfloop.adapters.queries import load_blocks
from perfloop.model.jobs import JobQueue, Unknown
from perfloop.model.snapshot import Limitation

SYSTEM = "procrastinate"
NEWEST_EVENTS = 100_000
SILENT_S = 30.0
"""After which a worker without a heartbeat is dead; procrastinate's own default for its pruning."""

_NO_HEARTBEATS = "procrastinate before 3.1 keeps no heartbeats of its workers"
_NONE_RAN = "no job ended in the window"
_IS_ZERO: DictRow = {"depth": 0, "scheduled": 0, "in_progress": 0, "oldest_age_s": 0.0}
_NO_EVENTS: DictRow = {"window_s": WINDOW_S, "arrived": 0, "finished": 0, "failures": 0, "run_time_s": None}


def read_procrastinate(connection: psycopg.Connection[Any], log: ProbeLog) -> tuple[JobQueue, ...]:
    """The queues of each schema that has procrastinate's tables; none where there is no such schema."""
    found: list[DictRow] = log.read(SYSTEM, lambda: read_rows(connection, _block("find_procrastinate")), [])
    log.limitations.extend(_refused(row, connection.info.user) for row in found if not row["may_read"])
    return tuple(
        queue
        for row in found
        if row["may_read"]
        for queue in _Schema(connection, log, row["schema"]).queues(has_heartbeats=row["has_heartbeats"])
    )


def _refused(row: DictRow, role: str) -> Limitation:
    names = ["procrastinate_jobs", "procrastinate_events"]
    names += ["procrastinate_workers"] if row["has_heartbeats"] else []
    schema, user = quoted(row["schema"]), quoted(role)
    tables = ", ".join(f"{schema}.{name}" for name in names)
    return Limitation(
        subject=SYSTEM,
        reason=f"its tables in the schema {row['schema']} may not be read, so its queues are not seen",
        remedy=f"GRANT USAGE ON SCHEMA {schema} TO {user};\nGRANT SELECT ON {tables} TO {user};",
    )


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.adapters.jobs", "jobs.sql")[name]


class _Schema:
    def __init__(self, connection: psycopg.Connection[Any], log: ProbeLog, name: str) -> None:
        self._connection = connection
        self._log = log
        self._name = name

    def queues(self, *, has_heartbeats: bool) -> tuple[JobQueue, ...]:
        waiting = self._rows("read_procrastinate_queues")
        stuck = self._rows("read_procrastinate_stuck", [SILENT_S]) if has_heartbeats else None
        look = {"most": NEWEST_EVENTS, "window_s": WINDOW_S}
        events = self._rows("read_procrastinate_events", look)
        if waiting is None:
            return ()
        names = sorted(waiting.keys() | (events or {}).keys())
        return tuple(
            self._queue(
                name,
                waiting.get(name, _IS_ZERO),
                None if events is None else events.get(name, _NO_EVENTS),
                None if stuck is None else stuck.get(name, {"stuck": 0})["stuck"],
                has_heartbeats=has_heartbeats,
            )
            for name in names
        )

    def _rows(self, block: str, parameters: Any = None) -> dict[str, DictRow] | None:
        """By the queue's name; None where the server refused, which the log then says."""
        composed = _block(block).format(
            jobs=sql.Identifier(self._name, "procrastinate_jobs"),
            events=sql.Identifier(self._name, "procrastinate_events"),
            workers=sql.Identifier(self._name, "procrastinate_workers"),
        )
        read = partial(read_rows, self._connection, composed, parameters)
        rows: list[DictRow] | None = self._log.read(SYSTEM, read, None)
        return None if rows is None else {row["name"]: row for row in rows}

    def _queue(
        self, name: str, waiting: DictRow, events: DictRow | None, stuck: int | None, *, has_heartbeats: bool
    ) -> JobQueue:
        told = events or dict.fromkeys(_NO_EVENTS)
        unknown: Unknown = () if has_heartbeats else (("stuck", _NO_HEARTBEATS),)
        if told["run_time_s"] is None:
            unknown += (("run_time_s", "the events may not be read" if events is None else _NONE_RAN),)
        return JobQueue(
            name=name if self._name == "public" else f"{self._name}.{name}",
            system=SYSTEM,
            depth=waiting["depth"],
            in_progress=waiting["in_progress"],
            scheduled=waiting["scheduled"],
            oldest_age_s=waiting["oldest_age_s"],
            window_s=told["window_s"],
            arrived=told["arrived"],
            finished=told["finished"],
            failures=told["failures"],
            run_time_s=told["run_time_s"],
            stuck=stuck,
            unknown=unknown,
        )
