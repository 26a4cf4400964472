"""What a law did, why, and what came of it."""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

import msgspec

from perfloop.control.window import Window
from perfloop.model.value import Value

KEPT_ADJUSTMENTS: Final = 256


class Knob(enum.StrEnum):
    """The numbers that laws move."""

    LIMIT = "limit"
    """Calls under way at once: workers, connections, permits."""
    BATCH_SIZE = "batch_size"
    LINGER_S = "linger_s"


class Outcome(enum.StrEnum):
    """What became of an Adjustment."""

    PENDING = "pending"
    KEPT = "kept"
    UNDONE = "undone"


class Evidence(Value, frozen=True, kw_only=True):
    """The Windows that an Adjustment stands on."""

    before: Window | None = None
    after: Window | None = None
    """None while it is pending."""


class Adjustment(Value, frozen=True, kw_only=True):
    """One number moved once."""

    at_s: float
    knob: Knob
    before: float
    after: float
    reason: str
    """A sentence."""
    evidence: Evidence = Evidence()
    outcome: Outcome = Outcome.PENDING


class AdjustmentLog:
    """The last Adjustments of one law, the newest last; at most one of them is pending."""

    __slots__ = ("_entries", "_length", "_pending", "_untold")

    def __init__(self, length: int = KEPT_ADJUSTMENTS) -> None:
        self._length = length
        self._entries: list[Adjustment] = []
        self._pending: int | None = None
        self._untold: deque[Adjustment] = deque(maxlen=length)

    def add(self, adjustment: Adjustment) -> Adjustment:
        """Write it down and return it. One that is still pending is kept from now on."""
        if adjustment.outcome is Outcome.PENDING:
            self.settle(Outcome.KEPT, None)
            self._pending = len(self._entries)
        self._entries.append(adjustment)
        self._untold.append(adjustment)
        if len(self._entries) > self._length:
            del self._entries[0]
            self._pending = self._pending - 1 if self._pending else None
        return adjustment

    def moved(
        self,
        window: Window,
        knob: Knob,
        *,
        before: float,
        after: float,
        reason: str,
        outcome: Outcome = Outcome.KEPT,
    ) -> Adjustment:
        """Write down that a number was moved for what this Window shows."""
        evidence = Evidence(before=window)
        return self.add(
            Adjustment(
                at_s=window.ended_at_s,
                knob=knob,
                before=before,
                after=after,
                reason=reason,
                evidence=evidence,
                outcome=outcome,
            )
        )

    def settle(self, outcome: Outcome, after: Window | None) -> None:
        """Say what became of the one that is pending, if there is one."""
        if self._pending is None:
            return
        pending = self._entries[self._pending]
        evidence = Evidence(before=pending.evidence.before, after=after)
        self._entries[self._pending] = msgspec.structs.replace(pending, outcome=outcome, evidence=evidence)
        self._pending = None

    def untold(self) -> tuple[Adjustment, ...]:
        """Those written down since the last call, as they were then."""
        untold = tuple(self._untold)
        self._untold.clear()
        return untold

    def entries(self) -> tuple[Adjustment, ...]:
        return tuple(self._entries)
