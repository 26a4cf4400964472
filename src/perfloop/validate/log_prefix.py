"""Reads what stands at the start of a log line: by the server's `log_line_prefix`, or by its looks."""

from __future__ import annotations

import re

from perfloop.errors import InvalidInput
from perfloop.model.value import Value

SEVERITIES = (
    "LOG|DETAIL|HINT|CONTEXT|QUERY|STATEMENT|LOCATION|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG[1-5]?"
)
_HEAD = re.compile(rf"(?P<prefix>.{{0,400}}?)(?<![\w-])(?P<severity>{SEVERITIES}):  (?P<text>.*)", re.DOTALL)
_LOOKS_LIKE = {
    "process": re.compile(r"\[(\d+)[\]-]|\b(?:pid|PID)=(\d+)|\b([0-9a-f]{8}\.[0-9a-f]+)\b"),
    "database": re.compile(r"\b(?:db|database)=([^\s,\]]+)|\b[\w.-]+@([\w-]+)"),
    "query_id": re.compile(r"(?<![\w.:+-])(-?\d{13,19})(?![\w.:])"),
}
_ESCAPES = {
    "m": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+?",
    "t": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+?",
    "s": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+?",
    "n": r"\d+\.\d{3}",
    "p": r"\d*",
    "c": r"[0-9a-f.]*",
    "Q": r"-?\d*",
    "l": r"\d*",
    "x": r"\d*",
    "P": r"\d*",
    "e": r"\w*",
}
_NAMES = {"p": "process", "c": "session", "d": "database", "Q": "query_id"}
_PADDING = " *+"
_ESCAPE = re.compile(r"%(-?\d+)?([a-zA-Z%])")
_MOST_ESCAPES = 24
"""PostgreSQL has 21, and each of more than one would stand for the same text again."""
_ABSENT = frozenset({"", "0", "[unknown]"})


class LineHead(Value, frozen=True, kw_only=True):
    """The start of a report's line, and its first text."""

    severity: str
    text: str
    session: str = ""
    database: str | None = None
    query_id: str | None = None


class LinePrefix:
    """Reads line heads. Without a `setting` it goes by the looks of the usual prefixes.

    Args:
        setting: As `log_line_prefix` has it, as "%m [%p] %q%u@%d %Q ".

    Raises:
        InvalidInput: The setting has an escape that PostgreSQL does not know.
    """

    def __init__(self, setting: str | None = None) -> None:
        self._pattern = _compiled(setting) if setting is not None else None

    def read(self, line: str) -> LineHead | None:
        """The head of the line, or None where it is none."""
        if self._pattern is None:
            return _by_looks(line)
        found = self._pattern.match(line)
        if found is None:
            return None
        told = found.groupdict()
        return LineHead(
            severity=told["severity"],
            text=told["text"],
            session=told.get("session") or told.get("process") or "",
            database=_known(told.get("database")),
            query_id=_known(told.get("query_id")),
        )


def prefix_for(lines: list[str], *, given: str | None, configured: str | None) -> LinePrefix:
    """The reader for a log: the `given` setting, the server's own where it fits the lines, or the looks.

    Raises InvalidInput where a given setting fits no line.
    """
    heads = [line for line in lines if _HEAD.match(line) and not line.startswith("\t")]
    if given is not None:
        chosen = LinePrefix(given)
        if heads and not any(chosen.read(line) for line in heads):
            raise InvalidInput(
                f"no line of the log begins as {given!r} says; the first is {heads[0][:80]!r}, "
                "and without --log-line-prefix perfloop goes by the looks of the lines"
            )
        return chosen
    if configured:
        own = LinePrefix(configured)
        if heads and 2 * sum(own.read(line) is not None for line in heads) > len(heads):
            return own
    return LinePrefix()


def _compiled(setting: str) -> re.Pattern[str]:
    if len(_ESCAPE.findall(setting)) > _MOST_ESCAPES:
        raise InvalidInput(
            f"log_line_prefix has more than {_MOST_ESCAPES} escapes; write it as the server has it"
        )
    before, _, in_sessions = setting.partition("%q")
    named: set[str] = set()
    prefix = _as_pattern(before, named)
    if in_sessions:
        prefix += f"(?:{_as_pattern(in_sessions, named)})?"
    return re.compile(rf"{prefix}(?P<severity>{SEVERITIES}):  (?P<text>.*)", re.DOTALL)


def _as_pattern(setting: str, named: set[str]) -> str:
    """The pattern of a prefix. Padding takes the spaces beside it, so that no line is tried in many ways."""
    parts: list[str] = []
    end = 0
    padded_before = False
    for found in _ESCAPE.finditer(setting):
        width = int(found[1] or 0)
        literal = setting[end : found.start()]
        literal = literal.lstrip(" ") if padded_before else literal
        parts.append(re.escape(literal.rstrip(" ") if width > 0 else literal))
        parts.append(_PADDING if width > 0 else "")
        parts.append(_escape_pattern(found[2], named))
        parts.append(_PADDING if width < 0 else "")
        padded_before = width < 0
        end = found.end()
    rest = setting[end:]
    return "".join(parts) + re.escape(rest.lstrip(" ") if padded_before else rest)


def _escape_pattern(escape: str, named: set[str]) -> str:
    """What an escape stands for; the second time it is the same text again."""
    if escape not in "abcdehilmnpqrstuvxPQL%":
        raise InvalidInput(f"log_line_prefix has no %{escape}; write it as the server's setting has it")
    if escape == "%":
        return "%"
    name = _NAMES.get(escape, f"escape_{escape}")
    if name in named:
        return f"(?P={name})"
    named.add(name)
    return f"(?P<{name}>{_ESCAPES.get(escape, '.*?')})"


def _by_looks(line: str) -> LineHead | None:
    found = _HEAD.match(line)
    if found is None:
        return None
    told = {}
    for name, looks in _LOOKS_LIKE.items():
        match = looks.search(found["prefix"])
        told[name] = next(filter(None, match.groups()), None) if match is not None else None
    return LineHead(
        severity=found["severity"],
        text=found["text"],
        session=told["process"] or "",
        database=_known(told["database"]),
        query_id=_known(told["query_id"]),
    )


def _known(value: str | None) -> str | None:
    return None if value is None or value in _ABSENT else value
