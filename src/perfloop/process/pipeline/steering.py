"""Who moves which number of a stage, and when. Pure: Windows come in, numbers are read.

A stage has up to three numbers: how many calls at once, how many items a call, how long an item waits for
company. In closed loop, where the source waits for the sink, the Coordinator moves the first two, one at a
time. In open loop, where items come by themselves, a call takes what is queued: small batches would make of a
short backlog a long one. There, with a budget, the limit grows while calls are late and items over the
budget, and otherwise the linger is moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from perfloop.control.adjustment import Adjustment, AdjustmentLog
from perfloop.control.batch_fit import BatchFit
from perfloop.control.coordinator import Coordinator
from perfloop.control.fixed import FixedSize
from perfloop.control.law import BatchLaw, ConcurrencyLaw
from perfloop.control.linger import Linger
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.search_hold import SearchHold
from perfloop.control.slots import Slots
from perfloop.control.window import Window
from perfloop.process.pipeline.sizing import ChunkSize

HELD: Final = 0.5
"""Share of a Window with a full queue from which on the sink is slower than the source."""
FREE_WINDOWS: Final = 3
"""Windows in a row without, after which items come by themselves again."""


class Steering(Protocol):
    """The numbers of a stage."""

    @property
    def pace(self) -> AdjustmentPolicy:
        """When a Window of calls is due."""
        ...

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

    def observe(self, items: int, took_s: float, overhead_s: float) -> None:
        """A call ended: its time in the function, and that of handing it over and back."""
        ...

    def update(self, window: Window, held_ratio: float) -> Adjustment | None:
        """Take the Window of calls that follows the last one.

        `held_ratio` is the share of it for which the queue was full, so that whoever fills it had to wait.
        """
        ...

    def update_linger(self, window: Window, *, is_late: bool) -> Adjustment | None:
        """Take the Window of items' times in the stage, from the coming of a call's oldest item on.

        `is_late` says that most of its calls had to wait for a slot.
        """
        ...

    def entries(self) -> tuple[Adjustment, ...]:
        """What was moved, in order of time."""
        ...

    def untold(self) -> tuple[Adjustment, ...]:
        """What was moved since the last call, in order of time."""
        ...


class ItemSteering:
    """One item after the other, so that the size is a matter of handing over alone."""

    def __init__(self, law: ConcurrencyLaw, chunk: ChunkSize, linger_s: float) -> None:
        self._law = law
        self._chunk = chunk
        self.linger_s = linger_s

    @property
    def pace(self) -> AdjustmentPolicy:
        return self._law.policy

    @property
    def limit(self) -> int:
        return self._law.limit

    @property
    def size(self) -> int:
        return self._chunk.size

    def size_of_call(self, number: int) -> int:
        return self._chunk.size

    def observe(self, items: int, took_s: float, overhead_s: float) -> None:
        self._chunk.observe(items, took_s, overhead_s)

    def update(self, window: Window, held_ratio: float) -> Adjustment | None:
        return self._law.update(window)

    def update_linger(self, window: Window, *, is_late: bool) -> Adjustment | None:
        return None

    def entries(self) -> tuple[Adjustment, ...]:
        return self._law.log.entries()

    def untold(self) -> tuple[Adjustment, ...]:
        return self._law.log.untold()


class BatchSteering:
    """Many items a call.

    In open loop a call takes all that came, at most `most`. A size of one's own is the bound at all times.
    """

    def __init__(
        self,
        law: ConcurrencyLaw,
        size: BatchLaw,
        *,
        most: int,
        linger: Linger | float,
        slots: Slots | None = None,
    ) -> None:
        self._law = law
        self._size = size
        self._coordinator = Coordinator(law, size)
        self._most = most
        self._linger = linger
        self._slots = slots
        self._free = 0
        self._has_looked = self._has_taken_over = False
        self._open_size = 0
        self._moved_at_s = 0.0
        self.is_behind = True
        """Whether the source waits for the sink; until the first Window it does, and calls are small."""

    @property
    def pace(self) -> AdjustmentPolicy:
        return self._law.policy

    @property
    def limit(self) -> int:
        return self._law.limit if self.is_behind or self._slots is None else self._slots.limit

    @property
    def size(self) -> int:
        return self._size.size if self.is_behind or isinstance(self._size, FixedSize) else self._most

    @property
    def linger_s(self) -> float:
        return self._linger.linger_s if isinstance(self._linger, Linger) else self._linger

    def size_of_call(self, number: int) -> int:
        return self._coordinator.size_of_call(number) if self.is_behind else self.size

    def observe(self, items: int, took_s: float, overhead_s: float) -> None:
        """The laws learn from Windows alone."""

    def update(self, window: Window, held_ratio: float) -> Adjustment | None:
        was_behind = self.is_behind
        self._free = 0 if held_ratio >= HELD else self._free + 1
        if self._free in (0, FREE_WINDOWS) or not self._has_looked:
            self.is_behind = self._free == 0
        self._has_looked = True
        if self.is_behind and not was_behind:
            self._take_over(window)
        self._open_size = 0 if self.is_behind else round(window.items / max(1, window.completions))
        if self.is_behind:
            return self._noted(self._coordinator.update(window))
        if self._slots is None:
            return self._noted(self._law.update(window))
        if was_behind:
            self._slots.limit = max(self._slots.limit, self._law.limit)
            self._moved_at_s = window.ended_at_s
        return None

    def _take_over(self, window: Window) -> None:
        """Let the laws of closed loop begin, the first time, where open loop ended, not with small calls."""
        if self._has_taken_over:
            return
        self._has_taken_over = True
        law, size, reason = self._law, self._size, "as it was while items came by themselves"
        if self._slots is not None and isinstance(law, SearchHold) and self._slots.limit > law.limit:
            self._noted(law.begin_at(self._slots.limit, window, reason))
        if isinstance(size, BatchFit) and self._open_size > size.size:
            self._noted(size.begin_at(self._open_size, window, reason))

    def update_linger(self, window: Window, *, is_late: bool) -> Adjustment | None:
        """Only of a time in open loop in which nothing else moved. Slots first: too few hide the rest."""
        if self.is_behind or self._moved_at_s > window.started_at_s:
            return None
        if self._slots is not None:
            adjustment = self._noted(self._slots.update(window, is_late=is_late))
            if adjustment is not None or self._slots.is_on_trial:
                return adjustment
        return self._linger.update(window) if isinstance(self._linger, Linger) else None

    def entries(self) -> tuple[Adjustment, ...]:
        return _in_order(entry for log in self._logs() for entry in log.entries())

    def untold(self) -> tuple[Adjustment, ...]:
        return _in_order(entry for log in self._logs() for entry in log.untold())

    def _logs(self) -> list[AdjustmentLog]:
        others = [law.log for law in (self._slots, self._linger) if isinstance(law, Slots | Linger)]
        return [self._law.log, self._size.log, *others]

    def _noted(self, adjustment: Adjustment | None) -> Adjustment | None:
        if adjustment is not None:
            self._moved_at_s = adjustment.at_s
        return adjustment


def _in_order(entries: Iterable[Adjustment]) -> tuple[Adjustment, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.at_s))
