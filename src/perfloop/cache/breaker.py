"""Whether a tier that failed is asked again: decisions only, the clock is an argument.

::

    CLOSED ── failure ──> OPEN ── retry time over ──> HALF_OPEN ── success ──> CLOSED
                           ^                             |
                           +────────── failure ──────────+   (the retry time doubles, up to a limit)
"""

from __future__ import annotations

import enum
from typing import Final

from perfloop.model.value import Value, require


class BreakerState(enum.StrEnum):
    """Who may use the tier."""

    CLOSED = "closed"
    """Everybody."""
    OPEN = "open"
    """Nobody."""
    HALF_OPEN = "half_open"
    """The one who probes it."""


class BreakerPolicy(Value, frozen=True, kw_only=True):
    """How often a tier that is away is probed. One failure opens the breaker: callers wait for it once."""

    first_retry_s: float = 0.1
    longest_retry_s: float = 2.0
    """The time between probes doubles from the first to the longest."""

    def __post_init__(self) -> None:
        require(self.first_retry_s > 0, f"first_retry_s is {self.first_retry_s}; it must be above 0")
        require(self.longest_retry_s >= self.first_retry_s, "longest_retry_s must not be below first_retry_s")


FACTOR: Final = 2.0


class Breaker:
    """The state of one tier. Its users hold their own lock around the calls, or have one thread."""

    __slots__ = ("_policy", "_probe_at_s", "_retry_s", "openings", "state")

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self.state = BreakerState.CLOSED
        self.openings = 0
        """How often it opened since it was made."""
        self._retry_s = self._policy.first_retry_s
        self._probe_at_s = 0.0

    def fail(self, now_s: float) -> bool:
        """A call failed; whether this one opened the breaker."""
        if self.state is BreakerState.HALF_OPEN:
            self._retry_s = min(self._retry_s * FACTOR, self._policy.longest_retry_s)
        elif self.state is BreakerState.OPEN:
            return False
        was_closed = self.state is BreakerState.CLOSED
        self.state = BreakerState.OPEN
        self.openings += was_closed
        self._probe_at_s = now_s + self._retry_s
        return was_closed

    def succeed(self) -> bool:
        """A call was answered; whether this one closed the breaker.

        While it is open only a probe's answer counts: an answer to a call from before may come late.
        """
        if self.state is BreakerState.OPEN:
            return False
        self._retry_s = self._policy.first_retry_s
        was_half_open = self.state is BreakerState.HALF_OPEN
        self.state = BreakerState.CLOSED
        return was_half_open

    def wait_s(self, now_s: float) -> float:
        """How long until a probe is due; 0 where one is, or where none is needed."""
        return max(0.0, self._probe_at_s - now_s) if self.state is BreakerState.OPEN else 0.0

    def probe(self, now_s: float) -> bool:
        """Whether the caller may probe now; the next asker may not until it has failed or succeeded."""
        if self.state is not BreakerState.OPEN or now_s < self._probe_at_s:
            return False
        self.state = BreakerState.HALF_OPEN
        return True
