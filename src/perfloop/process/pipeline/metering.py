"""The counters of one stage, and the statistics made of them."""

from __future__ import annotations

import threading
from time import perf_counter

from perfloop.process.pipeline.parcel import Settled
from perfloop.process.pipeline.spec import StageSpec
from perfloop.process.pipeline.stage_queue import StageQueue
from perfloop.process.pipeline.statistics import StageStatistics
from perfloop.process.pipeline.steering import Steering


class StageMeter:
    """Counts under a lock of its own, once a call."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._began_s = self._limit_since_s = perf_counter()
        self._ended_s: float | None = None
        self._ready_at_s: float | None = None
        self._start_full_s = self._start_held_s = 0.0
        self._limit = limit
        self._slot_s = self._busy_s = self._service_s = 0.0
        self._items = self._passed_on = self._calls = self._retries = self._dead_letters = 0

    def begin(self) -> None:
        """The stage is started."""
        self._began_s = self._limit_since_s = perf_counter()

    def be_ready(self, queue: StageQueue) -> None:
        """A worker can take items: the first one ends the start."""
        with self._lock:
            if self._ready_at_s is None:
                self._start_full_s, self._start_held_s = queue.full_s, queue.held_s
                self._ready_at_s = perf_counter()

    def count(self, settled: Settled, took_s: float, service_s: float) -> None:
        """A call ended: it took so long, of which so much in the function."""
        with self._lock:
            self._calls += 1
            self._busy_s += took_s
            self._service_s += service_s
            self._items += settled.through
            self._retries += settled.retried
            self._dead_letters += len(settled.given_up)
            self._passed_on += len(settled.outputs) if settled.outputs else 0

    def move_limit(self, limit: int) -> None:
        now_s = perf_counter()
        with self._lock:
            self._slot_s += self._limit * (now_s - self._limit_since_s)
            self._limit, self._limit_since_s = limit, now_s

    def end(self) -> None:
        """The stage has nothing more to do: time stops here."""
        self._ended_s = perf_counter()

    def statistics(self, spec: StageSpec, steering: Steering, queue: StageQueue) -> StageStatistics:
        with self._lock:
            now_s = self._ended_s or perf_counter()
            elapsed_s = max(1e-9, now_s - self._began_s)
            start_full_s, start_held_s = self._start_full_s, self._start_held_s
            if self._ready_at_s is None:
                start_full_s, start_held_s = queue.full_s, queue.held_s
            slot_s = max(1e-9, self._slot_s + self._limit * (now_s - self._limit_since_s))
            return StageStatistics(
                name=spec.name,
                executor=spec.executor_name,
                items=self._items,
                passed_on=self._passed_on,
                calls=self._calls,
                retries=self._retries,
                dead_letters=self._dead_letters,
                rate_per_s=self._items / elapsed_s,
                queue_length=len(queue),
                wait_s=queue.mean_wait_s,
                service_s=self._service_s / self._items if self._items else 0.0,
                utilisation_ratio=min(1.0, self._busy_s / slot_s),
                full_ratio=min(1.0, (queue.full_s - start_full_s) / elapsed_s),
                start_s=min(now_s, self._ready_at_s or now_s) - self._began_s,
                start_held_ratio=min(1.0, start_held_s / elapsed_s),
                limit=self._limit,
                size=steering.size,
                linger_s=steering.linger_s,
                adjustments=steering.entries(),
            )
