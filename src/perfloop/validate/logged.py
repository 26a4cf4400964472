"""What the statements of a log mean for a Workload: instances, counters, and what to say of the rest."""

from __future__ import annotations

from pathlib import Path

import msgspec

from perfloop.model.snapshot import Limitation, Snapshot, StatementCounters
from perfloop.model.target import Setting
from perfloop.validate.given_source import logs_of, required_logs
from perfloop.validate.log_totals import LoggedStatement
from perfloop.validate.server_log import LogNote, LogOptions, LogReading, Tell, read_logs


def read_log_source(
    source: str, snapshot: Snapshot, *, line_prefix: str | None, seed: int, required: bool, tell: Tell
) -> LogReading | None:
    """The statements of a log or a folder of logs; None where the source is something else.

    Args:
        source: A path.
        snapshot: Says which database's statements count, and how the target writes its lines now.
        line_prefix: As the user gave it, or None.
        seed: Of the choice of samples.
        required: Raise InvalidInput instead of giving None.
        tell: Told how far the reading is.
    """
    paths, notes = required_logs(Path(source)) if required else logs_of(Path(source))
    if not paths:
        return None
    options = LogOptions(
        database=snapshot.database,
        line_prefix=line_prefix,
        configured_prefix=_value(snapshot.setting("log_line_prefix")),
        seed=seed,
    )
    reading = read_logs(paths, options, tell)
    return msgspec.structs.replace(reading, notes=(*reading.notes, *notes, *_threshold(snapshot)))


def counters_of(reading: LogReading, snapshot: Snapshot) -> tuple[StatementCounters, ...]:
    """Calls and time as the log has them; names, texts and rows per call as the server counted them."""
    known = {each.statement.query_id: each for each in snapshot.statements}
    return tuple(_counters(each, known.get(each.statement.query_id)) for each in reading.statements)


def spread(samples: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Up to `count` different samples, evenly from the fastest to the slowest.

    >>> spread(("a", "b", "c", "d", "e", "f"), 3)
    ('a', 'c', 'f')
    """
    different = tuple(dict.fromkeys(samples))
    if len(different) <= count or count < 2:
        return different[:count]
    return tuple(different[step * (len(different) - 1) // (count - 1)] for step in range(count))


def limitations_of(notes: tuple[LogNote, ...]) -> tuple[Limitation, ...]:
    """What could not be used of the logs, as the Snapshot tells it."""
    return tuple(Limitation(subject=each.name, reason=each.reason, remedy=each.remedy) for each in notes)


def _counters(logged: LoggedStatement, known: StatementCounters | None) -> StatementCounters:
    rows = known.rows * logged.calls // known.calls if known is not None and known.calls else 0
    statement = known.statement if known is not None else logged.statement
    return StatementCounters(statement=statement, calls=logged.calls, total_s=logged.total_s, rows=rows)


def _threshold(snapshot: Snapshot) -> tuple[LogNote, ...]:
    """Says so where the target logs slow statements only: the fast ones, often called, are missing."""
    least = _value(snapshot.setting("log_min_duration_statement"))
    if least is None or least in ("0", "-1"):
        return ()
    reason = f"the target logs statements from {least} ms on; what is faster is not in the workload"
    remedy = "ALTER SYSTEM SET log_min_duration_statement = 0;\nSELECT pg_reload_conf();"
    return (LogNote(name="the log", reason=reason, remedy=remedy),)


def _value(setting: Setting | None) -> str | None:
    return setting.value if setting is not None else None
