"""How the calls of one process reach the server: over few connections, whatever the number of callers.

No pool can run out. Tasks share one connection; threads wait for one of a few. Where a connection cannot be
opened, all who wait for it fail together, so that a dead server costs its time once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.connection import AsyncConnection, Connection
from perfloop.adapters.remote.resp import Reply
from perfloop.errors import InvalidInput, PerfloopError
from perfloop.metrics.fork import restart_in_child

CONNECTIONS: Final = 8
"""Of a process with threads. One answers about 20,000 calls a second, more than Python asks."""


class AsyncEnd:
    """Of a listener: given once, by whoever closes its tier."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_given(self) -> bool:
        return self._event.is_set()

    def give(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Until it is given, or the time has passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()


class End:
    """Of a listener: given once, by whoever closes its tier."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def is_given(self) -> bool:
        return self._event.is_set()

    def give(self) -> None:
        self._event.set()

    def wait(self, timeout_s: float) -> None:
        """Until it is given, or the time has passed."""
        self._event.wait(timeout_s)


class AsyncWire:
    """One connection, which is opened by the first call and again after it broke.

    It belongs to the process and the event loop that opened it: a forked child, and the next loop of a
    process whose first has ended, open their own.

    Args:
        address: Of the server.
        timeout_s: For each answer, and for the connection.
        greet: Run on a new connection before anything else is asked.
    """

    def __init__(
        self, address: Address, timeout_s: float, greet: Callable[[AsyncConnection], Awaitable[None]]
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._greet = greet
        self._loop: asyncio.AbstractEventLoop | None = None
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """In a forked child: the connection is the parent's, which must neither write to it nor end it."""
        self._forget()
        self._loop = None

    def _forget(self) -> None:
        self._connection: AsyncConnection | None = None
        self._opening: asyncio.Task[AsyncConnection] | None = None

    async def ask(self, request: bytes, count: int) -> list[Reply]:
        """Send `count` commands, and return their replies.

        Raises:
            InvalidInput: Another event loop uses the connection; its replies would go astray.
        """
        if self._loop is not asyncio.get_running_loop():
            self._move()
        connection = self._connection
        if connection is None or connection.is_broken:
            if self._opening is None:
                self._opening = asyncio.create_task(self._open())
                self._opening.add_done_callback(_retrieve)
            connection = await asyncio.shield(self._opening)
        return await connection.ask(request, count)

    def _move(self) -> None:
        """To the running loop; the one before ended with all that was open in it."""
        if self._loop is not None and self._loop.is_running():
            raise InvalidInput(
                "a cache for asyncio belongs to one event loop, and another is using it; make one for each"
            )
        self._forget()
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        if self._loop is not asyncio.get_running_loop():
            self._forget()
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            await self._connection.close()

    async def _open(self) -> AsyncConnection:
        try:
            connection = await AsyncConnection.open(self._address, self._timeout_s)
            try:
                await self._greet(connection)
            except BaseException:
                await connection.close()
                raise
            if self._loop is asyncio.get_running_loop():
                self._connection = connection
            return connection
        finally:
            self._opening = None


def _retrieve(task: asyncio.Task[AsyncConnection]) -> None:
    """All who waited may have been cancelled; their error then concerns nobody."""
    if not task.cancelled():
        task.exception()


class Wire:
    """A few connections, each used by one thread at a time. A forked child opens its own.

    Args:
        address: Of the server.
        timeout_s: For each answer, and for each connection.
        greet: Run on a new connection before anything else is asked.
    """

    def __init__(self, address: Address, timeout_s: float, greet: Callable[[Connection], None]) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._greet = greet
        self._idle: list[Connection] = []
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """In a forked child: the connections are the parent's, and so are the threads that had a turn."""
        self.close()
        self._turns = threading.Semaphore(CONNECTIONS)
        self._failure: PerfloopError | None = None
        self._failed_at_s = 0.0

    def ask(self, request: bytes, count: int) -> list[Reply]:
        """Send `count` commands, and return their replies."""
        asked_at_s = time.monotonic()
        with self._turns:
            self._fail_together(asked_at_s)
            connection = self._idle_connection() or self._open()
            try:
                replies = connection.ask(request, count)
            except BaseException as error:
                connection.close()  # what it answers late must not be taken for the next reply
                if isinstance(error, PerfloopError):
                    self._failure, self._failed_at_s = error, time.monotonic()
                raise
            self._idle.append(connection)
            return replies

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _idle_connection(self) -> Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if not connection.is_broken:
                return connection
            connection.close()
        return None

    def _fail_together(self, asked_at_s: float) -> None:
        """Who waited for a turn while the server failed another need not try it, too."""
        if self._failure is not None and self._failed_at_s >= asked_at_s:
            raise type(self._failure)(str(self._failure))

    def _open(self) -> Connection:
        connection: Connection | None = None
        try:
            connection = Connection.open(self._address, self._timeout_s)
            self._greet(connection)
        except BaseException as error:  # an interrupt may fall into the greeting
            if connection is not None:
                connection.close()
            if isinstance(error, PerfloopError):
                self._failure, self._failed_at_s = error, time.monotonic()
            raise
        return connection
