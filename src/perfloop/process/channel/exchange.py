"""Both halves of one end of a channel, without a socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import msgspec

from perfloop.errors import ChannelBroken
from perfloop.process.channel.frames import ARRAY_HEAD, Frame, FrameReader, Kind, Parts, head_of
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.receiving import Batch, Receiving
from perfloop.process.channel.sending import Sending
from perfloop.process.channel.statistics import ChannelStatistics

_decode: Final = msgspec.msgpack.Decoder().decode
_encode: Final = msgspec.msgpack.Encoder().encode
KEPT_BYTES: Final = 6 * 1024 * 1024
"""More than a policy lets be under way, where it says nothing else."""
GONE: Final = "the other end of the channel is gone; what is not acknowledged is in left()"


@cache
def _hold_heap() -> None:
    """Have the C library keep what messages leave free.

    glibc gives the heap's end back to the kernel once 128 kB are free there, and takes it again page by page,
    with a fault for each: with messages of 1 kB that was half of the time of both ends. By its own rule a
    block that was mapped and is freed raises that bound to twice the block, for the whole process.
    """
    bytes(KEPT_BYTES // 2)


def ignore(word: Any) -> None:
    """Words are not listened to."""


class Exchange:
    """What one end has sent and taken; who holds the socket moves the bytes.

    Args:
        policy: The bounds.
        message_type: What msgspec makes of each message that comes.
        first_id: Of the first message sent.
        on_word: Is told each word of the other end, when it is read.
        on_acknowledged: Is told the first and the last id of each range that the other end has done.
    """

    def __init__(
        self,
        policy: ChannelPolicy,
        message_type: Any,
        first_id: int,
        on_word: Callable[[Any], None],
        on_acknowledged: Callable[[int, int], None] | None = None,
    ) -> None:
        _hold_heap()
        largest = policy.max_message_bytes + policy.batch_bytes + ARRAY_HEAD.size
        self.reader = FrameReader(max_bytes=largest)
        self.sending = Sending(policy, first_id=first_id)
        self.receiving = Receiving(message_type)
        self.batches: deque[Batch] = deque()
        """That came and were not asked for yet; as many as the other end's policy lets be under way."""
        self._on_word = on_word
        self._on_acknowledged = on_acknowledged

    def came(self, count: int) -> None:
        """So many bytes were written into the reader's room; take all that is whole.

        Raises:
            ChannelBroken: They are not of this channel.
        """
        self.reader.wrote(count)
        self.take()

    def take(self) -> None:
        """Take all that is there whole, so that acknowledgements behind messages are known.

        Raises:
            ChannelBroken: It is not of this channel.
        """
        for frame in self.reader.frames():
            batch = self._take(frame)
            if batch is not None:
                self.batches.append(batch)

    def batch(self) -> Batch | None:
        """The next that is there whole, if one is.

        A batch is decoded when it is asked for: the messages of one frame stay in the processor's cache
        until they are done, those of all that has come would not.

        Raises:
            ChannelBroken: What came is not of this channel.
        """
        if self.batches:
            return self.batches.popleft()
        while (frame := self.reader.next()) is not None:
            batch = self._take(frame)
            if batch is not None:
                return batch
        return None

    def word(self, word: Any) -> Parts:
        """The frame of a word."""
        body = _encode(word)
        return head_of(Kind.WORD, body), body

    def statistics(self) -> ChannelStatistics:
        """What this end did."""
        sending = self.sending
        return ChannelStatistics(
            sent=sending.sent,
            frames=sending.frames,
            unacknowledged=sending.under_way.messages,
            unacknowledged_bytes=sending.under_way.size_bytes,
            waiting=sending.waiting,
            received=self.receiving.received,
            acknowledged=self.receiving.acknowledged,
        )

    def _take(self, frame: Frame) -> Batch | None:
        kind, count, first_id, body = frame
        if kind == Kind.MESSAGES or kind == Kind.MESSAGES_AGAIN:
            return self.receiving.batch(first_id, count, body, is_again=kind == Kind.MESSAGES_AGAIN)
        if kind == Kind.ACKNOWLEDGED:
            for first, last in self.sending.acknowledged(first_id, count, body):
                if self._on_acknowledged is not None:
                    self._on_acknowledged(first, last)
        elif kind == Kind.WORD:
            self._on_word(_decode(body))
        else:
            raise ChannelBroken(f"a frame of an unknown kind came: {kind}")
        return None
