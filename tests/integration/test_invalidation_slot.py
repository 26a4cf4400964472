"""Logical decoding on real servers: what the log tells, when, and what happens where it cannot."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.changes.change import read_watched
from perfloop.adapters.changes.outbox_plan import carry_out
from perfloop.adapters.changes.slot_plan import plan_install
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.cache.invalidation import ChangeListener, ListenerPolicy, ReplicationSlot, TagMap
from perfloop.metrics import Registry

DEADLINE_S = 15.0
SETTINGS = {"wal_level": "logical", "fsync": "off", "shared_buffers": "32MB", "max_wal_size": "64MB"}
TAGS = TagMap({"orders": ("order-{id}", "orders-of-{customer_id}", "orders")})
SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text);
INSERT INTO orders SELECT g, g % 3, '' FROM generate_series(1, 100) g;
"""


class Heard:
    """A cache that only counts what was invalidated."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def invalidate_tag(self, *tags: str) -> None:
        self.counts.update(tags)


def eventually(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, "not within the deadline"
        time.sleep(0.002)


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def install(dsn: str, *watched: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        carry_out(connection, plan_install(connection, [read_watched(each) for each in watched]))


@pytest.fixture(scope="module")
def log_server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    with PostgresServer(each_postgres_binaries, settings=SETTINGS) as server:
        yield server


@pytest.fixture
def shop(log_server: PostgresServer) -> Iterator[str]:
    execute(log_server.dsn(), "CREATE DATABASE shop")
    dsn = make_conninfo(log_server.dsn(), dbname="shop")
    execute(dsn, SHOP)
    yield dsn
    execute(
        log_server.dsn(),
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active",
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
        "DROP DATABASE shop WITH (FORCE)",
    )


@pytest.fixture
def watched_shop(shop: str) -> str:
    install(shop, "orders:id,customer_id")
    return shop


def listening(dsn: str, heard: Heard, *, slot: str | None = "perfloop_cache") -> ChangeListener:
    policy = ListenerPolicy(first_retry_s=0.05, takeover_s=0.05)
    return ChangeListener(ReplicationSlot(dsn, slot=slot), TAGS, heard, policy=policy, registry=Registry())


@pytest.fixture(params=["perfloop_cache", None], ids=["shared", "alone"])
def heard(watched_shop: str, request: pytest.FixtureRequest) -> Iterator[Heard]:
    """What a listener hears that has begun, and has got over the doubt at its beginning."""
    heard = Heard()
    with listening(watched_shop, heard, slot=request.param):
        eventually(lambda: heard.counts["every:orders"])
        heard.counts.clear()
        yield heard


def test_every_statement_clears_the_tags_of_its_rows_before_and_after(
    watched_shop: str, heard: Heard
) -> None:
    for statement, tags in [
        ("INSERT INTO orders VALUES (101, 7, '')", {"order-101", "orders-of-7", "orders"}),
        (
            "UPDATE orders SET customer_id = 9 WHERE id = 3",
            {"order-3", "orders-of-0", "orders-of-9", "orders"},
        ),
        ("DELETE FROM orders WHERE id = 1", {"order-1", "orders-of-1", "orders"}),
        ("TRUNCATE orders", {"every:orders", "orders"}),
    ]:
        execute(watched_shop, statement)
        eventually(lambda tags=tags: len(heard.counts) >= len(tags))
        found = set(heard.counts)
        heard.counts.clear()

        assert tags == found


def test_what_is_rolled_back_is_not_heard(watched_shop: str, heard: Heard) -> None:
    with psycopg.connect(watched_shop) as connection:
        connection.execute("UPDATE orders SET note = 'x' WHERE id = 1")
        connection.rollback()
    execute(watched_shop, "UPDATE orders SET note = 'x' WHERE id = 2")
    eventually(lambda: heard.counts["order-2"])

    assert 0 == heard.counts["order-1"]
