"""What the watch of a group's memory asks of whoever keeps the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from perfloop.model.value import Value
from perfloop.process.leaks.examination import Examination
from perfloop.process.leaks.floors import MemorySample


class Seat(Value, frozen=True, kw_only=True):
    """A worker that runs."""

    name: str
    pid: int
    under_way: int
    handled: int
    """Messages, by this process."""


class Keeper(Protocol):
    """Who keeps the workers, as their memory's watch needs it."""

    def seats(self) -> Sequence[Seat]:
        """The workers that are ready."""

    async def memory(self, worker: str) -> MemorySample | None:
        """What a worker holds; None where it does not answer in time."""

    async def trim(self, worker: str) -> MemorySample | None:
        """Have it collect garbage and give back what is free; what it holds then."""

    async def examine(self, worker: str, for_s: float) -> Examination | None:
        """Have it look for the lines that grow; None where it does not answer in time."""

    async def recycle(self, worker: str, reason: str) -> None:
        """Put a new process in its place, without losing a message.

        Raises:
            PerfloopError: The new one did not become ready.
        """

    def note(
        self, kind: str, worker: str, reason: str, before: Mapping[str, object], after: Mapping[str, object]
    ) -> None:
        """Write down what was done."""
