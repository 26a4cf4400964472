"""All processes of a fleet: each is started here, and told of its end."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from pathlib import Path
from typing import Final

import msgspec

from perfloop.adapters.cgroup import out_of_memory_kills
from perfloop.process.launching import WorkerExit
from perfloop.process.supervisor.group import Group
from perfloop.process.supervisor.memory_kills import MemoryKills
from perfloop.process.supervisor.running import INCARNATION_BITS, Running
from perfloop.process.supervisor.specs import FleetSpec
from perfloop.process.supervisor.zygotes import Zygotes
from perfloop.process.zygote.started import StartedZygote

_EARLY: Final = 100


class Processes:
    """What runs of a fleet.

    Args:
        spec: Of the fleet.
        started: A zygote that was started before for this fleet, to save the time.
    """

    def __init__(self, spec: FleetSpec, started: StartedZygote | None) -> None:
        self.zygotes = Zygotes(spec.preloaded, on_exit=self._exited, path=spec.path, started=started)
        self._id = secrets.token_hex(8)
        self._incarnations = 0
        self._running: dict[int, Running] = {}
        self._early: dict[int, WorkerExit] = {}
        """Ends of processes whose starts were not heard of yet."""
        self._memory_kills = MemoryKills(lambda: out_of_memory_kills(Path("/")), clock=time.monotonic)
        self._is_killed = False

    async def open(self) -> None:
        """Have the modules loaded.

        Raises:
            LaunchFailed: No worker can be started at all.
        """
        self._memory_kills.look()
        await self.zygotes.open()

    async def launch(self, group: Group, name: str) -> Running:
        """Start a process for a worker of this group.

        Raises:
            LaunchFailed: It cannot be started.
        """
        self._incarnations += 1
        running = Running(
            name,
            group.spec,
            first_id=self._incarnations << INCARNATION_BITS,
            listener=group.post,
            clock=asyncio.get_running_loop().time,
        )
        await running.start(self.zygotes, self._id)
        self._running[running.pid] = running
        early = self._early.pop(running.pid, None)
        if early is not None:
            self._exited(early)
        elif self._is_killed:
            _kill(running)
        return running

    def kill(self) -> None:
        """End all at once, and those that are being started."""
        self._is_killed = True
        for running in list(self._running.values()):
            _kill(running)

    def _exited(self, end: WorkerExit) -> None:
        running = self._running.pop(end.pid, None)
        if running is not None:
            is_shortage = self._memory_kills.look()
            if end.code == -signal.SIGKILL and not running.killed_for:
                own = running.memory_kills
                end = msgspec.structs.replace(end, is_out_of_memory=is_shortage if own is None else own > 0)
            running.has_exited(end)
        elif len(self._early) < _EARLY:
            self._early[end.pid] = end


def _kill(running: Running) -> None:
    running.is_asked = True
    running.kill("the fleet is ended at once")
