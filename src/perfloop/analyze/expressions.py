"""Which columns a condition of a plan talks about. EXPLAIN VERBOSE qualifies every column."""

from __future__ import annotations

import re

from perfloop.model.plan import PlanNode
from perfloop.model.target import Table

_LITERAL = re.compile(r"'(?:[^']|'')*'")
_LITERAL_OR_CAST = re.compile(r"'(?:[^']|'')*'|::\"?\w+\"?")
_NAME = r'"(?:[^"]|"")+"|[A-Za-z_][\w$]*'
_REFERENCE = re.compile(rf"(?:({_NAME})\.)?({_NAME})(?![\w\"$(.])")
_SORT_KEY = re.compile(
    rf"(?:({_NAME})\.)?({_NAME})"
    r"(?: COLLATE \S+)?( DESC)?(?: NULLS (?:FIRST|LAST))?"
)


def columns_in(condition: str, table: Table, alias: str | None) -> tuple[str, ...]:
    """The table's columns that a condition names, sorted, each once."""
    known = {column.name for column in table.columns}
    owners = {None, alias, table.name.name}
    found = set()
    for owner, name in _REFERENCE.findall(_LITERAL_OR_CAST.sub(" ", condition)):
        if unquoted(name) in known and (unquoted(owner) or None) in owners:
            found.add(unquoted(name))
    return tuple(sorted(found))


def sort_columns(node: PlanNode) -> tuple[tuple[str | None, str, bool], ...] | None:
    """(alias, column, descending) per sort key; None where a key is an expression."""
    keys = []
    for key in node.fields.get("Sort Key", ()):
        match = _SORT_KEY.fullmatch(key)
        if match is None:
            return None
        keys.append((unquoted(match[1]) if match[1] else None, unquoted(match[2]), bool(match[3])))
    return tuple(keys)


def unquoted(name: str) -> str:
    """An identifier as the catalogue stores it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def wraps_a_column(condition: str, columns: tuple[str, ...]) -> bool:
    """Whether a function or a cast stands around a column, so that no plain index on it is of use.

    The cast of a varchar to text changes nothing and does not count.
    """
    bare = _LITERAL.sub("''", condition)
    named = rf'(?:(?:{_NAME})\.)?"?(?:{"|".join(re.escape(name) for name in columns)})"?'
    return re.search(rf"\b[a-z_]\w*\({named}[,)]|\({named}\)::(?!text\b)\w", bare) is not None


def condition_text(condition: str, limit: int = 120) -> str:
    """A condition, or another text, that is cut where it is longer than a table cell or the limit."""
    return condition if len(condition) <= limit else condition[: limit - 1] + "…"
