"""Whose replies a connection gives: its own process's, its own event loop's, and only what was asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from perfloop.adapters.remote._async.listener import AsyncListener
from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.connection import AsyncConnection, Connection
from perfloop.adapters.remote.resp import Reply, pack
from perfloop.adapters.remote.wire import AsyncWire, Wire
from perfloop.errors import InvalidInput, TargetUnreachable

TIMEOUT_S = 5.0
SHORT_S = 0.05


class Peer:
    """The other end of a wire: accepts what connects, and answers by hand."""

    def __init__(self, path: Path) -> None:
        self.address = Address(path=str(path))
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(TIMEOUT_S)

    def accept(self) -> socket.socket:
        connected, _ = self._socket.accept()
        connected.settimeout(TIMEOUT_S)
        return connected

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    with contextlib.closing(Peer(tmp_path / "s")) as opened:
        yield opened


async def no_greeting(_: AsyncConnection) -> None:
    """The tests say for themselves what is sent."""


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - the loop's own progress is what is waited for
            await asyncio.sleep(0)


async def asked(wire: AsyncWire, peer: Peer, text: str) -> tuple[asyncio.Task[list[Reply]], socket.socket]:
    """A question under way, and the server's end of its connection."""
    asking = asyncio.create_task(wire.ask(pack("GET", text), 1))
    await reached(lambda: wire._connection is not None and bool(wire._connection._questions))
    return asking, peer.accept()


def test_a_forked_child_says_nothing_on_the_connection_of_its_parent(peer: Peer) -> None:
    async def test() -> None:
        wire = AsyncWire(peer.address, SHORT_S, no_greeting)
        asking, ours = await asked(wire, peer, "parent")
        child = os.fork()
        if child == 0:
            with contextlib.suppress(TargetUnreachable):
                asyncio.run(wire.ask(pack("GET", "child"), 1))
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - the parent's loop is to stand still meanwhile
        with ours, peer.accept() as of_child:
            ours.setblocking(False)

            assert 0 == status
            assert pack("GET", "parent") == ours.recv(1000)
            assert pack("GET", "child") == of_child.recv(1000)
        with pytest.raises(TargetUnreachable):
            await asking

    asyncio.run(test())


def test_a_forked_child_leaves_the_connection_of_its_parents_listener_open(peer: Peer) -> None:
    async def test() -> None:
        listener = AsyncListener(peer.address, "p:", lambda: b"")
        listening = asyncio.create_task(listener.run(lambda _: None))
        await reached(lambda: listener._connection is not None)
        connection = listener._connection
        assert connection is not None
        listener.restart()
        await listener.close()

        assert connection._transport is not None
        assert not connection._transport.is_closing()
        listening.cancel()
        await connection.close()
        with contextlib.suppress(asyncio.CancelledError):
            await listening

    asyncio.run(test())


def in_two_loops(
    first: Callable[[], Awaitable[None]],
    second: Callable[[], Awaitable[None]],
    *,
    then: Callable[[], Awaitable[None]],
) -> None:
    with asyncio.Runner() as one, asyncio.Runner() as other:
        one.run(_call(first))
        other.run(_call(second))
        one.run(_call(then))


async def _call(function: Callable[[], Awaitable[None]]) -> None:
    await function()


def test_the_next_event_loop_opens_a_connection_of_its_own(peer: Peer) -> None:
    wire = AsyncWire(peer.address, TIMEOUT_S, no_greeting)
    kept: list[AsyncConnection] = []

    async def ask(text: str) -> None:
        asking, connected = await asked(wire, peer, text)
        with connected:
            assert pack("GET", text) == connected.recv(1000)
            connected.sendall(b"+OK\r\n")
            assert [b"OK"] == await asking
        assert wire._connection is not None
        kept.append(wire._connection)

    async def close_first() -> None:
        await kept[0].close()

    async def ask_in_the_next() -> None:
        await ask("second")
        await wire.close()

    in_two_loops(lambda: ask("first"), ask_in_the_next, then=close_first)

    assert kept[0] is not kept[1]


def test_two_event_loops_at_once_are_refused_with_the_way_out(peer: Peer) -> None:
    async def test() -> None:
        wire = AsyncWire(peer.address, TIMEOUT_S, no_greeting)
        asking, connected = await asked(wire, peer, "first")
        with connected:
            with pytest.raises(InvalidInput, match="one for each"):
                await asyncio.to_thread(asyncio.run, wire.ask(pack("GET", "second"), 1))

            assert pack("GET", "first") == connected.recv(1000)
        asking.cancel()
        await wire.close()

    asyncio.run(test())


def test_a_reply_that_nobody_asked_for_ends_the_connection(peer: Peer) -> None:
    async def test() -> None:
        connection = await AsyncConnection.open(peer.address, TIMEOUT_S)
        with peer.accept() as theirs:
            theirs.sendall(b"$8\r\na secret\r\n")
            await reached(lambda: connection.is_broken)
        with pytest.raises(TargetUnreachable, match="not asked"):
            await connection.ask(pack("GET", "k"), 1)
        await connection.close()

    asyncio.run(test())


def test_a_large_value_may_take_as_long_as_it_makes_progress(peer: Peer) -> None:
    async def test() -> None:
        connection = await AsyncConnection.open(peer.address, TIMEOUT_S)
        with peer.accept() as theirs:
            asking = asyncio.create_task(connection.ask(b"x" * 10_000_000, 1))
            await reached(lambda: bool(connection._questions))
            assert connection._transport is not None
            unsent_bytes = connection._transport.get_write_buffer_size()
            transport = connection._transport

            def is_given_up_after_the_time() -> bool:
                connection._moved_at_s -= 2 * TIMEOUT_S
                connection._check()
                return connection.is_broken

            theirs.recv(1 << 20)
            await reached(lambda: transport.get_write_buffer_size() < unsent_bytes)

            assert not is_given_up_after_the_time()
            assert is_given_up_after_the_time()
        with pytest.raises(TargetUnreachable):
            await asking

    asyncio.run(test())


def test_a_large_value_of_a_thread_may_take_as_long_as_it_makes_progress(peer: Peer) -> None:
    timeout_s, request = 0.5, b"x" * 4_000_000
    connection = Connection.open(peer.address, timeout_s)
    with contextlib.closing(connection), peer.accept() as theirs:

        def take_slowly() -> None:
            left = len(request)
            while left:
                left -= len(theirs.recv(min(left, 80_000)))
                time.sleep(0.015)  # a slow network

        thread = threading.Thread(target=take_slowly)
        thread.start()
        begun_s = time.monotonic()
        connection.send(request)
        took_s = time.monotonic() - begun_s
        thread.join()

    assert took_s > timeout_s


def test_a_thread_takes_no_more_replies_than_it_asked_for(peer: Peer) -> None:
    connection = Connection.open(peer.address, TIMEOUT_S)
    with contextlib.closing(connection), peer.accept() as theirs:
        theirs.sendall(b"+mine\r\n+another's\r\n")
        with pytest.raises(TargetUnreachable, match="not asked"):
            connection.ask(pack("GET", "k"), 1)


async def greeted(connection: AsyncConnection) -> None:
    assert [b"HELLO"] == await connection.ask(pack("HELLO"), 1)


def greeted_in_thread(connection: Connection) -> None:
    assert [b"HELLO"] == connection.ask(pack("HELLO"), 1)


def answer(connected: socket.socket, question: str, reply: bytes) -> None:
    assert pack(question) == connected.recv(1000)
    connected.sendall(reply)


def test_a_login_may_take_longer_than_its_caller_waits(peer: Peer) -> None:
    async def test() -> list[Reply]:
        wire = AsyncWire(peer.address, SHORT_S, greeted)
        with pytest.raises(TargetUnreachable, match="gave no answer for 0"):
            await wire.ask(pack("GET"), 1)
        with peer.accept() as theirs:
            answer(theirs, "HELLO", b"+HELLO\r\n")
            await reached(lambda: wire._connection is not None)
            asking = asyncio.create_task(wire.ask(pack("GET"), 1))
            await asyncio.sleep(0)
            answer(theirs, "GET", b"+late\r\n")
            first = await asking
            with pytest.raises(TargetUnreachable, match="gave no answer for 0"):
                await wire.ask(pack("GET"), 1)
        await wire.close()
        return first

    assert [b"late"] == asyncio.run(test())


def test_a_login_may_take_longer_than_a_thread_waits(peer: Peer) -> None:
    wire = Wire(peer.address, SHORT_S, greeted_in_thread)
    for _ in range(3):  # they all wait for one connection
        with pytest.raises(TargetUnreachable, match="gave no answer for 0"):
            wire.ask(pack("GET"), 1)
    with contextlib.closing(wire), peer.accept() as theirs:
        answer(theirs, "HELLO", b"+HELLO\r\n")
        deadline_s = time.monotonic() + TIMEOUT_S
        while not wire._idle:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        thread = threading.Thread(target=answer, args=(theirs, "GET", b"+late\r\n"))
        thread.start()

        assert [b"late"] == wire.ask(pack("GET"), 1)

        thread.join()
        with pytest.raises(TargetUnreachable, match="gave no answer for 0"):
            wire.ask(pack("GET"), 1)


def test_a_name_server_that_hangs_is_waited_for_no_longer_than_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        assert found.wait(TIMEOUT_S)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    wire = Wire(Address(host="slow.example"), SHORT_S, greeted_in_thread)
    begun_s = time.monotonic()
    with pytest.raises(TargetUnreachable, match="gave no answer for 0"):
        wire.ask(pack("GET"), 1)
    took_s = time.monotonic() - begun_s
    found.set()

    assert took_s < TIMEOUT_S / 2


def test_a_wire_that_was_closed_opens_nothing_until_it_is_begun_anew(peer: Peer) -> None:
    async def test() -> None:
        for wire in (
            AsyncWire(peer.address, SHORT_S, no_greeting),
            Wire(peer.address, SHORT_S, lambda _: None),
        ):
            if isinstance(wire, AsyncWire):
                await wire.close()
                with pytest.raises(TargetUnreachable, match="closed"):
                    await wire.ask(pack("GET"), 1)
            else:
                wire.close()
                with pytest.raises(TargetUnreachable, match="closed"):
                    wire.ask(pack("GET"), 1)
        peer._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.accept()

    asyncio.run(test())


def test_a_thread_that_asks_while_the_wire_is_closed_leaves_no_connection_behind(peer: Peer) -> None:
    wire = Wire(peer.address, TIMEOUT_S, lambda _: None)
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.extend(wire.ask(pack("GET"), 1)))
    thread.start()
    with peer.accept() as theirs:
        assert pack("GET") == theirs.recv(1000)
        wire.close()
        theirs.sendall(b"+late\r\n")
        thread.join(TIMEOUT_S)

        assert ([b"late"], []) == (replies, wire._idle)
        assert b"" == theirs.recv(1000)


def test_a_thread_takes_what_another_gives_back_while_its_own_connection_is_still_opened(peer: Peer) -> None:
    wire = Wire(peer.address, TIMEOUT_S, greeted_in_thread)
    replies: list[Reply] = []

    def ask() -> None:
        replies.extend(wire.ask(pack("GET"), 1))

    first, second = threading.Thread(target=ask), threading.Thread(target=ask)
    with contextlib.closing(wire):
        first.start()
        with peer.accept() as theirs:
            answer(theirs, "HELLO", b"+HELLO\r\n")
            assert pack("GET") == theirs.recv(1000)
            second.start()
            with peer.accept() as never_greeted:
                assert pack("HELLO") == never_greeted.recv(1000)
                theirs.sendall(b"+first\r\n")
                answer(theirs, "GET", b"+second\r\n")
                for thread in (first, second):
                    thread.join(TIMEOUT_S)

    assert [b"first", b"second"] == replies


def test_a_connection_that_another_thread_was_faster_to_take_is_opened_again(peer: Peer) -> None:
    wire = Wire(peer.address, TIMEOUT_S, lambda _: None)
    taken: list[Connection] = []

    class Thief(list[Connection]):
        """Takes the first connection before whoever waits for it has woken up."""

        def append(self, connection: Connection) -> None:
            if taken:
                super().append(connection)
            else:
                taken.append(connection)

    wire._idle = Thief()
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.extend(wire.ask(pack("GET"), 1)))
    with contextlib.closing(wire):
        thread.start()
        with peer.accept() as first, peer.accept() as second:
            answer(second, "GET", b"+OK\r\n")
            thread.join(TIMEOUT_S)
            taken[0].close()

            assert b"" == first.recv(1000)

    assert [b"OK"] == replies
