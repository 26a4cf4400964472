"""Rows of a result as bytes and back, each value of the very type that it had, or not at all.

msgpack knows None, bool, int to 64 bits, float, str, bytes, lists and maps. What else PostgreSQL's types
become in Python is an extension with a number of its own below; a type that has none is refused, so that
this process alone keeps the result. The numbers are part of the stored format: none is ever given again.
"""

from __future__ import annotations

import datetime as dt
import importlib
import ipaddress
import uuid
from collections import namedtuple
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec.msgpack import Ext

from perfloop.errors import InvalidInput


class Row(tuple[Any, ...]):
    """A named tuple of the columns; a name that Python does not take is its place, `_0` for one."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


# Of what this process may not have, and does not load until a value has it: by module and name.
SQLALCHEMY_RANGE: Final = ("sqlalchemy.dialects.postgresql.ranges", "Range")
_RANGE: Final = ("psycopg.types.range", "Range")
_MULTIRANGE: Final = ("psycopg.types.multirange", "Multirange")
_INT_LIMIT: Final = 2**63
_encoder: Final = msgspec.msgpack.Encoder()


class StoredRows(msgspec.Struct, dict=True, array_like=True):
    """A result as both tiers keep it: its bytes, and beside them the rows once they were made.

    Where `body` is no bytes, no serialiser takes it; the cache counts that and keeps it in this process.
    """

    body: bytes

    def rows(self) -> tuple[Row, ...]:
        """Made once for all who ask in this process; what is in them must not be changed.

        Raises:
            InvalidInput: The bytes are not ours, or of a later version.
        """
        made: tuple[Row, ...] | None = self.__dict__.get("_rows")
        if made is None:
            try:
                columns, rows = decoded(self.body)
                made = self.__dict__["_rows"] = named_rows(columns, rows)
            except (TypeError, ValueError) as error:
                raise InvalidInput(f"a stored result cannot be read: {error}") from None
        return made


class _Unstorable:
    """Stands where bytes should be; nothing can store it."""

    def __reduce__(self) -> str:
        raise TypeError("a column has a type that cannot be stored")


def stored(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> StoredRows:
    """The rows as both tiers keep them."""
    try:
        kept = StoredRows(body=encoded([list(columns), [list(row) for row in rows]]))
    except InvalidInput:
        kept = StoredRows(body=_Unstorable())  # type: ignore[arg-type]  # to be refused by every serialiser
    kept.__dict__["_rows"] = named_rows(columns, rows)
    return kept


def named_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Row, ...]:
    """The rows as callers get them."""
    return tuple(map(_row_of(tuple(columns)), rows))


def encoded(value: object) -> bytes:
    """The bytes of a value, which differ for values that differ in type.

    Raises:
        InvalidInput: It holds a type that has no form here.
    """
    try:
        return _encoder.encode(_plain(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(
            f"a value of type {type(value).__qualname__} has no stored form: {error}"
        ) from None


def decoded(body: bytes) -> Any:
    """The value that `encoded` made these bytes of.

    Raises:
        InvalidInput: They are not ours, or of a later version.
    """
    try:
        return _decoder.decode(body)
    except Exception as error:  # noqa: BLE001  # bytes of others run constructors, which raise anything
        raise InvalidInput(f"the bytes cannot be read: {error}") from None


@lru_cache(maxsize=1000)
def _row_of(columns: tuple[str, ...]) -> Callable[[Sequence[Any]], Row]:
    named = namedtuple("Row", columns, rename=True)  # type: ignore[misc]  # the columns are known now only
    kind: Any = type("Row", (named, Row), {"__slots__": ()})
    make: Callable[[Sequence[Any]], Row] = kind._make
    return make


def _plain(value: Any) -> Any:
    """The value with an extension wherever msgpack would change its type."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is int:
        return value if -_INT_LIMIT <= value < _INT_LIMIT else _ext(8, str(value))
    if kind is list:
        return [_plain(each) for each in value]
    if kind is dict:
        return {_text(key): _plain(each) for key, each in value.items()}
    write = _WRITE.get(kind) or _WRITE_NAMED.get((kind.__module__, kind.__qualname__))
    if write is not None:
        number, parts = write
        return _ext(number, parts(value))
    raise InvalidInput(f"a value of type {kind.__qualname__} has no stored form")


def _ext(number: int, parts: Any) -> Ext:
    return Ext(number, _encoder.encode(_plain(parts)))


def _text(key: object) -> str:
    if type(key) is not str:
        raise InvalidInput(f"a key of type {type(key).__qualname__} has no stored form")
    return key


def _zone(zone: dt.tzinfo | None) -> Any:
    if zone is None:
        return None
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return zone.key
    if type(zone) is dt.timezone and zone == dt.timezone(zone.utcoffset(None)):
        offset = zone.utcoffset(None)
        return [offset.days, offset.seconds, offset.microseconds]
    raise InvalidInput(f"a time zone of type {type(zone).__qualname__} has no stored form")


def _zone_back(stored_zone: Any) -> dt.tzinfo | None:
    if stored_zone is None:
        return None
    return ZoneInfo(stored_zone) if isinstance(stored_zone, str) else dt.timezone(dt.timedelta(*stored_zone))


def _moment(value: dt.datetime | dt.time) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)]


def _datetime_back(parts: list[Any]) -> dt.datetime:
    text, fold, zone = parts
    return dt.datetime.fromisoformat(text).replace(fold=fold, tzinfo=_zone_back(zone))


def _time_back(parts: list[Any]) -> dt.time:
    text, fold, zone = parts
    return dt.time.fromisoformat(text).replace(fold=fold, tzinfo=_zone_back(zone))


def _range(value: Any) -> list[Any]:
    # The bounds of an empty range are None.
    return [value.lower, value.upper, value.bounds if not value.isempty else None]


def _named(name: tuple[str, str]) -> Any:
    return getattr(importlib.import_module(name[0]), name[1])


def _range_back(parts: list[Any]) -> Any:
    lower, upper, bounds = parts
    kind = _named(_RANGE)
    return kind(empty=True) if bounds is None else kind(lower, upper, bounds)


def _sqlalchemy_range_back(parts: list[Any]) -> Any:
    lower, upper, bounds, is_empty = parts
    return _named(SQLALCHEMY_RANGE)(lower, upper, bounds=bounds, empty=is_empty)


_ADDRESSES: Final = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_ADDRESS: Final[dict[str, Callable[[str], Any]]] = {kind.__name__: kind for kind in _ADDRESSES}
_AS_THEY_ARE: Final = frozenset({type(None), bool, float, str, bytes})
_WRITE: Final[dict[type, tuple[int, Callable[[Any], Any]]]] = {
    Decimal: (1, str),
    dt.datetime: (2, _moment),
    dt.date: (3, dt.date.isoformat),
    dt.time: (4, _moment),
    dt.timedelta: (5, lambda value: [value.days, value.seconds, value.microseconds]),
    uuid.UUID: (6, lambda value: value.bytes),
    tuple: (7, list),
    **{kind: (9, lambda value: [type(value).__name__, str(value)]) for kind in _ADDRESSES},
}
_WRITE_NAMED: Final[dict[tuple[str, str], tuple[int, Callable[[Any], Any]]]] = {
    _RANGE: (10, _range),
    _MULTIRANGE: (11, list),
    # Parameters only: they wrap what a statement is given, and no result has them.
    ("psycopg.types.json", "Json"): (12, lambda value: ["json", value.obj]),
    ("psycopg.types.json", "Jsonb"): (12, lambda value: ["jsonb", value.obj]),
    SQLALCHEMY_RANGE: (13, lambda value: [value.lower, value.upper, value.bounds, value.empty]),
}
_READ: Final[dict[int, Callable[[Any], Any]]] = {
    1: Decimal,
    2: _datetime_back,
    3: dt.date.fromisoformat,
    4: _time_back,
    5: lambda parts: dt.timedelta(*parts),
    6: lambda raw: uuid.UUID(bytes=raw),
    7: tuple,
    8: int,
    9: lambda parts: _ADDRESS[parts[0]](parts[1]),
    10: _range_back,
    11: lambda parts: _named(_MULTIRANGE)(parts),
    13: _sqlalchemy_range_back,
}


def _read_ext(number: int, raw: memoryview) -> Any:
    return _READ[number](_decoder.decode(bytes(raw)))


_decoder: Final = msgspec.msgpack.Decoder(ext_hook=_read_ext)
