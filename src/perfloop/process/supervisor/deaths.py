"""Messages that end their workers: counted, and given up before they end many more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perfloop.process.channel.unacknowledged import Sent


class Deaths:
    """How often each message that is under way has ended a worker.

    Which message a worker had in hand is known where it came again: the worker says so then. The first death
    of a message is therefore not counted by its id, and all that come after it are.

    Args:
        most: Deliveries of a message, after which it is given up.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._deaths: dict[int, int] = {}

    def died(self, in_hand: int | None, left: Sequence[Sent]) -> int | None:
        """A worker died with this message in hand; the message, where it is to be given up."""
        if in_hand is None or not any(_holds(sent, in_hand) for sent in left):
            return None
        deaths = self._deaths[in_hand] = self._deaths.get(in_hand, 1) + 1
        if deaths < self._most:
            return None
        del self._deaths[in_hand]
        return in_hand

    def done(self, first_id: int, last_id: int) -> None:
        """Messages were done after all."""
        for message_id in [each for each in self._deaths if first_id <= each <= last_id]:
            del self._deaths[message_id]


def without(left: Sequence[Sent], message_id: int) -> tuple[list[Sent], Any]:
    """The rest, and the message that was taken out of it."""
    rest: list[Sent] = []
    message: Any = None
    for sent in left:
        if _holds(sent, message_id):
            message = msgspec.msgpack.decode(sent.body)[message_id - sent.first_id]
            sent.acknowledge(message_id, message_id)
            rest += sent.remaining() if sent.left else ()
        else:
            rest.append(sent)
    return rest, message


def _holds(sent: Sent, message_id: int) -> bool:
    is_done = message_id < sent.next_id or message_id in (sent.holes or ())
    return sent.first_id <= message_id < sent.end_id and not is_done
