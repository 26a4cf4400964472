"""Writes values as SQL, and knows a plausible value of every common type."""

from __future__ import annotations

import enum
import re
from random import Random


class TypeKind(enum.Enum):
    """How a type's values are written and drawn."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIME = "time"
    INTERVAL = "interval"
    BOOLEAN = "boolean"
    UUID = "uuid"
    JSON = "json"
    BYTES = "bytes"
    ARRAY = "array"
    VECTOR = "vector"
    OTHER = "other"


_KINDS = (
    (r".*\[\]$", TypeKind.ARRAY),
    (r"(small|big)?int(eger)?\d?$|(small|big)?serial$|oid$", TypeKind.INTEGER),
    (r"numeric|decimal|real$|double|float|money$", TypeKind.NUMBER),
    (r"(character|varchar|char|bpchar|text|citext|name)", TypeKind.TEXT),
    (r"timestamp", TypeKind.TIMESTAMP),
    (r"date$", TypeKind.DATE),
    (r"time", TypeKind.TIME),
    (r"interval", TypeKind.INTERVAL),
    (r"bool", TypeKind.BOOLEAN),
    (r"uuid$", TypeKind.UUID),
    (r"jsonb?$", TypeKind.JSON),
    (r"bytea$", TypeKind.BYTES),
    (r"tsvector$", TypeKind.VECTOR),
)
_DEFAULTS = {
    TypeKind.INTEGER: ("1", "2", "3", "10", "100"),
    TypeKind.NUMBER: ("0.5", "1", "0.1", "0.9", "0.25"),
    TypeKind.TEXT: ("a", "b", "test"),
    TypeKind.DATE: ("2026-01-01", "2026-06-01"),
    TypeKind.TIMESTAMP: ("2026-01-01 00:00:00+00", "2026-06-01 00:00:00+00"),
    TypeKind.TIME: ("12:00:00",),
    TypeKind.INTERVAL: ("1 month", "7 days", "3 months", "1 day", "1 year"),
    TypeKind.BOOLEAN: ("true", "false"),
    TypeKind.JSON: ("{}",),
    TypeKind.BYTES: (r"\x00",),
    TypeKind.ARRAY: ("{}",),
    TypeKind.VECTOR: ("",),
}
_LONGEST_BARE = 9
_LENGTH = re.compile(r"\((\d+)\)")
_INTEGER_LIMITS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "int": 2**31 - 1}


def type_kind(type_name: str | None) -> TypeKind:
    """The kind of a type as format_type() or a cast writes it."""
    lowered = (type_name or "").lower().removeprefix("pg_catalog.")
    return next((kind for pattern, kind in _KINDS if re.match(pattern, lowered)), TypeKind.OTHER)


def quoted(value: str) -> str:
    """A string constant; the server gives it the type that its place asks for."""
    return "'" + value.replace("'", "''") + "'"


def literal(value: str, type_name: str | None) -> str:
    """The value as SQL: small whole numbers bare, as people write them, everything else in quotes.

    Quotes are kept around numbers that would change the type of an operator (`numeric` against `real`)
    or join a minus sign before them to a comment.
    """
    bare = value.isascii() and value.isdigit() and len(value) <= _LONGEST_BARE
    return value if bare and type_kind(type_name) is TypeKind.INTEGER else quoted(value)


def operand(value: str, type_name: str | None) -> str:
    """The value as one side of `+` or `||`, where quotes would take their type from the other side."""
    kind = type_kind(type_name)
    if kind in (TypeKind.INTEGER, TypeKind.NUMBER) and re.fullmatch(r"\d+(?:\.\d*)?|\.\d+", value):
        return value
    return quoted(value) if kind in (TypeKind.TEXT, TypeKind.OTHER) else f"{quoted(value)}::{type_name}"


def array_literal(values: tuple[str, ...]) -> str:
    """An array constant of any element type."""
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return quoted("{" + ",".join(f'"{value}"' for value in escaped) + "}")


def default_value(type_name: str | None, index: int) -> str | None:
    """A plausible value of the type, in text form; None for types that perfloop has no value for."""
    kind = type_kind(type_name)
    if kind is TypeKind.UUID:
        return f"00000000-0000-4000-8000-{index:012d}"
    known = _DEFAULTS.get(kind)
    return known[index % len(known)] if known else None


def fresh_value(type_name: str, largest: str | None, rng: Random) -> str | None:
    """A value that no row has: beyond the largest one, or random. None where the type has no such values."""
    kind = type_kind(type_name)
    if kind is TypeKind.INTEGER:
        return _beyond(type_name, largest, rng)
    if kind is TypeKind.UUID:
        digits = f"{rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
    if kind is TypeKind.TEXT:
        length = _LENGTH.search(type_name)
        return f"p{rng.getrandbits(64):016x}"[: int(length[1]) if length else None]
    if kind in (TypeKind.TIMESTAMP, TypeKind.DATE):
        return f"{rng.randrange(2100, 9000)}-01-01"
    if kind is TypeKind.NUMBER:
        return str(_whole(largest) + 1 + rng.randrange(1000))
    return f"\\x{rng.getrandbits(128):032x}" if kind is TypeKind.BYTES else None


def as_type(value: str, type_name: str | None, *, of: str | None) -> str | None:
    """A value of the type `of` in the other type's form, or None: a time as a date, 12.50 as 12."""
    kind = type_kind(type_name)
    if kind is type_kind(of):
        return value
    if kind is TypeKind.DATE:
        return value[:10] if re.match(r"\d{4}-\d\d-\d\d", value) else None
    if kind is TypeKind.TIMESTAMP:
        return value if re.match(r"\d{4}-\d\d-\d\d", value) else None
    if kind is TypeKind.INTEGER:
        whole = re.match(r"-?\d+", value)
        return whole[0] if whole else None
    if kind is TypeKind.NUMBER:
        return (
            value if re.fullmatch(r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?", value, re.IGNORECASE) else None
        )
    return value if kind in (TypeKind.TEXT, TypeKind.OTHER) else None


def _beyond(type_name: str, largest: str | None, rng: Random) -> str:
    """Halfway to the end of the type: rows added since ANALYZE are not met."""
    limit = _INTEGER_LIMITS.get(type_name, 2**63 - 1)
    top = max(0, _whole(largest))
    return str(top + (limit - top) // 2 + rng.randrange(max(1, (limit - top) // 4)))


def _whole(value: str | None) -> int:
    """The value without its fraction; 0 for what has none, as NaN and infinity."""
    text = (value or "0").partition(".")[0]
    is_whole = re.fullmatch(r"-?[0-9]{1,4000}", text) is not None
    return int(text) if is_whole else 0
