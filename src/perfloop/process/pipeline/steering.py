"""Who moves which number of a stage, and when. Pure: Windows come in, numbers are read.

A stage has up to three numbers: how many calls at once, how many items a call, how long an item waits for
company. Where work waits, the Coordinator has the turn, which moves the first two one at a time. Where items
come by themselves and the sink keeps up, the size is what is queued and the linger alone is moved.
"""

from __future__ import annotations

from typing import Final, Protocol

from perfloop.control.adjustment import Adjustment, AdjustmentLog
from perfloop.control.coordinator import Coordinator
from perfloop.control.fixed import FixedSize
from perfloop.control.law import BatchLaw, ConcurrencyLaw
from perfloop.control.linger import Linger
from perfloop.control.window import Window
from perfloop.process.pipeline.sizing import ChunkSize

QUIET_WINDOWS: Final = 3
"""Windows in a row in which no work waited, after which the source is said to be the slower one."""


class Steering(Protocol):
    """The numbers of a stage."""

    @property
    def limit(self) -> int:
        """Calls under way at once."""
        ...

    @property
    def size(self) -> int:
        """Items a call, at most."""
        ...

    @property
    def linger_s(self) -> float:
        """How long the oldest item waits for others."""
        ...

    def size_of_call(self, number: int) -> int:
        """For the call of this number, from 0."""
        ...

    def observe(self, items: int, took_s: float) -> None:
        """A call ended."""
        ...

    def update(self, window: Window) -> Adjustment | None:
        """Take the Window of calls that follows the last one; `queue_length` is in items."""
        ...

    def update_linger(self, window: Window) -> Adjustment | None:
        """Take the Window of items' times in the stage, from the coming of a call's oldest item on."""
        ...

    def entries(self) -> tuple[Adjustment, ...]:
        """What was moved, in order of time."""
        ...


class ItemSteering:
    """One item after the other, so that the size is a matter of handing over alone."""

    def __init__(self, law: ConcurrencyLaw, chunk: ChunkSize, linger_s: float) -> None:
        self._law = law
        self._chunk = chunk
        self.linger_s = linger_s

    @property
    def limit(self) -> int:
        return self._law.limit

    @property
    def size(self) -> int:
        return self._chunk.size

    def size_of_call(self, number: int) -> int:
        return self._chunk.size

    def observe(self, items: int, took_s: float) -> None:
        self._chunk.observe(items, took_s)

    def update(self, window: Window) -> Adjustment | None:
        return self._law.update(window)

    def update_linger(self, window: Window) -> Adjustment | None:
        return None

    def entries(self) -> tuple[Adjustment, ...]:
        return self._law.log.entries()


class BatchSteering:
    """Many items a call.

    While the sink keeps up, a call takes all that came, at most `most`; the law of the size has its say where
    work waits. A size of one's own is the bound at all times.
    """

    def __init__(
        self, law: ConcurrencyLaw, size: BatchLaw, *, most: int, linger: Linger | None, linger_s: float
    ) -> None:
        self._law = law
        self._size = size
        self._coordinator = Coordinator(law, size)
        self._most = most
        self._linger = linger
        self._linger_s = linger_s
        self._quiet = 0
        self._moved_at_s = 0.0
        self.is_behind = True
        """Whether work waits for the sink; in doubt it does, and calls begin small."""

    @property
    def limit(self) -> int:
        return self._law.limit

    @property
    def size(self) -> int:
        return self._size.size if self.is_behind or isinstance(self._size, FixedSize) else self._most

    @property
    def linger_s(self) -> float:
        return self._linger.linger_s if self._linger is not None else self._linger_s

    def size_of_call(self, number: int) -> int:
        return self._coordinator.size_of_call(number) if self.is_behind else self.size

    def observe(self, items: int, took_s: float) -> None:
        """The laws learn from Windows alone."""

    def update(self, window: Window) -> Adjustment | None:
        self._quiet = 0 if window.is_saturated else self._quiet + 1
        if self.is_behind:
            self.is_behind = self._quiet < QUIET_WINDOWS
        else:
            self.is_behind = window.is_saturated and (window.queue_length or 0) >= self._most
        law = self._coordinator if self.is_behind else self._law
        adjustment = law.update(window)
        if adjustment is not None:
            self._moved_at_s = window.ended_at_s
        return adjustment

    def update_linger(self, window: Window) -> Adjustment | None:
        """Only of a time in which nothing else moved, and no work waited."""
        if self._linger is None or self._quiet == 0 or self._moved_at_s > window.started_at_s:
            return None
        return self._linger.update(window)

    def entries(self) -> tuple[Adjustment, ...]:
        logs: list[AdjustmentLog] = [self._law.log, self._size.log]
        if self._linger is not None:
            logs.append(self._linger.log)
        return tuple(sorted((entry for log in logs for entry in log.entries()), key=lambda entry: entry.at_s))
