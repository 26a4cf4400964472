"""The cache in two processes on a server that is killed, hung, cut off, full, or that forgets.

What may be read is said, precisely, in tests/cache_churn.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import pytest
import redis
from tests.cache_churn import Database, Player, Report, play
from tests.cache_kinds import AsyncKind, SyncKind, until

from perfloop.adapters.servers import RedisBinary, RedisServer, installed_redis

BINARIES = installed_redis()
RECOVERY_S = 60.0
"""Within this both processes use the server again, on a host however crowded; measured: 0.1 to 0.6 s."""
SLOWEST_S = 8.0
"""No call takes longer, on a host however crowded; measured: 0.3 s. A lease lasts for 10 s."""
CALL_S = 60.0

Kind = type[SyncKind | AsyncKind]


class Processes:
    """Two of them, at work until they are told to end."""

    def __init__(self, kinds: Sequence[Kind], url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._database = database = Database(context)  # kept: its lock goes with it
        self._markers = (f"marker-{number}" for number in itertools.count())
        self._pipes: list[Connection] = []
        self._processes = []
        for number, kind in enumerate(kinds):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            self._processes.append(
                context.Process(target=play, args=(theirs, kind, number, url, database), daemon=True)
            )
            self._processes[-1].start()
            theirs.close()

    def open(self) -> None:
        for number in range(2):
            self._answer(number)

    def ask(self, number: int, what: Callable[..., Any], *arguments: Any) -> Any:
        """Have one process call a method of its Player."""
        self._pipes[number].send((what.__name__, *arguments))
        return self._answer(number)

    def _answer(self, number: int) -> Any:
        assert self._pipes[number].poll(CALL_S), f"process {number} hangs"
        return self._pipes[number].recv()

    def are_connected(self) -> bool:
        return all(self.ask(number, Player.is_connected) for number in range(2))

    def catch_up(self, within_s: float) -> bool:
        """Whether each has heard all that the other had invalidated by now; raises its floors if so."""
        return all(self._heard(writer, 1 - writer, within_s) for writer in range(2))

    def _heard(self, writer: int, reader: int, within_s: float) -> bool:
        floors = None
        ends_s = time.monotonic() + within_s
        for marker in itertools.islice(self._markers, 2):
            while not self.ask(reader, Player.hold, marker):
                if time.monotonic() > ends_s:
                    return False
                time.sleep(0.005)
            told = self.ask(writer, Player.promise, marker)
            floors = told if floors is None else floors
            while not self.ask(reader, Player.lost, marker):
                if time.monotonic() > ends_s:
                    return False
                time.sleep(0.001)
        self.ask(reader, Player.raise_floors, floors)
        return True

    def failures(self) -> list[str]:
        return [failure for number in range(2) for failure in self.ask(number, Player.failures)]

    def end(self) -> list[Report]:
        for pipe in self._pipes:
            pipe.send(("end",))
        reports = [self._answer(number) for number in range(2)]
        for process in self._processes:
            process.join(CALL_S)
        return reports

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()


class Proxy:
    """TCP before the server's socket, so that connections can be reset."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._listening = self._run(asyncio.start_server(self._pass_on, "127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> None:
        self._run(self._reset())

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_S)

    async def _close(self) -> None:
        self._listening.close()
        await self._reset()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _reset(self) -> None:
        for writer in self._writers:
            if writer.get_extra_info("socket").family == socket.AF_INET:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                inner, outer = await asyncio.open_unix_connection(str(self._server.socket_path))
                self._writers.add(outer)
                await asyncio.gather(self._pump(reader, outer), self._pump(inner, writer))
                self._writers.discard(outer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class Stage:
    """A server, the way to it, and two processes at work on it."""

    def __init__(self, server: RedisServer, proxy: Proxy, processes: Processes) -> None:
        self.server = server
        self.proxy = proxy
        self.processes = processes

    @property
    def control(self) -> redis.Redis:
        return redis.Redis.from_url(self.server.url)

    def during(self, seconds: float, every_s: float = 0.03) -> Iterator[None]:
        """Go on for so long, and let the processes catch up where they can."""
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            yield
            if not self.processes.catch_up(every_s):
                time.sleep(every_s)


@contextlib.contextmanager
def staged(binary: RedisBinary, kinds: Sequence[Kind]) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer(binary))
        proxy = stack.enter_context(Proxy(server))
        processes = Processes(kinds, proxy.url)
        stack.callback(processes.close)
        processes.open()
        yield Stage(server, proxy, processes)


def killed(stage: Stage, seconds: float) -> None:
    """Killed, and empty when it is back."""
    stage.server._process.stop(signal.SIGKILL)
    for _ in stage.during(seconds):
        pass
    stage.server.socket_path.unlink()
    stage.server._process.start()
    stage.server._process.wait_until(stage.server._answers, deadline_s=CALL_S)


def hung(stage: Stage, seconds: float) -> None:
    os.kill(stage.server.pid, signal.SIGSTOP)
    try:
        for _ in stage.during(seconds):
            pass
    finally:
        os.kill(stage.server.pid, signal.SIGCONT)


def cut(stage: Stage, seconds: float) -> None:
    with stage.control as control:
        for turn, _ in enumerate(stage.during(seconds)):
            for kind in ("normal", "pubsub") if turn % 3 == 0 else ("pubsub",):
                control.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def reset(stage: Stage, seconds: float) -> None:
    for _ in stage.during(seconds):
        stage.proxy.reset()


def full(stage: Stage, seconds: float) -> None:
    with stage.control as control:
        control.config_set("maxmemory-policy", "noeviction")
        control.config_set("maxmemory", 1)
        for _ in stage.during(seconds):
            pass
        control.config_set("maxmemory", 0)


def evicted(stage: Stage, seconds: float) -> None:
    """Now and then all goes: values, leases, tags and the clock."""
    with stage.control as control:
        control.config_set("maxmemory-policy", "allkeys-lru")
        for _ in stage.during(seconds, every_s=0.01):
            control.config_set("maxmemory", 1)
            with contextlib.suppress(redis.exceptions.OutOfMemoryError):
                control.set("someone else's", b"x")
            control.config_set("maxmemory", 0)


def flushed(stage: Stage, seconds: float) -> None:
    with stage.control as control:
        for _ in stage.during(seconds):
            control.flushall()


FAULTS = (killed, hung, cut, reset, full, evicted, flushed)


def suffer(stage: Stage, fault: Callable[[Stage, float], None], seconds: float) -> float:
    """Let it happen, and all be well again; returns how long that took."""
    fault(stage, seconds)
    begun_s = time.monotonic()
    until(stage.processes.are_connected, RECOVERY_S)
    until(lambda: stage.processes.catch_up(1.0), RECOVERY_S)

    assert [] == stage.processes.failures(), fault.__name__
    return time.monotonic() - begun_s


def judge(reports: Sequence[Report]) -> None:
    for report in reports:
        assert [] == report.failures
        assert [] == report.left
        assert report.slowest_s < SLOWEST_S
        assert report.reads > report.changes > 0


@pytest.mark.skipif(not BINARIES, reason="no Redis or Valkey is installed")
def test_whatever_becomes_of_the_server_nothing_stale_is_read_and_nothing_raised() -> None:
    with staged(BINARIES[0], (SyncKind, AsyncKind)) as stage:
        for fault in (hung, reset, killed, evicted):
            suffer(stage, fault, 0.3)
        reports = stage.processes.end()

    judge(reports)
    assert all(report.outages > 0 and report.refused > 0 for report in reports)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("kind", [SyncKind, AsyncKind], ids=lambda kind: kind.name)
@pytest.mark.skipif(not BINARIES, reason="no Redis or Valkey is installed")
def test_one_fault_again_and_again(kind: Kind, fault: Callable[[Stage, float], None]) -> None:
    with staged(BINARIES[0], (kind, kind)) as stage:
        for seconds in (0.05, 0.2, 0.8, 0.1, 0.4, 1.6):
            suffer(stage, fault, seconds)
        reports = stage.processes.end()

    judge(reports)


@pytest.mark.slow
@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: binary.flavour)
@pytest.mark.parametrize("kind", [SyncKind, AsyncKind], ids=lambda kind: kind.name)
def test_one_fault_after_another_on_every_server(binary: RedisBinary, kind: Kind) -> None:
    with staged(binary, (kind, kind)) as stage:
        for fault in (*FAULTS, *reversed(FAULTS)):
            suffer(stage, fault, 0.3)
        reports = stage.processes.end()

    judge(reports)
