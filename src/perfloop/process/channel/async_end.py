"""An end of a channel for asyncio: the supervisor's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

from perfloop.errors import ChannelBroken, ChannelClosed
from perfloop.process.channel.end import Delivery
from perfloop.process.channel.exchange import GONE, Exchange, ignore
from perfloop.process.channel.frames import Parts
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.receiving import Batch
from perfloop.process.channel.statistics import ChannelStatistics
from perfloop.process.channel.unacknowledged import Sent


class AsyncChannelEnd:
    """One end of a channel, for one event loop.

    Args:
        end: Its socket, which it closes.
        policy: The bounds.
        message_type: What msgspec makes of each message that comes.
        first_id: Of the first message sent.
        on_word: Is told each word of the other end, in the event loop.
        on_acknowledged: Is told the first and the last id of each range that the other end has done.
        on_end: Is called once, when the other end is gone or what it sends is not of this channel.
    """

    def __init__(
        self,
        end: socket.socket,
        *,
        policy: ChannelPolicy | None = None,
        message_type: Any = Any,
        first_id: int = 1,
        on_word: Callable[[Any], None] = ignore,
        on_acknowledged: Callable[[int, int], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._policy = policy or ChannelPolicy()
        self._exchange = Exchange(self._policy, message_type, first_id, on_word, on_acknowledged)
        self._sending = self._exchange.sending
        self._socket = end
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._telling: asyncio.Handle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._fault: ChannelBroken | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """The messages until the other end is gone; each is to be acknowledged."""
        while True:
            try:
                batch = await self.receive_batch()
            except ChannelClosed:
                return
            for place, message in enumerate(batch.messages):
                yield Delivery(batch.first_id + place, message, batch.is_again)

    async def open(self) -> None:
        """Begin to read; messages may be sent from here on."""
        self._loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        transport, _ = await self._loop.create_unix_connection(lambda: _Stream(self), sock=self._socket)
        self._transport = transport

    @property
    def is_full(self) -> bool:
        """Whether as much is under way as may be, so that `send` would wait."""
        return self._sending.is_full

    @property
    def under_way(self) -> int:
        """Messages that are sent, or wait for company, and are not acknowledged."""
        return self._sending.under_way.messages + self._sending.waiting

    async def send(self, message: Any) -> int:
        """Send a message at the end of this turn of the loop, or later with others; its id.

        Waits while as much is under way as may be.

        Raises:
            InvalidInput: It cannot be encoded, or is too large.
            ChannelClosed: The other end is gone; what was not acknowledged is in `left()`.
        """
        while self._sending.is_full and not self._is_over:
            await self._change()
        return self.send_now(message)

    def send_now(self, message: Any) -> int:
        """As `send`, without waiting for room: for who looks at `is_full`."""
        if self._is_over:
            raise ChannelClosed(GONE)
        sending = self._sending
        is_full = sending.put(message)
        message_id = sending.next_id + sending.waiting - 1
        if is_full:
            self.flush()
        elif self._timer is None and sending.under_way.messages:
            self._timer = self._loop.call_later(self._policy.linger_s, self.flush)
        elif self._timer is None:
            self._timer = self._loop.call_soon(self.flush)
        return message_id

    def flush(self) -> None:
        """Send what waits for company."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending.waiting:
            self._write(self._sending.take())

    def resend(self, left: Iterable[Sent]) -> None:
        """Send what another end has left, before anything that this end sends of its own."""
        for parts in self._sending.again(left):
            self._write(parts)

    def say(self, word: Any) -> None:
        """Tell the other end something at once; words are neither counted nor acknowledged."""
        self._write(self._exchange.word(word))

    async def receive_batch(self) -> Batch:
        """The messages of the next frame.

        Raises:
            ChannelClosed: The other end is gone and no message is left.
            ChannelBroken: What it sent is not of this channel.
        """
        while not self._exchange.batches:
            if self._fault is not None:
                raise self._fault
            if self._is_over:
                raise ChannelClosed(GONE)
            await self._change()
        return self._exchange.batches.popleft()

    def acknowledge(self, first_id: int, count: int = 1) -> None:
        """So many messages from this id were done; told at the end of this turn of the loop."""
        self._exchange.receiving.done(first_id, count)
        if self._telling is None:
            self._telling = self._loop.call_soon(self._acknowledge)

    def left(self) -> list[Sent]:
        """What was sent and not acknowledged, for another end to send again."""
        return self._sending.left()

    async def all_done(self) -> None:
        """Wait until all that was sent is acknowledged.

        Raises:
            ChannelClosed: The other end is gone before.
        """
        self.flush()
        while self.under_way:
            if self._is_over:
                raise ChannelClosed(GONE)
            await self._change()

    def statistics(self) -> ChannelStatistics:
        """What this end did."""
        return self._exchange.statistics()

    async def close(self) -> None:
        """Send what waits and what was done, and close when the kernel has taken it or the other end is gone.

        One that is stopped may never take it: give it a time, and `abort`.
        """
        if self._transport is None:
            self._socket.close()
            return
        self._acknowledge()
        self.flush()
        self._transport.close()
        while not self._is_over:
            await self._change()

    def abort(self) -> None:
        """Close at once; what the kernel did not take is lost with it, and in `left()`."""
        if self._transport is not None:
            self._transport.abort()

    def _acknowledge(self) -> None:
        self._telling = None
        parts = self._exchange.receiving.acknowledgement()
        if parts is not None:
            self._write(parts)

    def _write(self, parts: Parts) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(parts)

    async def _change(self) -> None:
        """Wait until something has come, or the other end is gone."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _came(self, count: int) -> None:
        try:
            self._exchange.came(count)
        except ChannelBroken as fault:
            self._fault = fault
            self.abort()
        if self._timer is not None and not self._sending.under_way.messages:
            self.flush()
        self._wake()

    def _ended(self) -> None:
        self._is_over = True
        for handle in (self._timer, self._telling):
            if handle is not None:
                handle.cancel()
        self._wake()
        if self._on_end is not None:
            self._on_end()


class _Stream(asyncio.BufferedProtocol):
    """Hands the bytes of a transport to an end."""

    def __init__(self, end: AsyncChannelEnd) -> None:
        self._end = end

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._end._exchange.reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        self._end._came(nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end._ended()
