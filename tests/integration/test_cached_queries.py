"""Results of statements on a real server, through psycopg and SQLAlchemy, of both kinds."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.types.range import Range
from sqlalchemy import Integer, Numeric, Text, bindparam, column, create_engine, func, select, table, text
from sqlalchemy.dialects.postgresql import INT4RANGE
from sqlalchemy.ext.asyncio import create_async_engine
from tests.cache_kinds import until
from tests.conftest import Templates, fresh_database

from perfloop.adapters.changes.outbox_plan import carry_out, plan_install
from perfloop.adapters.servers import PostgresServer
from perfloop.cache import AsyncQueryCache, AsyncTieredCache, QueryCache, TieredCache
from perfloop.cache.invalidation import ChangeListener, Outbox, TagMap
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.changes import read_watched

SCHEMA = """
    CREATE TABLE orders (id int PRIMARY KEY, customer text, price numeric(10, 2));
    INSERT INTO orders VALUES (1, 'ann', 1.50), (2, 'bob', 2.50);
    CREATE SCHEMA sales;
    CREATE TABLE sales.lines (order_id int, item text);
    INSERT INTO sales.lines VALUES (1, 'pen');
    CREATE VIEW cheap AS SELECT * FROM orders WHERE price < 2;
    CREATE VIEW cheaper AS SELECT id FROM cheap;
    CREATE VIEW recent AS SELECT id FROM orders WHERE now() > '2020-01-01';
    CREATE VIEW busy AS SELECT pid FROM pg_stat_activity;
    CREATE VIEW relations AS SELECT relname FROM pg_class;
    CREATE TABLE days (day date, n int) PARTITION BY RANGE (day);
    CREATE TABLE days_2026 PARTITION OF days FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE days_2027 PARTITION OF days FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
    CREATE TABLE secret (owner text, word text);
    ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON secret USING (owner = current_setting('app.tenant', true));
    INSERT INTO secret VALUES ('ann', 'a'), ('bob', 'b');
    CREATE FUNCTION counted() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM orders';
    CREATE FUNCTION doubled(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
"""
NAMES = "SELECT id, customer FROM orders WHERE id = %s"


@contextmanager
def connected(dsn: str) -> Iterator[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def template(postgres_server: PostgresServer, templates: Templates) -> str:
    return templates.of(postgres_server.dsn(), SCHEMA)


@pytest.fixture(scope="module")
def dsn(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    """For tests that leave it as it was."""
    with fresh_database(postgres_server.dsn(), template=template) as fresh:
        yield fresh


@pytest.fixture
def own_dsn(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    with fresh_database(postgres_server.dsn(), template=template) as fresh:
        yield fresh


@pytest.fixture
def cache() -> Iterator[TieredCache]:
    with TieredCache() as cache:
        yield cache


def loads(cache: TieredCache) -> int:
    return cache.statistics().loads


def tags_of(cache: TieredCache, queries: QueryCache) -> set[str]:
    return {tag for _, tags in queries._resolved.values() for tag in tags}


def test_a_result_is_loaded_once_and_again_after_its_table_changed(own_dsn: str, cache: TieredCache) -> None:
    queries = QueryCache(cache)
    with connected(own_dsn) as connection, connected(own_dsn) as other:
        first = queries.fetch_all(connection, NAMES, (1,), ttl_s=60)
        other.execute("UPDATE orders SET customer = 'eve' WHERE id = 1")
        kept = queries.fetch_all(
            other, "SELECT id, customer -- who\nFROM orders WHERE id = %s", (1,), ttl_s=60
        )
        cache.invalidate_tag("table:orders")
        anew = queries.fetch_all(connection, NAMES, (1,), ttl_s=60)

    assert [(1, "ann")] == list(first)
    assert "ann" == kept[0].customer
    assert "eve" == anew[0].customer
    assert 2 == loads(cache)


def test_parameters_are_told_apart_by_name_place_value_and_type(dsn: str, cache: TieredCache) -> None:
    queries = QueryCache(cache)
    both = "SELECT %(a)s::int AS one, %(b)s::int AS two"
    turned = "SELECT %(b)s::int AS one, %(a)s::int AS two"
    with connected(dsn) as connection:
        (first,) = queries.fetch_all(connection, both, {"a": 1, "b": 2}, ttl_s=60)
        (second,) = queries.fetch_all(connection, turned, {"a": 1, "b": 2}, ttl_s=60)
        for value in (1, True, "1", Decimal(1)):
            (row,) = queries.fetch_all(connection, "SELECT %s::text AS it", (value,), ttl_s=60)
            assert str(value).lower() == row.it

    assert ((1, 2), (2, 1)) == (first, second)


@pytest.mark.parametrize(
    ("statement", "tags"),
    [
        ("SELECT * FROM cheaper", {"table:orders"}),
        ("SELECT * FROM Orders o, sales.lines l", {"table:orders", "table:sales.lines"}),
        ("SELECT (SELECT max(id) FROM public.orders) FROM generate_series(1, 2)", {"table:orders"}),
        (
            "WITH orders AS (SELECT * FROM sales.lines) SELECT * FROM orders",
            {"table:orders", "table:sales.lines"},
        ),
        ("WITH mine AS (SELECT 1 AS a) SELECT doubled(a) FROM mine", set()),
        ("SELECT * FROM days", {"table:days", "table:days_2026", "table:days_2027"}),
        ("SELECT * FROM days_2026", {"table:days", "table:days_2026"}),
        ("TABLE orders", {"table:orders"}),
        ("SELECT pg_size_pretty(1::bigint), 'now and then', date_trunc('day', %(at)s::date)", set()),
    ],
)
def test_tags_are_of_the_tables_behind_the_names(
    dsn: str, cache: TieredCache, statement: str, tags: set[str]
) -> None:
    queries = QueryCache(cache)
    with connected(dsn) as connection:
        queries.fetch_all(connection, statement, {"at": dt.date(2026, 1, 1)}, ttl_s=60)

    assert tags == tags_of(cache, queries)


def test_names_are_looked_up_on_the_search_path(own_dsn: str, cache: TieredCache) -> None:
    queries = QueryCache(cache)
    with connected(own_dsn) as connection:
        connection.execute("CREATE TABLE sales.orders AS SELECT 9 AS id, 'zoe' AS customer")
        public = queries.fetch_all(connection, NAMES, (9,), ttl_s=60)
        connection.execute("SET search_path = sales, public")
        sales = queries.fetch_all(connection, NAMES, (9,), ttl_s=60)

    assert ((), ((9, "zoe"),)) == (public, sales)
    assert {"table:orders", "table:sales.orders"} == tags_of(cache, queries)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT now()", "now()"),
        ("SELECT random()", "volatile"),
        ("SELECT nextval('s')", "volatile"),
        ("SELECT current_date", "moment"),
        ("SELECT 1 FROM orders WHERE 'today'::date > '2020-01-01'", "moment"),
        ("SELECT counted()", "may read tables"),
        ("SELECT * FROM recent", "now()"),
        ("SELECT * FROM busy", "without an event"),
        ("SELECT * FROM relations", "without an event"),
        ("SELECT * FROM pg_stat_activity", "without an event"),
        ("SELECT * FROM information_schema.tables", "without an event"),
        ("SELECT current_setting('app.tenant')", "session"),
        ("SELECT * FROM orders FOR UPDATE", "locks"),
        ("WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone", "writes"),
        ("SELECT * INTO copied FROM orders", "writes"),
        ("INSERT INTO orders VALUES (3)", "writes"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("EXPLAIN SELECT 1", "only results of SELECT"),
        ("SELECT * FROM orders TABLESAMPLE SYSTEM (50)", "TABLESAMPLE"),
        ("SELECT * FROM secret", "row-level security"),
        ("SELEC 1", "cannot be read|only results|none that only reads"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_known_to_stay_true_is_refused_and_not_run(
    dsn: str, cache: TieredCache, statement: str, reason: str
) -> None:
    with (
        connected(dsn) as connection,
        pytest.raises(UnsupportedStatement, match=reason.replace("()", r"\(\)")),
    ):
        QueryCache(cache).fetch_all(connection, statement, ttl_s=60)

    assert 0 == loads(cache)


def test_functions_that_the_user_vouches_for_are_called_once(dsn: str, cache: TieredCache) -> None:
    queries = QueryCache(cache, allow=("now", "counted"))
    with connected(dsn) as connection:
        first = queries.fetch_all(connection, "SELECT now(), counted()", ttl_s=60, tags=("orders",))
        again = queries.fetch_all(connection, "SELECT now(), counted()", ttl_s=60, tags=("orders",))
        cache.invalidate_tag("orders")
        anew = queries.fetch_all(connection, "SELECT now(), counted()", ttl_s=60, tags=("orders",))

    assert first == again
    assert first != anew


def test_a_temporary_table_is_refused_even_where_a_lasting_one_was_kept(dsn: str, cache: TieredCache) -> None:
    queries = QueryCache(cache)
    with connected(dsn) as connection:
        queries.fetch_all(connection, NAMES, (1,), ttl_s=60)
        connection.execute("CREATE TEMPORARY TABLE orders (id int, customer text)")

        with pytest.raises(UnsupportedStatement, match="temporary"):
            queries.fetch_all(connection, NAMES, (1,), ttl_s=60)


def test_a_transaction_that_has_written_reads_its_own_rows_and_keeps_nothing(
    dsn: str, cache: TieredCache
) -> None:
    for queries in (QueryCache(cache), QueryCache(cache, identity="shop")):
        with psycopg.connect(dsn) as connection:
            before = queries.fetch_all(connection, NAMES, (1,), ttl_s=60)
            connection.execute("UPDATE orders SET customer = 'eve' WHERE id = 1")
            own = queries.fetch_all(connection, NAMES, (1,), ttl_s=60)
            connection.rollback()
            after = queries.fetch_all(connection, NAMES, (1,), ttl_s=60)

        assert ("ann", "eve", "ann") == (before[0].customer, own[0].customer, after[0].customer)
        assert 1 == queries.statistics().bypasses
    assert 2 == loads(cache)


def test_a_transaction_with_an_older_state_neither_keeps_it_nor_sees_a_newer_one(
    own_dsn: str, cache: TieredCache
) -> None:
    queries = QueryCache(cache)
    with psycopg.connect(own_dsn) as old, connected(own_dsn) as other:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT 1")
        other.execute("UPDATE orders SET customer = 'eve' WHERE id = 1")
        new = queries.fetch_all(other, NAMES, (1,), ttl_s=60)
        seen = queries.fetch_all(old, NAMES, (1,), ttl_s=60)

    assert ("eve", "ann") == (new[0].customer, seen[0].customer)


def test_rows_of_one_tenant_are_never_those_of_another(dsn: str, cache: TieredCache) -> None:
    queries = QueryCache(cache, row_security=("app.tenant",))
    role = f"tenant_{uuid.uuid4().hex}"
    with connected(dsn) as connection:
        name = sql.Identifier(role)
        connection.execute(sql.SQL("CREATE ROLE {}").format(name))
        connection.execute(sql.SQL("GRANT SELECT ON secret TO {}").format(name))
        try:
            everything = queries.fetch_all(connection, "SELECT word FROM secret", ttl_s=60)
            connection.execute(sql.SQL("SET ROLE {}").format(name))
            seen = []
            for tenant in ("ann", "bob", "ann"):
                connection.execute("SELECT set_config('app.tenant', %s, false)", (tenant,))
                seen.append(
                    [row.word for row in queries.fetch_all(connection, "SELECT word FROM secret", ttl_s=60)]
                )
        finally:
            connection.execute("RESET ROLE")
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))

    assert 2 == len(everything)
    assert [["a"], ["b"], ["a"]] == seen
    assert 3 == loads(cache)


def test_templates_of_a_table_give_its_results_their_tags(dsn: str, cache: TieredCache) -> None:
    queries = QueryCache(
        cache, tags=TagMap({"orders": ("order-{id}", "orders"), "sales.lines": ("l-{item}",)})
    )
    with connected(dsn) as connection:
        queries.fetch_all(connection, NAMES, (1,), ttl_s=60)
        queries.fetch_all(connection, "TABLE sales.lines", ttl_s=60)

    assert {"orders", "table:sales.lines"} == tags_of(cache, queries)


TYPES = """
    SELECT 1::int8, 1.10::numeric, 'NaN'::numeric, 1.5::float8, true, NULL, 'a'::text, '\\x00ff'::bytea,
        '2026-10-25 02:30+01'::timestamptz, '2026-01-02 03:04'::timestamp, '2026-01-02'::date,
        '03:04+02'::timetz, '03:04'::time, '1 day 2 h'::interval, gen::uuid, '10.0.0.1'::inet,
        '10.0.0.0/8'::cidr, 'fe80::1/64'::inet, '{"a": [1, null, 12345678901234567890]}'::jsonb,
        '[1.5]'::json, ARRAY[1.0, NULL], ARRAY[[1, 2], [3, 4]], ARRAY['2026-01-01'::date], '[1,5)'::int4range,
        '[2026-01-01,)'::daterange, 'empty'::numrange, '{[1,2),[4,5)}'::int4multirange,
        ROW(1, 'a'), B'101', '(1,2)'::point, '1.50'::money, 'a b'::tsvector
    FROM (VALUES ('12345678-1234-5678-1234-567812345678')) AS ids (gen)
"""


def shape(value: Any) -> Any:
    inner = [shape(each) for each in value] if isinstance(value, list | tuple) else repr(value)
    return type(value).__name__ if not isinstance(value, tuple) else "tuple", inner


@pytest.mark.parametrize("serializer", ["msgpack", "pickle"])
def test_every_common_type_comes_back_from_redis_as_from_the_server(
    dsn: str, redis_url: str, serializer: Any
) -> None:
    prefix, secret = f"rows-{uuid.uuid4()}", b"s" * 16
    with (
        TieredCache(redis_url, prefix=prefix, serializer=serializer, secret=secret) as one,
        TieredCache(redis_url, prefix=prefix, serializer=serializer, secret=secret) as other,
        connected(dsn) as connection,
    ):
        connection.execute("SET TimeZone = 'Europe/Berlin'")
        plain = connection.execute(TYPES).fetchall()
        first = QueryCache(one).fetch_all(connection, TYPES, ttl_s=60)
        second = QueryCache(other).fetch_all(connection, TYPES, ttl_s=60)

        assert (0, 1) == (loads(other), other.statistics().remote_hits)
        assert 0 == one.statistics().unencodable

    assert shape(list(plain)) == shape(list(first)) == shape(list(second))


def test_sqlalchemy_selects_and_texts_are_kept(dsn: str, cache: TieredCache) -> None:
    orders = table("orders", column("id", Integer), column("customer", Text))
    statement = (
        select(orders).where(orders.c.id.in_([1, 2]), orders.c.customer.like("a%")).order_by(orders.c.id)
    )
    written = text("SELECT price, '5%' AS part FROM orders WHERE id = :id AND customer = :who").bindparams(
        bindparam("who", "bob")
    )
    engine = create_engine(url_of(dsn))
    queries = QueryCache(cache, connect=engine.connect)
    with engine.connect() as connection:
        for _ in range(2):
            selected = queries.fetch_all(connection, statement, ttl_s=60, stale_for_s=60)
            (row,) = queries.fetch_all(connection, written, {"id": 2}, ttl_s=60)
        connection.execute(text("DELETE FROM orders"))
        gone = queries.fetch_all(connection, statement, ttl_s=60)
        with pytest.raises(InvalidInput, match="select"):
            queries.fetch_all(connection, "SELECT 1", ttl_s=60)
    engine.dispose()

    assert ((1, "ann"),) == selected
    assert (Decimal("2.50"), "5%") == row
    assert () == gone
    assert 2 == loads(cache)
    assert {"table:orders"} == tags_of(cache, queries)


def test_one_text_whose_columns_become_other_types_has_other_results(dsn: str, cache: TieredCache) -> None:
    engine = create_engine(url_of(dsn))
    with engine.connect() as connection:
        found = []
        for kind in (Numeric(), Numeric(asdecimal=False), Numeric()):
            orders = table("orders", column("price", kind))
            (row,) = QueryCache(cache).fetch_all(connection, select(func.max(orders.c.price)), ttl_s=60)
            found.append(type(row[0]))
    engine.dispose()

    assert [Decimal, float, Decimal] == found
    assert 2 == loads(cache)


def test_sqlalchemy_ranges_come_back_as_its_own(dsn: str, redis_url: str) -> None:
    prefix = f"ranges-{uuid.uuid4()}"
    engine = create_engine(url_of(dsn))
    statement = text("SELECT '[1,5)'::int4range AS r").columns(column("r", INT4RANGE))
    with (
        TieredCache(redis_url, prefix=prefix) as one,
        TieredCache(redis_url, prefix=prefix) as other,
        engine.connect() as connection,
    ):
        plain = connection.execute(statement).all()
        first = QueryCache(one).fetch_all(connection, statement, ttl_s=60)
        second = QueryCache(other).fetch_all(connection, statement, ttl_s=60)
        assert 1 == other.statistics().remote_hits
    engine.dispose()

    assert shape([tuple(row) for row in plain]) == shape(list(first)) == shape(list(second))


def url_of(dsn: str) -> str:
    return f"postgresql+psycopg://?{'&'.join(dsn.split())}"


def test_asyncio_has_the_same_through_both_drivers(dsn: str) -> None:
    async def run() -> tuple[Any, ...]:
        engine = create_async_engine(url_of(dsn))
        async with (
            AsyncTieredCache() as cache,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection,
            engine.connect() as core,
        ):
            queries = AsyncQueryCache(cache)
            found = [await queries.fetch_all(connection, NAMES, (1,), ttl_s=60) for _ in range(2)]
            statement = text("SELECT id, customer FROM orders WHERE id = :id")
            found += [await queries.fetch_all(core, statement, {"id": 1}, ttl_s=60) for _ in range(2)]
            statistics = cache.statistics()
        await engine.dispose()
        return *found, statistics.loads

    assert (*[((1, "ann"),)] * 4, 2) == asyncio.run(run())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is awaited gives no signal
            await asyncio.sleep(0.002)


def test_a_caller_who_is_cancelled_gives_no_connection_back_that_is_in_use(dsn: str) -> None:
    statement = "SELECT id, pg_sleep(0.3) FROM orders WHERE id = 1"

    async def run() -> tuple[Any, ...]:
        async with (
            AsyncTieredCache() as cache,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as one,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as two,
        ):
            queries = AsyncQueryCache(cache, allow=("pg_sleep",), identity="shop")
            await queries.fetch_all(two, NAMES, (1,), ttl_s=60)
            leader = asyncio.create_task(queries.fetch_all(one, statement, ttl_s=60))
            await _until(lambda: one.info.transaction_status is psycopg.pq.TransactionStatus.ACTIVE)
            waiter = asyncio.create_task(queries.fetch_all(two, statement, ttl_s=60))
            await _until(
                lambda: [2] == [flight.future.waiters for flight in cache._memory._flights._flights.values()]
            )
            leader.cancel()
            await asyncio.wait([leader])
            status = one.info.transaction_status
            rows = await waiter
            return leader.cancelled(), status, rows[0].id, cache.statistics().loads

    assert (True, psycopg.pq.TransactionStatus.IDLE, 1, 2) == asyncio.run(run())


def test_a_stale_result_is_renewed_through_a_connection_of_its_own(own_dsn: str) -> None:
    clock_s = [1000.0]
    renewed = threading.Event()

    def connect() -> Any:
        renewed.set()
        return psycopg.connect(own_dsn, autocommit=True)

    with TieredCache(clock=lambda: clock_s[0]) as cache, connected(own_dsn) as connection:
        queries = QueryCache(cache, connect=connect)
        queries.fetch_all(connection, NAMES, (1,), ttl_s=10, stale_for_s=60)
        connection.execute("UPDATE orders SET customer = 'eve' WHERE id = 1")
        clock_s[0] += 20
        stale = queries.fetch_all(connection, NAMES, (1,), ttl_s=10, stale_for_s=60)
        assert renewed.wait(10)
        cache._loading.crew.join()
        fresh = queries.fetch_all(connection, NAMES, (1,), ttl_s=10, stale_for_s=60)

        with pytest.raises(InvalidInput, match="connect="):
            QueryCache(cache).fetch_all(connection, NAMES, (1,), ttl_s=10, stale_for_s=60)

    assert ("ann", "eve") == (stale[0].customer, fresh[0].customer)


def test_a_connection_of_another_role_renews_nothing(dsn: str) -> None:
    clock_s = [1000.0]

    def connect() -> Any:
        connection = psycopg.connect(dsn, autocommit=True)
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        return connection

    with TieredCache(clock=lambda: clock_s[0]) as cache, connected(dsn) as connection:
        queries = QueryCache(cache, connect=connect)
        queries.fetch_all(connection, NAMES, (1,), ttl_s=10, stale_for_s=60)
        clock_s[0] += 20
        queries.fetch_all(connection, NAMES, (1,), ttl_s=10, stale_for_s=60)
        cache._loading.crew.join()

        assert (1, 1) == (loads(cache), cache.statistics().load_failures)


def test_what_psycopg_composes_is_kept_and_what_sqlalchemy_selects_needs_its_own_connection(
    dsn: str, cache: TieredCache
) -> None:
    queries = QueryCache(cache)
    composed = sql.SQL("SELECT {} FROM {} WHERE id = {}").format(
        sql.Identifier("customer"), sql.Identifier("orders"), sql.Literal(1)
    )
    with connected(dsn) as connection:
        found = [queries.fetch_all(connection, composed, ttl_s=60) for _ in range(2)]
        with pytest.raises(InvalidInput, match="a connection of its engine"):
            queries.fetch_all(connection, select(column("id")), ttl_s=60)
        with pytest.raises(InvalidInput, match="has no stored form"):
            queries.fetch_all(connection, NAMES, (object(),), ttl_s=60)

    assert [(("ann",),)] * 2 == found
    assert 1 == loads(cache)


def test_other_connections_are_named_in_the_error(cache: TieredCache) -> None:
    with pytest.raises(InvalidInput, match="not through object"):
        QueryCache(cache).fetch_all(object(), "SELECT 1", ttl_s=60)


def test_a_moment_is_a_parameter_like_any_other(dsn: str, cache: TieredCache) -> None:
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with connected(dsn) as connection:
        (row,) = QueryCache(cache).fetch_all(connection, "SELECT %s::timestamptz AS at", (at,), ttl_s=60)
        (spanned,) = QueryCache(cache).fetch_all(
            connection, "SELECT %s::int4range AS r", (Range(1, 5),), ttl_s=60
        )

    assert at == row.at
    assert Range(1, 5) == spanned.r


@pytest.mark.parametrize(
    ("statement", "write"),
    [
        ("SELECT count(*) FROM cheaper", "INSERT INTO orders VALUES (100 + %s, 'zed', 1)"),
        ("TABLE days_2027", "INSERT INTO days VALUES ('2027-01-01', %s)"),
    ],
)
def test_what_another_connection_commits_is_seen_through_the_outbox(
    own_dsn: str, statement: str, write: LiteralString
) -> None:
    with psycopg.connect(own_dsn) as connection:
        carry_out(connection, plan_install(connection, [read_watched("orders"), read_watched("days:n")]))
    with (
        TieredCache() as cache,
        ChangeListener(Outbox(own_dsn, reader=None), TagMap(), cache),
        connected(own_dsn) as reader,
        connected(own_dsn) as writer,
    ):
        queries = QueryCache(cache, identity="shop")

        def seen() -> Any:
            return queries.fetch_all(reader, statement, ttl_s=3600)

        for number in range(5):
            before = seen()
            assert before == seen()
            writer.execute(write, (number,))
            until(lambda before=before: seen() != before)  # type: ignore[misc]  # bound now

        assert cache.statistics().loads <= 11
