"""A thread that keeps the buffers of a registry short."""

from __future__ import annotations

from threading import Event, Thread
from types import TracebackType

from perfloop.metrics.fork import restart_in_child
from perfloop.metrics.registry import Registry


class Drainer:
    """Drains what has grown long, every so often, between `with` and its end; then everything once.

    Needed where many values are observed and nobody reads. Under threads that never wait, it gets its turn
    only every few switch intervals (5 ms each) per step, so that a buffer may reach some million values
    meanwhile. A forked child gets a thread of its own.
    """

    def __init__(self, registry: Registry, *, every_s: float = 0.25) -> None:
        self._registry = registry
        self._every_s = every_s
        self._stop = Event()
        self._thread: Thread | None = None
        restart_in_child(self)

    def __enter__(self) -> None:
        self._start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self._registry.drain()

    def restart(self) -> None:
        """Give a forked child the thread that it did not inherit."""
        if self._thread is not None:
            self._start()

    def _start(self) -> None:
        self._stop = Event()
        self._thread = Thread(target=self._run, args=(self._stop,), name="perfloop-drainer", daemon=True)
        self._thread.start()

    def _run(self, stop: Event) -> None:
        while not stop.wait(self._every_s):
            self._registry.relieve()
