"""What a stage was asked to be, checked when it is asked, so that misuse is told before any work begins."""

from __future__ import annotations

import functools
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from perfloop.control.batch_fit import SIZES
from perfloop.control.choice import LimitChoice, SizeChoice, law_for, policy_for, size_law_for
from perfloop.control.fixed import Fixed
from perfloop.control.law import ConcurrencyLaw
from perfloop.control.linger import Linger
from perfloop.control.search_hold import SearchHold
from perfloop.control.slots import Slots
from perfloop.errors import InvalidInput
from perfloop.model.value import require
from perfloop.process.pipeline.calls import Function
from perfloop.process.pipeline.marks import DeadLetter, RetryPolicy
from perfloop.process.pipeline.sizing import ChunkSize
from perfloop.process.pipeline.steering import BatchSteering, ItemSteering, Steering

DeadLetterSink: TypeAlias = Callable[[DeadLetter], object]
ExecutorChoice: TypeAlias = str | Executor

WORDS: Final = ("threads", "processes", "async")
MOST_THREADS: Final = 128
MOST_TASKS: Final = 1000
LARGEST_CHUNK: Final = 100
CALL_S: Final = {"threads": 0.001, "processes": 0.05, "async": 0.001}
"""How long a call aims to be, so that handing it over costs about a hundredth of that."""
LONGEST_CALL: Final = 10
"""Times that, after which a call hands its other items back: they have become slower."""
SENT_CALL_S: Final = 0.1
"""The same for an executor of one's own, which may be a cluster: 2.6 ms a task were measured on dask's."""
IN_FLIGHT: Final = 2
"""Tasks a worker of such an executor: while it works on one, the next is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One stage, as asked for."""

    name: str
    function: Function
    executor: ExecutorChoice
    is_batch: bool = False
    workers: int | None = None
    limiter: LimitChoice | None = None
    is_ordered: bool = False
    retries: RetryPolicy
    dead_letter: DeadLetterSink | None = None
    size: SizeChoice = "adaptive"
    linger_s: float | None = None
    p99_budget_s: float | None = None
    queue_items: int = 1000

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 1, f"workers is {self.workers}; the least is 1")
        require(self.queue_items >= 1, f"queue_items is {self.queue_items}; the least is 1")
        linger_s = self.linger_s
        require(linger_s is None or linger_s >= 0, f"linger_s is {linger_s}; it must not be below 0")
        if self.dead_letter is not None and not callable(self.dead_letter):
            raise InvalidInput(
                f"dead_letter is {self.dead_letter!r}; give what is to be called with each one"
            )
        if _is_async(self.dead_letter):
            raise InvalidInput(
                "dead_letter is a coroutine function, which nobody awaits; make it a plain one"
            )
        if self.workers is not None:
            _check_bound(self, self.workers)

    @property
    def executor_name(self) -> str:
        return self.executor if isinstance(self.executor, str) else type(self.executor).__name__

    @property
    def call_s(self) -> float:
        """How long a call of items one by one aims to be."""
        return CALL_S.get(self.executor_name, SENT_CALL_S)

    @property
    def longest_call_s(self) -> float:
        """After which such a call begins no further items."""
        return LONGEST_CALL * self.call_s

    @property
    def in_flight(self) -> int:
        """Calls that are sent to a worker at once."""
        return 1 if isinstance(self.executor, str) else IN_FLIGHT

    @property
    def is_async(self) -> bool:
        return self.executor == "async"

    def steering(self) -> Steering:
        """The laws of one run. Raises InvalidInput where they were not told as they must be."""
        law = self._law()
        if not self.is_batch:
            linger_s = 0.0 if isinstance(self.executor, str) else SENT_CALL_S / 2
            largest = LARGEST_CHUNK if isinstance(self.executor, str) else self.queue_items
            return ItemSteering(law, ChunkSize(self.call_s, largest), linger_s)
        is_adaptive = self.size == "adaptive"
        size = size_law_for(self.size, p99_budget_s=self.p99_budget_s if is_adaptive else None)
        linger: Linger | float = self.linger_s or 0.0
        if self.p99_budget_s is not None and self.linger_s is None:
            linger = Linger(self.p99_budget_s)
        elif self.p99_budget_s is not None and not is_adaptive and not isinstance(law, SearchHold):
            raise InvalidInput("p99_budget_s has nothing to move: size, linger_s and limiter are all given")
        slots = None
        if self.p99_budget_s is not None and isinstance(law, SearchHold):
            slots = Slots(self.p99_budget_s, highest=self.workers or self._most_workers())
        return BatchSteering(law, size, most=SIZES.highest, linger=linger, slots=slots)

    def _law(self) -> ConcurrencyLaw:
        is_ours = self.executor in ("threads", "async")
        most = self.workers or self._most_workers()
        choice: LimitChoice = (
            self.limiter if self.limiter is not None else ("adaptive" if is_ours else "fixed")
        )
        most *= self.in_flight
        if choice == "fixed":
            return Fixed(most)
        if not isinstance(choice, str):
            return law_for(choice)
        return law_for(choice, msgspec.structs.replace(policy_for(choice), highest=most))

    def _most_workers(self) -> int:
        if isinstance(self.executor, str):
            return {"threads": MOST_THREADS, "async": MOST_TASKS}.get(self.executor) or processors()
        known = getattr(self.executor, "_max_workers", None)
        if isinstance(known, int):
            return known
        raise InvalidInput(
            f"{self.executor_name} does not tell how many workers it has; say workers=, the number of calls "
            f"that run in it at once, for the stage {self.name}"
        )


def _check_bound(spec: StageSpec, workers: int) -> None:
    """Raises InvalidInput where `workers` would not be the most in any case."""
    limiter = spec.limiter
    if isinstance(limiter, int):
        most = workers * spec.in_flight
        require(limiter <= most, f"limiter is {limiter}, and workers={workers} allow {most}; leave one out")
    elif not isinstance(limiter, str | None) and isinstance(spec.executor, str):
        raise InvalidInput(
            f"the stage {spec.name} has a law with bounds of its own; leave workers={workers} out "
            f"and give the law AdjustmentPolicy(highest={workers})"
        )


def pickled(spec: StageSpec) -> bytes:
    """The function, as it goes to another process. Raises InvalidInput where it cannot."""
    try:
        return pickle.dumps(spec.function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidInput(
            f"{spec.name} cannot be sent to another process ({error}); define it with def at the top of a "
            'module, without what it would have to take along, or run the stage with executor="threads"'
        ) from error


def processors() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def executor_for(function: Function, asked: ExecutorChoice | None) -> ExecutorChoice:
    """Where a function runs: what was asked for, or an event loop for coroutine functions, else threads.

    Raises InvalidInput where the two do not go together.
    """
    if not callable(function):
        raise InvalidInput(f"{function!r} cannot be called; a stage is a function of an item, or of a batch")
    is_async = _is_async(function)
    name = name_of(function)
    if asked is None:
        return "async" if is_async else "threads"
    if asked not in WORDS and not isinstance(asked, Executor):
        raise InvalidInput(f"there is no executor {asked!r}; say one of {', '.join(WORDS)}, or an Executor")
    if is_async and asked != "async":
        raise InvalidInput(f'{name} is a coroutine function; say executor="async", or leave executor out')
    if asked == "async" and not is_async:
        raise InvalidInput(
            f"{name} is no coroutine function and would stop the event loop while it works; say "
            'executor="threads", or make it "async def"'
        )
    return asked


def name_of(function: Function) -> str:
    """What the stage is called where nobody says."""
    return getattr(function, "__name__", type(function).__name__)


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
