"""Which worker gets a message: that of its key while one of the key is under way, or the one with the fewest.

Joining the shortest queue needs no knowledge of how long messages take, and a worker that is slow, or has a
slow message in hand, gets fewer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar


class Seat(Protocol):
    """A worker, as far as the choice sees it."""

    @property
    def under_way(self) -> int:
        """Messages that it has and did not acknowledge."""

    @property
    def has_room(self) -> bool:
        """Whether it takes another one."""


SeatT = TypeVar("SeatT", bound=Seat)


class Dispatch(Generic[SeatT]):
    """The keys that are under way, and where; it decides and remembers, and sends nothing.

    Args:
        is_serial: Whether a key may have one message under way and no more, for workers that do several at
            once.
    """

    def __init__(self, *, is_serial: bool = False) -> None:
        self._is_serial = is_serial
        self._seats: dict[Hashable, SeatT] = {}
        self._counts: dict[Hashable, int] = {}
        self._keys: dict[int, Hashable] = {}
        self._turn = 0

    def choose(self, seats: Iterable[SeatT], key: Hashable | None) -> SeatT | None:
        """Who gets the next message of this key, or of none; None where it has to wait."""
        held = None if key is None else self._seats.get(key)
        if held is not None:
            return held if held.has_room and not self._is_serial else None
        free = [each for each in seats if each.has_room]
        if not free:
            return None
        self._turn += 1
        turn = self._turn % len(free)
        return min(free[turn:] + free[:turn], key=_queue)

    def sent(self, message_id: int, key: Hashable, seat: SeatT) -> None:
        """A message with a key went to this worker."""
        self._keys[message_id] = key
        self._seats[key] = seat
        self._counts[key] = self._counts.get(key, 0) + 1

    def done(self, first_id: int, last_id: int) -> None:
        """Messages were acknowledged, or given up."""
        if not self._keys:
            return
        for message_id in range(first_id, last_id + 1):
            key = self._keys.pop(message_id, None)
            if key is not None:
                self._release(key)

    def moved(self, message_ids: Iterable[int], seat: SeatT) -> None:
        """These messages are with another worker now."""
        for message_id in message_ids:
            key = self._keys.get(message_id)
            if key is not None:
                self._seats[key] = seat

    def is_keyed(self, message_id: int) -> bool:
        """Whether a message that is under way has a key."""
        return message_id in self._keys

    def _release(self, key: Hashable) -> None:
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key], self._seats[key]


def _queue(seat: SeatT) -> int:
    return seat.under_way
