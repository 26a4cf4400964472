"""What the remote tier has still to be told: kept until it was, so that no fault on the way loses it.

Pure; the link that owns it holds its lock around every call.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from perfloop.model.remote import EVERYTHING, Lease

NameT = TypeVar("NameT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What was to be told at one moment: names with the numbers under which they were noted."""

    keys: Mapping[str, int]
    tags: Mapping[str, int]
    leases: Mapping[Lease, int]

    def __bool__(self) -> bool:
        return bool(self.keys or self.tags or self.leases)


class Unsent:
    """Keys and tags to invalidate, and leases to end."""

    __slots__ = ("_keys", "_leases", "_numbers", "_tags")

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._tags: dict[str, int] = {}
        self._leases: dict[Lease, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Keys and tags; a lease that is not ended runs out."""
        return len(self._keys) + len(self._tags)

    def add(
        self, keys: Iterable[str] = (), tags: Iterable[str] = (), leases: Iterable[Lease] = ()
    ) -> Message:
        """Note these; the message tells of them alone."""
        number = next(self._numbers)
        message = Message(
            keys=dict.fromkeys(keys, number),
            tags=dict.fromkeys(tags, number),
            leases=dict.fromkeys(leases, number),
        )
        self._keys.update(message.keys)
        self._tags.update(message.tags)
        self._leases.update(message.leases)
        return message

    def all(self) -> Message:
        """All that is noted."""
        return Message(keys=dict(self._keys), tags=dict(self._tags), leases=dict(self._leases))

    @property
    def is_empty(self) -> bool:
        return not (self._keys or self._tags or self._leases)

    def remove(self, message: Message) -> None:
        """It was told. What was noted again meanwhile stays: it is to be told again."""
        _remove(self._keys, message.keys)
        _remove(self._tags, message.tags)
        _remove(self._leases, message.leases)

    def limit(self, most: int) -> None:
        """Let one invalidation of everything stand for more than so many; the oldest leases run out."""
        if len(self) > most:
            self.give_up()
        for lease in list(self._leases)[: max(0, len(self._leases) - most)]:
            del self._leases[lease]

    def give_up(self) -> None:
        """Forget what it is, and let one invalidation of everything stand for it."""
        self._keys.clear()
        self._tags.clear()
        self._leases.clear()
        self.add(tags=(EVERYTHING,))


def claimable(keys: Iterable[str], token: str) -> list[Lease]:
    """The leases that a call may have claimed; none where it had no token."""
    return [Lease(key=key, token=token, birth=0) for key in keys] if token else []


def _remove(noted: dict[NameT, int], told: Mapping[NameT, int]) -> None:
    for name, number in told.items():
        if noted.get(name) == number:
            del noted[name]
