"""A sink on a virtual clock: what laws are scored on, the same on any host and under any load.

A call of `size` items takes (5 ms + 0.05 ms x size) x noise, and longer where more than `capacity` are under
way: by as much on a *plateau*, where work merely queues, and by the square of it in a *collapse*, where it
also gets in its own way. Noise is log-normal with a mean of 1. The source never runs dry.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from benchmarks.stalls import Stalls
from perfloop.control.adjustment import Adjustment
from perfloop.control.coordinator import Coordinator
from perfloop.control.law import BatchLaw, ConcurrencyLaw
from perfloop.control.policy import AdjustmentPolicy
from perfloop.control.tally import Tally
from perfloop.control.window import Window

PLATEAU: Final = 1.0
COLLAPSE: Final = 2.0
DRAWN_AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """How long calls take."""

    contention: float
    """Power of the slowdown above the capacity."""
    capacity: Sequence[tuple[float, int]]
    """(from when, how many), the first from 0."""
    sigma: float
    call_s: float = 0.005
    item_s: float = 0.00005

    def mean_s(self, size: int, in_flight: int, capacity: int) -> float:
        """What a call takes on average, this one being among those in flight."""
        base_s = self.call_s + self.item_s * size
        return float(base_s * max(1.0, in_flight / capacity) ** self.contention)

    def capacity_at(self, now_s: float) -> int:
        return [number for since_s, number in self.capacity if since_s <= now_s][-1]

    def best_items_per_s(self, size: int, capacity: int) -> float:
        """What the best fixed limit handles on average: as many as there is capacity for."""
        return capacity * size / self.mean_s(size, capacity, capacity)


class Steering(Protocol):
    """What is scored. Calls are numbered from 0 in the order in which they begin."""

    @property
    def limit(self) -> int: ...

    def size_of_call(self, number: int) -> int: ...

    def ended(self, number: int, latency_s: float) -> None: ...

    def update(self, window: Window) -> Adjustment | None: ...


class Steered:
    """A law of concurrency and one of batch size, neither of which knows of the other."""

    def __init__(self, concurrency: ConcurrencyLaw, batch: BatchLaw) -> None:
        self._concurrency = concurrency
        self._batch = batch

    @property
    def limit(self) -> int:
        return self._concurrency.limit

    def size_of_call(self, number: int) -> int:
        return self._batch.size_of_call(number)

    def ended(self, number: int, latency_s: float) -> None:
        """Laws see Windows alone."""

    def update(self, window: Window) -> Adjustment | None:
        size = self._batch.update(window)
        return self._concurrency.update(window) or size


class Coordinated:
    """A Coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    @property
    def limit(self) -> int:
        return self._coordinator.limit

    def size_of_call(self, number: int) -> int:
        return self._coordinator.size_of_call(number)

    def ended(self, number: int, latency_s: float) -> None:
        """Laws see Windows alone."""

    def update(self, window: Window) -> Adjustment | None:
        return self._coordinator.update(window)


@dataclass(slots=True)
class Calls:
    """All calls of a run, in the order of their ends."""

    ended_at_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    items: list[int] = field(default_factory=list)


class Noise:
    """Log-normal numbers with a mean of 1, drawn many at once."""

    def __init__(self, sigma: float, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._sigma = sigma
        self._drawn: list[float] = []

    def next(self) -> float:
        if not self._drawn:
            normal = self._random.standard_normal(DRAWN_AT_ONCE)
            self._drawn = np.exp(self._sigma * normal - self._sigma**2 / 2).tolist()
        return self._drawn.pop()


class Simulation:
    """One steering on one sink, on a host with `stalls` or a quiet one.

    The capacity moves at the looks alone.
    """

    def __init__(
        self,
        sink: Sink,
        steering: Steering,
        seed: int,
        *,
        interval_s: float = 0.1,
        stalls: Stalls | None = None,
    ) -> None:
        self._sink = sink
        self._steering = steering
        self._noise = Noise(sink.sigma, seed)
        self._interval_s = interval_s
        self._stalls = stalls
        self._least_calls = AdjustmentPolicy().calls
        self._tally = Tally(0.0)
        self._under_way: list[tuple[float, int, float, int]] = []
        self._begun = 0
        self.calls = Calls()

    def run(self, length_s: float) -> Calls:
        look_at_s, capacity = self._interval_s, self._sink.capacity_at(0.0)
        self._fill(0.0, capacity)
        under_way, end_calls = self._under_way, self._end
        while under_way and min(under_way[0][0], look_at_s) < length_s:
            if look_at_s <= under_way[0][0]:
                capacity = self._sink.capacity_at(look_at_s)
                self._look(look_at_s)
                self._fill(look_at_s, capacity)
                look_at_s = self._next_look_s(look_at_s)
            else:
                end_calls(min(look_at_s, length_s), capacity)
        return self.calls

    def _next_look_s(self, look_at_s: float) -> float:
        next_s = look_at_s + self._interval_s
        return next_s if self._stalls is None else self._stalls.resumed_s(next_s)

    def _look(self, now_s: float) -> None:
        if self._tally.is_due(now_s, self._interval_s * 0.99, self._least_calls):
            self._steering.update(self._tally.drain(now_s, self._steering.limit, queue_length=1))

    def _end(self, until_s: float, capacity: int) -> None:
        """End the calls before `until_s`, each making room for the next."""
        calls, under_way, tally, steering = self.calls, self._under_way, self._tally, self._steering
        while under_way and under_way[0][0] < until_s:
            ended_at_s, number, begun_at_s, size = heapq.heappop(under_way)
            tally.end(begun_at_s, ended_at_s, size)
            steering.ended(number, ended_at_s - begun_at_s)
            calls.ended_at_s.append(ended_at_s)
            calls.latency_s.append(ended_at_s - begun_at_s)
            calls.items.append(size)
            self._fill(ended_at_s, capacity)

    def _fill(self, now_s: float, capacity: int) -> None:
        under_way, limit, sink = self._under_way, self._steering.limit, self._sink
        while len(under_way) < limit:
            size = self._steering.size_of_call(self._begun)
            self._tally.begin(now_s)
            taken_s = sink.call_s + sink.item_s * size
            if len(under_way) >= capacity:
                taken_s *= ((len(under_way) + 1) / capacity) ** sink.contention
            taken_s *= self._noise.next()
            stalls = self._stalls
            ended_at_s = now_s + taken_s if stalls is None else stalls.ended_s(now_s, taken_s)
            heapq.heappush(under_way, (ended_at_s, self._begun, now_s, size))
            self._begun += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One run, held against the best fixed setting."""

    steady_ratio: float
    """Of the items per second of the best fixed setting, over the last half."""
    p99_s: float
    """Of the calls of the last half."""
    reached_s: float
    """From when on five seconds in a row brought 95 % of the best; infinite if never."""


def score(calls: Calls, best_items_per_s: float, length_s: float) -> Score:
    ended = np.asarray(calls.ended_at_s)
    items = np.asarray(calls.items, dtype=np.float64)
    steady = ended >= length_s / 2
    rate = float(items[steady].sum()) / (length_s / 2)
    return Score(
        steady_ratio=rate / best_items_per_s,
        p99_s=float(np.quantile(np.asarray(calls.latency_s)[steady], 0.99)),
        reached_s=_reached_s(ended, items, 0.95 * best_items_per_s, length_s),
    )


def phase_ratio(calls: Calls, from_s: float, to_s: float, best_items_per_s: float) -> float:
    """Items per second from one moment to another, over the best of that phase."""
    ended = np.asarray(calls.ended_at_s)
    within = (ended >= from_s) & (ended < to_s)
    return float(np.asarray(calls.items)[within].sum()) / (to_s - from_s) / best_items_per_s


def _reached_s(ended: np.ndarray, items: np.ndarray, asked_per_s: float, length_s: float) -> float:
    slot_s, slots_needed = 0.25, 20
    slots = int(length_s / slot_s)
    sums, _ = np.histogram(ended, bins=slots, range=(0.0, slots * slot_s), weights=items)
    rates = np.convolve(sums, np.ones(slots_needed), mode="valid") / (slot_s * slots_needed)
    good = np.flatnonzero(rates >= asked_per_s)
    return float(good[0]) * slot_s if len(good) else math.inf
