"""A cache that is cleared by events equals its database once all is quiet, whatever was killed meanwhile.

The cache is the one that users have, its values come from a decorated function, and some threads ask for
them all the time. Were a change lost, or told before others see it, an old value would stay in it.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.changes import outbox_plan, slot_plan
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.cache import InMemoryRemote, InMemoryServer, TieredCache
from perfloop.cache.invalidation import (
    ChangeListener,
    ChangeSource,
    ListenerPolicy,
    Outbox,
    OutboxPolicy,
    ReplicationSlot,
    SlotPolicy,
    TagMap,
)
from perfloop.metrics import Registry
from perfloop.model.changes import WatchedTable

DEADLINE_S = 30.0
WRITING_S = 1.5
TTL_S = 86_400
ROWS = 40
TAGS = TagMap({"orders": ("order-{id}",)})
PATIENT = ListenerPolicy(first_retry_s=0.05, longest_retry_s=0.2, takeover_s=0.05)
SETTINGS = {"wal_level": "logical", "fsync": "off", "shared_buffers": "32MB", "wal_sender_timeout": "2s"}
BOTH = pytest.mark.parametrize("kind", ["outbox", "slot"])
READER = """
import sys, threading
from perfloop.cache import TieredCache
from perfloop.cache.invalidation import ChangeListener, ListenerPolicy, Outbox, ReplicationSlot, TagMap

kind, dsn, redis, prefix = sys.argv[1:]
source = Outbox(dsn, reader="shop") if kind == "outbox" else ReplicationSlot(dsn, reader="shop")
policy = ListenerPolicy(first_retry_s=0.05, longest_retry_s=0.2, takeover_s=0.05)
with TieredCache(redis, prefix=prefix, timeout_s=2.0) as cache:
    with ChangeListener(source, TagMap({"orders": ("order-{id}",)}), cache, policy=policy):
        print("listening", flush=True)
        threading.Event().wait()
"""


class Orders:
    """The orders of a shop as a service reads them: through a decorated function."""

    def __init__(self, dsn: str, cache: TieredCache) -> None:
        self._dsn = dsn
        self._local = threading.local()
        self._ending = contextlib.ExitStack()
        self.note = cache.cached("order:{order}", ttl_s=TTL_S, tags=("order-{order}", "every:orders"))(
            self._load
        )

    def _load(self, order: int) -> str:
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = self._local.connection = psycopg.connect(self._dsn, autocommit=True)
            self._ending.callback(connection.close)
        row = connection.execute("SELECT note FROM orders WHERE id = %s", [order]).fetchone()
        assert row is not None
        note: str = row[0]
        return note

    def __enter__(self) -> Orders:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def all(self) -> dict[int, str]:
        return {order: self.note(order) for order in range(ROWS)}

    def ask(self, stopping: threading.Event) -> None:
        """Until stopped; a server that restarts is asked again."""
        chance = random.Random(1)
        while not stopping.wait(0.0005):
            with contextlib.suppress(psycopg.OperationalError):
                self.note(chance.randrange(ROWS))

    def become(self, expected: dict[int, str]) -> None:
        eventually(lambda: self.all() == expected)


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


def writers(dsn: str) -> contextlib.AbstractContextManager[None]:
    return threads(*(lambda stopping, seed=seed: write(dsn, seed, stopping) for seed in range(3)))


@pytest.fixture(scope="module")
def server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    with PostgresServer(each_postgres_binaries, settings=SETTINGS) as server:
        yield server


@pytest.fixture
def shop(server: PostgresServer) -> Iterator[str]:
    execute(server.dsn(), "CREATE DATABASE shop")
    dsn = make_conninfo(server.dsn(), dbname="shop")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute("INSERT INTO orders SELECT g, '' FROM generate_series(0, %s) g", [ROWS - 1])
        for plan in (outbox_plan.plan_install, slot_plan.plan_install):
            outbox_plan.carry_out(connection, plan(connection, [WatchedTable(table="orders")]))
    yield dsn
    execute(
        server.dsn(),
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active",
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
        "DROP DATABASE shop WITH (FORCE)",
    )


@pytest.fixture
def prefix() -> str:
    return f"chaos-{secrets.token_hex(8)}"


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def rows_of(dsn: str) -> dict[int, str]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute("SELECT id, note FROM orders").fetchall())


def source_of(kind: str, dsn: str, *, reader: str | None = None) -> ChangeSource:
    return Outbox(dsn, reader=reader) if kind == "outbox" else ReplicationSlot(dsn, reader=reader)


def listening(
    source: ChangeSource, cache: TieredCache, *, policy: ListenerPolicy = PATIENT
) -> ChangeListener:
    return ChangeListener(source, TAGS, cache, policy=policy, registry=Registry())


class Reader:
    """A process of the service that listens for all, until it is killed."""

    def __init__(self, kind: str, dsn: str, redis: str, prefix: str) -> None:
        command = [sys.executable, "-c", READER, kind, dsn, redis, prefix]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def wait(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@BOTH
def test_nothing_is_lost_when_readers_are_killed_and_the_server_restarts(
    server: PostgresServer, shop: str, redis_url: str, prefix: str, kind: str
) -> None:
    chance = random.Random(7)

    def start() -> Reader:
        return Reader(kind, shop, redis_url, prefix)

    with (
        TieredCache(redis_url, prefix=prefix, timeout_s=2.0) as cache,
        Orders(shop, cache) as orders,
        contextlib.ExitStack() as ending,
    ):
        readers = [start(), start()]
        ending.callback(lambda: list(map(Reader.kill, readers)))
        readers[0].wait()
        with threads(orders.ask), writers(shop):
            end_s = time.monotonic() + WRITING_S
            restart_s = end_s - WRITING_S / 2
            while time.monotonic() < end_s:
                time.sleep(chance.uniform(0.3, 0.7))
                victim = chance.randrange(2)
                readers[victim].kill()
                readers[victim] = start()
                if restart_s and time.monotonic() > restart_s:
                    server.restart()
                    restart_s = 0.0
        orders.become(rows_of(shop))


@BOTH
def test_what_is_committed_while_nobody_reads_is_cleared_by_the_next_reader(
    shop: str, redis_url: str, prefix: str, kind: str
) -> None:
    with TieredCache(redis_url, prefix=prefix, timeout_s=2.0) as cache, Orders(shop, cache) as orders:
        reader = Reader(kind, shop, redis_url, prefix)
        reader.wait()
        orders.all()
        execute(shop, "UPDATE orders SET note = 'heard' WHERE id = 3")
        eventually(lambda: orders.note(3) == "heard")
        reader.kill()
        orders.note(3)  # what it read when it took over may have cleared the note once more
        execute(shop, "UPDATE orders SET note = 'unheard' WHERE id = 3")
        before = orders.note(3)
        with listening(source_of(kind, shop, reader="shop"), cache) as listener:
            orders.become(rows_of(shop))
            doubts = listener.statistics().doubts

    assert ("heard", 0) == (before, doubts)


@BOTH
def test_nothing_is_stale_after_connections_were_cut_again_and_again(shop: str, kind: str) -> None:
    with (
        TieredCache() as cache,
        Orders(shop, cache) as orders,
        listening(source_of(kind, shop), cache) as listener,
    ):
        end_s = time.monotonic() + WRITING_S
        with threads(orders.ask), writers(shop), psycopg.connect(shop, autocommit=True) as control:
            while time.monotonic() < end_s:
                control.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'perfloop cache'"
                )
                time.sleep(0.1)
        orders.become(rows_of(shop))

        assert listener.statistics().faults > 0


@BOTH
def test_a_server_that_hangs_is_given_up_and_found_again(shop: str, kind: str) -> None:
    policy = ListenerPolicy(first_retry_s=0.05, longest_retry_s=0.2, hung_after_s=0.5)
    with (
        TieredCache() as cache,
        Orders(shop, cache) as orders,
        psycopg.connect(shop, autocommit=True) as connection,
        listening(source_of(kind, shop), cache, policy=policy) as listener,
    ):
        eventually(lambda: listener.statistics().behind_s is not None)
        orders.all()
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'perfloop cache'"
        ).fetchall()
        stopped = [pid for (pid,) in found]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            connection.execute("UPDATE orders SET note = 'new' WHERE id = 3")
            eventually(lambda: listener.statistics().faults)
            behind_s = listener.statistics().behind_s
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        orders.become(rows_of(shop))

        assert behind_s is not None
        assert behind_s > 0.3


def test_nothing_is_stale_though_the_guard_drops_the_slot_all_the_time(shop: str) -> None:
    strict = SlotPolicy(max_bytes=1, drop_over_limit=True, guard_every_s=0.05)
    with (
        TieredCache(remote=InMemoryRemote()) as cache,
        Orders(shop, cache) as orders,
        listening(ReplicationSlot(shop, reader="shop", policy=strict), cache) as listener,
    ):
        with threads(orders.ask), writers(shop):
            eventually(lambda: listener.statistics().doubts > 5)
        orders.become(rows_of(shop))


@BOTH
def test_what_the_shared_tier_was_not_told_is_told_again_by_another_process(shop: str, kind: str) -> None:
    """The process that heard of it dies while it still keeps it for a Redis that is away."""
    redis = InMemoryServer()

    def source() -> ChangeSource:
        # As soon as it may, it stores how far it has come.
        policy = OutboxPolicy(store_every_s=0.0)
        return (
            Outbox(shop, reader="shop", policy=policy)
            if kind == "outbox"
            else ReplicationSlot(shop, reader="shop", policy=SlotPolicy(guard_every_s=0.001))
        )

    with TieredCache(remote=InMemoryRemote(redis)) as stays, Orders(shop, stays) as orders:
        with TieredCache(remote=InMemoryRemote(redis)) as dies, listening(source(), dies) as first:
            eventually(lambda: first.statistics().behind_s is not None)
            orders.all()
            redis.go_away()
            execute(shop, "UPDATE orders SET note = 'new' WHERE id = 3")
            eventually(lambda: dies.statistics().pending_invalidations)
            execute(shop, "UPDATE orders SET note = 'new' WHERE id = 4")
            end_s = time.monotonic() + 0.3
            eventually(lambda: time.monotonic() > end_s)
        redis.come_back()
        with listening(source(), stays) as second:
            orders.become(rows_of(shop))

            assert 0 == second.statistics().doubts
