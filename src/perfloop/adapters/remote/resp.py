"""The protocol of Redis, versions 2 and 3: commands to bytes, and bytes to replies.

Written here because the tier's speed is decided here: over asyncio redis-py takes 40 µs more a round trip.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

Reply: TypeAlias = "bytes | int | float | ServerError | list[Reply] | Push | None"

_CRLF: Final = b"\r\n"


class ServerError(str):
    """What the server answered instead of a reply: a word in capitals, then a sentence."""

    __slots__ = ()


class Push(list["Reply"]):
    """A message that answers no command."""

    __slots__ = ()


class NotRedis(ValueError):
    """The bytes are not of this protocol."""


class _More(Exception):
    """More bytes are needed, at least up to `size`."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def pack(*words: bytes | str | int) -> bytes:
    """One command, ready to be sent."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else as_bytes(str(word))
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def as_bytes(text: str) -> bytes:
    """Also of text that is no Unicode: a key may hold anything."""
    return text.encode("utf-8", "surrogatepass")


def as_text(raw: bytes) -> str:
    """The reverse of `as_bytes`."""
    return raw.decode("utf-8", "surrogatepass")


class Parser:
    """Feeds on bytes as they come, and yields whole replies."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 1
        self._items: list[Reply] = []
        self._left = 0

    def feed(self, received: bytes) -> Iterable[Reply]:
        """The replies that are whole by now.

        Raises:
            NotRedis: The connection is of no more use.
        """
        self._size += len(received)
        self._parts.append(received)
        if self._size < self._needed:
            return ()
        # Joined only once enough is there, so that a large value is not copied for each piece of it.
        buffer = received if len(self._parts) == 1 else b"".join(self._parts)
        replies: list[Reply] = []
        at, self._needed = 0, 1
        try:
            while at < len(buffer):
                if self._left:
                    item, at = _parse(buffer, at)
                    self._add(item, replies)
                elif buffer.startswith(b"*", at):
                    at = self._begin_array(buffer, at, replies)
                else:
                    reply, at = _parse(buffer, at)
                    replies.append(reply)
        except _More as more:
            self._needed = more.size - at
        except RecursionError:
            raise NotRedis("arrays in arrays without end") from None
        rest = buffer[at:]
        self._parts = [rest] if rest else []
        self._size = len(rest)
        return replies

    def _begin_array(self, buffer: bytes, at: int, replies: list[Reply]) -> int:
        """Its items are kept as they come: what is large comes in pieces, and each is to be read once."""
        end = buffer.find(_CRLF, at)
        if end < 0:
            raise _More(len(buffer) + 1)
        try:
            count = int(buffer[at + 1 : end])
        except ValueError as error:
            raise NotRedis(f"{buffer[at:end]!r} is no reply of Redis") from error
        self._items = []
        self._left = max(0, count)
        if not self._left:
            replies.append(None if count < 0 else self._items)
        return end + 2

    def _add(self, item: Reply, replies: list[Reply]) -> None:
        self._items.append(item)
        self._left -= 1
        if not self._left:
            replies.append(self._items)


def _parse(buffer: bytes, at: int) -> tuple[Reply, int]:
    end = buffer.find(_CRLF, at)
    if end < 0:
        raise _More(len(buffer) + 1)
    kind, line = buffer[at : at + 1], buffer[at + 1 : end]
    at = end + 2
    try:
        if kind == b"$":
            return _parse_bulk(buffer, int(line), at)
        if kind == b"*":
            return _parse_items(buffer, int(line), at)
        if kind in b">~":
            items, at = _parse_items(buffer, int(line), at)
            return (Push(items or ()) if kind == b">" else items), at
        return _parse_rare(buffer, kind, line, at)
    except ValueError as error:
        raise NotRedis(f"{buffer[end - len(line) - 1 : end]!r} is no reply of Redis") from error


def _parse_rare(buffer: bytes, kind: bytes, line: bytes, at: int) -> tuple[Reply, int]:
    if kind == b"%":
        return _parse_items(buffer, 2 * int(line), at)
    if kind in b"!=":
        bulk, at = _parse_bulk(buffer, int(line), at)
        return (ServerError(as_text(bulk or b"")) if kind == b"!" else bulk), at
    return _parse_line(kind, line), at


def _parse_bulk(buffer: bytes, size: int, at: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    end = at + size
    if len(buffer) < end + 2:
        raise _More(end + 2)
    return buffer[at:end], end + 2


def _parse_items(buffer: bytes, count: int, at: int) -> tuple[list[Reply] | None, int]:
    if count < 0:
        return None, at
    items: list[Reply] = []
    for _ in range(count):
        item, at = _parse(buffer, at)
        items.append(item)
    return items, at


def _parse_line(kind: bytes, line: bytes) -> Reply:
    if kind in b":(":
        return int(line)
    if kind == b"+":
        return line
    if kind == b"-":
        return ServerError(line.decode("utf-8", "replace"))
    if kind == b"_":
        return None
    if kind == b"#":
        return int(line == b"t")
    if kind == b",":
        return float(line)
    raise ValueError(kind)
