"""One worker's place in its group: a process runs in it, and another one when that has ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Final, Protocol

from perfloop.errors import LaunchFailed
from perfloop.process.channel.unacknowledged import Sent
from perfloop.process.launching import WorkerExit
from perfloop.process.supervisor.endings import cause_of
from perfloop.process.supervisor.events import EventLog
from perfloop.process.supervisor.looking import until_hung, until_ready_or_ended
from perfloop.process.supervisor.restarting import RestartHistory, Strategy, decide
from perfloop.process.supervisor.running import Running
from perfloop.process.supervisor.specs import GroupSpec

_ENDED_MEANWHILE: Final = "its worker was ended meanwhile"
_NEVER_STARTED: Final = WorkerExit(pid=0, code=1, cpu_s=0.0, peak_rss_bytes=0)


class WorkerState(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    WAITING = "waiting"
    """To be started again."""
    DRAINED = "drained"
    """It was ended on demand."""
    ENDED = "ended"
    """It came to its end, and is not started again."""
    GIVEN_UP = "given up"
    """It was restarted too often."""


_OVER: Final = (WorkerState.DRAINED, WorkerState.ENDED, WorkerState.GIVEN_UP)


class Host(Protocol):
    """The group, as its berths see it."""

    spec: GroupSpec
    log: EventLog

    async def launch(self, name: str) -> Running:
        """Start a process."""

    def opened(self, berth: Berth) -> None:
        """The worker is ready: there may be messages for it."""

    def ended(self, running: Running, end: WorkerExit) -> list[Sent]:
        """A process ended; what of its messages is to be done again."""

    def place(self, left: Sequence[Sent]) -> None:
        """Have these messages done by any worker."""

    def hand(self, left: list[Sent], running: Running) -> None:
        """Have these messages done by this process."""

    def restart_together(self, berth: Berth, delay_s: float | None) -> None:
        """The strategy wants others restarted with this one, which is done for it; None ends them."""

    def changed(self) -> None:
        """A worker is in another state."""

    def kept(self, keeping: asyncio.Task[None]) -> None:
        """A worker is not kept any more."""


class Berth:
    """Keeps one worker alive.

    Args:
        name: Of the worker.
        host: Its group.
    """

    def __init__(self, name: str, host: Host) -> None:
        self.name = name
        self.state = WorkerState.DRAINED
        self.running: Running | None = None
        self.restarts = 0
        self.left: list[Sent] = []
        """Messages for the next process."""
        self.has_left = False
        """Whether the group has this place no more."""
        self._host = host
        self._history = RestartHistory()
        self._is_wanted = False
        self._fresh: Running | None = None
        """The process that is to take the place of the one that runs, until it is ready."""
        self._keeping: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        """Held while the process of this place is exchanged."""
        self._wake = asyncio.Event()
        """Ends the wait for the next start."""
        self._changed = asyncio.Event()
        """Of the state; a new one for each."""

    @property
    def is_settled(self) -> bool:
        """Whether it is in a state that lasts."""
        return self.state in (WorkerState.READY, *_OVER)

    @property
    def is_away(self) -> bool:
        """Whether it was ended on demand, or the group has this place no more."""
        return self.has_left or (not self._is_wanted and self.state is not WorkerState.GIVEN_UP)

    @property
    def is_alive(self) -> bool:
        """Whether a process runs here, or will."""
        return self.state not in _OVER

    def begin(self, *, afresh: bool = False) -> None:
        """Start the worker and keep it alive from here on; `afresh` forgets earlier restarts."""
        if self.has_left:
            return
        if afresh:
            self._history = RestartHistory()
        self._is_wanted = True
        self._wake.clear()
        if self._keeping is None or self._keeping.done():
            self._to(WorkerState.STARTING)
            self._keeping = asyncio.get_running_loop().create_task(self._keep())
            self._keeping.add_done_callback(self._host.kept)

    async def end(self, reason: str, *, then: WorkerState = WorkerState.DRAINED) -> None:
        """Drain the worker, end it, and do not start it again; its state is as `then` says."""
        self._is_wanted = False
        self._wake.set()
        if self._fresh is not None:
            self._fresh.kill(_ENDED_MEANWHILE)
        async with self._lock:  # a start under way is waited for
            running = self.running
        if running is not None:
            self._host.log.add("stopping", self.name, reason, before={"under way": running.under_way})
            self._to(WorkerState.STOPPING)
            await running.stop()
        keeping = self._keeping
        if keeping is not None:
            await asyncio.wait([keeping])
        is_told = self.has_left and self.state in (WorkerState.GIVEN_UP, WorkerState.ENDED)
        if self._keeping is keeping and not is_told:  # nobody has begun it anew
            self._to(WorkerState.DRAINED if self.has_left else then)

    def give_up(self) -> None:
        """Start nothing until somebody asks for it."""
        self._to(WorkerState.GIVEN_UP)

    async def leave(self, reason: str) -> None:
        """Drain and end the worker for good: whoever restarts it from now on starts nothing."""
        self.has_left = True
        await self.end(reason)

    async def replace(self, reason: str) -> None:
        """Put a new process in the place of this one; no message is lost. One that is being ended ends first.

        Raises:
            LaunchFailed: The new one did not become ready. Where both may run at once, the old one goes on.
        """
        self._host.log.add("replacing", self.name, reason)
        if self.running is not None and self._is_wanted and self._host.spec.overlaps:
            await self._exchange()
        else:
            await self.end(reason, then=WorkerState.WAITING)
            self.begin(afresh=True)
            await self.settled()
        if self.state is not WorkerState.READY:
            raise LaunchFailed(f"{self.name} is {self.state} after its restart; see `perfloop fleet events`")

    async def settled(self) -> None:
        """Wait until the worker is ready, or will not be."""
        while not self.is_settled:
            await self._changed.wait()

    async def _exchange(self) -> None:
        async with self._lock:
            if not self._is_wanted:
                raise LaunchFailed(f"{self.name} is being ended; restart it once it has")
            new = self._fresh = await self._host.launch(self.name)
            try:
                await self._made_ready(new)
            finally:
                self._fresh = None
            old, self.running = self.running, new
            self._look(new, is_ready=True)
        if old is not None:
            if not old.ended.done():
                await old.stop()
            self._host.place(self._host.ended(old, await old.ended))

    async def _made_ready(self, new: Running) -> None:
        if not self._is_wanted:
            new.kill(_ENDED_MEANWHILE)
        try:
            await until_ready_or_ended(new)
        except TimeoutError as error:
            new.kill("it was not ready in time")
            await new.ended
            within_s = new.group.ready.within_s
            raise LaunchFailed(
                f"the new {self.name} was not ready within {within_s:g} s; the old one goes on"
            ) from error
        except BaseException:
            new.kill("its start was given up")
            raise
        if not self._is_wanted:  # since it got ready, or because the old one is not started again
            new.kill(_ENDED_MEANWHILE)
        if new.has_ended or not self._is_wanted:
            cause = cause_of(new, await new.ended)
            raise LaunchFailed(f"the new {self.name} ended {cause}, before it was ready; the old one goes on")

    async def _keep(self) -> None:
        """Start the process again as often as the rules say."""
        while self.running is not None or not self._is_over():
            end, running = await self._run()
            if running is not self.running:
                continue
            self.running = None
            self._look(None)
            if running is not None:
                self.left += self._host.ended(running, end)
            if self._is_over() or not await self._again(running, end):
                break
        self._host.place(self._take())

    def _is_over(self) -> bool:
        return not self._is_wanted

    async def _run(self) -> tuple[WorkerExit, Running | None]:
        """Have a process in this place until it ends."""
        async with self._lock:
            if self.running is None:
                if self._is_over():
                    return _NEVER_STARTED, None
                self._to(WorkerState.STARTING)
                try:
                    self.running = await self._host.launch(self.name)
                except LaunchFailed as error:
                    self._host.log.add("launch-failed", self.name, str(error))
                    return _NEVER_STARTED, None
                self._look(self.running)
        running = self.running
        return await asyncio.shield(running.ended), running

    async def _again(self, running: Running | None, end: WorkerExit) -> bool:
        """Decide, and wait as long as decided; whether to start again."""
        now_s = time.monotonic()
        opened_s = None if running is None else running.opened_s
        decision = decide(
            self._host.spec.restart,
            self._history,
            code=end.code,
            ran_s=None if opened_s is None else now_s - opened_s,
            now_s=now_s,
            rand=random.random(),
        )
        self._history = decision.history
        if decision.delay_s is None:
            self._is_wanted = False
            self._host.log.add("gave-up" if decision.is_given_up else "over", self.name, decision.reason)
            self._to(WorkerState.GIVEN_UP if decision.is_given_up else WorkerState.ENDED)
            if decision.is_given_up and self._host.spec.strategy is not Strategy.ONE_FOR_ONE:
                self._host.restart_together(self, None)
            return False
        self.restarts += 1
        self._host.log.add(
            "restarting", self.name, decision.reason, after={"in_s": round(decision.delay_s, 3)}
        )
        if self._host.spec.strategy is not Strategy.ONE_FOR_ONE:
            self._to(WorkerState.WAITING)
            self._is_wanted = False
            self._host.restart_together(self, decision.delay_s)
            return False
        if decision.delay_s:
            self._to(WorkerState.WAITING)
            self._host.place(self._take())
            await self._pause(decision.delay_s)
        return True

    async def _pause(self, delay_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), delay_s)

    def _look(self, running: Running | None, *, is_ready: bool = False) -> None:
        """Look at this process from here on, and at no other."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if is_ready and running is not None:
            self._open(running)
        if running is not None:
            self._looking = asyncio.get_running_loop().create_task(self._watch(running, is_ready))

    async def _watch(self, running: Running, is_ready: bool) -> None:
        """Open it when it is ready, and kill it when it hangs."""
        if not is_ready:
            try:
                await until_ready_or_ended(running)
            except TimeoutError:
                running.kill(f"it was not ready within {running.group.ready.within_s:g} s")
                return
            if running.has_ended or running.is_asked:
                return
            self._open(running)
        reason = await until_hung(running)
        self._host.log.add("hung", self.name, reason, before={"under way": running.under_way})
        running.kill(reason)

    def _open(self, running: Running) -> None:
        running.is_open = running.group.has_channel
        running.opened_s = time.monotonic()
        if self.left:
            self._host.hand(self._take(), running)
        self._to(WorkerState.READY)
        self._host.opened(self)

    def _take(self) -> list[Sent]:
        left, self.left = self.left, []
        return left

    def _to(self, state: WorkerState) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        self._host.changed()
