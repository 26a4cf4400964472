"""What was sent and is not acknowledged yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

_decode: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class Sent:
    """Messages with consecutive ids, as they were encoded.

    Args:
        first_id: Of the first message in the body.
        count: Of messages.
        body: A MessagePack array of them.
    """

    __slots__ = ("body", "count", "first_id", "holes", "next_id", "turn")

    def __init__(self, first_id: int, count: int, body: bytes) -> None:
        self.first_id = first_id
        self.count = count
        self.body = body
        self.next_id = first_id
        """All before it are acknowledged."""
        self.holes: set[int] | None = None
        """Those acknowledged after it."""
        self.turn = 0
        """Its place among all that went over one channel: what another end has left has ids of that one."""

    @property
    def end_id(self) -> int:
        return self.first_id + self.count

    @property
    def left(self) -> int:
        """Messages that are not acknowledged."""
        left = self.first_id + self.count - self.next_id
        return left - len(self.holes) if self.holes else left

    def acknowledge(self, first_id: int, last_id: int) -> int:
        """Take these as acknowledged; how many of them were not."""
        before = self.left
        if first_id <= self.next_id:
            self.next_id = max(self.next_id, min(last_id + 1, self.end_id))
        else:
            self.holes = self.holes or set()
            self.holes.update(range(first_id, min(last_id + 1, self.end_id)))
        while self.holes:
            self.holes = {each for each in self.holes if each >= self.next_id}
            if self.next_id not in self.holes:
                break
            self.next_id += 1
        return before - self.left

    def remaining(self) -> Iterable[Sent]:
        """What is not acknowledged, in runs of consecutive ids."""
        if self.left == self.count:
            return (self,)
        messages = _decode(self.body)
        runs: list[tuple[int, list[msgspec.Raw]]] = []
        for each in range(self.next_id, self.end_id):
            if self.holes and each in self.holes:
                continue
            if not runs or each != runs[-1][0] + len(runs[-1][1]):
                runs.append((each, []))
            runs[-1][1].append(messages[each - self.first_id])
        return [Sent(first_id, len(run), _encode(run)) for first_id, run in runs]


class Unacknowledged:
    """All that was sent over one channel and not acknowledged, oldest first."""

    def __init__(self) -> None:
        self._sent: dict[int, Sent] = {}
        """By the first id that is not acknowledged: acknowledgements mostly begin there."""
        self._turns = 0
        self.messages = 0
        self.size_bytes = 0

    def add(self, sent: Sent) -> None:
        """It was sent."""
        self._turns += 1
        sent.turn = self._turns
        self._sent[sent.next_id] = sent
        self.messages += sent.left
        self.size_bytes += len(sent.body)

    def acknowledge(self, first_id: int, last_id: int) -> int:
        """Messages from the first to the last id are done; how many of them were not acknowledged before."""
        count = 0
        at = first_id
        while at <= last_id:
            sent = self._sent.pop(at, None) or self._with(at, last_id)
            if sent is None:
                break
            end_id = sent.first_id + sent.count
            if at == sent.next_id and end_id <= last_id + 1 and not sent.holes:
                count += end_id - at
                at = sent.next_id = end_id
                self.size_bytes -= len(sent.body)
                continue
            count += sent.acknowledge(at, last_id)
            at = sent.end_id
            if sent.left:
                self._sent[sent.next_id] = sent
            else:
                self.size_bytes -= len(sent.body)
        self.messages -= count
        return count

    def left(self) -> list[Sent]:
        """All that is not acknowledged, in the order in which it was sent, in runs."""
        held = sorted(self._sent.values(), key=_turn)
        return [run for sent in held for run in sent.remaining()]

    def _with(self, first_id: int, last_id: int) -> Sent | None:
        """The first that holds ids of this range, taken out; None where all of it was acknowledged before."""
        held = [
            (key, each)
            for key, each in self._sent.items()
            if each.next_id <= last_id and first_id < each.end_id
        ]
        if not held:
            return None
        key, sent = min(held)
        del self._sent[key]
        return sent


def _turn(sent: Sent) -> int:
    return sent.turn
