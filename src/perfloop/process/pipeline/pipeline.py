"""The pipeline as its user writes it down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from perfloop.control.choice import LimitChoice, SizeChoice
from perfloop.errors import InvalidInput
from perfloop.process.pipeline.calls import Function
from perfloop.process.pipeline.marks import RetryPolicy
from perfloop.process.pipeline.run import PipelineRun, Source
from perfloop.process.pipeline.spec import (
    DeadLetterSink,
    ExecutorChoice,
    StageSpec,
    executor_for,
    name_of,
    pickled,
)
from perfloop.process.pipeline.statistics import PipelineStatistics, PipelineSummary


class Pipeline:
    """A source and the stages its items go through, each with a bounded queue before it.

    `source` is an iterable or an async iterable, with or without an end. It is read in the thread that calls
    `run`, and only as fast as the stages take what comes. `dead_letter` takes the items that are given up;
    without it the first of them ends the run.
    """

    def __init__(self, source: Source, *, dead_letter: DeadLetterSink | None = None) -> None:
        if not isinstance(source, Iterable | AsyncIterable):
            raise InvalidInput(f"{source!r} is not iterable; give an iterable or an async iterable of items")
        self._source = source
        self._dead_letter = dead_letter
        self._specs: list[StageSpec] = []
        self._run: PipelineRun | None = None
        self._lock = threading.RLock()  # a signal's handler may call `stop` within `run`
        self._is_stopped = False

    def stage(
        self,
        function: Function,
        *,
        name: str | None = None,
        executor: ExecutorChoice | None = None,
        workers: int | None = None,
        limiter: LimitChoice | None = None,
        ordered: bool = False,
        retries: int | RetryPolicy = 0,
        dead_letter: DeadLetterSink | None = None,
        queue_items: int = 1000,
    ) -> Self:
        """Call `function` for each item; what it returns goes on.

        A list or an iterator is many items, SKIP none, all else one. `executor` is "threads", "processes",
        "async" or an Executor; left out, coroutine functions run in an event loop and others in threads.
        `limiter` says how many calls run at once, at most `workers`: "adaptive", "fixed", a number, or a law
        with bounds of its own; threads and tasks are adaptive, processes and Executors fixed. `ordered` keeps
        the order in which items came to this stage. `queue_items` may wait before it.

        Raises InvalidInput where these do not go together.
        """
        return self._add(
            StageSpec(
                name=self._name(function, name),
                function=function,
                executor=executor_for(function, executor),
                workers=workers,
                limiter=limiter,
                is_ordered=ordered,
                retries=_retries(retries),
                dead_letter=dead_letter or self._dead_letter,
                queue_items=queue_items,
            )
        )

    def batch(
        self,
        function: Function,
        *,
        name: str | None = None,
        executor: ExecutorChoice | None = None,
        workers: int | None = None,
        limiter: LimitChoice | None = None,
        size: SizeChoice = "adaptive",
        linger_s: float | None = None,
        p99_budget_s: float | None = None,
        ordered: bool = False,
        retries: int | RetryPolicy = 0,
        dead_letter: DeadLetterSink | None = None,
        queue_items: int = 1000,
    ) -> Self:
        """The same with lists of items; what `function` returns goes on, None is nothing.

        One is made when `size` items are there, or when the oldest has waited for `linger_s`. With
        `p99_budget_s` alone the linger is found: as few calls as keep 99 of 100 items within that time, from
        coming here to the answer. Where items come faster than they are taken it is the budget of a call,
        which an adaptive size keeps. A call that fails is tried again, then halved until single items fail.
        """
        return self._add(
            StageSpec(
                name=self._name(function, name),
                function=function,
                executor=executor_for(function, executor),
                is_batch=True,
                workers=workers,
                limiter=limiter,
                size=size,
                linger_s=linger_s,
                p99_budget_s=p99_budget_s,
                is_ordered=ordered,
                retries=_retries(retries),
                dead_letter=dead_letter or self._dead_letter,
                queue_items=queue_items,
            )
        )

    def run(self, *, progress: bool = False) -> PipelineSummary:
        """Run to the end of the source, or to `stop`; no thread and no worker process is left afterwards.

        `progress` draws the stages on standard error, where that is a terminal.

        Raises what the source raised, once all that was read is through, and StageFailed for an item that was
        given up without a place for it. Ctrl-C drops what is queued and ends the calls under way; those in
        threads end by themselves.
        """
        run = self._begin(None)
        with _shown(run, progress):
            return run.go()

    async def run_async(self, *, progress: bool = False) -> PipelineSummary:
        """The same, with coroutine functions and async sources in the running event loop.

        Cancelling it is as Ctrl-C is to `run`.
        """
        loop = asyncio.get_running_loop()
        run = self._begin(loop)
        ended: Future[PipelineSummary] = Future()
        going = asyncio.wrap_future(ended)
        thread = threading.Thread(target=_go, args=(run, ended), name="perfloop-run", daemon=True)
        thread.start()
        with _shown(run, progress):
            try:
                return await asyncio.shield(going)
            except asyncio.CancelledError:
                run.cancel()
                await asyncio.wait([going])
                raise
            finally:
                thread.join()  # it has told its result, and does nothing more

    def stop(self, *, drain: bool = True) -> None:
        """Read no more; from any thread, or a signal's handler.

        What was read is worked on, unless `drain` is false: then calls under way have 5 s to end. A source
        that blocks is stopped when it yields.
        """
        with self._lock:
            self._is_stopped = True
            run = self._run
        if run is not None:
            run.stop(drain=drain)

    def statistics(self) -> PipelineStatistics:
        """As it is now, or was at the end. Raises InvalidInput before `run`."""
        run = self._run
        if run is None:
            raise InvalidInput("there are no statistics of a pipeline that was never run; call run() first")
        return run.statistics()

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> PipelineRun:
        if not self._specs:
            raise InvalidInput("a pipeline without stages does nothing; add one with stage() or batch()")
        with self._lock:
            if self._run is not None:
                raise InvalidInput("a pipeline runs once, as its source is read once; make another one")
            self._run = PipelineRun(self._source, self._specs, loop)
            if self._is_stopped:
                self._run.stop(drain=True)
            return self._run

    def _add(self, spec: StageSpec) -> Self:
        if self._run is not None:
            raise InvalidInput("the pipeline runs already; add its stages before run()")
        spec.steering()  # tells at once what cannot be
        if any(law is spec.limiter for law in self._laws()):
            raise InvalidInput(f"{spec.name} shares its law with another stage; a law sees one of them alone")
        if spec.executor == "processes":
            pickled(spec)
        self._specs.append(spec)
        return self

    def _laws(self) -> list[LimitChoice]:
        return [spec.limiter for spec in self._specs if not isinstance(spec.limiter, int | str | None)]

    def _name(self, function: Function, asked: str | None) -> str:
        name = asked or name_of(function)
        taken = {spec.name for spec in self._specs}
        if name not in taken:
            return name
        if asked is not None:
            raise InvalidInput(f"two stages are called {asked!r}; give one another name")
        return next(
            f"{name}-{number}" for number in range(2, len(taken) + 3) if f"{name}-{number}" not in taken
        )


def _shown(run: PipelineRun, progress: bool) -> AbstractContextManager[None]:
    if not progress:
        return nullcontext()
    from perfloop.process.pipeline.display import shown  # rich is loaded for those who want to see something

    return shown(run.statistics)


def _go(run: PipelineRun, ended: Future[PipelineSummary]) -> None:
    try:
        ended.set_result(run.go())
    except BaseException as error:  # noqa: BLE001  # the boundary of a thread: raised by whoever awaits
        ended.set_exception(error)


def _retries(asked: int | RetryPolicy) -> RetryPolicy:
    return RetryPolicy(retries=asked) if isinstance(asked, int) else asked
