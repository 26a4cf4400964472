"""Time a function or a block, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from time import perf_counter
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from perfloop.errors import InvalidInput

P = ParamSpec("P")
R = TypeVar("R")


class Timer:
    """Observes how long a call or a `with` block took, whether it returned or raised.

    As a decorator it is safe under threads, recursion and tasks. As a context manager it holds one start, so
    that each concurrent block needs a timer of its own: write `with metrics.timed(...)` or
    `with histogram.time()` in place.
    """

    __slots__ = ("_observe", "_started_s")

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._started_s: float | None = None

    def __enter__(self) -> None:
        if self._started_s is not None:
            raise InvalidInput(
                "this timer is already running; a block that may overlap itself (threads, tasks, recursion) "
                "makes its own with `metrics.timed(...)` or `histogram.time()`"
            )
        self._started_s = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._observe(perf_counter() - self._started_s)  # type: ignore[operator]  # set by __enter__; no check, hot
        self._started_s = None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Wrap a function or a coroutine function; a coroutine's time includes what it awaits.

        Raises:
            InvalidInput: a generator function; a call of it only makes the generator, which takes no time.
        """
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise InvalidInput(
                f"{function.__qualname__} is a generator function, and calling it runs none of it; "
                "time the loop that consumes it with `with`"
            )
        if iscoroutinefunction(function):
            return cast("Callable[P, R]", _timed_coroutine(function, self._observe))
        return _timed_function(function, self._observe)


def _timed_function(function: Callable[P, R], observe: Callable[[float], None]) -> Callable[P, R]:
    @wraps(function)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        started_s = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            observe(perf_counter() - started_s)

    return timed


def _timed_coroutine(function: Callable[..., Any], observe: Callable[[float], None]) -> Callable[..., Any]:
    @wraps(function)
    async def timed(*args: Any, **kwargs: Any) -> Any:
        started_s = perf_counter()
        try:
            return await function(*args, **kwargs)
        finally:
            observe(perf_counter() - started_s)

    return timed
