"""Keeps a fleet of workers alive and hands messages to them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from perfloop.errors import FleetFailed, InvalidInput, LaunchFailed
from perfloop.process.scaling.policy import MOST_WORKERS
from perfloop.process.supervisor.berth import Berth, WorkerState
from perfloop.process.supervisor.control_socket import ControlSocket
from perfloop.process.supervisor.events import Event, EventLog
from perfloop.process.supervisor.group import Group
from perfloop.process.supervisor.ordering import start_order
from perfloop.process.supervisor.processes import Processes
from perfloop.process.supervisor.reading import fleet_of
from perfloop.process.supervisor.specs import FleetSpec
from perfloop.process.supervisor.starting import start_all
from perfloop.process.supervisor.statistics import FleetStatistics
from perfloop.process.supervisor.telling import log_event, log_line
from perfloop.process.zygote.started import StartedZygote

if TYPE_CHECKING:
    from perfloop.process.leaks.examination import Examination

_TEND_AFTER_S: Final = 5.0
"""A group is looked after where others take longer than that to get ready."""


class Supervisor:
    """A fleet of workers: `async with` starts it in order and, at the end, drains and ends it.

    Args:
        spec: What it is to be.
        on_line: Is told the worker, the stream (`out`, `err`) and each line that workers write; the log
            `perfloop.fleet` where it is left out.
        on_event: Is told what happens, as it happens; the same log where it is left out.
        started: A zygote that was started before for this fleet, to save the time.
    """

    def __init__(
        self,
        spec: FleetSpec,
        *,
        on_line: Callable[[str, str, str], None] = log_line,
        on_event: Callable[[Event], None] = log_event,
        started: StartedZygote | None = None,
    ) -> None:
        self.spec = spec
        self.log = EventLog(on_event)
        self._control = None if spec.control is None else ControlSocket(Path(spec.control), self)
        self._processes = Processes(spec, started)
        self._groups = {
            each.name: Group(
                each,
                self.log,
                launch=self._processes.launch,
                on_line=on_line,
                on_change=self._changed,
                room=self._room,
            )
            for each in spec.groups
        }
        self._rounds = start_order({each.name: each.needs for each in spec.groups})
        self._tending: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        """That it was opened in."""
        self._is_begun = asyncio.Event()
        self._is_open = False
        self._opened_s = 0.0

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> Self:
        """The fleet of a TOML file, which `perfloop fleet` reaches.

        Raises:
            InvalidInput: The file cannot be read, or says something that is not understood.
        """
        return cls(fleet_of(Path(path)), **options)

    async def __aenter__(self) -> Self:
        self._require_new()
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Start all groups, each after those that it needs; returns when each is ready, or was given up.

        A group of which no worker gets ready is given up, and those that need it are not started; events
        say so, and the others go on.

        Raises:
            LaunchFailed: No worker can be started at all.
            FleetFailed: Groups did not become ready, and nothing runs besides; or it was opened before.
        """
        self._require_new()
        self._loop = asyncio.get_running_loop()
        self._opened_s = time.monotonic()
        self._is_open = True
        if self._control is not None:
            await self._control.open()
        await self._processes.open()
        for module, why in self._processes.zygotes.unfit.items():
            self.log.add("not-preloaded", "fleet", f"{module} {why}; each worker imports it itself")
        faults = await start_all(self._groups, started=self._started)
        self._is_begun.set()
        self.log.add("open", "fleet", faults, after={"after_s": round(time.monotonic() - self._opened_s, 3)})

    async def close(self, reason: str = "the fleet is ended") -> None:
        """Drain and end all workers, those that others need last."""
        if not self._is_open:
            return
        self._is_open = False
        for task in self._tending:
            task.cancel()
        await asyncio.gather(*self._tending, return_exceptions=True)
        try:
            for names in reversed(self._rounds):
                await asyncio.gather(*(self._groups[name].stop(reason) for name in names))
            await self._processes.zygotes.close()
            self.log.add("closed", "fleet", reason)
            self._over.set()
        finally:
            if self._control is not None:  # last: until then people look at what is being ended
                await self._control.close()

    def kill(self) -> None:
        """End all workers at once; `close` has nothing to wait for then."""
        self._processes.kill()

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

    async def restart(self, name: str, *, reason: str = "it was asked for", with_ended: bool = True) -> None:
        """Put new processes in the place of a worker or of all of a group, one after another.

        They run the code as it is now. The first that does not get ready ends the round, but for one that
        somebody ends meanwhile. `with_ended` says whether workers that were drained or came to their end are
        started, too.

        Raises:
            InvalidInput: There is no such worker or group.
            LaunchFailed: A new process did not become ready.
            FleetFailed: The fleet is ended.
        """
        berths = self._named(name)
        self._require_open()
        await self._processes.zygotes.renew()
        for berth in berths:
            is_over = berth.state in (WorkerState.ENDED, WorkerState.DRAINED)
            if berth.has_left or (is_over and not with_ended):  # a group may be made smaller meanwhile
                continue
            try:
                await berth.replace(reason)
            except LaunchFailed:
                if len(berths) == 1 or not berth.is_away:
                    raise

    async def drain(self, name: str, *, reason: str = "it was asked for") -> None:
        """Let a worker or all of a group do what they have, and end them; `restart` brings them back.

        Raises:
            InvalidInput: There is no such worker or group.
            FleetFailed: The fleet is ended.
        """
        self._require_open()
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
        self._require_open()
        group = next((each for each in self._groups.values() if name in each.berths), None)
        if group is None:
            raise InvalidInput(f"{name} is a group; name one of its workers, as {name}-1")
        if not group.spec.has_channel:
            return None
        found = await GroupKeeper(group).examine(name, for_s)
        if found is None:
            raise FleetFailed(
                f"{name} did not answer; it may be busy with one long message, have a loop of its own, or"
                " have ended"
            )
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
        self._require_open()
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

    def _require_new(self) -> None:
        if self._loop is not None:
            raise FleetFailed("a fleet is opened once; make another Supervisor of its spec")

    def _require_open(self) -> None:
        if self._loop is None:
            raise FleetFailed("the fleet is not open; begin it with `async with`, or by open()")
        if not self._is_open:
            raise FleetFailed("the fleet is ended, and starts nothing any more; open another one")
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidInput(
                "a fleet is used in the event loop that it was opened in; from elsewhere, use"
                " asyncio.run_coroutine_threadsafe with that loop"
            )

    def _started(self, group: Group) -> None:
        if group.spec.memory is not None or group.spec.scaling is not None:
            self._tending.append(asyncio.create_task(self._tend(group)))

    async def _tend(self, group: Group) -> None:
        """Look after a group once all are started, for which loading numpy takes too long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_begun.wait(), _TEND_AFTER_S)
        from perfloop.process.supervisor.tending import tend

        await tend(group)

    def _changed(self) -> None:
        if self._is_open and all(group.is_over for group in self._groups.values()):
            self._over.set()
