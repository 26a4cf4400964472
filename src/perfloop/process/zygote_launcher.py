"""Starts workers by forking them from a zygote, whose modules are loaded already: some 3 ms for one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from perfloop.errors import LaunchFailed
from perfloop.process.launching import OnExit, WorkerOrder
from perfloop.process.zygote.started import StartedZygote, end_zygote, start_zygote
from perfloop.process.zygote_link import ZygoteLink


class ZygoteLauncher:
    """A Launcher by fork.

    Modules that start threads or open something when they are imported are left out: the zygote is started
    again without them, and `unfit` says so. A zygote that dies takes its workers with it; the next start
    begins a new one.

    Args:
        preload: Modules to load once.
        on_exit: Is told of each worker that ended.
        path: Folders in which modules are looked for before all others.
        started: A zygote that was started before with this `preload` and `path`, to save the time.
        preload_within_s: After this long, a module that is still being loaded is given up.
    """

    is_afresh = False
    """Whether each worker loads its modules itself."""

    def __init__(
        self,
        preload: Sequence[str],
        *,
        on_exit: OnExit,
        path: Sequence[str] = (),
        started: StartedZygote | None = None,
        preload_within_s: float = 60.0,
    ) -> None:
        self._preload = list(preload)
        self._path = list(path)
        self._on_exit = on_exit
        self._started = started
        self._within_s = preload_within_s
        self._link: ZygoteLink | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False
        self.import_s: Mapping[str, float] = {}
        """How long each preloaded module took."""
        self.unfit: dict[str, str] = {}
        """Modules that are not preloaded, and why."""

    async def open(self) -> None:
        """Have the modules loaded.

        Raises:
            LaunchFailed: The zygote ended before it was ready; what it said is on the standard error.
        """
        await self._opened()

    async def start(self, order: WorkerOrder, *, channel: socket.socket, stdout: int, stderr: int) -> int:
        """Fork a worker; its process id.

        Raises:
            LaunchFailed: The zygote cannot fork, or is gone and cannot be started again.
        """
        link = await self._opened()
        return await link.start(_plain(order, self.is_afresh), (channel.fileno(), stdout, stderr))

    async def close(self) -> None:
        """End the zygote, which ends its workers: it asks first, and kills after five seconds."""
        self._is_closed = True
        async with self._opening:
            started, self._started = self._started, None
        if started is not None:
            end_zygote(started)
        if self._link is not None:
            await self._link.close()

    async def _opened(self) -> ZygoteLink:
        async with self._opening:
            while self._link is None or self._link.is_gone:
                if self._is_closed:
                    break
                self._link = await self._open()
            if self._link is None or self._is_closed:
                raise LaunchFailed("the launcher is closed; nothing is started any more")
            return self._link

    async def _open(self) -> ZygoteLink | None:
        """A zygote; None where it is to be begun again without a module that spoils it."""
        preload = [] if self.is_afresh else [each for each in self._preload if each not in self.unfit]
        started, self._started = self._started, None
        link = ZygoteLink(started or start_zygote(preload, self._path), self._on_exit)
        told = await link.open(self._within_s)
        self.import_s = {name: took_s for name, took_s, _, _ in told}
        self.unfit |= {name: wrong for name, _, wrong, _ in told if wrong}
        if not any(is_spoiled for _, _, _, is_spoiled in told):
            return link
        link.kill()
        return None


def _plain(order: WorkerOrder, is_afresh: bool) -> dict[str, Any]:
    return {
        "name": order.name,
        "target": order.target,
        "arguments": list(order.arguments),
        "command": list(order.command),
        "is_afresh": is_afresh,
        "environment": dict(order.environment),
        "folder": order.folder,
        "limits": {
            "nice": order.limits.nice,
            "cpus": list(order.limits.cpus),
            "rlimits": dict(order.limits.rlimits),
        },
    }
