"""A worker whose handler is a coroutine function: several messages at once, in one event loop."""

from __future__ import annotations

import asyncio
import signal
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from perfloop.errors import ChannelClosed
from perfloop.process.channel.async_end import AsyncChannelEnd
from perfloop.process.leaks.words import MemoryWords
from perfloop.process.worker import ALIVE, AT, FAILED, PING, READY, REPLY

Handle = Callable[[Any], Awaitable[Any]]


def run(channel: int, handle: Handle, concurrency: int) -> None:
    """Call the handler with each message, so many at once; what it returns is the reply."""
    asyncio.run(_AsyncWorker(socket.socket(fileno=channel), handle, concurrency).serve())


class _AsyncWorker:
    """Takes messages until the supervisor is gone, or SIGTERM comes; what is begun is finished.

    Args:
        channel: Its end of the channel, which it closes.
        handle: Is called with each message.
        concurrency: Messages at once.
    """

    def __init__(self, channel: socket.socket, handle: Handle, concurrency: int) -> None:
        self._end = AsyncChannelEnd(channel, on_word=self._hear)
        self._handle = handle
        self._memory = MemoryWords()
        self._room = asyncio.Semaphore(concurrency)
        self._begun: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Do all that comes."""
        loop = asyncio.get_running_loop()
        async with self._end:
            taking = loop.create_task(self._take())
            loop.add_signal_handler(signal.SIGTERM, taking.cancel)
            self._end.say([READY])
            with suppress(asyncio.CancelledError, ChannelClosed):
                await taking
            await self._finish()

    async def _take(self) -> None:
        while True:
            batch = await self._end.receive_batch()
            for place, message in enumerate(batch.messages):
                if batch.is_again:
                    await self._alone(batch.first_id + place, message)
                else:
                    await self._beside(batch.first_id + place, message)

    async def _beside(self, message_id: int, message: Any) -> None:
        """Begin a message when fewer than may be are in hand."""
        await self._room.acquire()
        task = asyncio.get_running_loop().create_task(self._do(message_id, message))
        self._begun.add(task)
        task.add_done_callback(self._done)

    async def _alone(self, message_id: int, message: Any) -> None:
        """Do one that came again while no other is in hand: so it is known which one kills."""
        await self._finish()
        self._end.say([AT, message_id])
        await self._beside(message_id, message)
        await self._finish()

    async def _finish(self) -> None:
        """Wait for all that is begun."""
        if self._begun:
            await asyncio.wait(self._begun)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._begun.discard(task)
        self._room.release()

    async def _do(self, message_id: int, message: Any) -> None:
        try:
            reply = await self._handle(message)
            if reply is not None:
                self._end.say([REPLY, message_id, reply])
        # Nobody cancels these but their handlers themselves, and what is cancelled is not done.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # a message's fault is told and counted; the next one is not to suffer
            traceback.print_exc()
            self._end.say([FAILED, message_id, f"{type(error).__name__}: {error}"])
        self._end.acknowledge(message_id)

    def _hear(self, word: Any) -> None:
        answer = [ALIVE] if word == [PING] else self._memory.answer(word)
        if answer is not None:
            self._end.say(answer)
