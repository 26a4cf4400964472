"""What happened in a fleet, and why; the newest are kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from perfloop.model.value import Value

KEPT: Final = 2000


class Event(Value, frozen=True, kw_only=True):
    """One thing that happened."""

    number: int
    """Counts up from 1."""
    at_s: float
    """Since 1970."""
    kind: str
    """What happened, in a word: started, ready, ended, restarted, gave-up, hung, scaled, …"""
    name: str
    """Of the worker, of its group, or `fleet`."""
    reason: str
    before: Mapping[str, object] = {}
    after: Mapping[str, object] = {}

    def text(self) -> str:
        """In one line, without its time."""
        told = [f"{self.kind}: {self.reason}" if self.reason else self.kind]
        told += [_numbers(side) for side in (self.before, self.after) if side]
        return "; ".join(told)


class EventLog:
    """The events of one fleet.

    Args:
        on_event: Is told each, as it happens.
        clock: Seconds since 1970.
    """

    def __init__(
        self, on_event: Callable[[Event], None] | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._on_event = on_event
        self._clock = clock
        self._number = 0
        self.listeners: list[Callable[[Event], None]] = []

    def add(
        self,
        kind: str,
        name: str,
        reason: str = "",
        *,
        before: Mapping[str, object] | None = None,
        after: Mapping[str, object] | None = None,
    ) -> None:
        """Note an event."""
        self._number += 1
        event = Event(
            number=self._number,
            at_s=self._clock(),
            kind=kind,
            name=name,
            reason=reason,
            before=before or {},
            after=after or {},
        )
        self._events.append(event)
        for told in (self._on_event, *self.listeners):
            if told is not None:
                told(event)

    def newest(self, count: int = KEPT) -> tuple[Event, ...]:
        """The last events, oldest first."""
        return tuple(self._events)[-count:] if count else ()


def _numbers(side: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in side.items())
