"""The sink of `benchmarks.sink_simulation` in real threads: each call sleeps as long as it would take there.

Calls are timed by the Limiter, which the law resizes; threads beyond the limit wait for their turn.
"""

from __future__ import annotations

import threading
import time

from benchmarks.sink_simulation import Calls, Noise, Sink, Steering
from perfloop.control.limiter import Limiter
from perfloop.control.policy import AdjustmentPolicy

MOST_THREADS = 128
LOOK_S = 0.02


class ThreadedRun:
    """One steering on one sink, for as long as it says."""

    def __init__(self, sink: Sink, steering: Steering, seed: int, *, interval_s: float = 0.1) -> None:
        self._sink = sink
        self._steering = steering
        self._noise = Noise(sink.sigma, seed)
        self._policy = AdjustmentPolicy(interval_s=interval_s)
        self._limiter = Limiter(steering.limit)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._begun = 0
        self._in_flight = 0
        self._origin_s = 0.0
        self.calls = Calls()

    def run(self, length_s: float) -> Calls:
        self._origin_s = time.perf_counter()
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(MOST_THREADS)]
        for thread in threads:
            thread.start()
        while time.perf_counter() < self._origin_s + length_s:
            self._look()
            time.sleep(LOOK_S)
        self._stop.set()
        self._limiter.resize(MOST_THREADS)
        for thread in threads:
            thread.join()
        return self.calls

    def _look(self) -> None:
        if not self._limiter.is_due(self._policy.interval_s, self._policy.calls):
            return
        before = self._steering.limit
        self._steering.update(self._limiter.drain())
        if self._steering.limit != before:
            self._limiter.resize(self._steering.limit)

    def _work(self) -> None:
        while not self._stop.is_set():
            begun_at_s = self._limiter.acquire()
            if self._stop.is_set():  # woken to go home
                return
            number, size, taken_s = self._begin()
            time.sleep(taken_s)
            self._limiter.release(begun_at_s, size)
            if not self._stop.is_set():
                self._end(number, size, time.perf_counter(), begun_at_s)

    def _begin(self) -> tuple[int, int, float]:
        with self._lock:
            number = self._begun
            self._begun += 1
            self._in_flight += 1
            size = self._steering.size_of_call(number)
            capacity = self._sink.capacity_at(time.perf_counter() - self._origin_s)
            return number, size, self._sink.mean_s(size, self._in_flight, capacity) * self._noise.next()

    def _end(self, number: int, size: int, now_s: float, begun_at_s: float) -> None:
        with self._lock:
            self._in_flight -= 1
            self._steering.ended(number, now_s - begun_at_s)
            self.calls.ended_at_s.append(now_s - self._origin_s)
            self.calls.latency_s.append(now_s - begun_at_s)
            self.calls.items.append(size)
