"""Puts the records of a server log together: of stderr format, of csvlog, and of jsonlog.

A record is what one ereport() of the server wrote: a message with its detail and context. Nothing here
raises on a damaged record; it is counted, and the next one is looked for.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator

import msgspec

from perfloop.model.value import Value
from perfloop.validate.log_lines import LONGEST_LINE, repaired
from perfloop.validate.log_prefix import LineHead, LinePrefix

_CSV_START = re.compile(
    r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [\w+-]+,(?:"(?:[^"]|"")*")?,(?:"(?:[^"]|"")*")?,\d+,'
)
_CSV_FIELD = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^,]*))(?:,|\Z)')
_CSV_LEAST_FIELDS = 20
_DATABASE, _SESSION, _SEVERITY, _MESSAGE, _DETAIL, _CONTEXT, _QUERY_ID = 2, 5, 11, 13, 14, 18, 25
_INTERESTING = frozenset({"LOG", "INFO", "NOTICE", "WARNING"})
"""auto_explain.log_level may raise a plan up to here."""


class LogFormat(enum.Enum):
    """How a server writes its log; the values are those of `log_destination`."""

    STDERR = "stderr"
    CSV = "csvlog"
    JSON = "jsonlog"


class LogRecord(Value, frozen=True, kw_only=True):
    """One report of the server, with what its format tells about where it came from."""

    session: str
    """The process or session; empty where the log does not tell."""
    message: str
    detail: str = ""
    context: str = ""
    database: str | None = None
    query_id: str | None = None
    """In decimal; None where the log does not tell or the server computed none."""


class Damage:
    """Counts what could not be read; the counts become sentences."""

    def __init__(self) -> None:
        self.records = 0
        self.is_cut = False


class _JsonRecord(msgspec.Struct, frozen=True):
    error_severity: str = ""
    message: str = ""
    detail: str = ""
    context: str = ""
    dbname: str | None = None
    session_id: str = ""
    pid: int = 0
    query_id: int = 0


_JSON = msgspec.json.Decoder(_JsonRecord)


def json_records(lines: Iterable[str], damage: Damage) -> Iterator[LogRecord]:
    """The records of a jsonlog, one a line."""
    for line in lines:
        damage.is_cut = False
        try:
            read = _JSON.decode(repaired(line))
        except (msgspec.MsgspecError, RecursionError):
            damage.records += bool(line.strip())
            damage.is_cut = True
            continue
        if read.error_severity in _INTERESTING:
            yield LogRecord(
                session=read.session_id or str(read.pid),
                message=read.message,
                detail=read.detail,
                context=read.context,
                database=read.dbname,
                query_id=str(read.query_id) if read.query_id else None,
            )


def csv_records(lines: Iterable[str], damage: Damage) -> Iterator[LogRecord]:
    """The records of a csvlog of PostgreSQL 14 or newer; a message may have many lines.

    A record ends where its quotes are even. Where a line looks like the start of the next record, the
    one before was cut.
    """
    for record in _csv_texts(lines, damage):
        fields = [quoted.replace('""', '"') or bare for quoted, bare in _CSV_FIELD.findall(record)]
        if len(fields) < _CSV_LEAST_FIELDS or _CSV_START.match(record) is None:
            damage.records += 1
        elif fields[_SEVERITY] in _INTERESTING:
            query_id = fields[_QUERY_ID] if len(fields) > _QUERY_ID else ""
            yield LogRecord(
                session=fields[_SESSION],
                message=repaired(fields[_MESSAGE]),
                detail=repaired(fields[_DETAIL]),
                context=fields[_CONTEXT],
                database=fields[_DATABASE] or None,
                query_id=query_id if query_id not in ("", "0") else None,
            )


def _csv_texts(lines: Iterable[str], damage: Damage) -> Iterator[str]:
    parts: list[str] = []
    is_open, length = False, 0
    for line in lines:
        if is_open and (_CSV_START.match(line) or length > LONGEST_LINE):
            damage.records += 1
            parts, is_open, length = [], False, 0
        parts.append(line)
        length += len(line)
        is_open ^= line.count('"') % 2 == 1
        if not is_open:
            if length:
                yield "\n".join(parts)
            parts, length = [], 0
    damage.is_cut = is_open


def stderr_records(lines: Iterable[str], prefix: LinePrefix, damage: Damage) -> Iterator[LogRecord]:
    """The records of a log in stderr format: DETAIL and CONTEXT join the message that they follow."""
    report: _Report | None = None
    for line in lines:
        head = prefix.read(line) if not line.startswith("\t") else None
        if head is None:
            # A console has the lines of a statement without the tab that the server puts before them.
            if report is not None:
                report.go_on(line.removeprefix("\t"))
            damage.records += report is None and not line.startswith("\t") and bool(line.strip())
        elif head.severity in _ADDITIONS:
            if report is not None and report.session == head.session:
                report.add(head.severity, head.text)
        else:
            yield from _finished(report)
            report = _Report(head)
    yield from _finished(report)


def _finished(report: _Report | None) -> Iterator[LogRecord]:
    if report is not None and report.severity in _INTERESTING:
        yield report.record()


_ADDITIONS = frozenset({"DETAIL", "HINT", "CONTEXT", "QUERY", "STATEMENT", "LOCATION"})


class _Report:
    """The lines of one report while they come in."""

    def __init__(self, head: LineHead) -> None:
        self.severity = head.severity
        self.session = head.session
        self._head = head
        self._parts: dict[str, list[str]] = {"": [head.text]}
        self._open = self._parts[""]
        self._room = LONGEST_LINE

    def go_on(self, line: str) -> None:
        self._room -= len(line)
        if self._room > 0:
            self._open.append(line)

    def add(self, severity: str, text: str) -> None:
        self._open = self._parts.setdefault(severity, [])
        self._open.append(text)

    def record(self) -> LogRecord:
        texts = {name: "\n".join(lines) for name, lines in self._parts.items()}
        return LogRecord(
            session=self.session,
            message=repaired(texts[""]),
            detail=repaired(texts.get("DETAIL", "")),
            context=texts.get("CONTEXT", ""),
            database=self._head.database,
            query_id=self._head.query_id,
        )


def format_of(beginning: str) -> LogFormat | None:
    """The format of a log by its first lines, or None where it is no log of PostgreSQL's."""
    lines = beginning.splitlines()[:200]
    if any(_is_json(line) for line in lines):
        return LogFormat.JSON
    if any(_CSV_START.match(line) and line.count(",") >= _CSV_LEAST_FIELDS // 2 for line in lines):
        return LogFormat.CSV
    generic = LinePrefix()
    return LogFormat.STDERR if any(generic.read(line) for line in lines) else None


def _is_json(line: str) -> bool:
    if not line.startswith('{"'):
        return False
    try:
        return bool(_JSON.decode(repaired(line)).error_severity)
    except (msgspec.MsgspecError, RecursionError):
        return False
