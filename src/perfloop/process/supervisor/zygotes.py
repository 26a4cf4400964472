"""The zygotes of a fleet: one that forks workers, and older ones, as long as a worker of theirs runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from perfloop.process.launching import WorkerExit, WorkerOrder
from perfloop.process.spawn_launcher import BEST_LAUNCHER
from perfloop.process.zygote.started import StartedZygote
from perfloop.process.zygote_launcher import ZygoteLauncher


class Zygotes:
    """A Launcher that can begin anew, so that workers restarted on demand run code as it is now.

    Args:
        preload: Modules to load once.
        on_exit: Is told of each worker that ended.
        path: Folders in which modules are looked for before all others.
        started: A zygote that was started before with this `preload`, to save the time.
    """

    def __init__(
        self,
        preload: Sequence[str],
        *,
        on_exit: Callable[[WorkerExit], None],
        path: Sequence[str] = (),
        started: StartedZygote | None = None,
    ) -> None:
        self._preload = preload
        self._path = path
        self._on_exit = on_exit
        self._pids: dict[ZygoteLauncher, set[int]] = {}
        self._starting: dict[ZygoteLauncher, int] = {}
        self._early: set[int] = set()
        """Workers whose ends were heard of before their starts."""
        self._closing: set[asyncio.Task[None]] = set()
        self._newest = self._made(started)

    @property
    def unfit(self) -> dict[str, str]:
        """Modules that are not preloaded, and why."""
        return self._newest.unfit

    async def open(self) -> None:
        """Have the modules loaded.

        Raises:
            LaunchFailed: The zygote ended before it was ready.
        """
        await self._newest.open()

    async def renew(self) -> None:
        """Load the modules afresh; workers that run go on as they are.

        Raises:
            LaunchFailed: They cannot be loaded; the older ones stay.
        """
        fresh = self._made(None)
        try:
            await fresh.open()
        except BaseException:
            del self._pids[fresh], self._starting[fresh]
            raise
        old, self._newest = self._newest, fresh
        self._close_unused(old)

    async def start(self, order: WorkerOrder, *, channel: socket.socket, stdout: int, stderr: int) -> int:
        """Fork a worker; its process id.

        Raises:
            LaunchFailed: It cannot be started.
        """
        launcher = self._newest
        self._starting[launcher] += 1
        try:
            pid = await launcher.start(order, channel=channel, stdout=stdout, stderr=stderr)
            if pid not in self._early:
                self._pids[launcher].add(pid)
            self._early.discard(pid)
        finally:
            self._starting[launcher] -= 1
            if not any(self._starting.values()):
                self._early.clear()
            self._close_unused(launcher)
        return pid

    async def close(self) -> None:
        """End, and with it all workers that still run."""
        await asyncio.gather(*(each.close() for each in list(self._pids)), *self._closing)

    def _made(self, started: StartedZygote | None) -> ZygoteLauncher:
        launcher = BEST_LAUNCHER(self._preload, on_exit=self._ended, path=self._path, started=started)
        self._pids[launcher] = set()
        self._starting[launcher] = 0
        return launcher

    def _ended(self, end: WorkerExit) -> None:
        for launcher, pids in list(self._pids.items()):
            if end.pid in pids:
                pids.discard(end.pid)
                self._close_unused(launcher)
                break
        else:
            self._early.add(end.pid)
        self._on_exit(end)

    def _close_unused(self, launcher: ZygoteLauncher) -> None:
        if launcher is self._newest or self._pids[launcher] or self._starting[launcher]:
            return
        del self._pids[launcher], self._starting[launcher]
        closing = asyncio.get_running_loop().create_task(launcher.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
