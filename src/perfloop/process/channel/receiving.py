"""One end's half of a channel that takes messages, without a socket."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from perfloop.errors import ChannelBroken
from perfloop.process.channel.frames import MAX_COUNT, Kind, Parts, head_of

_encode: Final = msgspec.msgpack.Encoder().encode


class Batch:
    """Messages that came in one frame, in the order in which they were sent.

    Args:
        first_id: Of the first; the others follow it one by one. A message keeps its id when it is sent again.
        messages: At least one.
        is_again: Whether they were sent before, so that some may have been done already.
    """

    __slots__ = ("first_id", "is_again", "messages")

    def __init__(self, first_id: int, messages: list[Any], *, is_again: bool) -> None:
        self.first_id = first_id
        self.messages = messages
        self.is_again = is_again


class Receiving:
    """Decodes what comes, and gathers what was done into ranges.

    Args:
        message_type: What msgspec makes of each message.
    """

    def __init__(self, message_type: Any = Any) -> None:
        self._decode = msgspec.msgpack.Decoder(list[message_type]).decode
        self._done: list[list[int]] = []
        self.received = 0
        self.acknowledged = 0

    def batch(self, first_id: int, count: int, body: memoryview, *, is_again: bool) -> Batch:
        """The messages of a frame.

        Raises:
            ChannelBroken: They are not of the type of this channel.
        """
        try:
            messages = self._decode(body)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ChannelBroken(f"a message is not of the type of this channel: {error}") from error
        if len(messages) != count or not messages:
            raise ChannelBroken(f"a frame has {len(messages)} messages where its head says {count}")
        self.received += count
        return Batch(first_id, messages, is_again=is_again)

    def done(self, first_id: int, count: int = 1) -> None:
        """So many messages from this id were done; the other end is told by the next acknowledgement."""
        if not count:
            return
        self.acknowledged += count
        ranges = self._done
        if ranges and ranges[-1][1] + 1 == first_id:
            ranges[-1][1] += count
        else:
            ranges.append([first_id, first_id + count - 1])

    def acknowledgement(self) -> Parts | None:
        """The frame that tells what was done since the last; None where nothing was."""
        if not self._done:
            return None
        done, self._done = self._done, []
        first_id, last_id = done[0]
        count = last_id - first_id + 1
        if len(done) == 1 and count <= MAX_COUNT:
            return head_of(Kind.ACKNOWLEDGED, b"", count=count, first_id=first_id), b""
        body = _encode(done)
        return head_of(Kind.ACKNOWLEDGED, body), body
