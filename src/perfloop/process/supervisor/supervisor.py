"""Keeps a fleet of workers alive and hands messages to them."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from perfloop.adapters.cgroup import out_of_memory_kills
from perfloop.errors import FleetFailed, InvalidInput
from perfloop.process.launching import WorkerExit
from perfloop.process.scaling.policy import MOST_WORKERS
from perfloop.process.supervisor.berth import Berth, WorkerState
from perfloop.process.supervisor.control_socket import ControlSocket
from perfloop.process.supervisor.events import Event, EventLog
from perfloop.process.supervisor.group import Group
from perfloop.process.supervisor.memory_kills import MemoryKills
from perfloop.process.supervisor.ordering import start_order
from perfloop.process.supervisor.reading import fleet_of
from perfloop.process.supervisor.running import Running
from perfloop.process.supervisor.specs import FleetSpec
from perfloop.process.supervisor.statistics import FleetStatistics
from perfloop.process.supervisor.zygotes import Zygotes
from perfloop.process.zygote.started import StartedZygote

if TYPE_CHECKING:
    from perfloop.process.leaks.examination import Examination

_IDS: Final = 1 << 40
"""Messages that one process can be sent; so each message of a fleet has an id of its own."""
_EARLY: Final = 100


def ignore_line(name: str, stream: str, line: str) -> None:
    """What workers write is not listened to."""


class Supervisor:
    """A fleet of workers: `async with` starts it in order and, at the end, drains and ends it.

    Args:
        spec: What it is to be.
        on_line: Is told the worker, the stream (`out`, `err`) and each line that workers write.
        on_event: Is told what happens, as it happens.
        started: A zygote that was started before for this fleet, to save the time.
    """

    def __init__(
        self,
        spec: FleetSpec,
        *,
        on_line: Callable[[str, str, str], None] = ignore_line,
        on_event: Callable[[Event], None] | None = None,
        started: StartedZygote | None = None,
    ) -> None:
        self.spec = spec
        self.log = EventLog(on_event)
        self._control = None if spec.control is None else ControlSocket(Path(spec.control), self)
        self._id = secrets.token_hex(8)
        self._zygotes = Zygotes(spec.preloaded, on_exit=self._exited, path=spec.path, started=started)
        self._groups = {
            each.name: Group(
                each,
                self.log,
                launch=self._launch,
                on_line=on_line,
                on_change=self._changed,
                room=self._room,
            )
            for each in spec.groups
        }
        self._rounds = start_order({each.name: each.needs for each in spec.groups})
        self._incarnations = 0
        self._running: dict[int, Running] = {}
        self._early: dict[int, WorkerExit] = {}
        """Ends of processes whose starts were not heard of yet."""
        self._tending: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._memory_kills = MemoryKills(lambda: out_of_memory_kills(Path("/")), clock=time.monotonic)
        self._is_open = False
        self._is_killed = False
        self._opened_s = 0.0

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> Self:
        """The fleet of a TOML file, which `perfloop fleet` reaches.

        Raises:
            InvalidInput: The file cannot be read, or says something that is not understood.
        """
        return cls(fleet_of(Path(path)), **options)

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Start all groups, each after those that it needs; returns when all are ready.

        Raises:
            LaunchFailed: No worker can be started at all.
            FleetFailed: A group has no worker that got ready.
        """
        self._opened_s = time.monotonic()
        self._is_open = True
        self._memory_kills.look()
        if self._control is not None:
            await self._control.open()
        await self._zygotes.open()
        for module, why in self._zygotes.unfit.items():
            self.log.add("not-preloaded", "fleet", f"{module} {why}; each worker imports it itself")
        for names in self._rounds:
            await asyncio.gather(*(self._groups[name].start() for name in names))
            for name in names:
                self._groups[name].require_ready()
        asking = [each for each in self._groups.values() if each.spec.memory or each.spec.scaling]
        if asking:
            # It loads numpy, for which a fleet's start would wait.
            from perfloop.process.supervisor.tending import tend

            self._tending = tend(asking)
        self.log.add("open", "fleet", after={"after_s": round(time.monotonic() - self._opened_s, 3)})

    async def close(self, reason: str = "the fleet is ended") -> None:
        """Drain and end all workers, those that others need last."""
        if not self._is_open:
            return
        self._is_open = False
        if self._control is not None:
            await self._control.close()
        for task in self._tending:
            task.cancel()
        await asyncio.gather(*self._tending, return_exceptions=True)
        for names in reversed(self._rounds):
            await asyncio.gather(*(self._groups[name].stop(reason) for name in names))
        await self._zygotes.close()
        self.log.add("closed", "fleet", reason)
        self._over.set()

    def kill(self) -> None:
        """End all workers at once; `close` has nothing to wait for then."""
        self._is_killed = True
        for running in list(self._running.values()):
            self._kill(running)

    async def wait(self) -> None:
        """Wait until no worker runs or will run again.

        Raises:
            FleetFailed: A group gave up.
        """
        await self._over.wait()
        for group in self._groups.values():
            if group.fault is not None:
                raise group.fault
        self.require_no_failure()

    def require_no_failure(self) -> None:
        """Raises FleetFailed when a worker was given up."""
        given_up = [
            berth.name
            for group in self._groups.values()
            for berth in group.workers
            if berth.state is WorkerState.GIVEN_UP
        ]
        if given_up:
            raise FleetFailed(f"given up: {', '.join(given_up)}; the log above says why each of them ended")

    async def send(self, group: str, message: Any, *, key: Hashable | None = None) -> int:
        """Hand a message to a worker of the group; its id. Waits while none has room.

        Messages of one key are done one after another, in the order in which they were sent. A message whose
        worker ends before it has acknowledged it is sent again, to whomever, with `is_again` and the same id.

        Raises:
            InvalidInput: There is no such group, it takes no messages, or the message cannot be encoded.
            FleetFailed: The group has no worker any more.
        """
        return await self._takes(group).send(message, key)

    async def ask(self, group: str, message: Any, *, key: Hashable | None = None) -> Any:
        """Send a message and wait until it is done; what its handler returned.

        Raises:
            MessageFailed: The handler raised, or the message ended its workers too often.
            InvalidInput: As `send`.
            FleetFailed: As `send`.
        """
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._takes(group).send(message, key, reply)
        return await reply

    async def restart(self, name: str, *, reason: str = "it was asked for") -> None:
        """Put new processes in the place of a worker or of all of a group, one after another.

        They run the code as it is now. The first that does not get ready ends the round.

        Raises:
            InvalidInput: There is no such worker or group.
            LaunchFailed: A new process did not become ready.
            FleetFailed: The fleet is ended.
        """
        berths = self._named(name)
        self._require_open()
        await self._zygotes.renew()
        for berth in berths:
            if not berth.has_left:  # the group may have been made smaller meanwhile
                await berth.replace(reason)

    async def drain(self, name: str, *, reason: str = "it was asked for") -> None:
        """Let a worker or all of a group do what they have, and end them; `restart` brings them back.

        Raises:
            InvalidInput: There is no such worker or group.
        """
        await asyncio.gather(*(berth.end(reason) for berth in self._named(name)))

    async def scale(self, group: str, count: int, *, reason: str = "it was asked for") -> None:
        """Have so many workers in a group.

        Raises:
            InvalidInput: There is no such group, the number is not from 0 to 1000, or there are no
                connections for it.
            FleetFailed: The fleet is ended.
        """
        if not isinstance(count, int) or not 0 <= count <= MOST_WORKERS:
            raise InvalidInput(f"a group cannot have {count} workers; give a whole number to {MOST_WORKERS}")
        found = self._group(group)
        self._require_open()
        found.require_room(count)
        await found.scale(count, reason)

    async def examine(self, name: str, for_s: float) -> Examination | None:
        """Look for so long which lines of a worker hold more and more, while it works on, slower.

        None where it runs a command, into which nobody can look.

        Raises:
            InvalidInput: There is no such worker.
            FleetFailed: It did not answer.
        """
        from perfloop.process.supervisor.tending import GroupKeeper  # it loads numpy

        self._named(name)
        group = self._groups[name.rpartition("-")[0] or name]
        if not group.spec.has_channel:
            return None
        found = await GroupKeeper(group).examine(name, for_s)
        if found is None:
            raise FleetFailed(f"{name} did not answer; it may be busy with one long message, or have ended")
        return found

    def dead_letters(self, group: str) -> tuple[tuple[int, Any], ...]:
        """The last thousand messages that ended their workers too often, with their ids.

        Raises:
            InvalidInput: There is no such group.
        """
        return tuple(self._group(group).post.dead_letters)

    def statistics(self) -> FleetStatistics:
        """What runs, and what was done."""
        # Only who asks needs what reads processes.
        from perfloop.process.supervisor.measured import measured

        return FleetStatistics(
            pid=os.getpid(),
            age_s=time.monotonic() - self._opened_s,
            groups=tuple(measured(each, time.monotonic()) for each in self._groups.values()),
        )

    def _group(self, name: str) -> Group:
        self.spec.group(name)
        return self._groups[name]

    def _room(self, name: str) -> int | None:
        return self.spec.room(name, {each: len(group.berths) for each, group in self._groups.items()})

    def _takes(self, name: str) -> Group:
        group = self._groups.get(name) or self._group(name)
        if not group.spec.has_channel:
            raise InvalidInput(
                f"{name} runs a command, which takes no messages; give it a handler or a target"
            )
        return group

    def _named(self, name: str) -> list[Berth]:
        """The worker of this name, or those of the group."""
        if name in self._groups:
            return self._groups[name].workers
        for group in self._groups.values():
            if name in group.berths:
                return [group.berths[name]]
        known = ", ".join(
            [*self._groups, *(berth for each in self._groups.values() for berth in each.berths)]
        )
        raise InvalidInput(f"there is no worker or group {name}; there are {known}")

    def _require_open(self) -> None:
        if not self._is_open:
            raise FleetFailed("the fleet is ended, and starts nothing any more; open another one")

    async def _launch(self, group: Group, name: str) -> Running:
        self._incarnations += 1
        running = Running(
            name,
            group.spec,
            first_id=self._incarnations * _IDS,
            listener=group.post,
            clock=asyncio.get_running_loop().time,
        )
        await running.start(self._zygotes, self._id)
        self._running[running.pid] = running
        early = self._early.pop(running.pid, None)
        if early is not None:
            self._exited(early)
        elif self._is_killed:
            self._kill(running)
        return running

    def _kill(self, running: Running) -> None:
        running.is_asked = True
        running.kill("the fleet is ended at once")

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

    def _changed(self) -> None:
        if self._is_open and all(group.is_over for group in self._groups.values()):
            self._over.set()
