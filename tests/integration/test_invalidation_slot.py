"""Logical decoding on real servers: what the log tells, when, and what happens where it cannot."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.changes.outbox_plan import carry_out
from perfloop.adapters.changes.slot_plan import plan_install, plan_remove, read_slots
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.cache.invalidation import ChangeListener, ListenerPolicy, ReplicationSlot, SlotPolicy, TagMap
from perfloop.errors import InvalidInput, MissingRights
from perfloop.metrics import Registry
from perfloop.model.changes import read_watched

DEADLINE_S = 30.0
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


def slots(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [name for name, *_ in read_slots(connection)]


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


def listening(dsn: str, heard: Heard, *, reader: str | None = "shop") -> ChangeListener:
    policy = ListenerPolicy(first_retry_s=0.05, takeover_s=0.05)
    return ChangeListener(
        ReplicationSlot(dsn, reader=reader), TAGS, heard, policy=policy, registry=Registry()
    )


@pytest.fixture(params=["shop", None], ids=["shared", "alone"])
def heard(watched_shop: str, request: pytest.FixtureRequest) -> Iterator[Heard]:
    """What a listener hears that has begun, and has got over the doubt at its beginning."""
    heard = Heard()
    with listening(watched_shop, heard, reader=request.param):
        eventually(lambda: heard.counts["every:orders"])
        heard.counts.clear()
        yield heard


def test_every_statement_clears_the_tags_of_its_rows_before_and_after(
    watched_shop: str, heard: Heard
) -> None:
    for statement, tags in [
        ("INSERT INTO orders VALUES (101, 7, '')", {"order-101", "orders-of-7", "orders", "table:orders"}),
        (
            "UPDATE orders SET customer_id = 9 WHERE id = 3",
            {"order-3", "orders-of-0", "orders-of-9", "orders", "table:orders"},
        ),
        ("DELETE FROM orders WHERE id = 1", {"order-1", "orders-of-1", "orders", "table:orders"}),
        ("TRUNCATE orders", {"every:orders", "orders", "table:orders"}),
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


def test_a_commit_that_waits_for_a_standby_is_not_told_before_others_see_it(
    watched_shop: str, log_server: PostgresServer, heard: Heard
) -> None:
    """The log has it then already; what were loaded now would be old."""
    control = log_server.dsn()
    sent = "SELECT count(*) FROM pg_stat_replication WHERE sent_lsn >= %s"
    waits = "SELECT pg_current_wal_flush_lsn() FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    execute(control, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    with psycopg.connect(control, autocommit=True) as connection:
        shown = "SHOW synchronous_standby_names"
        eventually(lambda: connection.execute(shown).fetchone() == ("nobody",))
        statement = "DELETE FROM orders WHERE id = 1"
        writer = threading.Thread(target=execute, args=[watched_shop, statement], daemon=True)
        writer.start()
        eventually(lambda: connection.execute(waits).fetchone())
        position = connection.execute(waits).fetchone()
        eventually(lambda: connection.execute(sent, position).fetchone() == (1,))
        end_s = time.monotonic() + 0.3
        while time.monotonic() < end_s:
            assert 0 == heard.counts["order-1"]
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        connection.execute("SELECT pg_reload_conf()")
    eventually(lambda: heard.counts["order-1"])
    writer.join(DEADLINE_S)


def test_one_of_two_readers_follows_the_slot_and_the_other_takes_over(watched_shop: str) -> None:
    heard = Heard(), Heard()
    first, second = (listening(watched_shop, each) for each in heard)
    with second:
        eventually(lambda: second.statistics().behind_s is not None)
        with first:
            execute(watched_shop, "DELETE FROM orders WHERE id = 1")
            eventually(lambda: heard[1].counts["order-1"])
            unheard = heard[0].counts["order-1"]
            second.close()
            execute(watched_shop, "DELETE FROM orders WHERE id = 2")
            eventually(lambda: heard[0].counts["order-2"])

    assert (0, 0) == (unheard, heard[0].counts["every:orders"])


def test_a_slot_that_keeps_too_much_is_an_alarm_or_is_dropped(
    watched_shop: str,
) -> None:
    with listening(watched_shop, Heard()) as first:
        eventually(lambda: first.statistics().behind_s is not None)
    execute(
        watched_shop,
        "CREATE TABLE other AS SELECT repeat('x', 500) FROM generate_series(1, 4000)",
        "DELETE FROM orders WHERE id = 1",
    )
    heard = Heard()
    alarmed = ReplicationSlot(watched_shop, reader="shop", policy=SlotPolicy(max_bytes=1_000_000))
    with ChangeListener(alarmed, TAGS, heard, registry=Registry()) as listener:
        alarm = listener.statistics().is_over_limit
        eventually(lambda: heard.counts["order-1"])
    doubts = heard.counts["every:orders"]
    strict = ReplicationSlot(
        watched_shop, reader="shop", policy=SlotPolicy(max_bytes=1, drop_over_limit=True)
    )
    with ChangeListener(strict, TAGS, heard, registry=Registry()):
        eventually(lambda: heard.counts["every:orders"])

    assert (True, 0) == (alarm, doubts)


def test_a_slot_of_ones_own_is_watched_and_guarded_too(watched_shop: str) -> None:
    with listening(watched_shop, Heard(), reader=None) as listener:
        eventually(lambda: listener.statistics().behind_s is not None)
    strict = SlotPolicy(max_bytes=1, drop_over_limit=True, guard_every_s=0.01)
    source = ReplicationSlot(watched_shop, reader=None, policy=strict)
    policy = ListenerPolicy(first_retry_s=0.01)
    with ChangeListener(source, TAGS, Heard(), policy=policy, registry=Registry()) as listener:
        execute(watched_shop, "DELETE FROM orders WHERE id = 1")
        eventually(lambda: listener.statistics().doubts > 2)


def test_a_slot_whose_log_is_gone_is_made_anew_and_all_is_in_doubt(
    watched_shop: str, log_server: PostgresServer
) -> None:
    lost = "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = 'perfloop_cache_shop'"
    with listening(watched_shop, Heard()) as first:
        eventually(lambda: first.statistics().behind_s is not None)
    execute(log_server.dsn(), "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    with psycopg.connect(watched_shop, autocommit=True) as connection:

        def is_lost() -> bool:
            connection.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))")
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
            return connection.execute(lost).fetchone() == (True,)

        eventually(is_lost)
        connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        connection.execute("SELECT pg_reload_conf()")
    heard = Heard()
    with listening(watched_shop, heard):
        eventually(lambda: heard.counts["every:orders"])
        execute(watched_shop, "DELETE FROM orders WHERE id = 1")
        eventually(lambda: heard.counts["order-1"])


def test_old_values_that_the_log_does_not_tell_leave_the_table_in_doubt(
    watched_shop: str, heard: Heard
) -> None:
    execute(
        watched_shop,
        "ALTER TABLE orders REPLICA IDENTITY DEFAULT",
        "UPDATE orders SET customer_id = 5 WHERE id = 1",
    )
    eventually(lambda: heard.counts["every:orders"])

    assert 0 == heard.counts["orders-of-5"]


def test_removing_brings_back_what_each_table_told(shop: str) -> None:
    state = (
        "SELECT oid::regclass::text, relreplident::text FROM pg_class WHERE relnamespace = 2200 ORDER BY 1"
    )
    execute(
        shop,
        "CREATE TABLE plain (id int)",
        "CREATE TABLE indexed (id int NOT NULL, place int)",
        'CREATE UNIQUE INDEX "Indexed by" ON indexed (id)',
        'ALTER TABLE indexed REPLICA IDENTITY USING INDEX "Indexed by"',
    )
    with psycopg.connect(shop, autocommit=True) as connection:
        before = connection.execute(state).fetchall()
        install(shop, "orders", "plain:id")
        install(shop, "orders:id,customer_id", "indexed:id,place")
        between = connection.execute(state).fetchall()
        carry_out(connection, plan_remove(connection, ["plain"]))
        carry_out(connection, plan_remove(connection))
        after = connection.execute(state).fetchall()

    assert [("indexed", "f"), ("orders", "f"), ("plain", "f")] == [
        row[:2] for row in between if row[0] in ("indexed", "orders", "plain")
    ]
    assert before == after


@pytest.mark.parametrize(
    ("tables", "watched", "message"),
    [
        (
            ["CREATE TABLE visits (id int, page int) PARTITION BY RANGE (id)"],
            "visits:id",
            "visits is partitioned, .* use the outbox",
        ),
        (
            ["CREATE TABLE visits (id int PRIMARY KEY)", "CREATE TABLE early () INHERITS (visits)"],
            "visits",
            "early, which is a part of visits, has no primary key",
        ),
    ],
)
def test_a_table_whose_parts_could_not_be_written_any_more_is_refused(
    shop: str, tables: list[str], watched: str, message: str
) -> None:
    execute(shop, *tables)

    with pytest.raises(InvalidInput, match=message):
        install(shop, watched)


def test_parts_with_a_primary_key_are_heard_under_the_name_of_the_whole(shop: str) -> None:
    execute(
        shop,
        "CREATE TABLE visits (id int PRIMARY KEY, page int) PARTITION BY RANGE (id)",
        "CREATE TABLE early PARTITION OF visits FOR VALUES FROM (0) TO (10)",
    )
    install(shop, "visits")
    execute(shop, "CREATE TABLE late PARTITION OF visits FOR VALUES FROM (10) TO (20)")
    heard = Heard()
    source = ReplicationSlot(shop, reader="shop")
    with ChangeListener(source, TagMap({"visits": ("visit-{id}",)}), heard, registry=Registry()):
        eventually(lambda: heard.counts["every:visits"])
        execute(
            shop,
            "INSERT INTO visits VALUES (1, 1), (11, 1)",
            "UPDATE visits SET page = 2",
            "DELETE FROM late",
        )
        eventually(lambda: heard.counts["visit-1"] and heard.counts["visit-11"])
        doubts = heard.counts["every:visits"]

    assert 1 == doubts


def test_removing_the_publication_removes_the_slots_of_all_readers(
    watched_shop: str, log_server: PostgresServer
) -> None:
    heard = Heard()
    for reader in ("shop", "mail"):
        with listening(watched_shop, heard, reader=reader):
            eventually(lambda: heard.counts.pop("every:orders", 0))
            eventually(lambda reader=reader: f"perfloop_cache_{reader}" in slots(watched_shop))
    with psycopg.connect(watched_shop, autocommit=True) as connection:
        eventually(lambda: not any(active for _, active, *_ in read_slots(connection)))
        carry_out(connection, plan_remove(connection))

    assert [] == slots(watched_shop)


@pytest.mark.parametrize("reader", ["", "Shop", "a" * 36, "a-b"])
def test_a_reader_that_cannot_name_a_slot_is_refused(reader: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a slot"):
        ReplicationSlot("", reader=reader)


def test_without_publication_or_right_the_way_out_is_named(shop: str) -> None:
    with pytest.raises(InvalidInput, match="perfloop cache slot install"):
        ReplicationSlot(shop, reader="shop").open()

    execute(shop, "CREATE ROLE reader LOGIN")
    with pytest.raises(MissingRights, match="ALTER ROLE reader REPLICATION"):
        ReplicationSlot(make_conninfo(shop, user="reader"), reader="shop").open()
    execute(shop, "DROP ROLE reader")
