"""The Limiter: at most so many calls at once, first come first served, counted as they go.

The stages of a pipeline use it, and whatever else has slots may, a pool or a client. It enforces; what the
limit should be is a law's word. The pure part is the Tally; here are the clock, the lock, the ways to wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter

from perfloop.control.tally import Tally
from perfloop.control.window import Window
from perfloop.model.value import Value, require


class LimiterStatistics(Value, frozen=True, kw_only=True):
    """A Limiter at one moment."""

    limit: int
    in_flight: int
    """Above `limit` for a while after it was lowered: what is under way is never stopped."""
    waiting: int


class Slot:
    """What is held during a block."""

    __slots__ = ("items",)

    def __init__(self, items: int) -> None:
        self.items = items
        """May be set within the block, where it is known only then."""


class Limiter:
    """For threads.

    `begun_at_s = limiter.acquire()` and `limiter.release(begun_at_s, items)`, or `with limiter.slot(items):`.
    Whoever waits is served in order, and a slot goes from hand to hand, so that nobody overtakes.
    """

    __slots__ = ("_clock", "_limit", "_lock", "_tally", "_turns")

    def __init__(self, limit: int, *, clock: Callable[[], float] = perf_counter) -> None:
        self._limit = _checked(limit)
        self._clock = clock
        self._lock = threading.Lock()
        self._tally = Tally(clock())
        self._turns: deque[_ThreadTurn] = deque()

    @property
    def limit(self) -> int:
        return self._limit

    def acquire(self) -> float:
        """Wait for a slot; the moment from which it is held, for `release`."""
        with self._lock:
            tally = self._tally
            if tally.in_flight < self._limit and not self._turns:
                now_s = self._clock()
                tally.begin(now_s)
                return now_s
            turn = _ThreadTurn()
            self._turns.append(turn)
        begun_at_s = self._wait(turn, -1)
        assert begun_at_s is not None, "without a time limit a turn comes"
        return begun_at_s

    def try_acquire(self, timeout_s: float = 0.0) -> float | None:
        """The same, waiting at most `timeout_s`; None where no slot came free."""
        with self._lock:
            if self._tally.in_flight < self._limit and not self._turns:
                now_s = self._clock()
                self._tally.begin(now_s)
                return now_s
            if timeout_s <= 0:
                return None
            turn = _ThreadTurn()
            self._turns.append(turn)
        return self._wait(turn, timeout_s)

    def release(self, begun_at_s: float, items: int = 1, *, failed: bool = False) -> None:
        """Give back the slot held since `begun_at_s`. A failed call counts as such, and its items do not."""
        with self._lock:
            now_s = self._clock()
            if failed:
                self._tally.fail(now_s)
            else:
                self._tally.end(begun_at_s, now_s, items)
            if self._turns:
                self._serve(now_s)

    @contextmanager
    def slot(self, items: int = 1) -> Iterator[Slot]:
        """A slot for a `with` block; one that raises counts as failed."""
        begun_at_s = self.acquire()
        with _given_back(self, begun_at_s, items) as slot:
            yield slot

    def resize(self, limit: int) -> None:
        """Let so many in from now on. Who waits for a slot that is there now gets it at once."""
        _checked(limit)
        with self._lock:
            self._limit = limit
            self._serve(self._clock())

    def drain(self, *, queue_length: int | None = None) -> Window:
        """What happened since the last call; each call is counted in one Window, that in which it ended.

        `queue_length` is what waits elsewhere for a slot, as in a pool whose workers fetch from a queue.
        """
        with self._lock:
            return self._tally.drain(self._clock(), self._limit, queue_length=queue_length)

    def is_due(self, interval_s: float, calls: int) -> bool:
        """Whether a Window drained now would be this long and hold this many calls; see AdjustmentPolicy."""
        with self._lock:
            return self._tally.is_due(self._clock(), interval_s, calls)

    def statistics(self) -> LimiterStatistics:
        with self._lock:
            return _statistics(self._limit, self._tally, len(self._turns))

    def _wait(self, turn: _ThreadTurn, timeout_s: float) -> float | None:
        try:
            turn.came.acquire(timeout=timeout_s)
        except BaseException:  # a signal's exception: the slot may have come meanwhile, and must not be lost
            self._give_up(turn, is_slot_wanted=False)
            raise
        return turn.begun_at_s if turn.begun_at_s is not None else self._give_up(turn, is_slot_wanted=True)

    def _give_up(self, turn: _ThreadTurn, *, is_slot_wanted: bool) -> float | None:
        with self._lock:
            if turn.begun_at_s is None:
                self._turns.remove(turn)
            elif not is_slot_wanted:
                self._tally.withdraw(turn.begun_at_s)
                self._serve(self._clock())
                return None
            return turn.begun_at_s

    def _serve(self, now_s: float) -> None:
        while self._turns and self._tally.in_flight < self._limit:
            self._tally.begin_after_waiting(now_s)
            self._turns.popleft().come(now_s)


class AsyncLimiter:
    """For the tasks of one event loop; no method may be called from another thread.

    `begun_at_s = await limiter.acquire()` and `limiter.release(begun_at_s, items)`, or `async with
    limiter.slot(items):`.
    """

    __slots__ = ("_clock", "_limit", "_tally", "_turns")

    def __init__(self, limit: int, *, clock: Callable[[], float] = perf_counter) -> None:
        self._limit = _checked(limit)
        self._clock = clock
        self._tally = Tally(clock())
        self._turns: deque[asyncio.Future[float]] = deque()

    @property
    def limit(self) -> int:
        return self._limit

    async def acquire(self) -> float:
        """Wait for a slot; the moment from which it is held, for `release`. Safe to cancel."""
        if self._tally.in_flight < self._limit and not self._turns:
            now_s = self._clock()
            self._tally.begin(now_s)
            return now_s
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._turns.remove(turn)
            else:  # the slot came, and then the task was cancelled: on to the next in line
                self._tally.withdraw(turn.result())
                self._serve(self._clock())
            raise

    def release(self, begun_at_s: float, items: int = 1, *, failed: bool = False) -> None:
        """Give back the slot held since `begun_at_s`. A failed call counts as such, and its items do not."""
        now_s = self._clock()
        if failed:
            self._tally.fail(now_s)
        else:
            self._tally.end(begun_at_s, now_s, items)
        if self._turns:
            self._serve(now_s)

    @asynccontextmanager
    async def slot(self, items: int = 1) -> AsyncIterator[Slot]:
        """A slot for an `async with` block; one that raises counts as failed."""
        begun_at_s = await self.acquire()
        with _given_back(self, begun_at_s, items) as slot:
            yield slot

    def resize(self, limit: int) -> None:
        """Let so many in from now on. Who waits for a slot that is there now gets it at once."""
        self._limit = _checked(limit)
        self._serve(self._clock())

    def drain(self, *, queue_length: int | None = None) -> Window:
        """What happened since the last call; see `Limiter.drain`."""
        return self._tally.drain(self._clock(), self._limit, queue_length=queue_length)

    def is_due(self, interval_s: float, calls: int) -> bool:
        """Whether a Window drained now would be this long and hold this many calls; see AdjustmentPolicy."""
        return self._tally.is_due(self._clock(), interval_s, calls)

    def statistics(self) -> LimiterStatistics:
        return _statistics(self._limit, self._tally, len(self._turns))

    def _serve(self, now_s: float) -> None:
        turns = self._turns
        cancelled = 0
        while len(turns) > cancelled and self._tally.in_flight < self._limit:
            turn = turns.popleft()
            if turn.done():  # cancelled, and its task, which removes it, has not run yet
                turns.append(turn)
                cancelled += 1
                continue
            self._tally.begin_after_waiting(now_s)
            turn.set_result(now_s)


class _ThreadTurn:
    """A thread in line. The lock is held until its turn comes."""

    __slots__ = ("begun_at_s", "came")

    def __init__(self) -> None:
        self.came = threading.Lock()
        self.came.acquire()
        self.begun_at_s: float | None = None

    def come(self, now_s: float) -> None:
        self.begun_at_s = now_s
        self.came.release()


@contextmanager
def _given_back(limiter: Limiter | AsyncLimiter, begun_at_s: float, items: int) -> Iterator[Slot]:
    slot = Slot(items)
    try:
        yield slot
    except BaseException:
        limiter.release(begun_at_s, slot.items, failed=True)
        raise
    limiter.release(begun_at_s, slot.items)


def _checked(limit: int) -> int:
    require(limit >= 1, f"a limit of {limit} lets nothing through; the least is 1")
    return limit


def _statistics(limit: int, tally: Tally, waiting: int) -> LimiterStatistics:
    return LimiterStatistics(limit=limit, in_flight=tally.in_flight, waiting=waiting)
