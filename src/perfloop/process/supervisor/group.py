"""Workers of one kind: how many there are, and who is restarted with whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from perfloop.errors import FleetFailed, InvalidInput
from perfloop.process.channel.unacknowledged import Sent
from perfloop.process.launching import WorkerExit
from perfloop.process.supervisor.berth import Berth, WorkerState
from perfloop.process.supervisor.endings import cause_of
from perfloop.process.supervisor.events import EventLog
from perfloop.process.supervisor.holding import plan_of
from perfloop.process.supervisor.post import Post
from perfloop.process.supervisor.restarting import restarted_with
from perfloop.process.supervisor.running import Running
from perfloop.process.supervisor.specs import GroupSpec

Launch = Callable[["Group", str], Awaitable[Running]]


class Group:
    """The workers of one group.

    Args:
        spec: What it is to be.
        log: Of the fleet.
        launch: Starts a process.
        on_line: Is told the worker, the stream and the line of what workers write.
        on_change: Is called when a worker is in another state.
        room: How many workers there may be, for their connections; None for any number.
    """

    def __init__(
        self,
        spec: GroupSpec,
        log: EventLog,
        *,
        launch: Launch,
        on_line: Callable[[str, str, str], None],
        on_change: Callable[[], None],
        room: Callable[[str], int | None],
    ) -> None:
        self.spec = spec
        self.log = log
        self.berths: dict[str, Berth] = {}
        self.fault: BaseException | None = None
        self.post = Post(spec, log, self._processes, on_line=on_line)
        self._on_change = on_change
        self._room = room
        self._launch = launch
        self._together: asyncio.Task[None] | None = None
        self._scaling = asyncio.Lock()
        self._is_started = False

    @property
    def workers(self) -> list[Berth]:
        """In the order of their start."""
        return list(self.berths.values())

    @property
    def room(self) -> int | None:
        """How many workers it may have now, beside those of other groups; None for any number."""
        return self._room(self.spec.name)

    def require_room(self, count: int) -> None:
        """Raises InvalidInput where there are too few connections for so many workers."""
        if self.room is not None and count > max(self.room, len(self.berths)):
            raise InvalidInput(
                f"there are connections for {self.room} workers of {self.spec.name}, of"
                f" {self.spec.pool_size} each; raise max_connections, or make its pools or other groups"
                " smaller"
            )

    @property
    def is_over(self) -> bool:
        """Whether all its workers came to their end, or were given up; to be drained is no end."""
        ends = (WorkerState.ENDED, WorkerState.GIVEN_UP)
        return bool(self.berths) and not self.is_alive and all(berth.state in ends for berth in self.workers)

    @property
    def is_alive(self) -> bool:
        """Whether any worker runs, or will."""
        is_restarting = self._together is not None and not self._together.done()
        return is_restarting or any(berth.is_alive for berth in self.workers)

    async def start(self) -> None:
        """Start all, and wait until each is ready, or was given up."""
        for word in plan_of(self.spec.limits, 0).words:
            self.log.add("not-limited", self.spec.name, word)
        self._is_started = True
        self._grow(self.spec.count)
        for berth in self.workers:
            berth.begin()
        await self.settled()

    async def settled(self) -> None:
        """Wait until no worker is between two states."""
        while not all(berth.is_settled for berth in self.workers):
            await asyncio.gather(*(berth.settled() for berth in self.workers))

    def fault_of_start(self) -> str:
        """Why none of its workers got ready, or did its work and came to its end; empty where one did."""
        states = {berth.state for berth in self.workers}
        if not states or WorkerState.READY in states or states == {WorkerState.ENDED}:
            return ""
        told = self._last_end()
        return f"{self.spec.name} did not become ready" + (f": {told}" if told else "")

    def hold_back(self, needed: str) -> str:
        """Start nothing, because a group that it needs did not become ready; what to say of that."""
        reason = f"{needed}, which it needs, did not become ready"
        name = self.spec.name
        self.log.add("not-started", name, reason)
        for berth in self._grow(self.spec.count):
            berth.give_up()
        return f"{name} was not started: {reason}"

    def _last_end(self) -> str:
        """How a worker of it ended last, or why it could not be started."""
        for event in reversed(self.log.newest()):
            if event.kind == "not-started" and event.name == self.spec.name:
                return event.reason
            if event.name in self.berths and event.kind in ("ended", "launch-failed"):
                return f"{event.name} {event.kind} {event.reason}" if event.kind == "ended" else event.reason
        return ""

    async def stop(self, reason: str) -> None:
        """Drain and end all."""
        if self._together is not None:
            self._together.cancel()
        await asyncio.gather(*(berth.leave(reason) for berth in reversed(self.workers)))
        if self.post.unplaced:
            self.log.add(
                "messages-lost",
                self.spec.name,
                "no worker is left to do them",
                before={"messages": self.post.unplaced},
            )

    async def scale(self, count: int, reason: str) -> None:
        """Have so many workers: new ones are started, the last ones drained and ended."""
        async with self._scaling:
            change = {"before": {"workers": len(self.berths)}, "after": {"workers": count}}
            self.log.add("scaled", self.spec.name, reason, **change)
            fresh = self._grow(count)
            for berth in fresh:
                berth.begin()
            surplus = self.workers[count:]
            await asyncio.gather(*(berth.leave(reason) for berth in surplus))
            for berth in surplus:
                del self.berths[berth.name]
            self.post.collect()
        await asyncio.gather(*(berth.settled() for berth in fresh))
        self.changed()

    async def send(self, message: Any, key: Hashable | None, reply: asyncio.Future[Any] | None = None) -> int:
        """Hand a message to a worker; its id. Waits while none has room.

        Raises:
            FleetFailed: There is no worker any more.
        """
        if not self.is_alive:
            raise FleetFailed(self._gone())
        return await self.post.send(message, key, reply)

    async def launch(self, name: str) -> Running:
        """Start a process."""
        running = await self._launch(self, name)
        self.log.add("started", name, after={"pid": running.pid})
        return running

    def opened(self, berth: Berth) -> None:
        """The worker is ready: there may be messages for it."""
        assert berth.running is not None
        assert berth.running.opened_s is not None
        took_s = berth.running.opened_s - berth.running.started_s
        self.log.add("ready", berth.name, after={"pid": berth.running.pid, "after_s": round(took_s, 4)})
        self.post.collect()

    def ended(self, running: Running, end: WorkerExit) -> list[Sent]:
        """A process ended; what of its messages is to be done again."""
        self.log.add("ended", running.name, cause_of(running, end), before=_numbers(running, end))
        is_regular = running.is_asked and not running.killed_for
        return running.left if is_regular else self.post.died(running)

    def place(self, left: Sequence[Sent]) -> None:
        """Have these messages done by any worker."""
        self.post.place(left)

    def hand(self, left: list[Sent], running: Running) -> None:
        """Have these messages done by this process."""
        self.post.hand(left, running)

    def changed(self) -> None:
        """A worker is in another state."""
        if not self.is_alive:
            self.post.refuse(self._gone())
        self._on_change()

    def restart_together(self, berth: Berth, delay_s: float | None) -> None:
        """Restart this worker with those that its strategy wants restarted, or end them with it."""
        names = restarted_with(self.spec.strategy, tuple(self.berths), berth.name)
        if self._together is not None and not self._together.done():
            self._together.cancel()
            names = tuple(self.berths)
        self._together = asyncio.get_running_loop().create_task(self._restart(names, berth.name, delay_s))
        self._together.add_done_callback(self.kept)

    def kept(self, keeping: asyncio.Task[None]) -> None:
        """A worker is not kept any more: a fault of this program is not to pass unseen."""
        if not keeping.cancelled() and keeping.exception() is not None:
            self.fault = keeping.exception()
        self.changed()

    def _grow(self, count: int) -> list[Berth]:
        """Have at least so many places; the new ones."""
        fresh = []
        for number in range(1, count + 1):
            name = f"{self.spec.name}-{number}"
            if name not in self.berths and len(self.berths) < count:
                self.berths[name] = Berth(name, self)
                fresh.append(self.berths[name])
        return fresh

    async def _restart(self, names: Sequence[str], ended: str, delay_s: float | None) -> None:
        """The last is ended first; then all are started in their order.

        Who was drained on demand, before or meanwhile, stays away.
        """
        named = [self.berths[name] for name in names if name in self.berths]
        berths = [berth for berth in named if berth.state is not WorkerState.DRAINED]
        reason = f"{ended} ended, and the strategy is {self.spec.strategy}"
        for berth in reversed(berths):
            if berth.name != ended:
                await berth.end(reason, then=WorkerState.ENDED if delay_s is None else WorkerState.WAITING)
        if delay_s is None:
            return
        await asyncio.sleep(delay_s)
        for berth in berths:
            if berth.state is WorkerState.WAITING:
                berth.begin()
                await berth.settled()

    def _gone(self) -> str:
        """Why nobody takes a message, and the way out."""
        name = self.spec.name
        if not self.berths:
            if self._is_started:
                return f"{name} has no workers; `perfloop fleet scale {name} 1` gives it one"
            return f"{name} is not started yet; send to it when the fleet is open"
        if any(berth.state is WorkerState.GIVEN_UP for berth in self.workers):
            told = self._last_end()
            why = f" ({told})" if told else ""
            return f"{name} was given up{why}; `perfloop fleet restart {name}` begins anew"
        return f"{name} has no worker any more; `perfloop fleet restart {name}` brings back those it had"

    def _processes(self) -> Iterable[Running]:
        return [berth.running for berth in self.berths.values() if berth.running is not None]


def _numbers(running: Running, end: WorkerExit) -> dict[str, object]:
    numbers: dict[str, object] = {
        "pid": running.pid,
        "handled": running.handled,
        "left": sum(each.left for each in running.left),
        "cpu_s": round(end.cpu_s, 3),
        "peak_rss_mb": round(end.peak_rss_bytes / 2**20, 1),
    }
    with suppress(IndexError):
        numbers["message"] = running.in_hand or running.left[0].next_id
    return numbers
