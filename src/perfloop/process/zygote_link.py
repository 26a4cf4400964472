"""The supervisor's side of one zygote, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from perfloop.errors import LaunchFailed
from perfloop.process.launching import OnExit, WorkerExit
from perfloop.process.zygote import wire
from perfloop.process.zygote.started import StartedZygote, end_zygote

_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts the largest resident size."""
_CLOSE_S: Final = 12.0
"""For a zygote to end its workers and itself, who are given five seconds of it."""
Told = Sequence[tuple[str, float, str, bool]]


class ZygoteLink:
    """Hears and orders one zygote; made and used in one event loop.

    Args:
        zygote: That was told what to load, and not asked how it went.
        on_exit: Is told of each worker that ended.
    """

    def __init__(self, zygote: StartedZygote, on_exit: OnExit) -> None:
        self._zygote = zygote
        self._on_exit = on_exit
        self._sender = wire.Sender(zygote.control)
        self._receiver = wire.Receiver(zygote.control)
        self._numbers = count()
        self._running: set[int] = set()
        self._awaited: dict[int, asyncio.Future[int]] = {}
        self._loading = ""
        self._is_asked_to_end = False
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[Told] = self._loop.create_future()
        self._gone: asyncio.Future[int] = self._loop.create_future()

    @property
    def is_gone(self) -> bool:
        """Whether the zygote has ended."""
        return self._gone.done()

    async def open(self, within_s: float) -> Told:
        """Wait until the modules are loaded; how that went for each.

        Raises:
            LaunchFailed: The zygote has ended, or did not come to an end of it.
        """
        self._zygote.control.setblocking(False)
        self._loop.add_reader(self._zygote.control, self._hear)
        try:
            await asyncio.wait([self._loaded], timeout=within_s)
        except asyncio.CancelledError:
            self.kill()
            raise
        if not self._loaded.done():
            self._loaded.set_exception(
                LaunchFailed(
                    f"{self._loading or 'Python'} was not loaded within {within_s:g} s; take it out of the"
                    " preload list, or see what it waits for"
                )
            )
            self.kill()
        return self._loaded.result()

    async def start(self, order: dict[str, Any], fds: Sequence[int]) -> int:
        """Have a worker forked; its process id.

        Raises:
            LaunchFailed: The zygote is gone, or cannot.
        """
        number = next(self._numbers)
        answer = self._awaited[number] = self._loop.create_future()
        try:
            self._say({**order, "number": number}, fds)
            pid: int = await answer
            return pid
        except OSError as error:
            raise LaunchFailed(
                f"the zygote is gone: {error.strerror}; it is started again for the next"
            ) from error
        finally:
            self._awaited.pop(number, None)

    async def close(self) -> None:
        """Have the zygote end its workers and itself."""
        if not self._is_asked_to_end and not self._gone.done():
            self._is_asked_to_end = True
            with suppress(OSError):
                self._zygote.control.shutdown(socket.SHUT_WR)
        try:
            await asyncio.wait_for(asyncio.shield(self._gone), _CLOSE_S)
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """End the zygote at once, and with it all its workers."""
        if not self.is_gone:
            self._lost()

    def _say(self, word: Any, fds: Sequence[int]) -> None:
        self._sender.send(word, fds)
        if self._sender.is_behind:
            self._loop.add_writer(self._zygote.control, self._catch_up)

    def _catch_up(self) -> None:
        with suppress(OSError):  # it is gone, which the reader finds
            self._sender.flush()
        if not self._sender.is_behind:
            self._loop.remove_writer(self._zygote.control)

    def _hear(self) -> None:
        words = self._receiver.receive()
        if words is None:
            self._lost()
            return
        for (kind, *rest), _ in words:
            self._heard[kind](self, *rest)

    def _is_loading(self, name: str) -> None:
        self._loading = name

    def _has_loaded(self, told: Told) -> None:
        self._loaded.set_result(told)

    def _started(self, number: int, pid: int) -> None:
        answer = self._awaited.get(number)
        if answer is None or answer.done():
            os.kill(
                pid, signal.SIGKILL
            )  # whoever ordered it did not wait so long, and is not told of its end
            return
        self._running.add(pid)
        answer.set_result(pid)

    def _failed(self, number: int, why: str) -> None:
        answer = self._awaited.get(number)
        if answer is not None and not answer.done():
            answer.set_exception(LaunchFailed(why))

    def _ended(self, pid: int, code: int, cpu_s: float, peak: int) -> None:
        if pid in self._running:
            self._running.discard(pid)
            self._on_exit(WorkerExit(pid=pid, code=code, cpu_s=cpu_s, peak_rss_bytes=peak * _RSS_UNIT))

    _heard: Final[dict[str, Callable[..., None]]] = {
        "loading": _is_loading,
        "preloaded": _has_loaded,
        "started": _started,
        "failed": _failed,
        "exited": _ended,
    }

    def _lost(self) -> None:
        """The zygote is gone, or is to be, and its workers with it: the system kills them."""
        self._loop.remove_reader(self._zygote.control)
        self._loop.remove_writer(self._zygote.control)
        self._sender.close()
        code = end_zygote(self._zygote)
        for pid in self._running:
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)
        self._gone.set_result(code)
        if not self._loaded.done():
            what = f"while it loaded {self._loading}" if self._loading else "before it loaded anything"
            self._loaded.set_exception(
                LaunchFailed(
                    f"the zygote ended with {code} {what}; what it said is on the standard error, and what"
                    " cannot be loaded has to leave the preload list"
                )
            )
            self._loaded.exception()  # where nobody waits for it any more, nobody need be told
        for answer in self._awaited.values():
            if not answer.done():
                answer.set_exception(LaunchFailed(f"the zygote ended with {code} while it started a worker"))
        for pid in sorted(self._running):
            self._ended(pid, -signal.SIGKILL, 0.0, 0)
