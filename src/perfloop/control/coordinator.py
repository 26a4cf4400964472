"""Whose turn it is: concurrency and batch size are never moved together.

Two laws on one latency drive each other off: more calls at once raise latency, so that the batch law cuts the
batch, so that a slot brings less, so that the concurrency law adds more. Most such pairs end far below the
best fixed setting (docs/explain/controllers.md). By turns each sees a sink in which it alone moves.
"""

from __future__ import annotations

from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.law import BatchLaw, ConcurrencyLaw
from perfloop.control.window import Window

TURN_S: Final = 4.0
"""How long the turn of a number lasts that has nothing to do."""


class Coordinator:
    """Joins a law of concurrency and a law of batch size; itself used like a law.

    Concurrency begins. A turn ends when its law has settled after a search; the law whose turn it is not sees
    a gap in the Windows, and takes nothing from before it for granted.
    """

    __slots__ = ("_batch", "_began_at_s", "_concurrency", "_has_searched", "_is_batch_turn")

    def __init__(self, concurrency: ConcurrencyLaw, batch: BatchLaw) -> None:
        self._concurrency = concurrency
        self._batch = batch
        self._is_batch_turn = isinstance(concurrency, Fixed)
        self._has_searched = False
        self._began_at_s: float | None = None

    @property
    def limit(self) -> int:
        return self._concurrency.limit

    @property
    def size(self) -> int:
        """The most items that a call may carry."""
        return self._batch.size

    @property
    def is_settled(self) -> bool:
        return self._concurrency.is_settled and self._batch.is_settled

    def size_of_call(self, number: int) -> int:
        """The size for the call of this number, from 0; always the same while concurrency has its turn."""
        return self._batch.size_of_call(number) if self._is_batch_turn else self._batch.size

    def update(self, window: Window) -> Adjustment | None:
        """Give the Window to the law whose turn it is; the Adjustment, if its number moved."""
        if self._began_at_s is None:
            self._began_at_s = window.started_at_s
        law = self._batch if self._is_batch_turn else self._concurrency
        adjustment = law.update(window)
        self._has_searched = self._has_searched or not law.is_settled
        is_over = self._has_searched or window.ended_at_s >= self._began_at_s + TURN_S
        if law.is_settled and is_over and not self._is_alone():
            self._is_batch_turn = not self._is_batch_turn
            self._has_searched = False
            self._began_at_s = None
        return adjustment

    def entries(self) -> tuple[Adjustment, ...]:
        """What both laws wrote down, in order of time."""
        logs: tuple[AdjustmentLog, ...] = (self._concurrency.log, self._batch.log)
        return tuple(sorted((entry for log in logs for entry in log.entries()), key=lambda entry: entry.at_s))

    def _is_alone(self) -> bool:
        return isinstance(self._concurrency, Fixed) or isinstance(self._batch, FixedSize)
