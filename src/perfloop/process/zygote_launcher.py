"""Starts workers by forking them from a zygote, whose modules are loaded already: some 3 ms for one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from perfloop.errors import LaunchFailed
from perfloop.process.launching import OnExit, WorkerExit, WorkerOrder
from perfloop.process.zygote import wire
from perfloop.process.zygote.started import StartedZygote, start_zygote

_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts the largest resident size."""
_FDS: Final = ("channel", "stdout", "stderr")


class ZygoteLauncher:
    """A Launcher by fork.

    Modules that start threads or open sockets when they are imported are left out: the zygote is started
    again without them, and `unfit` says so. A zygote that dies takes its workers with it; the next start
    begins a new one.

    Args:
        preload: Modules to load once.
        on_exit: Is told of each worker that ended.
        started: A zygote that was started before with this `preload`, to save the time.
    """

    def __init__(
        self, preload: Sequence[str], *, on_exit: OnExit, started: StartedZygote | None = None
    ) -> None:
        self._preload = list(preload)
        self._on_exit = on_exit
        self._zygote = started
        self._is_open = False
        self._running: set[int] = set()
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self._closed: asyncio.Future[None] | None = None
        self.import_s: Mapping[str, float] = {}
        """How long each preloaded module took."""
        self.unfit: dict[str, str] = {}
        """Modules that are not preloaded, and why."""

    async def open(self) -> None:
        """Have the modules loaded.

        Raises:
            LaunchFailed: The zygote ended before it was ready; what it said is on the standard error.
        """
        while not self._is_open:
            preload = [each for each in self._preload if each not in self.unfit]
            self._zygote = self._zygote or start_zygote(preload)
            told = await asyncio.to_thread(_first_word, self._zygote)
            self.import_s = {name: took_s for name, took_s, _ in told}
            wrong = {name: what for name, _, what in told if what}
            if any("when it is imported" in what for what in wrong.values()):
                await self._drop()
            else:
                asyncio.get_running_loop().add_reader(self._zygote.control, self._hear)
                self._is_open = True
            self.unfit |= wrong

    async def start(self, order: WorkerOrder, *, channel: socket.socket, stdout: int, stderr: int) -> int:
        """Fork a worker; its process id.

        Raises:
            LaunchFailed: The zygote is gone and cannot be started again.
        """
        await self.open()
        assert self._zygote is not None
        answer = self._awaited[order.name] = asyncio.get_running_loop().create_future()
        wire.send(self._zygote.control, _plain(order), (channel.fileno(), stdout, stderr))
        pid: int = await answer
        return pid

    async def close(self) -> None:
        """End the zygote, which ends its workers: it asks first, and kills after five seconds."""
        if self._zygote is not None and self._is_open:
            self._closed = asyncio.get_running_loop().create_future()
            self._zygote.control.shutdown(socket.SHUT_WR)
            await self._closed
        elif self._zygote is not None:
            await self._drop()

    async def _drop(self) -> None:
        """End a zygote that has no workers yet."""
        zygote = self._forget()
        await asyncio.to_thread(os.waitpid, zygote.pid, 0)

    def _forget(self) -> StartedZygote:
        assert self._zygote is not None
        zygote, self._zygote = self._zygote, None
        if self._is_open:
            asyncio.get_running_loop().remove_reader(zygote.control)
        self._is_open = False
        zygote.control.close()
        return zygote

    def _hear(self) -> None:
        """Take one word of the zygote."""
        assert self._zygote is not None
        try:
            received = wire.receive(self._zygote.control)
        except (EOFError, OSError):
            received = None
        if received is None:
            self._lost()
            return
        kind, *rest = received[0]
        if kind == "started":
            name, pid = rest
            self._running.add(pid)
            self._awaited.pop(name).set_result(pid)
        else:
            self._ended(*rest)

    def _ended(self, pid: int, code: int, cpu_s: float, peak: int) -> None:
        self._running.discard(pid)
        self._on_exit(WorkerExit(pid=pid, code=code, cpu_s=cpu_s, peak_rss_bytes=peak * _RSS_UNIT))

    def _lost(self) -> None:
        """The zygote is gone: its workers are killed by the system, or hear it at their channel's end."""
        zygote = self._forget()
        _, status = os.waitpid(zygote.pid, 0)
        for pid in sorted(self._running):
            self._ended(pid, -signal.SIGKILL, 0.0, 0)
        for answer in self._awaited.values():
            if not answer.done():
                code = os.waitstatus_to_exitcode(status)
                answer.set_exception(LaunchFailed(f"the zygote ended with {code} while it started a worker"))
        self._awaited.clear()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)


def _first_word(zygote: StartedZygote) -> Sequence[tuple[str, float, str]]:
    """What it says of the modules that it was to load."""
    try:
        received = wire.receive(zygote.control)
    except EOFError:
        received = None
    if received is None:
        _, status = os.waitpid(zygote.pid, 0)
        raise LaunchFailed(
            f"the zygote ended with {os.waitstatus_to_exitcode(status)} before it was ready; a module of the"
            " preload list may end the process when it is imported"
        )
    told: Sequence[tuple[str, float, str]] = received[0][2]
    return told


def _plain(order: WorkerOrder) -> dict[str, Any]:
    return {
        "name": order.name,
        "target": order.target,
        "arguments": list(order.arguments),
        "environment": dict(order.environment),
        "folder": order.folder,
        "fds": list(_FDS),
    }
