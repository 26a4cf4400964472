"""The bounded queue before a stage. Items go in and out in chunks, so that a lock is taken once for many.

Whoever has to wait leaves a callable that wakes it: threads the release of a lock, tasks a call into their
event loop. So both share one queue, and no thread waits for the sake of a task.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from perfloop.process.pipeline.parcel import Parcel
from perfloop.process.pipeline.turn import ENDLESS, Turn, Wake


class StageQueue:
    """Holds about `capacity` items: who puts more waits until there is room.

    `window` bounds, where order is kept, how many Parcels may be taken beyond the first that is not
    through. Failed Parcels wait here for their next attempt. The queue has *ended* when it was closed and
    nothing is in it or under way; then `when_ended` is called, once.
    """

    def __init__(
        self, capacity: int, *, window: int | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self.capacity = capacity
        self.when_ended: Callable[[], object] = lambda: None
        self.is_ended = False
        self.is_last = True
        """Whether outputs go nowhere, so that none is lost where a Parcel is forgotten that holds some."""
        self.dropped = 0
        """Items that were forgotten by `cancel`, or never put because of it."""
        self.opened: deque[Any] = deque()
        """Items that come one at a time, by `Feeder`; not behind the lock."""
        self.opened_at_s = 0.0
        self.takers: deque[Wake] = deque()
        self._clock = clock
        self._lock = threading.Lock()
        self._window = window
        self._chunks: deque[tuple[float, list[Any]]] = deque()
        self._used_of_first = 0
        self._count = 0
        self._later: list[tuple[float, int, Parcel]] = []
        self._putters: deque[Wake] = deque()
        self._is_closed = self._is_cancelled = False
        self._under_way = self._shelved = 0
        self._taken = self._through = 0
        self._full_since_s: float | None = None
        self._closed_at_s = ENDLESS
        self._full_s = self._waited_s = 0.0
        self._items_taken = 0
        self._most, self._linger_s = 1, 0.0
        self._timed: Wake | None = None
        self._timed_at_s = ENDLESS

    def put(self, items: list[Any]) -> None:
        """Add a chunk; waits while the queue is full. After `cancel` it is counted and forgotten."""
        while True:
            turn = Turn()
            if self.try_put(items, turn):
                return
            turn.wait()

    def try_put(self, items: list[Any], wake: Wake) -> bool:
        """Add a chunk, or have `wake` called when there is room again."""
        with self._lock:
            if self._is_cancelled:
                self.dropped += len(items)
                return True
            if not self._has_room(wake):
                return False
            if items:
                self._chunks.append((self._clock(), items))
                self._count += len(items)
            wakes = self._wakes()
        _call(wakes)
        return True

    def flush(self) -> None:
        """Seal what came one at a time as a chunk; waits while the queue is full."""
        while True:
            turn = Turn()
            if self.try_flush(turn):
                return
            turn.wait()

    def try_flush(self, wake: Wake) -> bool:
        """The same, or have `wake` called when there is room again."""
        with self._lock:
            if not self._is_cancelled and not self._has_room(wake):
                return False
            self._seal()
            wakes = self._wakes()
        _call(wakes)
        return True

    def close(self) -> None:
        """Nothing more will be put."""
        with self._lock:
            self._seal()
            if not self._is_closed and self._count:
                self._closed_at_s = self._clock()
            self._is_closed = True
            wakes = [*self._all_takers(), *self._end()]
        _call(wakes)

    def cancel(self) -> None:
        """Forget what is in it, and all that will be put. What is under way may end."""
        with self._lock:
            self._is_cancelled = self._is_closed = True
            self._seal()
            self.dropped += self._count + sum(
                parcel.held(is_last=self.is_last) for _, _, parcel in self._later
            )
            self._chunks.clear()
            self._later.clear()
            self._count = 0
            wakes = [*self._all_takers(), *self._putters, *self._end()]
            self._putters.clear()
        _call(wakes)

    def drop(self, items: list[Any]) -> None:
        """Count a chunk that was to be put, as whoever waited for room was cancelled."""
        with self._lock:
            self.dropped += len(items)

    def take(self, most: Callable[[], int], linger_s: Callable[[], float]) -> Parcel | None:
        """Wait for a Parcel; None when the queue has ended. See `try_take`."""
        is_returning = True
        while True:
            turn = Turn()
            got = self.try_take(most(), linger_s(), turn, is_returning=is_returning)
            if not isinstance(got, float):
                return got
            is_returning = False
            turn.wait(got)
            if got != ENDLESS:
                self.forget(turn)

    def try_take(
        self, most: int, linger_s: float, wake: Wake, *, is_returning: bool
    ) -> Parcel | float | None:
        """A Parcel of at most `most` items; None when the queue has ended; or how long to wait at most.

        There is one when `most` items are there, or the oldest has been there for `linger_s`. In the last
        case `wake` is called when it may be worth while to try again. `is_returning` says that the worker
        comes from another Parcel: what it finds ready, with no other worker waiting, was late.
        """
        with self._lock:
            self._most, self._linger_s = most, linger_s
            got = self._attempt(most, linger_s)
            if isinstance(got, float):
                return self._wait_for(wake, got)
            if got is None:
                return None
            got.is_late = is_returning and not self.takers
            wakes = self._wakes()
        _call(wakes)
        return got

    def forget(self, wake: Wake) -> None:
        """The waiting of a taker is over."""
        with self._lock:
            if wake in self.takers:
                self.takers.remove(wake)
                self._woke(wake)

    def finish(self, again: list[tuple[Parcel, float]], back: Sequence[Any] = ()) -> None:
        """A Parcel is through, all but what is tried `again`, each after a pause in seconds.

        What comes `back` was not called, and is the first to be taken.
        """
        with self._lock:
            self._under_way -= 1
            if self._is_cancelled:
                self.dropped += sum(parcel.held(is_last=self.is_last) for parcel, _ in again) + len(back)
            else:
                now_s = self._clock()
                self._put_back(back, now_s)
                for parcel, pause_s in again:
                    self._shelved += 1
                    heapq.heappush(self._later, (now_s + pause_s, self._shelved, parcel))
            wakes = [*self._wakes(), *self._end()]
        _call(wakes)

    def advance(self) -> None:
        """Where order is kept: the first ticket that was not through is through now."""
        with self._lock:
            self._through += 1
            wakes = self._wakes()
        _call(wakes)

    def widen(self, window: int) -> None:
        """Where order is kept: as many Parcels may be taken beyond the first that is not through."""
        if self._window is not None:
            self._window = window

    def __len__(self) -> int:
        return self._count + len(self.opened) + len(self._later)

    @property
    def taken(self) -> int:
        """Parcels so far, without those tried again."""
        return self._taken

    @property
    def mean_wait_s(self) -> float:
        """Of the items taken, in the queue."""
        return self._waited_s / self._items_taken if self._items_taken else 0.0

    @property
    def full_s(self) -> float:
        """For how long it kept others waiting until there was room."""
        since_s = self._full_since_s
        return self._full_s + (self._clock() - since_s if since_s is not None else 0.0)

    @property
    def held_s(self) -> float:
        """For how long what comes before its stage waited for it: for room, or with nothing left to do."""
        return self.full_s + max(0.0, self._clock() - self._closed_at_s)

    def _put_back(self, items: Sequence[Any], now_s: float) -> None:
        if not items:
            return
        if self._used_of_first:
            at_s, chunk = self._chunks[0]
            self._chunks[0] = (at_s, chunk[self._used_of_first :])
            self._used_of_first = 0
        self._chunks.appendleft((now_s, list(items)))
        self._count += len(items)
        self._items_taken -= len(items)

    def _has_room(self, wake: Wake) -> bool:
        if self._count < self.capacity:
            return True
        self._putters.append(wake)
        if self._full_since_s is None:
            self._full_since_s = self._clock()
        return False

    def _attempt(self, most: int, linger_s: float) -> Parcel | float | None:
        if self.is_ended:
            return None
        now_s = self._clock()
        later_s = self._later[0][0] - now_s if self._later else ENDLESS
        if later_s <= 0:
            self._under_way += 1
            return heapq.heappop(self._later)[2]
        if self._is_window_full():
            return later_s
        if self._count < most and self.opened:
            self._seal()
        if not self._count:
            return later_s
        ready_s = self._chunks[0][0] + linger_s - now_s
        if self._count >= most or ready_s <= 0 or self._is_closed:
            return self._gather(most, now_s)
        return min(later_s, ready_s)

    def _gather(self, most: int, now_s: float) -> Parcel:
        came_at_s = self._chunks[0][0]
        items: list[Any] = []
        while self._chunks and len(items) < most:
            at_s, chunk = self._chunks[0]
            first = self._used_of_first
            part = chunk[first : first + most - len(items)] if first or len(chunk) > most else chunk
            if len(items) + len(part) > most:
                part = part[: most - len(items)]
            self._waited_s += (now_s - at_s) * len(part)
            if first + len(part) == len(chunk):
                self._chunks.popleft()
                self._used_of_first = 0
            else:
                self._used_of_first = first + len(part)
            items = items + part if items else part
        self._count -= len(items)
        self._items_taken += len(items)
        self._under_way += 1
        self._taken += 1
        return Parcel(items, came_at_s, ticket=self._taken - 1)

    def _seal(self) -> None:
        """As many as are there now: more may come meanwhile, without end."""
        opened = self.opened
        items = [opened.popleft() for _ in range(len(opened))]
        if self._is_cancelled:
            self.dropped += len(items)
        elif items:
            self._chunks.append((self.opened_at_s, items))
            self._count += len(items)
            self.opened_at_s = self._clock()

    def _wait_for(self, wake: Wake, wait_s: float) -> float:
        """One taker alone wakes by itself when the linger or a pause is over; it wakes the next."""
        self.takers.append(wake)
        if wait_s == ENDLESS or self._clock() + wait_s >= self._timed_at_s:
            return ENDLESS
        self._timed, self._timed_at_s = wake, self._clock() + wait_s
        return wait_s

    def _woke(self, wake: Wake) -> None:
        if wake is self._timed:
            self._timed, self._timed_at_s = None, ENDLESS

    def _all_takers(self) -> list[Wake]:
        takers = list(self.takers)
        self.takers.clear()
        self._timed, self._timed_at_s = None, ENDLESS
        return takers

    def _wakes(self) -> list[Wake]:
        """One who may take, and one who may put once half of the room is free; each wakes the next."""
        wakes = []
        if self.takers and self._is_worth_waking():
            wakes.append(self.takers.popleft())
            self._woke(wakes[0])
        if self._putters and (self._count <= self.capacity // 2 or self._full_since_s is None):
            wakes.append(self._putters.popleft())
            if self._full_since_s is not None:
                self._full_s += self._clock() - self._full_since_s
                self._full_since_s = None
        return wakes

    def _is_worth_waking(self) -> bool:
        """Whether something is ready before any taker would wake by itself."""
        due_s = self._later[0][0] if self._later else ENDLESS
        if self._count and not self._is_window_full():
            if self._count >= self._most or self._is_closed:
                return True
            due_s = min(due_s, self._chunks[0][0] + self._linger_s)
        return due_s < self._timed_at_s

    def _is_window_full(self) -> bool:
        return self._window is not None and self._taken - self._through >= self._window

    def _end(self) -> list[Wake]:
        if self.is_ended or not self._is_closed or self._count or self._later or self._under_way:
            return []
        self.is_ended = True
        return [*self._all_takers(), self.when_ended]


def _call(wakes: list[Wake]) -> None:
    for wake in wakes:
        wake()
