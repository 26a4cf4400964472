"""A process for one worker's calls.

Each worker has a process of its own, in a ProcessPoolExecutor of one: where a process dies, it is known on
what, and nobody else's work is lost. A pool of many breaks as a whole, and blames all that was under way.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final

from perfloop.errors import InvalidInput, LaunchFailed, PerfloopError
from perfloop.process.pipeline.calls import Function, run_batch, run_items, run_sent
from perfloop.process.pipeline.parcel import Outcome

STARTS: Final = 5
"""How often a process is started until it lives."""
PAUSE_S: Final = 0.05
"""Between them: a fork server that was killed, too, is found dead by then."""


class ProcessDied(PerfloopError):
    """The process that worked on an item died, twice: the item kills it, or somebody does."""


class CallAborted(PerfloopError):
    """The call was ended by `abort`: its items are neither done nor failed. For a stage, not for its user."""


class ProcessCaller:
    """Starts its process when it is opened.

    Raises LaunchFailed where none comes up, and CallAborted after `abort`.
    """

    def __init__(
        self, name: str, function: bytes, *, is_batch: bool, is_ordered: bool, longest_call_s: float
    ) -> None:
        self._name = name
        self._function = function
        self._is_batch = is_batch
        self._is_ordered = is_ordered
        self._longest_call_s = longest_call_s
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._is_aborted = False

    def open(self) -> None:
        """Start the process, if it is not there."""
        if self._pool is None:
            self._pool = self._started()

    def call(self, items: list[Any]) -> Outcome:
        try:
            return self._sent(items).result()
        except BrokenProcessPool:
            self._end()
        except CallAborted:
            raise
        except Exception as error:  # noqa: BLE001  # of the way there and back: an item that cannot be pickled
            if len(items) == 1 or self._is_batch:
                return Outcome(failures=[(0, error)], is_whole=self._is_batch)
        return self._once_more(items)

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
            if self._pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        self._end()

    def _sent(self, items: list[Any]) -> Future[Outcome]:
        if self._pool is None:
            self._pool = self._started()
        return self._pool.submit(_call, items)

    def _once_more(self, items: list[Any]) -> Outcome:
        """One item after the other, so that it is known which one it was."""
        whole = Outcome(is_whole=self._is_batch)
        calls = [items] if self._is_batch else [[item] for item in items]
        for position, call in enumerate(calls):
            try:
                one = self._sent(call).result()
            except BrokenProcessPool:
                self._end()
                self._raise_if_aborted()
                fact = f"the process that worked on it in the stage {self._name} died, and so did the next"
                one = Outcome(
                    failures=[(0, ProcessDied(f"{fact}; look for what killed it in the system's log"))]
                )
            except CallAborted:
                raise
            except Exception as error:  # noqa: BLE001  # of the way there and back
                one = Outcome(failures=[(0, error)])
            whole.outputs += one.outputs
            whole.took_s += one.took_s
            whole.failures += [(position, error) for _, error in one.failures]
            if whole.failures and self._is_ordered:
                break
        return whole

    def _started(self) -> ProcessPoolExecutor:
        """One that was killed before it could work, as by a lack of memory, is not the last word."""
        failures = 0
        while True:
            self._raise_if_aborted()
            try:
                return self._start()
            except LaunchFailed:
                self._raise_if_aborted()
                failures += 1
                if failures == STARTS:
                    raise
                time.sleep(PAUSE_S)

    def _raise_if_aborted(self) -> None:
        if self._is_aborted:
            raise CallAborted(f"the stage {self._name} was ended")

    def _start(self) -> ProcessPoolExecutor:
        method = "forkserver" if sys.platform == "linux" else "spawn"
        pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context(method),
            initializer=_prepare,
            initargs=(self._function, self._is_batch, self._is_ordered, self._longest_call_s),
        )
        try:
            pid, fault = pool.submit(_say_ready).result()
        except (BrokenProcessPool, OSError, EOFError) as error:  # the others where the fork server is gone
            pool.shutdown()
            raise LaunchFailed(
                f"a process for the stage {self._name} died before it could work; if your script calls run() "
                'outside of `if __name__ == "__main__":`, put it there'
            ) from error
        if fault is not None:
            pool.shutdown()
            raise InvalidInput(
                f"another process cannot load the function of the stage {self._name} ({fault}); define it at "
                "the top of a module that can be imported"
            )
        with self._lock:
            self._pid = pid
        if self._is_aborted:
            self.abort()
        return pool

    def _end(self) -> None:
        with self._lock:
            pool, self._pool, self._pid = self._pool, None, None
        if pool is not None:
            pool.shutdown()


class _Child:
    """What a process of ours knows."""

    function: Function
    fault: str | None = None
    is_batch = False
    is_ordered = False
    longest_call_s = 0.0


def _prepare(function: bytes, is_batch: bool, is_ordered: bool, longest_call_s: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the pipeline ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Child.is_batch, _Child.is_ordered, _Child.longest_call_s = is_batch, is_ordered, longest_call_s
    try:
        _Child.function = pickle.loads(function)
    except Exception as error:  # noqa: BLE001  # importing a user's module may raise anything; it is told
        _Child.fault = f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _say_ready() -> tuple[int, str | None]:
    return os.getpid(), _Child.fault


def _call(items: list[Any]) -> Outcome:
    run = run_batch if _Child.is_batch else run_items
    return run_sent(run, _Child.function, items, _Child.is_ordered, _Child.longest_call_s)
