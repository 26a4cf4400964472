"""The calls themselves: a user's function over items, in whichever thread, process or event loop this runs.

What goes to another process and comes back from there is a list of items, the function, and an Outcome.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any, TypeAlias

from perfloop.errors import InvalidInput, PerfloopError
from perfloop.process.pipeline.marks import SKIP
from perfloop.process.pipeline.parcel import Outcome

Function: TypeAlias = Callable[[Any], Any]


def run_items(function: Function, items: list[Any], is_ordered: bool, time_s: float) -> Outcome:
    """One item after the other; the first failure ends it where order is kept.

    After `time_s` no more are begun: when items have become slower, others may help with what is left.
    """
    outcome = Outcome()
    outputs = outcome.outputs
    began_s = perf_counter()
    until_s = began_s + time_s
    for position, item in enumerate(items):
        if position and perf_counter() >= until_s:
            outcome.left = position
            break
        try:
            result = function(item)
            if type(result) in _PLAIN:
                outputs.append(result)
            else:
                _pass_on(result, outputs)
        except Exception as error:  # noqa: BLE001  # of a user's function: its item is retried or given up
            outcome.failures.append((position, error))
            if is_ordered:
                break
    outcome.took_s = perf_counter() - began_s
    return outcome


def run_batch(function: Function, items: list[Any], is_ordered: bool, time_s: float) -> Outcome:
    """All items in one call."""
    outcome = Outcome(is_whole=True)
    began_s = perf_counter()
    try:
        result = function(items)
        if result is not None:
            _pass_on(result, outcome.outputs)
    except Exception as error:  # noqa: BLE001  # of a user's function: its items are retried or given up
        outcome.failures.append((0, error))
    outcome.took_s = perf_counter() - began_s
    return outcome


async def run_items_async(function: Function, items: list[Any], is_ordered: bool, time_s: float) -> Outcome:
    """The same as `run_items`, for a coroutine function or an async generator function."""
    outcome = Outcome()
    began_s = perf_counter()
    until_s = began_s + time_s
    for position, item in enumerate(items):
        if position and perf_counter() >= until_s:
            outcome.left = position
            break
        try:
            await _pass_on_async(function(item), outcome.outputs)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as in `run_items`
            _raise_if_this_task_is_cancelled(error)
            outcome.failures.append((position, error))
            if is_ordered:
                break
    outcome.took_s = perf_counter() - began_s
    return outcome


async def run_batch_async(function: Function, items: list[Any], is_ordered: bool, time_s: float) -> Outcome:
    """The same as `run_batch`, for a coroutine function."""
    outcome = Outcome(is_whole=True)
    began_s = perf_counter()
    try:
        result = await function(items)
        if result is not None:
            _pass_on(result, outcome.outputs)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as in `run_batch`
        _raise_if_this_task_is_cancelled(error)
        outcome.failures.append((0, error))
    outcome.took_s = perf_counter() - began_s
    return outcome


def run_sent(
    run: Callable[[Function, list[Any], bool, float], Outcome],
    function: Function,
    items: list[Any],
    is_ordered: bool,
    time_s: float,
    mark: str = "",
) -> Outcome:
    """In another process: what comes of it has to survive the way back.

    `mark` is of this call alone: dask takes calls with the same arguments for one.
    """
    outcome = run(function, items, is_ordered, time_s)
    outcome.failures = [(position, _portable(error)) for position, error in outcome.failures]
    return outcome


class SentError(PerfloopError):
    """Stands for an error that could not be sent from the process where it was raised; its text is kept."""


_PLAIN: frozenset[type] = frozenset({str, bytes, int, float, bool, tuple, dict, set, type(None)})
"""Kinds that are one item each: the short way for what is passed on most."""


def _pass_on(result: Any, outputs: list[Any]) -> None:
    """A list or an iterator is many items, SKIP none; all else is one."""
    if result is SKIP:
        return
    if isinstance(result, list):
        outputs += result
    elif isinstance(result, Iterator):
        outputs.extend(result)
    elif inspect.iscoroutine(result):
        result.close()
        raise InvalidInput('the function returned a coroutine; say executor="async", or call it with await')
    else:
        outputs.append(result)


async def _pass_on_async(made: Awaitable[Any] | AsyncIterator[Any], outputs: list[Any]) -> None:
    if isinstance(made, AsyncIterator):
        outputs.extend([each async for each in made])
        return
    _pass_on(await made, outputs)


def _raise_if_this_task_is_cancelled(error: BaseException) -> None:
    """A function may also have awaited something that others cancelled: that is a failure like any other."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


def _portable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # an error's own way of being copied may do anything
        return SentError(f"{type(error).__name__}: {error}")
    return error
