"""How the calls of one process reach the server: over few connections, whatever the number of callers.

No pool can run out. Tasks share one connection; threads wait for one of a few. Where a connection cannot be
opened, all who wait for it fail together, so that a dead server costs its time once. Opening one may take
longer than a caller waits: names, TLS and logins do. It goes on behind, and a later caller finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.connection import CONNECT_S, AsyncConnection, Connection, slow
from perfloop.adapters.remote.resp import Reply
from perfloop.errors import InvalidInput, PerfloopError, TargetUnreachable
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
        timeout_s: For each answer, and how long a caller waits for the connection.
        greet: Run on a new connection before anything else is asked.
    """

    def __init__(
        self, address: Address, timeout_s: float, greet: Callable[[AsyncConnection], Awaitable[None]]
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._greet = greet
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
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
            connection = await self._opened()
        return await connection.ask(request, count)

    def begin(self) -> None:
        """Be ready to be asked, also after it was closed."""
        self._is_closed = False

    async def _opened(self) -> AsyncConnection:
        if self._is_closed:
            raise TargetUnreachable(f"the way to Redis at {self._address} was closed")
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(self._opening)
        except TimeoutError:
            raise TargetUnreachable(slow(self._address, self._timeout_s)) from None

    def _move(self) -> None:
        """To the running loop; the one before ended with all that was open in it."""
        if self._loop is not None and self._loop.is_running():
            raise InvalidInput(
                "a cache for asyncio belongs to one event loop, and another is using it; make one for each"
            )
        self._forget()
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        self._is_closed = True
        if self._loop is not asyncio.get_running_loop():
            self._forget()
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            await self._connection.close()

    async def _open(self) -> AsyncConnection:
        try:
            connection = await AsyncConnection.open(self._address, max(CONNECT_S, self._timeout_s))
            try:
                await self._greet(connection)
                connection.allow(self._timeout_s)
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
        timeout_s: For each answer, and how long a caller waits for a connection.
        greet: Run on a new connection before anything else is asked.
    """

    def __init__(self, address: Address, timeout_s: float, greet: Callable[[Connection], None]) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._greet = greet
        self._idle: list[Connection] = []
        self._is_closed = False
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """In a forked child: the connections are the parent's, and so are the threads that had a turn."""
        self._drop_idle()
        self._turns = threading.Semaphore(CONNECTIONS)
        self._changed = threading.Condition()
        self._wanted = self._openings = 0
        self._failure: PerfloopError | None = None
        self._failed_at_s = 0.0

    def ask(self, request: bytes, count: int) -> list[Reply]:
        """Send `count` commands, and return their replies."""
        asked_at_s = time.monotonic()
        with self._turns:
            self._fail_together(asked_at_s)
            connection = self._idle_connection() or self._opened(asked_at_s)
            try:
                replies = connection.ask(request, count)
            except BaseException as error:
                connection.close()  # what it answers late must not be taken for the next reply
                if isinstance(error, PerfloopError):
                    self._failure, self._failed_at_s = error, time.monotonic()
                raise
            self._give_back(connection)
            return replies

    def begin(self) -> None:
        """Be ready to be asked, also after it was closed."""
        self._is_closed = False

    def _give_back(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._is_closed:
            self._drop_idle()
        # Whoever waits counted itself before it looked, so that it saw the connection or is seen here.
        if self._wanted:
            with self._changed:
                self._changed.notify()

    def close(self) -> None:
        self._is_closed = True
        self._drop_idle()
        with self._changed:
            self._changed.notify_all()

    def _drop_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was faster
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

    def _opened(self, asked_at_s: float) -> Connection:
        """One that a thread opens for whoever waits; what others have given up waiting for is as good."""
        with self._changed:
            self._wanted += 1
            try:
                return self._awaited(asked_at_s)
            finally:
                self._wanted -= 1

    def _awaited(self, asked_at_s: float) -> Connection:
        ends_s = time.monotonic() + self._timeout_s
        while not self._is_closed:
            connection = self._idle_connection()
            if connection is not None:
                return connection
            self._fail_together(asked_at_s)
            if self._openings < self._wanted:  # another caller may have taken the one that was opened
                _begin_thread(self._open)
                self._openings += 1
            if not self._changed.wait(max(0.0, ends_s - time.monotonic())):
                self._failure = TargetUnreachable(slow(self._address, self._timeout_s))
                self._failed_at_s = time.monotonic()
                raise self._failure
        raise TargetUnreachable(f"the way to Redis at {self._address} was closed")

    def _open(self) -> None:
        """In a thread of its own: a name server that hangs cannot be told how long to."""
        connection: Connection | None = None
        failure: PerfloopError | None = None
        try:
            connection = Connection.open(self._address, max(CONNECT_S, self._timeout_s))
            self._greet(connection)
            connection.allow(self._timeout_s)
        except Exception as error:  # noqa: BLE001  # supervised: who waits for it is in another thread
            failure = error if isinstance(error, PerfloopError) else TargetUnreachable(repr(error))
        with self._changed:
            self._openings -= 1
            if failure is not None:
                self._failure, self._failed_at_s = failure, time.monotonic()
            if connection is not None and (failure is not None or self._is_closed):
                connection.close()
            elif connection is not None:
                self._idle.append(connection)
            self._changed.notify_all()


def _begin_thread(function: Callable[[], None]) -> None:
    """One that keeps no process from ending."""
    thread = threading.Thread(target=function, name="perfloop-connect", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # there are too many, or the interpreter is ending
        raise TargetUnreachable(f"no thread can be started to connect to Redis: {error}") from None
