"""One end's half of a channel that sends messages, without a socket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from perfloop.errors import ChannelBroken, InvalidInput
from perfloop.process.channel.frames import ARRAY_HEAD, Kind, Parts, head_of
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.unacknowledged import Sent, Unacknowledged

_encode: Final = msgspec.msgpack.Encoder().encode
_ranges: Final = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


class Sending:
    """Gathers messages into frames, and holds them until they are acknowledged.

    A message is encoded when it is given: what is done to it later does not reach the other end, and one
    that cannot be encoded fails there. A frame goes out when it is full, or when nothing else is under way,
    or when its first message has waited as long as the policy says: so a lone message goes at once, and a
    stream makes batches by itself, as large as the time between acknowledgements.

    Args:
        policy: The bounds.
        first_id: Of the first message; ids count up from there.
    """

    def __init__(self, policy: ChannelPolicy, *, first_id: int = 1) -> None:
        self.policy = policy
        self.under_way = Unacknowledged()
        self.sent = 0
        self.frames = 0
        self.next_id = first_id
        """Of the first message in the frame that is being filled."""
        self._batch_bytes = policy.batch_bytes
        self._room = self._most = policy.max_unacknowledged
        self._most_bytes = policy.max_unacknowledged_bytes
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        # A bytearray keeps its room only while half of it is in use, and would grow anew with every frame:
        # what is never sent, at its begin, has it kept.
        self._unused_bytes = 3 * policy.batch_bytes
        self._scratch = bytearray()
        """Filled with what is unused when the first message comes: many ends only answer, with words."""
        self._full_at = self._unused_bytes + policy.batch_bytes
        self._alone: bytes | None = None
        """A large message that is a frame by itself."""
        self._is_special = True
        """Whether the next message is the first, or comes after one that was a frame by itself."""
        self.waiting = 0
        """Messages in the frame that is being filled."""

    @property
    def is_full(self) -> bool:
        """Whether as much is under way as may be."""
        held = self.under_way
        return held.messages >= self._most or held.size_bytes >= self._most_bytes

    def put(self, message: Any) -> bool:
        """Add a message to the frame; whether it is full, and has to go before more is put into it.

        Raises:
            InvalidInput: It cannot be encoded, or is too large.
        """
        if self._is_special and self._is_alone(message):
            return True
        scratch = self._scratch
        size = len(scratch)
        try:
            self._encode_into(message, scratch, -1)
        except (TypeError, ValueError, OverflowError) as error:
            del scratch[size:]
            raise _refused(message, error) from error
        self.waiting += 1
        if len(scratch) < self._full_at and self.waiting < self._room:
            return False
        if len(scratch) - size >= self._batch_bytes:
            self._check(len(scratch) - size)
            self._is_special = True
        return True

    def take(self) -> Parts:
        """The frame that was filled, which counts as sent from here on."""
        sent = self._cut()
        self.under_way.add(sent)
        self._room = self._most - self.under_way.messages
        return self._parts(sent, Kind.MESSAGES)

    def again(self, left: Iterable[Sent]) -> list[Parts]:
        """Frames of what another end has left; they keep their ids."""
        frames = []
        for sent in left:
            self.under_way.add(sent)
            frames.append(self._parts(sent, Kind.MESSAGES_AGAIN))
        return frames

    def acknowledged(self, first_id: int, count: int, body: memoryview) -> Sequence[tuple[int, int]]:
        """The other end has done messages; the first and the last id of each range of them.

        Raises:
            ChannelBroken: The body is no acknowledgement.
        """
        if count:
            self.under_way.acknowledge(first_id, first_id + count - 1)
            return ((first_id, first_id + count - 1),)
        try:
            ranges = _ranges(body)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ChannelBroken(f"this is no acknowledgement: {error}") from error
        for first_id, last_id in ranges:
            self.under_way.acknowledge(first_id, last_id)
        return ranges

    def left(self) -> list[Sent]:
        """All that is not acknowledged, even what was not sent yet, in the order in which it was given."""
        if self.waiting:
            self.under_way.add(self._cut())
        return self.under_way.left()

    def _is_alone(self, message: Any) -> bool:
        """Whether this large message is the next frame, as the one before it was.

        Large ones follow one another mostly; encoded as they are sent, they are not copied once more.
        """
        self._is_special = False
        if not self._scratch:
            self._scratch = bytearray(self._unused_bytes)
            return False
        if self.waiting:
            return False
        try:
            body = _encode([message])
        except (TypeError, ValueError, OverflowError) as error:
            raise _refused(message, error) from error
        if len(body) < self._batch_bytes:
            return False
        self.waiting, self._alone = 1, body
        self._check(len(body) - 1)
        self._is_special = True
        return True

    def _check(self, message_bytes: int) -> None:
        """Take the last message out of the frame again, if it is too large."""
        if message_bytes <= self.policy.max_message_bytes:
            return
        self.waiting -= 1
        if self._alone is None:
            del self._scratch[len(self._scratch) - message_bytes :]
        self._alone = None
        raise InvalidInput(
            f"a message of {message_bytes} bytes cannot be sent, {self.policy.max_message_bytes} are the"
            " most; raise max_message_bytes of the channel's policy on both ends"
        )

    def _cut(self) -> Sent:
        if self._alone is not None:
            sent, self._alone = Sent(self.next_id, 1, self._alone), None
        else:
            with memoryview(self._scratch) as view:
                body = ARRAY_HEAD.pack(0xDD, self.waiting) + view[self._unused_bytes :]
            del self._scratch[self._unused_bytes :]
            sent = Sent(self.next_id, self.waiting, body)
        self.next_id += sent.count
        self.waiting = 0
        return sent

    def _parts(self, sent: Sent, kind: int) -> Parts:
        self.sent += sent.count
        self.frames += 1
        return head_of(kind, sent.body, count=sent.count, first_id=sent.first_id), sent.body


def _refused(message: Any, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"a message of type {type(message).__name__} cannot be sent: {error}; send what MessagePack"
        " has, or values of msgspec"
    )
