"""A stage in an event loop: one task takes Parcels, and each call is a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from perfloop.process.pipeline.calls import run_batch_async, run_items_async
from perfloop.process.pipeline.parcel import Parcel
from perfloop.process.pipeline.spec import StageSpec
from perfloop.process.pipeline.stage import StageRun
from perfloop.process.pipeline.stage_queue import StageQueue
from perfloop.process.pipeline.turn import ENDLESS


class Wakened:
    """A task that waits; called from any thread to wake it."""

    __slots__ = ("_event", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def __call__(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float = ENDLESS) -> None:
        if timeout_s == ENDLESS:
            await self._event.wait()
            return
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return


async def put(queue: StageQueue, items: list[Any]) -> None:
    """The same as `queue.put`, for a task."""
    while True:
        turn = Wakened(asyncio.get_running_loop())
        if queue.try_put(items, turn):
            return
        try:
            await turn.wait()
        except asyncio.CancelledError:
            queue.drop(items)
            raise


async def flush(queue: StageQueue) -> None:
    """The same as `queue.flush`, for a task."""
    while True:
        turn = Wakened(asyncio.get_running_loop())
        if queue.try_flush(turn):
            return
        await turn.wait()


class AsyncStage(StageRun):
    """Calls of a coroutine function, as many at once as the limit allows."""

    def __init__(
        self, spec: StageSpec, fail: Callable[[BaseException], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(spec, fail)
        self._loop = loop
        self._main: Future[None] | None = None
        self._calls_under_way: set[asyncio.Task[None]] = set()
        self._is_room = asyncio.Event()
        self._is_aborted = False

    def start(self) -> None:
        self.meter.begin()
        self._main = asyncio.run_coroutine_threadsafe(self._dispatch(), self._loop)

    def resized(self) -> None:
        self._loop.call_soon_threadsafe(self._is_room.set)

    def abort(self) -> None:
        """Cancel the calls under way."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel_calls)

    def close(self) -> None:
        """Wait for the tasks; not from the loop's own thread."""
        if self._main is not None:
            wait([self._main])
        self.meter.end()

    async def _dispatch(self) -> None:
        try:
            self.meter.be_ready(self.queue)
            while True:
                was_full = await self._wait_for_room()
                parcel = await self._taken(was_full)
                if parcel is None:
                    break
                while (begun_at_s := self.limiter.try_acquire()) is None:  # the limit was lowered meanwhile
                    self._is_room.clear()
                    await self._is_room.wait()
                task = self._loop.create_task(self._do(parcel, begun_at_s))
                self._calls_under_way.add(task)
                task.add_done_callback(self._done)
        except BaseException as error:  # noqa: BLE001  # the boundary of a task: the run ends with it
            self._fail(error)
        finally:
            while self._calls_under_way:
                await asyncio.wait(self._calls_under_way)

    async def _wait_for_room(self) -> bool:
        """Whether it had to be waited for."""
        was_full = False
        while len(self._calls_under_way) >= self.limiter.limit:
            was_full = True
            self._is_room.clear()
            await self._is_room.wait()
        return was_full

    async def _taken(self, was_full: bool) -> Parcel | None:
        is_returning = was_full
        while True:
            turn = Wakened(self._loop)
            got = self.queue.try_take(self.most(), self.linger_s(), turn, is_returning=is_returning)
            if not isinstance(got, float):
                return got
            is_returning = False
            await turn.wait(got)
            if got != ENDLESS:
                self.queue.forget(turn)

    async def _do(self, parcel: Parcel, begun_at_s: float) -> None:
        again: list[tuple[Parcel, float]] = [(parcel, 0.0)]
        back: list[Any] = []
        try:
            if self._is_aborted:  # while it waited for a slot
                return
            self._begun(parcel)
            run = run_batch_async if self.spec.is_batch else run_items_async
            spec = self.spec
            outcome = await run(spec.function, parcel.items, spec.is_ordered, spec.longest_call_s)
            settled = self._ended(parcel, outcome, begun_at_s)
            again, back = settled.again, settled.back
            for outputs in self._passed_on(parcel, settled):
                if self.next is not None:
                    await put(self.next, outputs)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # the boundary of a task
            self._fail(error)  # and the run ends with it; raised here it would end the event loop instead
        finally:
            self.queue.finish(again, back)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._calls_under_way.discard(task)
        self._is_room.set()

    def _cancel_calls(self) -> None:
        """In the loop's next round: a task that is cancelled before it began never finishes its Parcel."""
        self._is_aborted = True
        for task in self._calls_under_way:
            self._loop.call_soon(task.cancel)
