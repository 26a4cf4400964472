"""Advice on which statements of a service to keep the results of: read, judge, simulate. Only reads.

Which results may be kept at all is judged by the very rules of the query cache. What else is there to know
comes from pg_stat_statements (how often, how long), the counters of tables (how often they are written to),
and a log or pg_stats (with which parameters); `perfloop.cache.advice` says what would come of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from psycopg import errors

from perfloop.adapters.connection import connect, unreachable_if_lost
from perfloop.adapters.explain import explain
from perfloop.adapters.reads._sync.connections import reads_through
from perfloop.cache._sync.resolving import tables_behind
from perfloop.cache.advice import REQUESTS
from perfloop.cache.entry import ENTRY_BYTES
from perfloop.cache.query_text import read_statement
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.target import TableName
from perfloop.model.units import share_text
from perfloop.model.value import Value
from perfloop.model.workload import StatementKind
from perfloop.tune.cache_advice_decision import (
    LEAST_TIME_SHARE,
    Change,
    Question,
    answer,
    setup_of,
    together,
)
from perfloop.tune.cache_advice_keys import LogKeys, keys_of
from perfloop.tune.cache_advice_traffic import Traffic, apart, read_traffic
from perfloop.tune.cache_advice_values import CacheAdvice, StatementAdvice
from perfloop.tune.observer import Observer
from perfloop.validate.given_source import required_logs
from perfloop.validate.logged import limitations_of
from perfloop.validate.server_log import LogOptions, read_logs

CAPACITY: Final = 10_000
_ROW_BYTES: Final = 64
_VALUE_BYTES: Final = 40
"""What a row and a value in it cost in Python beside what they hold; twice that is held: bytes and rows."""


_NOT_FOUND: Final = (
    "its tables are not found; if the service has its own search_path, add options=-csearch_path=… to the DSN"
)
_NOT_TOLD: Final = (errors.InsufficientPrivilege, errors.LockNotAvailable, errors.QueryCanceled)


class AdviceOptions(Value, frozen=True, kw_only=True):
    """What was given on the command line."""

    window_s: float | None = None
    """None counts since the last reset."""
    log: str | None = None
    log_line_prefix: str | None = None
    capacity: int = CAPACITY
    """Entries of the cache."""
    requests: int = REQUESTS
    """Of each run of the simulation."""
    seed: int = 1
    statement_timeout_s: float = 10.0


def advise(dsn: str, options: AdviceOptions, observer: Observer) -> CacheAdvice:
    """Say for each statement that reads whether to keep its results, how, and what for.

    Raises:
        InvalidInput: pg_stat_statements is not there or has counted nothing, or there is no such log.
        TargetUnreachable, MissingRights: as `connect` raises them.
    """
    if options.log is None and options.log_line_prefix is not None:
        raise InvalidInput("--log-line-prefix is about a log; give one with --log")
    with connect(dsn, read_only=True, statement_timeout_s=options.statement_timeout_s) as connection:
        traffic = read_traffic(connection, observer, window_s=options.window_s)
        return advise_on(connection, traffic, options, observer)


def advise_on(
    connection: psycopg.Connection[Any], traffic: Traffic, options: AdviceOptions, observer: Observer
) -> CacheAdvice:
    """The same for traffic that was read before from the same server."""
    log, traffic = _read_log(options, traffic, observer)
    observer.phase("asking what its statements read")
    asked: list[StatementAdvice | Question] = []
    with unreachable_if_lost(connection):
        asked += (
            _asked(connection, counters, traffic, log)
            for counters in traffic.snapshot.statements
            if counters.statement.kind is StatementKind.READ and counters.calls
        )
    observer.phase("simulating a cache")
    statements, setup = _answered(asked, options)
    return CacheAdvice(
        database=traffic.snapshot.database,
        counted_for_s=traffic.over_s,
        is_window=traffic.is_window,
        capacity=options.capacity,
        database_s_per_s=traffic.snapshot.total_s() / traffic.over_s,
        statements=statements,
        setup=setup,
        limitations=traffic.snapshot.limitations,
    )


def _read_log(options: AdviceOptions, traffic: Traffic, observer: Observer) -> tuple[LogKeys | None, Traffic]:
    """The parameters of a log, and what could not be read of it among the limitations."""
    if options.log is None:
        return None, traffic
    snapshot = traffic.snapshot
    paths, _ = required_logs(Path(options.log))
    configured = snapshot.setting("log_line_prefix")
    log_options = LogOptions(
        database=snapshot.database,
        line_prefix=options.log_line_prefix,
        configured_prefix=configured.value if configured is not None else None,
        seed=options.seed,
    )
    keys = LogKeys(each.statement for each in _dear(snapshot))
    reading = read_logs(paths, log_options, observer.phase, keys.hear)
    limitations = snapshot.limitations + limitations_of(reading.notes)
    told = msgspec.structs.replace(snapshot, limitations=limitations)
    return keys, msgspec.structs.replace(traffic, snapshot=told)


def _dear(snapshot: Snapshot) -> list[StatementCounters]:
    """Those that read, and take time enough to be worth a look."""
    least_s = LEAST_TIME_SHARE * snapshot.total_s()
    return [
        each
        for each in snapshot.statements
        if each.statement.kind is StatementKind.READ and each.total_s >= least_s
    ]


def _answered(
    asked: list[StatementAdvice | Question], options: AdviceOptions
) -> tuple[tuple[StatementAdvice, ...], tuple[str, ...]]:
    """The proposed ones first, by the time that they spare; then the others by the time that they take."""
    how: dict[str, Any] = {
        "capacity": options.capacity,
        "seed": options.seed,
        "requests": options.requests,
    }
    answered = [(each, answer(each, **how)) for each in asked if isinstance(each, Question)]
    worth = [each for each in answered if each[1].is_proposed]
    proposed = together(worth, **how)
    others = [each for each in asked if isinstance(each, StatementAdvice)]
    others += [each for _, each in answered if not each.is_proposed]
    ordered = (
        *sorted(proposed, key=lambda each: (-each.saved_s_per_s, each.query_id)),
        *sorted(others, key=lambda each: (-each.time_share, each.query_id)),
    )
    return ordered, setup_of(worth)


def _asked(
    connection: psycopg.Connection[Any], counters: StatementCounters, traffic: Traffic, log: LogKeys | None
) -> StatementAdvice | Question:
    """What is known of a statement; already an answer where that suffices to say no."""
    advice = _counted(counters, traffic)
    if advice.time_share < LEAST_TIME_SHARE:
        least = share_text(LEAST_TIME_SHARE)
        return _refused(advice, f"it takes less than {least} of the database's time")
    text = counters.statement.text
    try:
        read = read_statement(apart(text), has_params=False)
        tables = [
            TableName(schema=schema, name=name)
            for schema, name in tables_behind(reads_through(connection), read)
        ]
    except UnsupportedStatement as error:
        return _refused(advice, str(error).removeprefix("the result of this statement is not kept: "))
    except _NOT_TOLD as error:
        return _refused(advice, f"the server does not tell what it reads: {error.diag.message_primary}")
    if not tables and read.relations:
        return _refused(advice, _NOT_FOUND)
    unseen = [name for name in tables if traffic.snapshot.table(name) is None]
    if unseen:
        return _refused(advice, f"nothing tells when {unseen[0]} changes, which is no table of this database")
    changes = tuple(_change(each, traffic) for each in _roots(tables, traffic.snapshot))
    keys = keys_of(counters.statement, traffic.snapshot, log)
    advice = msgspec.structs.replace(
        advice,
        tables=tuple(str(each.table) for each in changes),
        changes_per_s=sum(each.statements_per_s for each in changes),
        keys_from=keys.origin,
        different=keys.keys.count if keys.keys is not None else None,
        entry_bytes=_entry_bytes(connection, counters),
    )
    if keys.keys is None:
        return _refused(advice, f"{keys.why_unknown}; give a log that has them with --log")
    return Question(advice=advice, keys=keys, changes=changes)


def _counted(counters: StatementCounters, traffic: Traffic) -> StatementAdvice:
    total_s = traffic.snapshot.total_s()
    return StatementAdvice(
        query_id=counters.statement.query_id,
        label=counters.statement.label,
        text=counters.statement.text,
        calls_per_s=counters.calls / traffic.over_s,
        mean_s=(counters.total_s + counters.planning_s) / counters.calls,
        time_share=min(1.0, counters.total_s / total_s) if total_s > 0 else 0.0,
        rows_per_call=counters.rows / counters.calls,
        reason="",
    )


def _refused(advice: StatementAdvice, reason: str) -> StatementAdvice:
    return msgspec.structs.replace(advice, reason=reason)


def _roots(tables: list[TableName], snapshot: Snapshot) -> list[TableName]:
    """Without partitions whose root is there: what is written to them is counted with it."""
    known = {each.name: each.partition_of for each in snapshot.tables}
    return [name for name in tables if known.get(name) not in tables]


def _change(name: TableName, traffic: Traffic) -> Change:
    changes = traffic.changes_of(name)
    return Change(table=name, rows_per_s=changes.rows_per_s, statements_per_s=changes.statements_per_s)


def _entry_bytes(connection: psycopg.Connection[Any], counters: StatementCounters) -> int | None:
    """An estimate of a result in a process, by the planner's width of a row; None where it may not plan."""
    try:
        root = explain(connection, counters.statement.text, generic=True).root
    except UnsupportedStatement:
        return None
    columns = len(root.fields.get("Output", ())) or 1
    width = float(root.fields.get("Plan Width", 0))
    row_bytes = 2 * width + columns * _VALUE_BYTES + _ROW_BYTES
    return round(ENTRY_BYTES + counters.rows / counters.calls * row_bytes)
