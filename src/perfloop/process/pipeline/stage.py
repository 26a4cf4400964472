"""A stage at work: its queue, its numbers, its counters. What it does in threads is here."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, Final, Protocol

from perfloop.control.limiter import Limiter
from perfloop.control.linger import WINDOWS
from perfloop.control.tally import Tally
from perfloop.errors import StageFailed
from perfloop.process.pipeline.callers import Caller, Callers
from perfloop.process.pipeline.marks import DeadLetter
from perfloop.process.pipeline.metering import StageMeter
from perfloop.process.pipeline.parcel import Outcome, Parcel, Settled, settle
from perfloop.process.pipeline.process_caller import CallAborted
from perfloop.process.pipeline.sequencing import Sequencer
from perfloop.process.pipeline.spec import StageSpec
from perfloop.process.pipeline.stage_queue import StageQueue
from perfloop.process.pipeline.statistics import StageStatistics

_log = logging.getLogger("perfloop.pipeline")

LATE: Final = 0.5
"""Share of the calls that found work waiting from which on the stage is behind."""
WINDOW: Final = 4
"""Where order is kept: Parcels a worker that may be taken beyond the first that is not through."""


class StageRun:
    """What a stage in threads and one in an event loop have in common."""

    def __init__(self, spec: StageSpec, fail: Callable[[BaseException], None]) -> None:
        self.spec = spec
        self.steering = spec.steering()
        self.next: StageQueue | None = None
        self._fail = fail
        self.limiter = Limiter(self.steering.limit)
        self.meter = StageMeter(self.steering.limit)
        window = WINDOW * self.steering.limit if spec.is_ordered else None
        self.queue = StageQueue(self._capacity(), window=window)
        self._sequencer = Sequencer() if spec.is_ordered else None
        self._random = random.Random()
        self._lock = threading.Lock()
        self._times = Tally(perf_counter())
        self._late = self._calls = 0
        self._late_batches = self._batches = 0
        self._full_s = 0.0

    def look(self) -> None:
        """Give the laws what was seen since the last look, and do what they say."""
        pace = self.steering.pace
        if self.limiter.is_due(pace.interval_s, pace.calls):
            self._look_at_calls()
        if not self.spec.is_batch:
            return
        with self._lock:
            now_s = perf_counter()
            if not self._times.is_due(now_s, WINDOWS.interval_s, WINDOWS.calls):
                return
            window = self._times.drain(now_s, self.limiter.limit)
            is_late = self._late_batches >= LATE * self._batches
            self._late_batches = self._batches = 0
            self.steering.update_linger(window, is_late=is_late)
        self._enforce()

    def statistics(self) -> StageStatistics:
        return self.meter.statistics(self.spec, self.steering, self.queue)

    def dropped(self) -> int:
        """What was forgotten before it, in it and on the way to the next."""
        left = self._sequencer.left() if self._sequencer is not None and self.next is not None else 0
        return self.queue.dropped + left

    def most(self) -> int:
        return self.steering.size_of_call(self.queue.taken)

    def linger_s(self) -> float:
        return self.steering.linger_s

    def resized(self) -> None:
        """The limit was moved."""

    def _begun(self, parcel: Parcel) -> None:
        with self._lock:
            self._calls += 1
            self._late += parcel.is_late
            if self.spec.is_batch and not parcel.attempt:
                self._times.begin(max(parcel.came_at_s, self._times.started_at_s))
                self._batches += 1
                self._late_batches += parcel.is_late

    def _ended(self, parcel: Parcel, outcome: Outcome, begun_at_s: float) -> Settled:
        """The books of a call; what is to be passed on is left to the caller."""
        now_s = perf_counter()
        count = len(parcel.items) if outcome.left is None else outcome.left
        took_s = now_s - begun_at_s
        # The law sees the time of an item where items go one by one, and so not how many are handed over.
        seen_s = took_s if self.spec.is_batch else took_s / count
        is_failed = bool(outcome.failures) and (outcome.is_whole or len(outcome.failures) == count)
        self.limiter.release(now_s - seen_s, count, failed=is_failed)
        settled = settle(
            parcel, outcome, self.spec.retries, self._random.random(), is_ordered=self.spec.is_ordered
        )
        self.meter.count(settled, took_s, outcome.took_s)
        with self._lock:
            function_s = outcome.took_s or took_s
            overhead_s = max(0.0, took_s - self.spec.in_flight * function_s)
            self.steering.observe(count, function_s, overhead_s)
            if self.spec.is_batch and not parcel.attempt:
                if is_failed:
                    self._times.fail(now_s)
                else:
                    self._times.end(parcel.came_at_s, now_s, count)
        for item, error in settled.given_up:
            self._give_up(item, error, settled.attempts)
        return settled

    def _passed_on(self, parcel: Parcel, settled: Settled) -> Iterator[list[Any]]:
        """The chunks to pass on now."""
        if settled.outputs is None:
            return
        if self._sequencer is None:
            if settled.outputs:
                yield settled.outputs
            return
        for outputs in self._sequencer.bring(parcel.ticket, settled.outputs):
            if outputs:
                yield outputs
            self.queue.advance()

    def _give_up(self, item: Any, error: BaseException, attempts: int) -> None:
        if self.spec.dead_letter is not None:
            self.spec.dead_letter(DeadLetter(item=item, stage=self.spec.name, error=error, attempts=attempts))
            return
        fact = str(error) or type(error).__name__
        failed = StageFailed(
            f"{self.spec.name} failed on {_shown(item)}: {fact}; say retries= or dead_letter= for items that "
            "may fail"
        )
        failed.__cause__ = error
        self._fail(failed)

    def _look_at_calls(self) -> None:
        with self._lock:
            is_behind = self._late >= LATE * self._calls and self._calls > 0
            self._late = self._calls = 0
        window = self.limiter.drain(queue_length=max(1, len(self.queue)) if is_behind else 0)
        full_s = self.queue.full_s
        held_ratio = min(1.0, (full_s - self._full_s) / max(1e-9, window.elapsed_s))
        self._full_s = full_s
        with self._lock:
            self.steering.update(window, held_ratio)
        self.queue.capacity = self._capacity()
        self._enforce()

    def _enforce(self) -> None:
        """Let the limit be what the laws say, and tell of all that they moved."""
        for adjustment in self.steering.untold():
            _log.debug(
                "%s: %s from %g to %g, %s",
                self.spec.name,
                adjustment.knob,
                adjustment.before,
                adjustment.after,
                adjustment.reason,
            )
        if self.steering.limit != self.limiter.limit:
            self.limiter.resize(self.steering.limit)
            self.meter.move_limit(self.steering.limit)
            self.queue.widen(WINDOW * self.steering.limit)
            self.resized()

    def _capacity(self) -> int:
        return max(self.spec.queue_items, 2 * self.steering.size)


class Stage(Protocol):
    """A stage that can be run."""

    spec: StageSpec
    queue: StageQueue
    next: StageQueue | None

    def start(self) -> None: ...
    def look(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...
    def statistics(self) -> StageStatistics: ...
    def dropped(self) -> int: ...


class ThreadStage(StageRun):
    """A thread for each call under way; it takes Parcels, calls, and passes on."""

    def __init__(self, spec: StageSpec, fail: Callable[[BaseException], None]) -> None:
        super().__init__(spec, fail)
        self._callers = Callers(spec)
        self._threads: list[threading.Thread] = []
        self._working = 0

    def start(self) -> None:
        self.meter.begin()
        self.resized()

    def resized(self) -> None:
        """Begin the workers that are missing; those too many retire after their Parcel."""
        with self._lock:
            missing = 0 if self.queue.is_ended else max(0, self.steering.limit - self._working)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            for _ in range(missing):
                thread = threading.Thread(target=self._work, name=f"perfloop-{self.spec.name}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._working += missing

    def abort(self) -> None:
        self._callers.abort()

    def close(self) -> None:
        for thread in self._threads:
            thread.join()
        self._callers.close()
        self.meter.end()

    def _work(self) -> None:
        try:
            caller = self._callers.lend()
            try:
                caller.open()
                self.meter.be_ready(self.queue)
                while not self._retires():
                    parcel = self.queue.take(self.most, self.linger_s)
                    if parcel is None:
                        break
                    self._do(caller, parcel)
            finally:
                self._callers.give_back(caller)
        except CallAborted:
            return  # its queue, which was cancelled before, counts the items as dropped
        except BaseException as error:  # noqa: BLE001  # the boundary of a thread: the run ends with it
            self._fail(error)

    def _do(self, caller: Caller, parcel: Parcel) -> None:
        again: list[tuple[Parcel, float]] = []
        back: list[Any] = []
        try:
            begun_at_s = self.limiter.acquire()
            self._begun(parcel)
            settled = self._ended(parcel, caller.call(parcel.items), begun_at_s)
            for outputs in self._passed_on(parcel, settled):
                if self.next is not None:
                    self.next.put(outputs)
            again, back = settled.again, settled.back
        except CallAborted:
            again = [(parcel, 0.0)]
            raise
        finally:
            self.queue.finish(again, back)

    def _retires(self) -> bool:
        with self._lock:
            is_spare = self._working > self.steering.limit
            self._working -= is_spare
            return is_spare


def _shown(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 80 else f"{text[:77]}..."
