"""One process of a worker, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from perfloop.errors import LaunchFailed
from perfloop.process.channel.async_end import AsyncChannelEnd
from perfloop.process.channel.end import socket_pair
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.unacknowledged import Sent
from perfloop.process.launching import Launcher, WorkerExit, WorkerLimits, WorkerOrder
from perfloop.process.supervisor.holding import Hold
from perfloop.process.supervisor.output import Output
from perfloop.process.supervisor.specs import GroupSpec
from perfloop.process.worker import ALIVE, AT, FAILED, PING, READY, REPLY

_LAUNCH_S: Final = 10.0
_CHANNEL_END_S: Final = 0.5
"""For the last words of a worker that has ended: what it started may hold its end of the channel."""
INCARNATION_BITS: Final = 40
"""Of a message's id, above which stands the number of the process that it was first sent to: so each message
of a fleet has an id of its own, and one process can be sent 2 ** 40."""


class Listener(Protocol):
    """Who is told what a worker says."""

    def acknowledged(self, first_id: int, last_id: int) -> None:
        """Messages from the first to the last are done."""

    def replied(self, message_id: int, value: Any) -> None:
        """A message was answered; it is acknowledged later."""

    def failed(self, message_id: int, fault: str, name: str) -> None:
        """A message could not be done; it is acknowledged later."""

    def wrote(self, name: str, stream: str, line: str) -> None:
        """The worker wrote a line."""


class Running:
    """A started process with its channel and its output.

    Args:
        name: Of the worker.
        group: That it is of.
        first_id: Of the messages that are first sent to it.
        listener: Is told what it says.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        name: str,
        group: GroupSpec,
        *,
        first_id: int,
        listener: Listener,
        clock: Callable[[], float],
    ) -> None:
        self.name, self.group = name, group
        self.pid = 0
        self.is_open = False
        """Whether it may be sent messages."""
        self.opened_s: float | None = None
        """When it was ready, on the monotonic clock."""
        self.is_asked = False
        """Whether the supervisor ends it."""
        self.exited_s = 0.0
        """When its end was heard of, on the monotonic clock."""
        self.killed_for = ""
        """Why the supervisor killed it."""
        self.is_answering = False
        """Whether it has ever answered, or done a message: a target may listen to nobody."""
        self.handled = 0
        self.in_hand: int | None = None
        """The message sent again that it has begun last."""
        self.left: list[Sent] = []
        """What it had not done when it ended."""
        loop = asyncio.get_running_loop()
        self.said_ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[WorkerExit] = loop.create_future()
        self.started_s = self.heard_s = clock()
        self.wrote_ready: asyncio.Future[None] = loop.create_future()
        """That it wrote the line by which it is ready; it may do so before its start is reported."""
        self.output = Output(self._wrote)
        self._clock, self._first_id, self._listener = clock, first_id, listener
        self._channel: AsyncChannelEnd | None = None
        self._channel_over = asyncio.Event()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        """Of words that are waited for, by their kinds."""
        self._finishing: asyncio.Task[None] | None = None
        self._hold = Hold(group.limits, name, first_id >> INCARNATION_BITS)

    async def start(self, launcher: Launcher, fleet_id: str) -> None:
        """Start the process.

        Raises:
            LaunchFailed: It cannot be started.
        """
        self._hold.begin()
        ours, theirs = socket_pair()
        out, err = self.output.open()
        self._channel = AsyncChannelEnd(
            ours,
            policy=ChannelPolicy(max_unacknowledged=self.group.max_under_way),
            first_id=self._first_id,
            on_word=self._hear,
            on_acknowledged=self._acknowledged,
            on_end=self._channel_ended,
        )
        order = _order(self.name, self.group, fleet_id, self._hold.worker)
        starting = asyncio.create_task(launcher.start(order, channel=theirs, stdout=out, stderr=err))
        try:
            await self._channel.open()  # while the process is started
            self.pid = await asyncio.wait_for(starting, _LAUNCH_S)
            self._hold.take(self.pid)
        except (LaunchFailed, OSError) as error:
            self._channel.abort()
            self._give_up()
            raise LaunchFailed(f"{self.name} cannot be started: {error or 'nothing was heard'}") from error
        finally:
            theirs.close()
            os.close(out)
            os.close(err)
            if not self.pid:
                self.output.end()
        self.started_s = self.heard_s = self._clock()

    def _give_up(self) -> None:
        """A process that is there and cannot be kept is not to stay."""
        if self.pid:
            self.kill("it could not be held to its limits")
        self._hold.end()

    @property
    def has_own_memory(self) -> bool:
        """Whether a control group of its own bounds its memory."""
        return self._hold.bounds_memory

    @property
    def memory_kills(self) -> int | None:
        """How many of its processes had more memory than its own control group; None where it has none."""
        return self._hold.memory_kills()

    @property
    def under_way(self) -> int:
        """Messages that it has and did not acknowledge."""
        return 0 if self._channel is None else self._channel.under_way

    @property
    def has_room(self) -> bool:
        """Whether it takes another message."""
        return self.is_open and self._channel is not None and not self._channel.is_full

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._finishing is not None

    def send(self, message: Any) -> int:
        """Send a message; its id."""
        assert self._channel is not None
        return self._channel.send_now(message)

    def resend(self, left: list[Sent]) -> None:
        """Send what another one has left."""
        assert self._channel is not None
        self._channel.resend(left)

    def ping(self) -> None:
        """Ask for a word."""
        assert self._channel is not None
        self._channel.say([PING])

    async def told(self, word: Any, *, within_s: float) -> Any:
        """Say a word, and wait for the next one of its kind; None where none comes in time."""
        assert self._channel is not None
        answer = self._answers.setdefault(word[0], asyncio.get_running_loop().create_future())
        self._channel.say(word)
        try:
            return await asyncio.wait_for(asyncio.shield(answer), within_s)
        except TimeoutError:
            return None

    async def stop(self) -> None:
        """End it by its policy; returns when it is gone."""
        self.is_asked = True
        self.is_open = False
        policy = self.group.stop
        if self.group.has_channel and self.under_way:
            await self._until(self._drained(), policy.drain_s)
        self.signal(policy.number)
        await self._until(asyncio.shield(self.ended), policy.grace_s)
        if not self.ended.done():
            if not self.has_ended:
                self.kill(f"it did not end within {policy.grace_s:g} s of SIG{policy.signal}")
            await asyncio.shield(self.ended)

    def kill(self, reason: str) -> None:
        """End it and all it started, at once."""
        self.killed_for = self.killed_for or reason
        self.signal(signal.SIGKILL)  # a process that was just forked leads no group yet
        if not self.has_ended:
            self._kill_group()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def has_exited(self, end: WorkerExit) -> None:
        """The process is gone: take its last words, then tell that it has ended."""
        self.is_open = False
        self.exited_s = time.monotonic()
        self._finishing = asyncio.get_running_loop().create_task(self._finish(end))

    async def _finish(self, end: WorkerExit) -> None:
        assert self._channel is not None
        if not self._channel_over.is_set():
            await self._until(self._channel_over.wait(), _CHANNEL_END_S)
        self._channel.abort()
        self.output.end()
        self._hold.end()
        self.left = self._channel.left()
        self.ended.set_result(end)

    async def _drained(self) -> None:
        assert self._channel is not None
        with suppress(ConnectionError):
            await self._channel.all_done()

    async def _until(self, done: Any, timeout_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(done, timeout_s)

    def _channel_ended(self) -> None:
        """Mostly the process has ended too, which is told next; one that has not is of no use any more."""
        self.is_open = False
        self._channel_over.set()
        if self.group.has_channel and not self.has_ended:
            loop = asyncio.get_running_loop()
            loop.call_later(self.group.stop.grace_s, self._outlived)

    def _outlived(self) -> None:
        if not self.has_ended:
            self.kill("it closed its channel, or wrote on it what is none of its words")

    def _kill_group(self) -> None:
        """It leads a session of its own, so that its children are of its process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _hear(self, word: Any) -> None:
        self.heard_s = self._clock()
        match word:
            case [kind] if kind == READY:
                if not self.said_ready.done():
                    self.said_ready.set_result(None)
            case [kind] if kind == ALIVE:
                self.is_answering = True
            case [kind, int(message_id)] if kind == AT:
                self.in_hand = message_id
            case [kind, int(message_id), value] if kind == REPLY:
                self._listener.replied(message_id, value)
            case [kind, int(message_id), str(fault)] if kind == FAILED:
                self._listener.failed(message_id, fault, self.name)
            case [kind, *_] if kind in self._answers:
                self._answers.pop(kind).set_result(word)

    def _acknowledged(self, first_id: int, last_id: int) -> None:
        self.heard_s = self._clock()
        self.is_answering = True
        self.handled += last_id - first_id + 1
        self._listener.acknowledged(first_id, last_id)

    def _wrote(self, stream: str, line: str) -> None:
        awaited = self.group.ready.output
        if awaited is not None and not self.wrote_ready.done() and re.search(awaited, line):
            self.wrote_ready.set_result(None)
        self._listener.wrote(self.name, stream, line)


def _order(name: str, group: GroupSpec, fleet_id: str, limits: WorkerLimits) -> WorkerOrder:
    target, arguments = None, group.arguments
    if group.handler is not None:
        target, arguments = "run_handler", (group.handler, str(group.concurrency))
    elif group.target is not None:
        target, arguments = "run_target", (group.target, *group.arguments)
    own = {"PERFLOOP_FLEET": fleet_id, "PERFLOOP_WORKER": name}
    return WorkerOrder(
        name=name,
        target=target and f"perfloop.process.worker:{target}",
        arguments=arguments,
        command=group.command,
        environment={**os.environ, **own, **group.environment},
        folder=group.folder,
        limits=limits,
    )
