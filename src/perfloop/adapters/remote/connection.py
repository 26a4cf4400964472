"""One connection to a server, for asyncio and for threads: what truly differs, side by side.

Both answer alike: `ask` sends commands and gives their replies in order; `hear` waits for what the server
says unasked. A server that makes no progress for `timeout_s` counts as gone, and so does the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections import deque
from typing import Any, Final, Self

from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.resp import NotRedis, Parser, Push, Reply
from perfloop.errors import TargetUnreachable

CONNECT_S: Final = 1.0
"""For a name, a connection and TLS, then for each step of the login: more than an answer may take."""
_READ_BYTES: Final = 1 << 16
_LARGE_BYTES: Final = 1 << 16
"""Requests below this are with the system at once: their progress is the answer."""


class _Question:
    """Commands sent together, whose replies are awaited."""

    __slots__ = ("answer", "count", "replies")

    def __init__(self, answer: asyncio.Future[list[Reply]], count: int) -> None:
        self.answer = answer
        self.count = count
        self.replies: list[Reply] = []


class AsyncConnection(asyncio.Protocol):
    """Shared by any number of tasks: their commands go out at once, and replies come in the same order."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._questions: deque[_Question] = deque()
        self._heard: deque[Reply] = deque()
        self._hears = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._moved_at_s = 0.0
        self._unsent_bytes = 0
        self._fault: str | None = None
        self._is_listening = False

    @classmethod
    async def open(cls, address: Address, timeout_s: float) -> Self:
        """Connect, without logging in."""
        connection = cls(address, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await connection._connect()
        except TimeoutError:
            raise TargetUnreachable(slow(address, timeout_s)) from None
        except OSError as error:
            raise TargetUnreachable(f"Redis at {address} refused the connection: {error}") from None
        return connection

    async def _connect(self) -> None:
        if self._address.path is not None:
            await self._loop.create_unix_connection(lambda: self, self._address.path)
        else:
            host, port, tls = self._address.host, self._address.port, self._address.tls
            await self._loop.create_connection(lambda: self, host, port, ssl=tls)

    @property
    def is_broken(self) -> bool:
        return self._fault is not None

    def allow(self, timeout_s: float) -> None:
        """Let the server take so long from here on; it is asked nothing now."""
        self._timeout_s = timeout_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def ask(self, request: bytes, count: int) -> list[Reply]:
        """Send `count` commands, and return their replies."""
        if self._fault is not None or self._transport is None:
            raise TargetUnreachable(self._fault or "closed")
        answer: asyncio.Future[list[Reply]] = self._loop.create_future()
        if not self._questions:
            self._moved_at_s = self._loop.time()
        self._questions.append(_Question(answer, count))
        self._transport.write(request)
        if len(request) > _LARGE_BYTES:
            self._unsent_bytes = self._transport.get_write_buffer_size()
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._check)
        return await answer

    def send(self, request: bytes) -> None:
        """Send commands whose replies `hear` gives."""
        self._is_listening = True
        if self._transport is not None:
            self._transport.write(request)

    async def hear(self, timeout_s: float) -> Reply:
        """The next that no `ask` waits for; None after `timeout_s`."""
        while not self._heard:
            if self._fault is not None:
                raise TargetUnreachable(self._fault)
            self._hears.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._hears.wait()
            except TimeoutError:
                if not self._heard:  # both may come at once, where the loop was blocked for long
                    return None
        return self._heard.popleft()

    async def close(self) -> None:
        self._break(f"the connection to Redis at {self._address} was closed")

    def drop(self) -> None:
        """In a forked child: to abort it there would take it from the selector that the parent shares."""
        self._fault = f"the connection to Redis at {self._address} is the parent's"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, received: bytes) -> None:
        self._moved_at_s = self._loop.time()
        try:
            for reply in self._parser.feed(received):
                self._take(reply)
        except NotRedis as error:
            self._break(f"{self._address} is no Redis: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._break(f"Redis at {self._address} closed the connection{f': {error}' if error else ''}")

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, Push) or (self._is_listening and not self._questions):
            self._heard.append(reply)
            self._hears.set()
            return
        if not self._questions:
            self._break(f"Redis at {self._address} answered what was not asked")
            return
        question = self._questions[0]
        question.replies.append(reply)
        if len(question.replies) == question.count:
            self._questions.popleft()
            if not question.answer.done():  # its task may have been cancelled
                question.answer.set_result(question.replies)

    def _check(self) -> None:
        """One timer for all that is awaited: a timeout of its own would double the cost of a call."""
        self._timer = None
        if not self._questions or self._transport is None:
            return
        if self._unsent_bytes:
            was_bytes, self._unsent_bytes = self._unsent_bytes, self._transport.get_write_buffer_size()
            if self._unsent_bytes < was_bytes:
                self._moved_at_s = self._loop.time()
        left_s = self._moved_at_s + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self._break(slow(self._address, self._timeout_s))
        else:
            self._timer = self._loop.call_later(left_s, self._check)

    def _break(self, fault: str) -> None:
        if self._fault is None:
            self._fault = fault
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._questions:
            answer = self._questions.popleft().answer
            if not answer.done():
                answer.set_exception(TargetUnreachable(self._fault))
        self._hears.set()


class Connection:
    """Used by one thread at a time; `close` may come from another."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._parser = Parser()
        self._heard: deque[Reply] = deque()
        self._socket: socket.socket | None = None
        self._poll: Any = None
        self._pid = os.getpid()

    @classmethod
    def open(cls, address: Address, timeout_s: float) -> Self:
        """Connect, without logging in."""
        connection = cls(address, timeout_s)
        try:
            connection._socket = _connected(address, timeout_s)
        except TimeoutError:
            raise TargetUnreachable(slow(address, timeout_s)) from None
        except OSError as error:
            raise TargetUnreachable(f"Redis at {address} refused the connection: {error}") from None
        connection._poll = select.poll()
        connection._poll.register(connection._socket, select.POLLIN)
        return connection

    @property
    def is_broken(self) -> bool:
        """Nobody is asked, so anything to read is the end, or not meant for us."""
        return self._socket is None or bool(self._poll.poll(0))

    def allow(self, timeout_s: float) -> None:
        """Let the server take so long from here on; it is asked nothing now."""
        self._timeout_s = timeout_s
        self._open_socket().settimeout(timeout_s)

    def ask(self, request: bytes, count: int) -> list[Reply]:
        """Send `count` commands, and return their replies."""
        replies: list[Reply] = []
        self.send(request)
        while len(replies) < count:
            for reply in self._received():
                (self._heard if isinstance(reply, Push) else replies).append(reply)
        if len(replies) > count:
            raise TargetUnreachable(f"Redis at {self._address} answered what was not asked")
        return replies

    def send(self, request: bytes) -> None:
        """Send commands whose replies `hear` gives."""
        try:
            connected, unsent = self._open_socket(), memoryview(request)
            while unsent:  # not sendall, which allows all of it no more time than a piece
                unsent = unsent[connected.send(unsent) :]
        except TimeoutError:
            raise TargetUnreachable(slow(self._address, self._timeout_s)) from None
        except OSError as error:
            raise TargetUnreachable(f"Redis at {self._address} closed the connection: {error}") from None

    def hear(self, timeout_s: float) -> Reply:
        """The next that no `ask` waits for; None after `timeout_s`."""
        while not self._heard:
            if not self._poll.poll(timeout_s * 1000):
                return None
            self._heard.extend(self._received())
        return self._heard.popleft()

    def close(self) -> None:
        opened, self._socket = self._socket, None
        if opened is None:
            return
        if self._pid == os.getpid():  # a forked child would end the connection of its parent
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)  # wakes the thread that hears
        opened.close()

    def drop(self) -> None:
        """In a forked child: let go of it, and leave it to the parent."""
        self.close()

    def _received(self) -> list[Reply]:
        try:
            received = self._open_socket().recv(_READ_BYTES)
        except TimeoutError:
            raise TargetUnreachable(slow(self._address, self._timeout_s)) from None
        except OSError as error:
            raise TargetUnreachable(f"Redis at {self._address} closed the connection: {error}") from None
        if not received:
            raise TargetUnreachable(f"Redis at {self._address} closed the connection")
        try:
            return list(self._parser.feed(received))
        except NotRedis as error:
            raise TargetUnreachable(f"{self._address} is no Redis: {error}") from None

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise TargetUnreachable(f"the connection to Redis at {self._address} was closed")
        return self._socket


def _connected(address: Address, timeout_s: float) -> socket.socket:
    if address.path is not None:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(timeout_s)
        try:
            connected.connect(address.path)
        except OSError:
            connected.close()
            raise
        return connected
    connected = socket.create_connection((address.host, address.port), timeout_s)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.tls is None:
        return connected
    return address.tls.wrap_socket(connected, server_hostname=address.host)


def slow(address: Address, timeout_s: float) -> str:
    """What is said of a server that took longer."""
    return f"Redis at {address} gave no answer for {timeout_s:g} s; see whether it hangs: redis-cli --latency"
