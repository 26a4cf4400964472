"""A sink in open loop on a virtual clock: items arrive all the same, and a law says how long they wait.

The sink is that of `benchmarks.sink_simulation` at its capacity: 16 calls at once, each 5 ms + 0.05 ms an
item, with log-normal noise. A call takes what is queued, at most 1000 items, once a slot is free and either
so many are there or the oldest has waited for the linger. Arrivals are a Poisson process. In a steered run
the Steering of a pipeline's stage says how many slots there are and how long items wait, from one slot on.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.sink_simulation import Noise
from benchmarks.stalls import Stalls
from perfloop.control.linger import WINDOWS, Linger
from perfloop.control.tally import Tally
from perfloop.control.window import Window
from perfloop.process.pipeline.steering import Steering

SLOTS: Final = 16
CAP: Final = 1000
CALL_S: Final = 0.005
ITEM_S: Final = 0.00005
SIGMA: Final = 0.2
INTERVAL_S: Final = 0.1
LATE: Final = 0.5
"""Share of the calls that waited for a slot from which on the stage is late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoopScore:
    """The second half of a run."""

    rate_per_s: float
    calls_per_s: float
    p99_s: float
    """Of items, from arrival to the sink's answer."""
    linger_s: float
    """At the end."""


class OpenLoop:
    """Items at `rate_per_s`, steered by `linger`; without one, what is queued goes at once."""

    def __init__(
        self, rate_per_s: float, linger: Linger | None, seed: int, *, stalls: Stalls | None = None
    ) -> None:
        self._rate_per_s = rate_per_s
        self._linger = linger
        self._stalls = stalls
        self._noise = Noise(SIGMA, seed)
        self._random = np.random.default_rng(seed + 1)
        self._tally = Tally(0.0)
        self._ends: list[tuple[float, float, int]] = []
        self._look_at_s = INTERVAL_S

    def run(self, length_s: float) -> OpenLoopScore:
        arrived = self._arrivals(length_s)
        taken, latencies, calls, items = 0, [], 0, 0
        while taken < len(arrived):
            oldest_s = float(arrived[taken])
            start_s = self._start_s(arrived, taken, oldest_s)
            count = int(np.searchsorted(arrived[taken : taken + CAP], start_s, side="right"))
            took_s = (CALL_S + ITEM_S * count) * self._noise.next()
            end_s = start_s + took_s if self._stalls is None else self._stalls.ended_s(start_s, took_s)
            self._tally.begin(oldest_s)
            heapq.heappush(self._ends, (end_s, oldest_s, count))
            if oldest_s >= length_s / 2:
                latencies.append(end_s - arrived[taken : taken + count])
                calls, items = calls + 1, items + count
            taken += count
        return OpenLoopScore(
            rate_per_s=self._rate_per_s,
            calls_per_s=calls / (items / self._rate_per_s),
            p99_s=float(np.quantile(np.concatenate(latencies), 0.99)),
            linger_s=self.linger_s,
        )

    @property
    def linger_s(self) -> float:
        return self._linger.linger_s if self._linger else 0.0

    @property
    def slots(self) -> int:
        return SLOTS

    def _arrivals(self, length_s: float) -> np.ndarray:
        count = int(self._rate_per_s * length_s)
        return np.cumsum(self._random.exponential(1 / self._rate_per_s, count))

    def _start_s(self, arrived: np.ndarray, taken: int, oldest_s: float) -> float:
        """When the next call begins; the looks before that are taken first, as they may move the linger."""
        while True:
            full = taken + CAP - 1
            full_s = float(arrived[full]) if full < len(arrived) else float("inf")
            ready_s = min(oldest_s + self.linger_s, full_s)
            start_s = max(self._free_at_s(), ready_s)
            if self._stalls is not None:
                start_s = self._stalls.resumed_s(start_s)
            if start_s < self._look_at_s:
                break
            self._look()
        self._begun(is_late=start_s > ready_s)
        while self._ends and self._ends[0][0] <= start_s:
            self._end()
        return start_s

    def _free_at_s(self) -> float:
        """When there are fewer calls under way than slots."""
        over = len(self._ends) - self.slots
        return heapq.nsmallest(over + 1, self._ends)[-1][0] if over >= 0 else 0.0

    def _begun(self, *, is_late: bool) -> None:
        """A call began."""

    def _look(self) -> None:
        while self._ends and self._ends[0][0] <= self._look_at_s:
            self._end()
        if self._tally.is_due(self._look_at_s, WINDOWS.interval_s - INTERVAL_S / 2, WINDOWS.calls):
            self._seen(self._tally.drain(self._look_at_s, self.slots, queue_length=1))
        self._look_at_s += INTERVAL_S

    def _seen(self, window: Window) -> None:
        if self._linger is not None:
            self._linger.update(window)

    def _end(self) -> None:
        end_s, oldest_s, count = heapq.heappop(self._ends)
        self._tally.end(oldest_s, end_s, count)


class SteeredOpenLoop(OpenLoop):
    """The same, with the numbers of a stage: it, too, is looked at for its calls first."""

    def __init__(
        self, rate_per_s: float, steering: Steering, seed: int, *, stalls: Stalls | None = None
    ) -> None:
        super().__init__(rate_per_s, None, seed, stalls=stalls)
        self._steering = steering
        self._calls = self._late = 0

    @property
    def linger_s(self) -> float:
        return self._steering.linger_s

    @property
    def slots(self) -> int:
        return self._steering.limit

    def _begun(self, *, is_late: bool) -> None:
        self._calls += 1
        self._late += is_late

    def _look(self) -> None:
        if self._look_at_s == INTERVAL_S:  # nothing holds the source up, which one Window is enough to say
            self._steering.update(Tally(0.0).drain(self._look_at_s, self.slots), 0.0)
        super()._look()

    def _seen(self, window: Window) -> None:
        is_late = self._late >= LATE * self._calls
        self._calls = self._late = 0
        self._steering.update_linger(window, is_late=is_late)
