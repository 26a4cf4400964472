"""The gradient of latency, as Netflix' concurrency-limits has it: to be chosen, and to be measured against.

Source: github.com/Netflix/concurrency-limits, Gradient2Limit, with its parameters: the limit times (latency
of long ago over latency of now, allowed to be 1.5 times as long), plus a queue of four. Right where overload
merely queues and latency must stay low; where overload destroys throughput it ends at half of what the sink
can do.
"""

from __future__ import annotations

from typing import Final

from perfloop.control.adjustment import Adjustment, AdjustmentLog, Knob
from perfloop.control.policy import SECONDS, AdjustmentPolicy
from perfloop.control.window import Window

TOLERANCE: Final = 1.5
QUEUE: Final = 4
LONG_WINDOWS: Final = 600
DRIFT: Final = 2.0
"""Where the long average is this many times the short one it is brought down, to recover from a bad spell."""
RECOVERY: Final = 0.95
LEAST_GRADIENT: Final = 0.5


class Gradient2:
    """Follows latency for ever: it has no end, and is settled at all times."""

    __slots__ = ("_long_s", "_setting", "_windows", "limit", "log", "policy")

    def __init__(self, policy: AdjustmentPolicy | None = None, *, start: int | None = None) -> None:
        self.policy = policy or SECONDS
        self.limit = self.policy.clamp(self.policy.lowest if start is None else start)
        self.log = AdjustmentLog()
        self._setting = float(self.limit)
        self._long_s = 0.0
        self._windows = 0

    @property
    def is_settled(self) -> bool:
        return True

    def update(self, window: Window) -> Adjustment | None:
        """Take the next Window; one in which half of the limit was idle moves nothing."""
        if window.latencies is None:
            return None
        short_s = window.latencies.mean_s
        self._average(short_s)
        if window.in_flight_mean < self._setting / 2:
            return None
        gradient = max(LEAST_GRADIENT, min(1.0, TOLERANCE * self._long_s / short_s))
        wanted = self._setting * gradient + QUEUE
        smoothing = self.policy.smoothing
        smoothed = (1 - smoothing) * self._setting + smoothing * wanted
        self._setting = max(float(self.policy.lowest), min(float(self.policy.highest), smoothed))
        return self._move(window, gradient)

    def _average(self, short_s: float) -> None:
        self._windows += 1
        if self._windows <= 10:
            self._long_s += (short_s - self._long_s) / self._windows
            return
        self._long_s += (short_s - self._long_s) * 2 / (LONG_WINDOWS + 1)
        if self._long_s > DRIFT * short_s:
            self._long_s *= RECOVERY

    def _move(self, window: Window, gradient: float) -> Adjustment | None:
        before, self.limit = self.limit, self.policy.clamp(int(self._setting))
        if self.limit == before:
            return None
        fact = f"latency {window.latency_p50_s * 1e3:.1f} ms, usually {self._long_s * 1e3:.1f}"
        return self.log.moved(
            window, Knob.LIMIT, before=before, after=self.limit, reason=f"{fact}: gradient {gradient:.2f}"
        )
