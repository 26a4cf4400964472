"""Reads pg_stat_statements of any extension version, and takes the difference of two readings.

Columns follow the version of the extension, not of the server: after pg_upgrade an old
one stays until ALTER EXTENSION. 1.8 renamed total_time and brought wal_bytes, 1.9
toplevel and pg_stat_statements_info, 1.10 the jit columns.
"""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from psycopg import errors, sql
from psycopg.rows import DictRow

from perfloop.adapters.probe import grant_monitor, limitation_of, read_rows
from perfloop.adapters.queries import query
from perfloop.adapters.statements import is_our_own, statement_kind, without_prepare
from perfloop.model.snapshot import Limitation, StatementCounters
from perfloop.model.value import Value
from perfloop.model.workload import Statement

SUBJECT = "pg_stat_statements"

_SERVICE_UTILITIES = ("fetch", "copy", "call", "do", "execute", "move")
_UTILITY_SHARE_WORTH_TELLING = 0.05
_COUNTED = (
    "calls",
    "total_s",
    "rows",
    "hit_blocks",
    "read_blocks",
    "temp_blocks",
    "wal_bytes",
    "wal_records",
    "jit_s",
    "planning_s",
    "squared_s2",
)


class StatementReading(Value, frozen=True, kw_only=True):
    """pg_stat_statements at one moment, or the difference of two moments."""

    counters: tuple[StatementCounters, ...] = ()
    """By query id. Utility statements and perfloop's own are left out."""
    utility_temp_blocks: int = 0
    """Of DDL, and of COPY, CALL and the like that ran once; since the reset in a difference, too."""
    reset_at_s: float | None = None
    """Unix time of the last reset; None where the extension does not tell."""
    evictions: int | None = None
    """How often the least used statements had to make room, since that reset."""
    maximum: int | None = None
    limitations: tuple[Limitation, ...] = ()


class _Extension(Value, frozen=True, kw_only=True):
    schema: str | None
    version: str | None
    newest: str | None
    is_loaded: bool
    track: str | None
    maximum: int | None
    preloaded: str | None
    compute_query_id: str | None

    @property
    def parts(self) -> tuple[int, ...]:
        return tuple(int(part) for part in (self.version or "0").split("."))


def read_statements(connection: psycopg.Connection[Any], *, role: str) -> StatementReading:
    """What was counted for this database; whatever stands in the way is told as a Limitation."""
    found = msgspec.convert(read_rows(connection, query("read_statements_extension"))[0], _Extension)
    if found.schema is None or not found.is_loaded:
        return StatementReading(limitations=(_not_there(found),))
    try:
        return _read(connection, found, role)
    except (errors.ObjectNotInPrerequisiteState, errors.InsufficientPrivilege, errors.QueryCanceled) as error:
        return StatementReading(limitations=(limitation_of(error, subject=SUBJECT, role=role),))


def statement_difference(earlier: StatementReading, later: StatementReading) -> StatementReading:
    """What was counted between two readings.

    After a reset the later counters stand alone. A statement whose calls went down was
    evicted and came back: it counts with what it has. Statements that were not called
    between the readings are left out.
    """
    was_reset = earlier.reset_at_s != later.reset_at_s
    before = {} if was_reset else {each.statement.query_id: each for each in earlier.counters}
    differences = (_minus(each, before.get(each.statement.query_id)) for each in later.counters)
    return msgspec.structs.replace(
        later,
        counters=tuple(each for each in differences if each.calls > 0),
        limitations=(*later.limitations, *_disturbances(earlier, later, was_reset=was_reset)),
    )


def _read(connection: psycopg.Connection[Any], found: _Extension, role: str) -> StatementReading:
    info: DictRow = {"reset_at_s": None, "evictions": None}
    schema = sql.Identifier(found.schema or "")
    if found.parts >= (1, 9):
        info = read_rows(connection, query("read_statements_info").format(schema=schema))[0]
    rows = read_rows(connection, query("read_statements").format(schema=schema, **_columns(found.parts)))
    named = [row for row in rows if row["queryid"] is not None and row["text"] is not None]
    counters = [counted for row in named if (counted := _counters(row)) is not None]
    hidden = next((row for row in rows if row["queryid"] is None), None)
    is_empty = not counters and hidden is None
    limitations = [*_not_tracking(found, is_empty=is_empty), *_left_out(named), *_hidden(hidden, role)]
    return StatementReading(
        counters=tuple(counters),
        utility_temp_blocks=sum(row["temp_blocks"] for row in named if _is_upkeep(row)),
        maximum=found.maximum,
        limitations=tuple(limitations),
        **info,
    )


def _columns(version: tuple[int, ...]) -> dict[str, sql.SQL]:
    has_plans, has_level, has_jit = version >= (1, 8), version >= (1, 9), version >= (1, 10)
    jit = "jit_generation_time + jit_inlining_time + jit_optimization_time + jit_emission_time"
    return {
        "execution_ms": sql.SQL("total_exec_time" if has_plans else "total_time"),
        "planning_ms": sql.SQL("total_plan_time" if has_plans else "0"),
        "deviation_ms": sql.SQL("stddev_exec_time" if has_plans else "stddev_time"),
        "wal_bytes": sql.SQL("wal_bytes" if has_plans else "0"),
        "wal_records": sql.SQL("wal_records" if has_plans else "0"),
        "jit_ms": sql.SQL(jit if has_jit else "0"),
        "is_top_level": sql.SQL("toplevel" if has_level else "true"),
    }


def _counters(row: DictRow) -> StatementCounters | None:
    text = without_prepare(row["text"]).strip().rstrip(";")
    kind = statement_kind(text)
    if kind is None or is_our_own(text):
        return None
    return StatementCounters(
        statement=Statement(query_id=str(row["queryid"]), text=text, kind=kind),
        calls=row["calls"],
        total_s=row["execution_ms"] / 1000,
        rows=row["rows"],
        hit_blocks=row["hit_blocks"],
        read_blocks=row["read_blocks"],
        temp_blocks=row["temp_blocks"],
        wal_bytes=row["wal_bytes"],
        jit_s=row["jit_ms"] / 1000,
        planning_s=row["planning_ms"] / 1000,
        wal_records=row["wal_records"],
        squared_s2=row["execution_squared_ms2"] / 1e6,
    )


def _is_upkeep(row: DictRow) -> bool:
    """Whether it is no work of a service: DDL at any time, and what a service runs, too, if it ran once."""
    if statement_kind(without_prepare(row["text"])) is not None:
        return False
    return row["calls"] == 1 or not row["text"].lstrip().lower().startswith(_SERVICE_UTILITIES)


def _not_there(found: _Extension) -> Limitation:
    if found.newest is None:
        return Limitation(
            subject=SUBJECT,
            reason="the extension is not on the server's machine",
            remedy="install the contrib package of the server (postgresql-contrib, or postgresqlNN-contrib)",
        )
    steps = [] if found.is_loaded else [_preload(found.preloaded), "-- then restart the server"]
    if found.schema is None:
        steps.append("CREATE EXTENSION pg_stat_statements;")
    what = "created in this database" if found.is_loaded else "loaded by the server"
    return Limitation(subject=SUBJECT, reason=f"the extension is not {what}", remedy="\n".join(steps))


def _preload(preloaded: str | None) -> str:
    """The setting with what is in it; a list in one pair of quotes would keep the server from starting."""
    names = [name.strip().strip('"') for name in (preloaded or "").split(",") if name.strip()]
    listed = ", ".join(sql.Literal(name).as_string(None) for name in [*names, "pg_stat_statements"])
    note = "  -- add the libraries that are listed there already" if preloaded is None else ""
    return f"ALTER SYSTEM SET shared_preload_libraries = {listed};{note}"


def _not_tracking(found: _Extension, *, is_empty: bool) -> list[Limitation]:
    told = []
    if found.newest is not None and found.version != found.newest:
        reason = (
            f"the extension is {found.version} and the server brings {found.newest}; counters are missing"
        )
        told.append(("ALTER EXTENSION pg_stat_statements UPDATE;", reason))
    reload = "SELECT pg_reload_conf();"
    if found.track == "none":
        remedy = f"ALTER SYSTEM SET pg_stat_statements.track = 'top'; {reload}"
        told.append((remedy, "it is set to track no statements"))
    elif found.compute_query_id == "off":
        told.append((f"ALTER SYSTEM SET compute_query_id = 'auto'; {reload}", "compute_query_id is off"))
    elif is_empty:
        told.append(
            ("let the service run against this database, then read again", "it has counted no statement")
        )
    return [Limitation(subject=SUBJECT, reason=reason, remedy=remedy) for remedy, reason in told]


def _hidden(row: DictRow | None, role: str) -> list[Limitation]:
    if row is None:
        return []
    reason = f"statements of other roles are hidden: {row['calls']} calls, {row['execution_ms'] / 1000:.1f} s"
    return [Limitation(subject=SUBJECT, reason=reason, remedy=grant_monitor(role))]


def _left_out(rows: list[DictRow]) -> list[Limitation]:
    """Tells of time that a service spends in cursors, COPY and calls, which cannot be tried one by one."""
    total_ms = sum(row["execution_ms"] for row in rows)
    spent_ms = {
        word: sum(row["execution_ms"] for row in rows if row["text"].lstrip().lower().startswith(f"{word} "))
        for word in _SERVICE_UTILITIES
    }
    share = sum(spent_ms.values()) / total_ms if total_ms else 0.0
    if share < _UTILITY_SHARE_WORTH_TELLING:
        return []
    words = [word.upper() for word, spent in spent_ms.items() if spent]
    reason = f"{share:.0%} of the time is in {', '.join(words)}, which is not analysed"
    has_inside = words != ["COPY"]
    inside = "the statements inside" if has_inside else "the query inside, where it has one,"
    remedy = f"give perfloop {inside} as .sql files"
    return [Limitation(subject=SUBJECT, reason=reason, remedy=remedy)]


def _minus(later: StatementCounters, earlier: StatementCounters | None) -> StatementCounters:
    if earlier is None or later.calls < earlier.calls or later.total_s < earlier.total_s:
        return later
    changes = {name: max(0, getattr(later, name) - getattr(earlier, name)) for name in _COUNTED}
    return msgspec.structs.replace(later, **changes)


def _disturbances(earlier: StatementReading, later: StatementReading, *, was_reset: bool) -> list[Limitation]:
    if was_reset:
        reason = "its counters were reset between the two readings; only what came after is counted"
        remedy = "read again without a reset in between"
        return [Limitation(subject=SUBJECT, reason=reason, remedy=remedy)]
    evicted = (later.evictions or 0) - (earlier.evictions or 0)
    if evicted <= 0:
        return []
    larger = 2 * (later.maximum or 5000)
    remedy = f"ALTER SYSTEM SET pg_stat_statements.max = {larger};\n-- then restart the server"
    reason = (
        f"rare statements made room {evicted} times between the two readings; their calls are undercounted"
    )
    return [Limitation(subject=SUBJECT, reason=reason, remedy=remedy)]
