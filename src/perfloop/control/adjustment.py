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

    __slots__ = ("_entries",)

    def __init__(self, length: int = KEPT_ADJUSTMENTS) -> None:
        self._entries: deque[Adjustment] = deque(maxlen=length)

    def add(self, adjustment: Adjustment) -> Adjustment:
        """Write it down and return it."""
        self._entries.append(adjustment)
        return adjustment

    def settle(self, outcome: Outcome, after: Window | None) -> None:
        """Say what became of the newest, if it is pending."""
        if not self._entries or self._entries[-1].outcome is not Outcome.PENDING:
            return
        newest = self._entries.pop()
        evidence = Evidence(before=newest.evidence.before, after=after)
        self._entries.append(msgspec.structs.replace(newest, outcome=outcome, evidence=evidence))

    def entries(self) -> tuple[Adjustment, ...]:
        return tuple(self._entries)
