"""One more while all is well, a tenth less when it is not: to be chosen, and to be measured against.

Source: D.-M. Chiu and R. Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in
computer networks", Computer Networks and ISDN Systems 17, 1989; back-off and growth as in Netflix'
concurrency-limits. Right where the sink says by errors when it is too much, as with a rate limit. It rides at
the edge of the time limit, so that on a sink that says nothing it is as good as that number.
"""

from __future__ import annotations

from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob
from perfloop.control.policy import SECONDS, AdjustmentPolicy
from perfloop.control.window import Window
from perfloop.model.value import require

BACK_OFF: Final = 0.9
LATENCY_FACTOR: Final = 2.0
"""Without a time limit: this many times the least median seen counts as too slow."""


class Aimd:
    """Saws for ever: it has no end, and is settled at all times.

    `timeout_s` is the median latency from which on calls are too slow.
    """

    __slots__ = ("_least_s", "_timeout_s", "limit", "log", "policy")

    def __init__(
        self,
        policy: AdjustmentPolicy | None = None,
        *,
        start: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        require(timeout_s is None or timeout_s > 0, f"timeout_s is {timeout_s}; it must be above 0")
        self.policy = policy or SECONDS
        self.limit = self.policy.clamp(self.policy.lowest if start is None else start)
        self.log = AdjustmentLog()
        self._timeout_s = timeout_s
        self._least_s: float | None = None

    @property
    def is_settled(self) -> bool:
        return True

    def update(self, window: Window) -> Adjustment | None:
        """Take the next Window; one in which half of the limit was idle raises nothing."""
        latency_s = window.latency_p50_s
        if latency_s > 0:
            self._least_s = min(latency_s, self._least_s or latency_s)
        timeout_s = self._timeout_s or LATENCY_FACTOR * (self._least_s or 0.0)
        if window.failures:
            return self._move(window, BACK_OFF * self.limit, f"{window.failures} calls failed")
        if latency_s > timeout_s:
            fact = f"latency {latency_s * 1e3:.1f} ms, above {timeout_s * 1e3:.1f}"
            return self._move(window, BACK_OFF * self.limit, fact)
        if 2 * window.in_flight_mean >= self.limit:
            return self._move(window, self.limit + 1, "no call failed or was too slow")
        return None

    def _move(self, window: Window, to: float, reason: str) -> Adjustment | None:
        before, self.limit = self.limit, self.policy.clamp(int(to))
        if self.limit == before:
            return None
        return self.log.moved(window, Knob.LIMIT, before=before, after=self.limit, reason=reason)
