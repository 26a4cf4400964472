"""The outbox on real servers: what is noted, who reads it, and that nothing committed is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event, Lock

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.changes.outbox_plan import (
    carry_out,
    gone_or_renamed,
    missing_triggers,
    plan_install,
    plan_remove,
    read_installed,
)
from perfloop.cache.invalidation import (
    AsyncChangeListener,
    ChangeListener,
    ListenerPolicy,
    Outbox,
    OutboxPolicy,
    TagMap,
)
from perfloop.errors import ChangeFailed, InvalidInput, MissingRights
from perfloop.metrics import Registry
from perfloop.model.changes import read_watched

DEADLINE_S = 30.0
TAGS = TagMap({"orders": ("order-{id}", "orders-of-{customer_id}", "orders")})
SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text);
INSERT INTO orders SELECT g, g % 3, '' FROM generate_series(1, 100) g;
"""
STATE = """
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
    SELECT nspname::text FROM pg_namespace
    UNION ALL SELECT oid::regclass || coalesce(reloptions::text, '') FROM pg_class
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


def listening(dsn: str, heard: Heard, *, reader: str | None = "shop", tags: TagMap = TAGS) -> ChangeListener:
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
        ("INSERT INTO orders VALUES (101, 7, '')", {"order-101", "orders-of-7", "orders", "table:orders"}),
        ("UPDATE orders SET note = 'x' WHERE id = 3", {"order-3", "orders-of-0", "orders", "table:orders"}),
        (
            "UPDATE orders SET customer_id = 9 WHERE id = 3",
            {"order-3", "orders-of-0", "orders-of-9", "orders", "table:orders"},
        ),
        (
            "UPDATE orders SET customer_id = NULL WHERE id = 1",
            {"order-1", "orders-of-1", "orders-of-None", "orders", "table:orders"},
        ),
        (
            "DELETE FROM orders WHERE id IN (1, 2)",
            {"order-1", "order-2", "orders-of-1", "orders-of-2", "orders", "table:orders"},
        ),
        (
            "INSERT INTO orders VALUES (5, 1, '') ON CONFLICT (id) DO UPDATE SET customer_id = 1",
            {"order-5", "orders-of-2", "orders-of-1", "orders", "table:orders"},
        ),
        ("TRUNCATE orders", {"every:orders", "orders", "table:orders"}),
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
        eventually(lambda: heard.counts["orders:id=10"])
        before = heard.counts["every:orders"]
        execute(shop, "UPDATE orders SET note = 'y' WHERE id <= 11")
        eventually(lambda: heard.counts["every:orders"] > before)

        assert 0 == heard.counts["orders:id=11"]


def test_columns_may_be_called_as_variables_of_triggers_are(shop: str) -> None:
    execute(shop, 'CREATE TABLE finds (found int PRIMARY KEY, tg_op text, "new" text, told text)')
    install(shop, "finds:found,tg_op,new,told")
    heard = Heard()
    tags = TagMap({"finds": ("{found} {tg_op} {new} {told}",)})
    with listening(shop, heard, tags=tags):
        execute(shop, "INSERT INTO finds VALUES (1, 'a', 'b', 'c')", "UPDATE finds SET tg_op = 'x'")
        eventually(lambda: heard.counts["1 x b c"])

    assert heard.counts["1 a b c"]


@pytest.mark.parametrize("change", ["RENAME COLUMN customer_id TO client_id", "DROP COLUMN customer_id"])
def test_a_watched_column_that_goes_keeps_nobody_from_writing_and_leaves_the_table_in_doubt(
    watched_shop: str, heard: Heard, change: str
) -> None:
    execute(watched_shop, f"ALTER TABLE orders {change}")
    for statement in ("DELETE FROM orders WHERE id = 1", "UPDATE orders SET note = 'x' WHERE id = 2"):
        heard.clear()
        execute(watched_shop, statement)
        eventually(lambda: heard.counts["every:orders"])
    with psycopg.connect(watched_shop) as connection:
        gone = gone_or_renamed(connection, read_installed(connection))

    assert ("orders has no column customer_id any more",) == gone


def test_a_table_that_was_renamed_is_heard_under_its_old_name_until_it_is_watched_anew(
    watched_shop: str, heard: Heard
) -> None:
    execute(watched_shop, "ALTER TABLE orders RENAME TO sales", "DELETE FROM sales WHERE id = 1")
    eventually(lambda: heard.counts["order-1"])
    with psycopg.connect(watched_shop, autocommit=True) as connection:
        gone = gone_or_renamed(connection, read_installed(connection))
        with pytest.raises(
            InvalidInput, match=r"sales is watched as orders, .*outbox remove .*--table orders"
        ):
            plan_install(connection, [read_watched("sales")])
        carry_out(connection, plan_remove(connection, ["orders"]))
        carry_out(connection, plan_install(connection, [read_watched("sales")]))
        watched = [each.table for each in read_installed(connection).watched]

    assert ("orders is now called sales",) == gone
    assert ["sales"] == watched


def test_a_table_that_was_dropped_is_named_and_may_come_back(watched_shop: str) -> None:
    execute(watched_shop, "DROP TABLE orders")
    with psycopg.connect(watched_shop) as connection:
        gone = gone_or_renamed(connection, read_installed(connection))
    execute(watched_shop, SHOP)
    install(watched_shop, "orders:id,customer_id")
    heard = Heard()
    with listening(watched_shop, heard):
        eventually(lambda: heard.counts["every:orders"])
        execute(watched_shop, "DELETE FROM orders WHERE id = 1")
        eventually(lambda: heard.counts["order-1"])

    assert ("there is no table orders any more",) == gone


def test_copies_and_cascades_are_heard(shop: str) -> None:
    execute(shop, "CREATE TABLE lines (id int PRIMARY KEY, order_id int REFERENCES orders ON DELETE CASCADE)")
    install(shop, "lines:order_id")
    heard = Heard()
    with listening(shop, heard, tags=TagMap({"lines": ("lines-of-{order_id}",)})):
        eventually(lambda: heard.counts["every:lines"])
        with psycopg.connect(shop) as connection, connection.cursor().copy("COPY lines FROM STDIN") as copy:
            copy.write("1\t7\n2\t8\n")
        eventually(lambda: heard.counts["lines-of-7"])
        heard.clear()
        execute(shop, "DELETE FROM orders WHERE id = 8")
        eventually(lambda: heard.counts["lines-of-8"])

    assert 0 == heard.counts["lines-of-7"]


def test_what_is_rolled_back_or_changes_nothing_is_not_heard(watched_shop: str, heard: Heard) -> None:
    with psycopg.connect(watched_shop) as connection:
        connection.execute("UPDATE orders SET note = 'x' WHERE id = 1")
        connection.rollback()
    execute(watched_shop, "UPDATE orders SET note = 'x' WHERE id = -1", "DELETE FROM orders WHERE id = 2")
    eventually(lambda: heard.counts["order-2"])

    assert {"order-2", "orders-of-2", "orders", "table:orders"} == set(heard.counts)


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


def test_a_part_of_a_table_is_watched_under_the_name_of_the_whole(shop: str) -> None:
    execute(
        shop,
        "CREATE TABLE visits (id int PRIMARY KEY, page text) PARTITION BY RANGE (id)",
        "CREATE TABLE early PARTITION OF visits FOR VALUES FROM (0) TO (10)",
    )
    install(shop, "visits")
    heard = Heard()
    with listening(shop, heard, tags=TagMap()):
        eventually(lambda: heard.counts["every:visits"])
        execute(shop, "INSERT INTO visits VALUES (1, '')", "INSERT INTO early VALUES (2, '')")
        eventually(lambda: heard.counts["visits:id=2"])
    execute(shop, "CREATE TABLE late PARTITION OF visits FOR VALUES FROM (10) TO (20)")
    with psycopg.connect(shop) as connection:
        missing = missing_triggers(connection, read_installed(connection))

    assert (1, 1) == (heard.counts["visits:id=1"], heard.counts["visits:id=2"])
    assert ("late",) == missing


def test_removing_leaves_the_database_as_it_was(shop: str) -> None:
    def state() -> object:
        with psycopg.connect(shop) as connection:
            return connection.execute(STATE).fetchone()

    execute(shop, 'CREATE SCHEMA "Sales"', 'CREATE TABLE "Sales"."Order Lines" (id uuid PRIMARY KEY)')
    before = state()
    install(shop, "orders")
    install(shop, "orders:id,customer_id", "Sales.Order Lines")
    with psycopg.connect(shop, autocommit=True) as connection:
        watched = [(each.table, each.columns) for each in read_installed(connection).watched]
        carry_out(connection, plan_remove(connection, ["orders"]))
        carry_out(connection, plan_remove(connection))

    assert [("Sales.Order Lines", ("id",)), ("orders", ("id", "customer_id"))] == watched
    assert before == state()


@pytest.mark.parametrize(
    ("watched", "message"),
    [
        ("nothing", "there is no table nothing"),
        ("orders:colour", "no column colour"),
        ("stays", "no primary key"),
        ("stays:day", "stays.day is date"),
        ("stays:price", "stays.price is numeric"),
        ("seen:id", "there is no table seen"),
    ],
)
def test_what_cannot_be_watched_is_refused(shop: str, watched: str, message: str) -> None:
    execute(shop, "CREATE TABLE stays (day date, price numeric)", "CREATE VIEW seen AS SELECT * FROM orders")

    with pytest.raises(InvalidInput, match=message):
        install(shop, watched)


def test_a_table_in_use_is_not_waited_for_and_nothing_is_changed(shop: str) -> None:
    with psycopg.connect(shop) as busy, psycopg.connect(shop, autocommit=True) as connection:
        busy.execute("UPDATE orders SET note = '' WHERE id = 1")
        connection.execute("SET lock_timeout = '50ms'")
        statements = plan_install(connection, [read_watched("orders")])

        with pytest.raises(ChangeFailed, match="in use by a long transaction"):
            carry_out(connection, statements)
        assert not read_installed(connection).exists


def test_without_an_outbox_or_rights_on_it_the_way_out_is_named(shop: str) -> None:
    with pytest.raises(InvalidInput, match="perfloop cache outbox install"):
        Outbox(shop, reader="shop").open()

    install(shop, "orders")
    execute(shop, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
    with pytest.raises(MissingRights, match="GRANT USAGE ON SCHEMA perfloop_cache"):
        Outbox(make_conninfo(shop, user="reader"), reader="shop").open()
    execute(shop, "DROP ROLE reader")


def test_one_of_two_readers_reads_and_the_other_takes_over(watched_shop: str) -> None:
    heard = Heard(), Heard()
    first, second = (
        ChangeListener(
            Outbox(watched_shop, reader="shop"),
            TAGS,
            each,
            policy=ListenerPolicy(takeover_s=0.02),
            registry=Registry(),
        )
        for each in heard
    )
    with second:
        eventually(lambda: second.statistics().is_reading)
        with first:
            execute(watched_shop, "DELETE FROM orders WHERE id = 1")
            eventually(lambda: heard[1].counts["order-1"])
            unheard = heard[0].counts["order-1"]
            second.close()
            execute(watched_shop, "DELETE FROM orders WHERE id = 2")
            eventually(lambda: heard[0].counts["order-2"])

    assert (0, 0) == (unheard, heard[0].counts["every:orders"])


def test_readers_without_a_name_all_hear_everything(watched_shop: str) -> None:
    heard = Heard(), Heard()
    with listening(watched_shop, heard[0], reader=None), listening(watched_shop, heard[1], reader=None):
        for each in heard:
            eventually(lambda each=each: each.counts["every:orders"])
        execute(watched_shop, "DELETE FROM orders WHERE id = 1")
        for each in heard:
            eventually(lambda each=each: each.counts["order-1"])


def test_what_was_cleaned_away_unread_leaves_everything_in_doubt(watched_shop: str) -> None:
    policy = OutboxPolicy(store_every_s=0.01, keep_for_s=0.02)
    late = Outbox(watched_shop, reader=None)
    stopping = Event()
    heard = Heard()
    assert late.open()
    assert "every:orders" in {tag for change in late.read(stopping) for tag in TAGS.tags_of(change)}
    busy = ChangeListener(
        Outbox(watched_shop, reader="shop", policy=policy), TAGS, heard, registry=Registry()
    )
    with busy, psycopg.connect(watched_shop, autocommit=True) as connection:
        eventually(lambda: busy.statistics().is_reading)
        connection.execute("DELETE FROM orders WHERE id = 1")
        eventually(
            lambda: connection.execute("SELECT count(*) FROM perfloop_cache.events").fetchone() == (0,)
        )
    told = list(late.read(stopping))
    late.close()

    assert ["orders", None] == [change.table for change in told if change.rows is None]


def test_a_position_of_another_history_leaves_everything_in_doubt(watched_shop: str) -> None:
    """As in a dump that was restored into a new server, whose transactions are numbered anew."""
    with listening(watched_shop, Heard()) as first:
        eventually(lambda: first.statistics().behind_s is not None)
    execute(
        watched_shop,
        "UPDATE perfloop_cache.readers SET server = 'elsewhere', position = '99999999:99999999:'",
        "INSERT INTO perfloop_cache.events VALUES ('99999999', now(), 'orders', '[{\"id\": \"5\"}]')",
    )
    heard = Heard()
    with listening(watched_shop, heard):
        eventually(lambda: heard.counts["every:orders"])
        execute(watched_shop, "DELETE FROM orders WHERE id = 1")
        eventually(lambda: heard.counts["order-1"])

    assert 0 == heard.counts["order-5"]


def test_many_events_are_heard_in_bounded_pieces_and_counted(watched_shop: str) -> None:
    with listening(watched_shop, Heard()) as first:
        eventually(lambda: first.statistics().behind_s is not None)
    with psycopg.connect(watched_shop) as connection, connection.pipeline():
        for number in range(2500):
            connection.execute("INSERT INTO orders VALUES (%s, 1, '')", [1000 + number])
    heard = Heard()
    registry = Registry()
    with ChangeListener(Outbox(watched_shop, reader="shop"), TAGS, heard, registry=registry) as listener:
        eventually(lambda: heard.counts["order-3499"])
        eventually(
            lambda: listener.statistics().changes == 2500 and not listener.statistics().oldest_change_s
        )
        statistics = listener.statistics()

    assert 2500 == sum(heard.counts[f"order-{1000 + number}"] for number in range(2500))
    assert (0, 0, True) == (statistics.doubts, statistics.faults, statistics.is_reading)
    assert statistics.kept_bytes >= 0
    source = registry.counter("perfloop_cache_invalidation_changes", labels=["source"])
    assert [2500] == [counter.value for _, counter in source.children()]


def test_an_asyncio_cache_is_awaited_in_its_loop(watched_shop: str) -> None:
    class Asynchronous(Heard):
        async def invalidate_tag(self, *tags: str) -> None:  # type: ignore[override]  # the same for asyncio
            await asyncio.sleep(0)
            self.counts.update(tags)

    async def listen() -> int:
        heard = Asynchronous()
        async with AsyncChangeListener(Outbox(watched_shop, reader="shop"), TAGS, heard, registry=Registry()):
            await asyncio.to_thread(eventually, lambda: heard.counts["every:orders"])
            await asyncio.to_thread(execute, watched_shop, "DELETE FROM orders WHERE id = 1")
            await asyncio.to_thread(eventually, lambda: heard.counts["order-1"])
        return heard.counts["order-1"]

    assert 1 == asyncio.run(listen())


def test_what_a_cache_does_not_take_is_told_again(watched_shop: str) -> None:
    class Reluctant(Heard):
        refusals = 2

        def invalidate_tag(self, *tags: str) -> None:
            if "order-1" in tags and self.refusals:
                self.refusals -= 1
                raise ConnectionError("the cache is away")
            super().invalidate_tag(*tags)

    heard = Reluctant()
    with listening(watched_shop, heard) as listener:
        eventually(lambda: heard.counts["every:orders"])
        execute(watched_shop, "DELETE FROM orders WHERE id = 1")
        eventually(lambda: heard.counts["order-1"])
        statistics = listener.statistics()

    assert (2, "the cache is away") == (statistics.faults, statistics.last_fault)


@pytest.mark.parametrize("table", ["orders", "ordres"])
def test_a_table_or_column_that_is_not_watched_is_refused_with_the_way_out(
    watched_shop: str, table: str
) -> None:
    tags = TagMap({table: ("orders-with-{note}",)})
    with pytest.raises(
        InvalidInput, match=f"{table} is not watched with note.*outbox install --table {table}:"
    ):
        listening(watched_shop, Heard(), tags=tags).open()

    with psycopg.connect(watched_shop) as connection:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'perfloop cache'"
        eventually(lambda: connection.execute(left).fetchone() == (0,))


def test_services_with_readers_of_their_own_hear_the_same_changes(watched_shop: str) -> None:
    shop, mail = Heard(), Heard()
    with listening(watched_shop, shop, reader="shop"), listening(watched_shop, mail, reader="mail"):
        eventually(lambda: shop.counts["every:orders"] and mail.counts["every:orders"])
        execute(watched_shop, "DELETE FROM orders WHERE id = 1")
        eventually(lambda: shop.counts["order-1"] and mail.counts["order-1"])


def test_what_is_watched_is_looked_at_again_when_another_process_takes_over(watched_shop: str) -> None:
    policy = ListenerPolicy(takeover_s=0.02)
    second = ChangeListener(
        Outbox(watched_shop, reader="shop"), TAGS, Heard(), policy=policy, registry=Registry()
    )
    first = listening(watched_shop, Heard())
    first.open()
    with second:
        install(watched_shop, "orders:id")
        first.close()
        eventually(lambda: second.statistics().is_reading)
        eventually(lambda: second.statistics().faults)

        assert "orders is not watched with customer_id" in str(second.statistics().last_fault)
