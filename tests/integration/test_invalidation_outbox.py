"""The outbox on real servers: what is noted, who reads it, and that nothing committed is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Lock

import psycopg
import pytest

from perfloop.adapters.changes.change import read_watched
from perfloop.adapters.changes.outbox_plan import (
    carry_out,
    plan_install,
)
from perfloop.cache.invalidation import ChangeListener, Outbox, TagMap
from perfloop.metrics import Registry

DEADLINE_S = 10.0
TAGS = TagMap({"orders": ("order-{id}", "orders-of-{customer_id}", "orders")})
SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text);
INSERT INTO orders SELECT g, g % 3, '' FROM generate_series(1, 100) g;
"""
STATE = """
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
    SELECT nspname::text FROM pg_namespace
    UNION ALL SELECT oid::regclass || coalesce(reloptions::text, '') || relhastriggers FROM pg_class
        WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)
    UNION ALL SELECT tgname || tgrelid::regclass FROM pg_trigger
    UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace <> 'pg_catalog'::regnamespace
) AS told (line)
"""


class Heard:
    """A cache that only remembers what was invalidated, in order."""

    def __init__(self) -> None:
        self.tags: list[str] = []
        self.counts: Counter[str] = Counter()
        self._lock = Lock()

    def invalidate_tag(self, *tags: str) -> None:
        with self._lock:
            self.tags.extend(tags)
            self.counts.update(tags)

    def clear(self) -> None:
        with self._lock:
            self.tags.clear()
            self.counts.clear()


def eventually(holds: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    end_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end_s, "not within the deadline"
        time.sleep(0.002)


def install(dsn: str, *watched: str, rows_limit: int = 1000) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        wanted = [read_watched(each) for each in watched]
        carry_out(connection, plan_install(connection, wanted, rows_limit=rows_limit))


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def shop(each_postgres_dsn: str) -> Iterator[str]:
    execute(each_postgres_dsn, SHOP)
    return each_postgres_dsn


@pytest.fixture
def watched_shop(shop: str) -> str:
    install(shop, "orders:id,customer_id")
    return shop


def listening(
    dsn: str, heard: Heard, *, reader: str | None = "perfloop", tags: TagMap = TAGS
) -> ChangeListener:
    return ChangeListener(Outbox(dsn, reader=reader), tags, heard, registry=Registry())


@pytest.fixture
def heard(watched_shop: str) -> Iterator[Heard]:
    """What a listener hears that has begun, and has got over the doubt at its beginning."""
    heard = Heard()
    with listening(watched_shop, heard):
        eventually(lambda: heard.counts["every:orders"])
        heard.clear()
        yield heard


@pytest.mark.parametrize(
    ("statement", "tags"),
    [
        ("INSERT INTO orders VALUES (101, 7, '')", {"order-101", "orders-of-7", "orders"}),
        ("UPDATE orders SET note = 'x' WHERE id = 3", {"order-3", "orders-of-0", "orders"}),
        (
            "UPDATE orders SET customer_id = 9 WHERE id = 3",
            {"order-3", "orders-of-0", "orders-of-9", "orders"},
        ),
        (
            "UPDATE orders SET customer_id = NULL WHERE id = 1",
            {"order-1", "orders-of-1", "orders-of-None", "orders"},
        ),
        (
            "DELETE FROM orders WHERE id IN (1, 2)",
            {"order-1", "order-2", "orders-of-1", "orders-of-2", "orders"},
        ),
        (
            "INSERT INTO orders VALUES (5, 1, '') ON CONFLICT (id) DO UPDATE SET customer_id = 1",
            {"order-5", "orders-of-2", "orders-of-1", "orders"},
        ),
        ("TRUNCATE orders", {"every:orders", "orders"}),
    ],
)
def test_a_statement_clears_the_tags_of_its_rows_before_and_after(
    watched_shop: str, heard: Heard, statement: str, tags: set[str]
) -> None:
    execute(watched_shop, statement)
    eventually(lambda: len(heard.counts) >= len(tags))

    assert tags == set(heard.counts)


def test_a_statement_over_many_rows_clears_the_whole_table(shop: str) -> None:
    install(shop, "orders", rows_limit=10)
    heard = Heard()
    with listening(shop, heard, tags=TagMap()):
        eventually(lambda: heard.counts["every:orders"])
        execute(shop, "UPDATE orders SET note = 'x' WHERE id <= 10")
        eventually(lambda: heard.counts["orders:10"])
        before = heard.counts["every:orders"]
        execute(shop, "UPDATE orders SET note = 'y' WHERE id <= 11")
        eventually(lambda: heard.counts["every:orders"] > before)

        assert 0 == heard.counts["orders:11"]


def test_what_is_rolled_back_or_changes_nothing_is_not_heard(watched_shop: str, heard: Heard) -> None:
    with psycopg.connect(watched_shop) as connection:
        connection.execute("UPDATE orders SET note = 'x' WHERE id = 1")
        connection.rollback()
    execute(watched_shop, "UPDATE orders SET note = 'x' WHERE id = -1", "DELETE FROM orders WHERE id = 2")
    eventually(lambda: heard.counts["order-2"])

    assert {"order-2", "orders-of-2", "orders"} == set(heard.counts)


def test_a_transaction_that_is_long_open_is_heard_once_it_is_committed(
    watched_shop: str, heard: Heard
) -> None:
    with psycopg.connect(watched_shop) as slow:
        slow.execute("UPDATE orders SET note = 'x' WHERE id = 1")
        for order in range(2, 40):
            execute(watched_shop, f"UPDATE orders SET note = 'y' WHERE id = {order}")
            eventually(lambda order=order: heard.counts[f"order-{order}"])
        unheard = heard.counts["order-1"]
        slow.commit()
        eventually(lambda: heard.counts["order-1"])

    assert 0 == unheard
    assert [1] * 39 == [heard.counts[f"order-{order}"] for order in range(1, 40)]
