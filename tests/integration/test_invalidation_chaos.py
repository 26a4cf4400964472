"""A cache that is cleared by events equals its database once all is quiet, whatever was killed meanwhile.

The cache of the test drops what it is told to and loads what it lacks, with a fence, as fast as it can.
Were a change lost, or told before others see it, an old value would stay in it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.changes import outbox_plan, slot_plan
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.cache.invalidation import (
    ChangeListener,
    ChangeSource,
    ListenerPolicy,
    Outbox,
    ReplicationSlot,
    TagMap,
)
from perfloop.metrics import Registry
from perfloop.model.changes import WatchedTable

DEADLINE_S = 30.0
WRITING_S = 2.0
ROWS = 40
SETTINGS = {"wal_level": "logical", "fsync": "off", "shared_buffers": "32MB", "wal_sender_timeout": "2s"}
READER = """
import socket, sys, threading
from perfloop.cache.invalidation import ChangeListener, ListenerPolicy, Outbox, ReplicationSlot, TagMap

class Remote:
    def __init__(self, path):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(path)
        self.answers = self.link.makefile()
    def invalidate_tag(self, *tags):
        self.link.sendall((" ".join(tags) + chr(10)).encode())
        self.answers.readline()

kind, dsn, path = sys.argv[1:]
source = Outbox(dsn, reader="shop") if kind == "outbox" else ReplicationSlot(dsn, reader="shop")
policy = ListenerPolicy(first_retry_s=0.05, longest_retry_s=0.2, takeover_s=0.05)
with ChangeListener(source, TagMap({"orders": ("order-{id}",)}), Remote(path), policy=policy):
    threading.Event().wait()
"""


class FencedCache:
    """Rows by their number, and what a load that was overtaken by an invalidation must not store."""

    def __init__(self, dsn: str) -> None:
        self.rows: dict[int, str] = {}
        self._dsn = dsn
        self._numbers = dict.fromkeys(range(ROWS), 0)
        self._lock = threading.Lock()

    def invalidate_tag(self, *tags: str) -> None:
        with self._lock:
            for row in range(ROWS):
                if "every:orders" in tags or f"order-{row}" in tags:
                    self.rows.pop(row, None)
                    self._numbers[row] += 1

    def load(self, stopping: threading.Event) -> None:
        for connection in connections(self._dsn, stopping):
            with contextlib.suppress(psycopg.OperationalError):
                while not stopping.is_set():
                    missing = [row for row in range(ROWS) if row not in self.rows]
                    for row in missing:
                        self._load_row(connection, row)
                    if not missing:
                        time.sleep(0.0005)

    def _load_row(self, connection: psycopg.Connection, row: int) -> None:
        born = self._numbers[row]
        found = connection.execute("SELECT note FROM orders WHERE id = %s", [row]).fetchone()
        with self._lock:
            if found and self._numbers[row] == born:
                self.rows[row] = found[0]


def connections(dsn: str, stopping: threading.Event) -> Iterator[psycopg.Connection]:
    """One after the other, as a server that restarts ends them."""
    while not stopping.is_set():
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(dsn, autocommit=True) as connection,
        ):
            yield connection


def write(dsn: str, seed: int, stopping: threading.Event) -> None:
    """Transactions of some rows, some of them long, some rolled back."""
    chance = random.Random(seed)
    for connection in connections(dsn, stopping):
        with contextlib.suppress(psycopg.OperationalError):
            while not stopping.is_set():
                with (
                    contextlib.suppress(psycopg.errors.DeadlockDetected, psycopg.Rollback),
                    connection.transaction(),
                ):
                    for row in sorted(chance.sample(range(ROWS), chance.choice([1, 1, 3]))):
                        note = f"{seed} {chance.random()}"
                        connection.execute("UPDATE orders SET note = %s WHERE id = %s", [note, row])
                    if chance.random() < 0.1:
                        time.sleep(chance.random() * 0.3)
                    if chance.random() < 0.2:
                        raise psycopg.Rollback
                time.sleep(0.002)


def eventually(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, "not within the deadline"
        time.sleep(0.01)


@contextlib.contextmanager
def threads(*targets: Callable[[threading.Event], object]) -> Iterator[None]:
    stopping = threading.Event()
    running = [threading.Thread(target=target, args=[stopping], daemon=True) for target in targets]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in running:
            thread.join(DEADLINE_S)


@contextlib.contextmanager
def served(cache: FencedCache, path: Path) -> Iterator[None]:
    """Let processes that come and go clear the cache."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen()

        def answer(link: socket.socket) -> None:
            with contextlib.suppress(OSError), link, link.makefile() as lines:
                for line in lines:
                    cache.invalidate_tag(*line.split())
                    link.sendall(b"\n")

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=[door.accept()[0]], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield
        door.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    with PostgresServer(each_postgres_binaries, settings=SETTINGS) as server:
        yield server


@pytest.fixture
def shop(server: PostgresServer) -> Iterator[str]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    dsn = make_conninfo(server.dsn(), dbname="shop")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute("INSERT INTO orders SELECT g, '' FROM generate_series(0, %s) g", [ROWS - 1])
        for plan in (outbox_plan.plan_install, slot_plan.plan_install):
            outbox_plan.carry_out(connection, plan(connection, [WatchedTable(table="orders")]))
    yield dsn
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active"
        )
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        connection.execute("DROP DATABASE shop WITH (FORCE)")


def rows_of(dsn: str) -> dict[int, str]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute("SELECT id, note FROM orders").fetchall())


@pytest.mark.parametrize("kind", ["outbox", "slot"])
def test_nothing_is_lost_when_readers_are_killed_and_the_server_restarts(
    server: PostgresServer, shop: str, kind: str, tmp_path: Path
) -> None:
    cache = FencedCache(shop)
    chance = random.Random(7)
    path = tmp_path / "cache"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", READER, kind, shop, str(path)])

    writers = [lambda stopping, seed=seed: write(shop, seed, stopping) for seed in range(4)]
    with contextlib.ExitStack() as ending, served(cache, path), threads(cache.load):
        readers = [start(), start()]
        ending.callback(lambda: [end(reader) for reader in readers])
        with threads(*writers):
            end_s = time.monotonic() + WRITING_S
            restart_s = end_s - WRITING_S / 2
            while time.monotonic() < end_s:
                time.sleep(chance.uniform(0.3, 0.7))
                victim = chance.randrange(2)
                end(readers[victim])
                readers[victim] = start()
                if restart_s and time.monotonic() > restart_s:
                    server.restart()
                    restart_s = 0.0
        expected = rows_of(shop)
        eventually(lambda: cache.rows == expected)

        assert expected == cache.rows


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def source_of(kind: str, dsn: str) -> ChangeSource:
    return Outbox(dsn, reader="shop") if kind == "outbox" else ReplicationSlot(dsn, reader="shop")


@pytest.mark.parametrize("kind", ["outbox", "slot"])
def test_a_server_that_hangs_is_given_up_and_found_again(
    server: PostgresServer, shop: str, kind: str
) -> None:
    cache = FencedCache(shop)
    policy = ListenerPolicy(first_retry_s=0.05, longest_retry_s=0.2, hung_after_s=0.5)
    listener = ChangeListener(
        source_of(kind, shop), TagMap({"orders": ("order-{id}",)}), cache, policy=policy, registry=Registry()
    )
    with psycopg.connect(shop, autocommit=True) as connection, listener, threads(cache.load):
        eventually(lambda: len(cache.rows) == ROWS and listener.statistics().behind_s is not None)
        stopped = [row[0] for row in connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'perfloop cache'"
        ).fetchall()]  # fmt: skip
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            connection.execute("UPDATE orders SET note = 'new' WHERE id = 3")
            eventually(lambda: listener.statistics().faults)
            behind_s = listener.statistics().behind_s
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        eventually(lambda: cache.rows.get(3) == "new")

        assert behind_s is not None
        assert behind_s > 0.3
