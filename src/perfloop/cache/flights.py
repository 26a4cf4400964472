"""Loads under way: one for each key, found by those who come while it runs, detached by an invalidation.

Pure; the tier that owns the register holds its lock around every call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple


class Flight:
    """One load under way, from the tier's `begin` until its `store` or `end`."""

    __slots__ = ("birth", "detached", "future", "key", "overtaken", "tags")

    def __init__(self, key: str, birth: int, tags: tuple[str, ...]) -> None:
        self.key = key
        self.birth = birth
        """The tier's number before the load began."""
        self.tags = tags
        self.detached = False
        """Its key was invalidated or set: nobody finds it any more, and its value will not be kept."""
        self.overtaken = False
        """A tag of its value may have been invalidated while it was under way."""
        self.future: object = None
        """The cache's own: what its callers wait on."""

    def serves(self, number: int) -> bool:
        """Whether a caller that boarded at this number may have the value; asked after `store` or `end`.

        The leader always may. No to a caller that may have come after the invalidation of a tag that only the
        value named; of a detached flight, to all who came after any invalidation of a tag, since the tags'
        numbers are not kept for it. Whoever gets a no begins anew.
        """
        return number == self.birth or not (self.overtaken or self.detached)


class Boarding(NamedTuple):
    """A caller's place in a load: the one who leads loads, the others wait."""

    flight: Flight
    leads: bool
    number: int
    """The tier's number when the caller came; for `Flight.serves`."""


class Flights:
    """The register: at most one flight a key."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        # A dict finds its first key by passing over all that were taken out before it.
        self._flights: OrderedDict[str, Flight] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flights)

    def find(self, key: str) -> Flight | None:
        return self._flights.get(key)

    def add(self, flight: Flight) -> None:
        self._flights[flight.key] = flight

    def detach(self, key: str) -> None:
        """Let later callers start a flight of their own."""
        flight = self._flights.pop(key, None)
        if flight is not None:
            flight.detached = True

    def detach_all(self) -> None:
        """Let all later callers start flights of their own."""
        for flight in self._flights.values():
            flight.detached = True
        self._flights.clear()

    def land(self, flight: Flight) -> bool:
        """Take the flight out; False where it was detached or has landed before."""
        if self._flights.get(flight.key) is not flight:
            return False
        del self._flights[flight.key]
        return True

    @property
    def oldest_birth(self) -> int | None:
        """Births only grow, and the dict keeps its order."""
        for flight in self._flights.values():
            return flight.birth
        return None
