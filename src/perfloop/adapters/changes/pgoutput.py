"""The messages of PostgreSQL's own output plugin, pgoutput, protocol version 1, read from their bytes.

Layouts as in the manual's chapter "Logical Replication Message Formats". Whatever the bytes, reading them
ends with a message or with InvalidInput. Kinds that say nothing about rows (origin, type, logical
message) are None.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from perfloop.errors import InvalidInput

Values = tuple[str | None, ...]

_BEGIN: Final = struct.Struct(">QqI")
_COMMIT: Final = struct.Struct(">BQQq")
_SAYS_NOTHING: Final = frozenset(b"OYM")
_KEY: Final = 1
_TRUNCATE_HEAD: Final = struct.Struct(">IB")


class Unchanged(str):
    """Stands for a large value that an UPDATE left alone, so that it was not logged."""

    __slots__ = ()


UNCHANGED: Final = Unchanged()


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The beginning of a transaction, told after it was committed."""

    xid: int
    """The lower 32 bits."""

    committed_at_us: int
    """On the server's clock, since 2000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The end of a transaction; the log below `end` needs not be told again."""

    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table, told before its first change; in `keys` the columns of which old values are told."""

    number: int
    schema: str
    name: str
    columns: tuple[str, ...]
    keys: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """Values before and after; None where there are none, or where the key stayed the same."""

    relation: int
    is_new: bool
    old: Values | None
    new: Values | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    """Tables that were emptied."""

    relations: tuple[int, ...]


Message = Begin | Commit | Relation | RowChange | Truncate


def read_message(data: bytes) -> Message | None:
    """Read one message.

    Raises:
        InvalidInput: It is none, or is damaged.
    """
    if not data:
        raise InvalidInput("a message of pgoutput is empty; the slot must be made anew")
    kind = data[0]
    if kind in _SAYS_NOTHING:
        return None
    read = _READERS.get(kind)
    if read is None:
        raise InvalidInput(f"pgoutput has no message of kind {chr(kind)!r} in protocol version 1")
    try:
        return read(_Bytes(data))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise InvalidInput(f"a message of pgoutput of kind {chr(kind)!r} is damaged: {error}") from None


class _Bytes:
    """Reads forward behind the kind; raises IndexError or struct.error at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 1

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        values: tuple[int, ...] = layout.unpack_from(self._data, self._place)
        self._place += layout.size
        return values

    def number(self, size_bytes: int) -> int:
        return int.from_bytes(self.take(size_bytes), "big")

    def take(self, size_bytes: int) -> bytes:
        end = self._place + size_bytes
        if end > len(self._data):
            raise IndexError(f"it ends {end - len(self._data)} bytes early")
        taken = self._data[self._place : end]
        self._place = end
        return taken

    def text(self) -> str:
        end = self._data.find(b"\0", self._place)
        if end < 0:
            raise IndexError("a name does not end")
        taken = self._data[self._place : end].decode()
        self._place = end + 1
        return taken

    def values(self) -> Values:
        return tuple(self._value() for _ in range(self.number(2)))

    def _value(self) -> str | None:
        kind = self.take(1)
        if kind == b"n":
            return None
        if kind == b"u":
            return UNCHANGED
        if kind == b"t":
            return self.take(self.number(4)).decode()
        raise IndexError(f"a value is of kind {kind!r}")


def _begin(data: _Bytes) -> Begin:
    _, committed_at_us, xid = data.unpack(_BEGIN)
    return Begin(xid=xid, committed_at_us=committed_at_us)


def _commit(data: _Bytes) -> Commit:
    return Commit(end=data.unpack(_COMMIT)[2])


def _relation(data: _Bytes) -> Relation:
    number = data.number(4)
    schema, name = data.text(), data.text()
    data.take(1)
    columns = []
    keys = set()
    for _ in range(data.number(2)):
        flags = data.number(1)
        column = data.text()
        data.take(8)
        columns.append(column)
        if flags & _KEY:
            keys.add(column)
    # The server leaves its own schema nameless.
    return Relation(
        number=number,
        schema=schema or "pg_catalog",
        name=name,
        columns=tuple(columns),
        keys=frozenset(keys),
    )


def _insert(data: _Bytes) -> RowChange:
    relation = data.number(4)
    _expect(data, b"N")
    return RowChange(relation=relation, is_new=True, old=None, new=data.values())


def _update(data: _Bytes) -> RowChange:
    relation = data.number(4)
    kind = data.take(1)
    old = None
    if kind in (b"K", b"O"):
        old = data.values()
        kind = data.take(1)
    if kind != b"N":
        raise IndexError(f"a row is of kind {kind!r}")
    return RowChange(relation=relation, is_new=False, old=old, new=data.values())


def _delete(data: _Bytes) -> RowChange:
    relation = data.number(4)
    _expect(data, b"K", b"O")
    return RowChange(relation=relation, is_new=False, old=data.values(), new=None)


def _truncate(data: _Bytes) -> Truncate:
    count, _ = data.unpack(_TRUNCATE_HEAD)
    return Truncate(relations=tuple(data.number(4) for _ in range(count)))


def _expect(data: _Bytes, *kinds: bytes) -> None:
    kind = data.take(1)
    if kind not in kinds:
        raise IndexError(f"a row is of kind {kind!r}")


_READERS: Final[dict[int, Callable[[_Bytes], Message]]] = {
    ord("B"): _begin,
    ord("C"): _commit,
    ord("R"): _relation,
    ord("I"): _insert,
    ord("U"): _update,
    ord("D"): _delete,
    ord("T"): _truncate,
}
