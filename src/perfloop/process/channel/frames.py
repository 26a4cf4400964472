"""What goes over a channel: frames.

A frame is a head of 16 bytes (length of the body, version, kind, count of messages, id of the first message;
little-endian) and a body. The body of messages is one MessagePack array of them, that of acknowledgements an
array of [first id, last id], or none where the head's count and id say it all, that of a word any one value.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from struct import Struct
from typing import Final, NoReturn

from perfloop.errors import ChannelBroken

VERSION: Final = 2
HEAD: Final = Struct("<IBBHQ")
ARRAY_HEAD: Final = Struct(">BI")
"""What begins an array of MessagePack, with a count of four bytes (0xdd)."""
MAX_COUNT: Final = 65_535
"""Messages of which one head can tell."""
FIRST_SIZE: Final = 256 * 1024
"""Bytes that a reader has room for until a larger frame comes; they take no memory before they are used."""


class Kind:
    """What a frame holds: plain numbers, as finding a member of an enum takes as long as packing a head."""

    MESSAGES: Final = 1
    MESSAGES_AGAIN: Final = 2
    """Messages that were sent before, perhaps to another worker, and were not acknowledged."""
    ACKNOWLEDGED: Final = 3
    WORD: Final = 4
    """Something between the ends themselves: it is neither counted nor acknowledged."""


Frame = tuple[int, int, int, memoryview]
"""A frame that was read: its kind, how many messages it holds (0 where it holds something else), the id of
the first, and its body, which is valid until the reader has room made for more."""


Parts = tuple[bytes, bytes]
"""The head of a frame to be written, and its body."""


def head_of(kind: int, body: bytes, *, count: int = 0, first_id: int = 0) -> bytes:
    """The head that goes before this body."""
    return HEAD.pack(len(body), VERSION, kind, count, first_id)


class FrameReader:
    """Cuts a stream of bytes into frames, without copying what has come whole.

    Args:
        max_bytes: The largest frame taken; what says more is not of this channel.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer: bytearray | mmap.mmap = mmap.mmap(-1, FIRST_SIZE, flags=mmap.MAP_PRIVATE)
        self._view = memoryview(self._buffer)
        self._begin = 0
        self._end = 0

    def room(self) -> memoryview:
        """Where the next bytes of the stream are to be written; bodies given out before are gone with it."""
        if self._begin == self._end:
            self._begin = self._end = 0
            return self._view
        if self._begin and len(self._buffer) - self._end < self._missing():
            left = self._end - self._begin
            self._view[:left] = bytes(self._view[self._begin : self._end])
            self._begin, self._end = 0, left
        if len(self._buffer) - self._end < self._missing():
            self._grow(self._end + self._missing())
        return self._view[self._end :]

    def wrote(self, count: int) -> None:
        """So many bytes were written into the room."""
        self._end += count

    def next(self) -> Frame | None:
        """The next frame, if it is there whole.

        Raises:
            ChannelBroken: This is no frame of this version.
        """
        body_at = self._begin + HEAD.size
        if self._end < body_at:
            return None
        size, version, kind, messages, first_id = HEAD.unpack_from(self._buffer, self._begin)
        if version != VERSION or size > self._max_bytes:
            self._refuse(size, version)
        end = body_at + size
        if self._end < end:
            return None
        self._begin = end
        return kind, messages, first_id, self._view[body_at:end]

    def frames(self) -> Iterator[Frame]:
        """All the frames that are there whole.

        Raises:
            ChannelBroken: These are not frames of this version.
        """
        return iter(self.next, None)

    def _refuse(self, size: int, version: int) -> NoReturn:
        if version != VERSION:
            raise ChannelBroken(
                f"the other end speaks version {version} of the channel and this one {VERSION}; run one"
                " perfloop on both ends"
            )
        raise ChannelBroken(
            f"a frame of {size} bytes came where {self._max_bytes} are the most; raise max_message_bytes"
            " of the channel's policy on both ends"
        )

    def _missing(self) -> int:
        """Bytes without which nothing more can be given out."""
        there = self._end - self._begin
        if there < HEAD.size:
            return HEAD.size - there
        (size, *_) = HEAD.unpack_from(self._buffer, self._begin)
        return max(1, HEAD.size + int(size) - there)

    def _grow(self, size: int) -> None:
        buffer = bytearray(max(size, 2 * len(self._buffer)))
        left = self._end - self._begin
        buffer[:left] = self._view[self._begin : self._end]
        self._buffer, self._view = buffer, memoryview(buffer)
        self._begin, self._end = 0, left
