"""One run of a pipeline: what is started, how it ends, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterable, Iterable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from time import perf_counter
from typing import Any, Final

from perfloop.process.pipeline.async_stage import AsyncStage
from perfloop.process.pipeline.source import Feeder
from perfloop.process.pipeline.spec import StageSpec
from perfloop.process.pipeline.stage import Stage, ThreadStage
from perfloop.process.pipeline.stage_queue import StageQueue
from perfloop.process.pipeline.statistics import PipelineStatistics, PipelineSummary
from perfloop.process.pipeline.turn import ENDLESS

LOOK_S: Final = 0.02
GRACE_S: Final = 5.0
"""How long calls under way may go on after `stop(drain=False)`, where they can be ended from outside."""

Source = Iterable[Any] | AsyncIterable[Any]


class LoopThread:
    """An event loop in a thread, for pipelines that are run where there is none."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="perfloop-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.loop.shutdown_asyncgens(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class PipelineRun:
    """Runs once. `go` is called in the thread that reads the source; the rest from any other."""

    def __init__(
        self, source: Source, specs: Sequence[StageSpec], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self._source = source
        self._own_loop: LoopThread | None = None
        if loop is None and (isinstance(source, AsyncIterable) or any(spec.is_async for spec in specs)):
            self._own_loop = LoopThread()
            loop = self._own_loop.loop
        self._loop = loop
        self._stages: list[Stage] = [self._stage(spec) for spec in specs]
        self._feeder = Feeder(self._stages[0].queue)
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._began_s = perf_counter()
        self._ended_s: float | None = None
        self._reader: asyncio.Task[bool] | None = None
        self._abort_at_s: float | None = None
        """From when on the steward drops what is queued, and when it ends the calls under way."""
        self._thread: threading.Thread | None = None
        self._join()

    def go(self) -> PipelineSummary:
        """Read the source to its end or to `stop`, wait for the stages, and clean up whatever happens."""
        self._began_s = perf_counter()
        self._thread = threading.current_thread()
        is_complete = False
        steward = threading.Thread(target=self._steward, name="perfloop-steward", daemon=True)
        try:
            if self._own_loop is not None:
                self._own_loop.start()
            for stage in self._stages:
                stage.start()
            steward.start()
            is_complete = self._read()
            self._done.wait()
        except BaseException:
            self.cancel()
            raise
        finally:
            self._done.wait()
            self._ended_s = perf_counter()
            self._close(steward)
        if self._error is not None:
            raise self._error
        return self._summary(is_complete)

    def stop(self, *, drain: bool) -> None:
        """Read no more of the source; work on what was read, or drop it."""
        self._stop_reading()
        if drain:
            return
        self._abort_at_s = self._abort_at_s or perf_counter() + GRACE_S
        # A signal's handler may have come while a queue's lock was held: then the steward has to do it.
        if threading.current_thread() is not self._thread:
            self._drop()

    def cancel(self) -> None:
        """End without working on what is queued; what runs in threads may finish first."""
        self._stop_reading()
        self._drop()
        for stage in self._stages:
            stage.abort()

    def fail(self, error: BaseException) -> None:
        """End for this reason; the first one counts."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
        self.cancel()

    def statistics(self) -> PipelineStatistics:
        return PipelineStatistics(
            elapsed_s=(self._ended_s or perf_counter()) - self._began_s,
            items_read=self._feeder.items,
            stages=tuple(stage.statistics() for stage in self._stages),
        )

    def _stage(self, spec: StageSpec) -> Stage:
        if not spec.is_async:
            return ThreadStage(spec, self.fail)
        assert self._loop is not None, "whoever has an async stage has a loop"
        return AsyncStage(spec, self.fail, self._loop)

    def _join(self) -> None:
        """Each queue that has ended closes the next. Where they are cancelled, they end in any order."""
        for stage, following in zip(self._stages, self._stages[1:], strict=False):
            stage.next = following.queue
            stage.queue.is_last = False
        for stage in self._stages:
            stage.queue.when_ended = partial(self._stage_ended, stage.next)

    def _stage_ended(self, following: StageQueue | None) -> None:
        if following is not None:
            following.close()
        if all(stage.queue.is_ended for stage in self._stages):
            self._done.set()

    def _read(self) -> bool:
        """What fails in the source is raised when all that was read before has been worked on."""
        is_complete = False
        try:
            if isinstance(self._source, AsyncIterable):
                is_complete = self._read_async(self._source)
            else:
                is_complete = self._feeder.read(self._source)
        except Exception as error:  # noqa: BLE001  # of the user's source; raised by `go`
            with self._lock:
                self._error = self._error or error
        self._stages[0].queue.close()
        return is_complete

    def _read_async(self, source: AsyncIterable[Any]) -> bool:
        """Comes back when the source does, also where it is cancelled: until then it may yield one more."""
        assert self._loop is not None, "whoever has an async source has a loop"
        with contextlib.suppress(CancelledError):
            return asyncio.run_coroutine_threadsafe(self._reading(source), self._loop).result()
        return False

    async def _reading(self, source: AsyncIterable[Any]) -> bool:
        self._reader = asyncio.current_task()
        return await self._feeder.read_async(source)

    def _stop_reading(self) -> None:
        self._feeder.stop()
        if self._reader is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._reader.cancel)

    def _drop(self) -> None:
        for stage in self._stages:
            stage.queue.cancel()

    def _end_in_time(self, abort_at_s: float) -> None:
        self._drop()
        if perf_counter() >= abort_at_s:
            self._abort_at_s = ENDLESS  # once: a task may need time to clean up
            self.cancel()

    def _steward(self) -> None:
        """Looks at the stages now and then, for their laws."""
        try:
            while not self._done.wait(LOOK_S):
                if self._abort_at_s is not None:
                    self._end_in_time(self._abort_at_s)
                for stage in self._stages:
                    stage.look()
        except BaseException as error:  # noqa: BLE001  # the boundary of a thread: the run ends with it
            self.fail(error)

    def _close(self, steward: threading.Thread) -> None:
        if steward.ident is not None:
            steward.join()
        for stage in self._stages:
            stage.close()
        if self._own_loop is not None:
            self._own_loop.close()

    def _summary(self, is_complete: bool) -> PipelineSummary:
        now = self.statistics()
        return PipelineSummary(
            elapsed_s=now.elapsed_s,
            items_read=now.items_read,
            stages=now.stages,
            is_complete=is_complete,
            dropped=sum(stage.dropped() for stage in self._stages),
        )
