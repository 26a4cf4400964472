"""Where a worker's calls run: in its own thread, in a process of its own, or in an executor of the user's."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from perfloop.process.pipeline.calls import run_batch, run_items, run_sent
from perfloop.process.pipeline.parcel import Outcome
from perfloop.process.pipeline.process_caller import CallAborted, ProcessCaller
from perfloop.process.pipeline.spec import StageSpec, pickled


class Caller(Protocol):
    """Belongs to one worker at a time."""

    def open(self) -> None:
        """Before the first call, and again after a change of worker."""
        ...

    def call(self, items: list[Any]) -> Outcome:
        """Run the stage's function over these items. Raises CallAborted where `abort` ended it."""
        ...

    def abort(self) -> None:
        """End the call that is under way, where that can be; from another thread."""
        ...

    def close(self) -> None:
        """Nothing will be called any more."""
        ...


class ThreadCaller:
    """In the worker's thread."""

    def __init__(self, spec: StageSpec) -> None:
        self._run = run_batch if spec.is_batch else run_items
        self._function = spec.function
        self._is_ordered = spec.is_ordered
        self._time_s = spec.longest_call_s

    def open(self) -> None:
        pass

    def call(self, items: list[Any]) -> Outcome:
        return self._run(self._function, items, self._is_ordered, self._time_s)

    def abort(self) -> None:
        """A thread cannot be ended from outside; its call may finish."""

    def close(self) -> None:
        pass


class ExecutorCaller:
    """In an Executor: each call is one task, which carries the function by reference."""

    def __init__(self, spec: StageSpec, executor: Executor) -> None:
        self._executor = executor
        self._run = run_batch if spec.is_batch else run_items
        self._function = spec.function
        self._is_ordered = spec.is_ordered
        self._time_s = spec.longest_call_s
        self._task: Future[Outcome] | None = None
        self._is_aborted = False

    def open(self) -> None:
        pass

    def call(self, items: list[Any]) -> Outcome:
        self._task = self._executor.submit(
            run_sent,
            self._run,
            self._function,
            items,
            self._is_ordered,
            self._time_s,
            uuid.uuid4().hex,
        )
        if self._is_aborted:
            self._task.cancel()
        try:
            return self._task.result()
        except Exception as error:  # of the way there and back, such as a lost worker
            if self._is_aborted:
                raise CallAborted("the stage was ended") from error
            return Outcome(failures=[(0, error)], is_whole=True)

    def abort(self) -> None:
        self._is_aborted = True
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """The executor is its owner's."""


class Callers:
    """The callers of one stage, handed from workers that retire to those that begin."""

    def __init__(self, spec: StageSpec) -> None:
        self._make = _maker(spec)
        self._lock = threading.Lock()
        self._free: list[Caller] = []
        self._all: list[Caller] = []
        self._is_aborted = False

    def lend(self) -> Caller:
        with self._lock:
            if self._free:
                return self._free.pop()
            caller = self._make()
            self._all.append(caller)
            if self._is_aborted:
                caller.abort()
            return caller

    def give_back(self, caller: Caller) -> None:
        with self._lock:
            self._free.append(caller)

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
            callers = list(self._all)
        for caller in callers:
            caller.abort()

    def close(self) -> None:
        for caller in self._all:
            caller.close()


def _maker(spec: StageSpec) -> Callable[[], Caller]:
    executor = spec.executor
    if isinstance(executor, Executor):
        return lambda: ExecutorCaller(spec, executor)
    if executor == "processes":
        sent = pickled(spec)
        return lambda: ProcessCaller(
            spec.name,
            sent,
            is_batch=spec.is_batch,
            is_ordered=spec.is_ordered,
            longest_call_s=spec.longest_call_s,
        )
    return lambda: ThreadCaller(spec)
