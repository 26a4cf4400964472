"""Problems planted on real servers of every installed version: found by reading them, gone when mended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from msgspec.structs import replace

from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.adapters.postgres import take_snapshot
from perfloop.analyze.checks import analyze
from perfloop.analyze.nothing import explain_nothing
from perfloop.model.advice import Finding
from perfloop.model.snapshot import Host, Snapshot, StatementPlan

HOST = Host(
    cpus=2,
    memory_bytes=8 * 1024**3,
    available_bytes=6 * 1024**3,
    load_1m=0.1,
    busy_ratio=0.1,
    steal_ratio=0.0,
)
SCHEMA = """
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL) WITH (autovacuum_enabled = false);
    CREATE TABLE orders (
        id int PRIMARY KEY,
        customer_id int NOT NULL REFERENCES customers,
        status text NOT NULL,
        shop int NOT NULL,
        city int NOT NULL,
        created_at timestamp NOT NULL
    ) WITH (autovacuum_enabled = false);
    INSERT INTO customers SELECT i, 'c' || i FROM generate_series(1, 2000) i;
    INSERT INTO orders
    SELECT i, i % 2000 + 1, CASE WHEN i % 100 = 0 THEN 'open' ELSE 'done' END, i % 40, i % 40,
           timestamp '2026-01-01' + i * interval '1 minute'
    FROM generate_series(1, 40000) i;
"""
FORGET_STATEMENTS = """
    SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()
"""
BY_STATUS = "SELECT * FROM orders WHERE status = 'open'"
NEWEST = "SELECT * FROM orders ORDER BY created_at DESC LIMIT 10"
LAST_OF_EACH = """
    SELECT c.name, o.id FROM customers c
    LEFT JOIN LATERAL (SELECT id FROM orders o WHERE o.customer_id = c.id LIMIT 1) o ON true
"""
BY_KEY = "SELECT name FROM customers WHERE id = 7"
SORTED = "SELECT * FROM orders ORDER BY status, shop, created_at"
CORRELATED = "SELECT * FROM orders WHERE shop = 7 AND city = 7"


@pytest.fixture
def dsn(each_postgres_dsn: str) -> str:
    """A small shop with good statistics, and counters that start with what the test does."""
    run(each_postgres_dsn, SCHEMA)
    read(each_postgres_dsn, until=has_rows)
    run(each_postgres_dsn, "ANALYZE", FORGET_STATEMENTS)
    return each_postgres_dsn


def has_rows(snapshot: Snapshot) -> bool:
    """Whether the counters of the load have come; an ANALYZE before them would be counted over."""
    return all(table.live_rows for table in snapshot.tables)


def run(dsn: str, *statements: str, times: int = 1) -> None:
    """In a session of its own: its end is what sends the counters off."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            for _ in range(times):
                connection.execute(statement)


def read(
    dsn: str,
    *texts: str,
    executed: bool = False,
    until: Callable[[Snapshot], object] = lambda snapshot: True,
) -> Snapshot:
    """A Snapshot with the plans of the texts, as soon as the counters say what is waited for."""
    with connect(dsn, read_only=not executed) as connection:
        deadline = time.monotonic() + 20
        while True:
            snapshot = take_snapshot(connection, taken_at_s=time.time(), host=HOST)
            if until(snapshot):
                break
            assert time.monotonic() < deadline, "the counters never came"
        plans = tuple(
            StatementPlan(
                query_id=query_id_of(snapshot, text),
                instance=text,
                plan=explain(connection, text, analyze=executed),
            )
            for text in texts
        )
    return replace(snapshot, plans=plans)


def query_id_of(snapshot: Snapshot, text: str) -> str:
    """The counted statement that has the same beginning, up to the first constant."""
    beginning = " ".join(text.split()).split("=")[0].split(" LIMIT")[0]
    return next(
        each.statement.query_id
        for each in snapshot.statements
        if " ".join(each.statement.text.split()).startswith(beginning)
    )


def only(findings: Sequence[Finding], check: str) -> Finding:
    found = [each for each in findings if each.check == check]
    assert 1 == len(found), findings
    return found[0]


def checks(findings: Sequence[Finding]) -> set[str]:
    return {each.check for each in findings}


@pytest.mark.finds("missing-index")
@pytest.mark.spares("missing-index")
@pytest.mark.parametrize("executed", [False, True], ids=["planned", "executed"])
@pytest.mark.parametrize(
    ("statement", "location", "remedy"),
    [
        (BY_STATUS, "orders(status)", "CREATE INDEX ON orders (status)"),
        (NEWEST, "orders(created_at desc)", "CREATE INDEX ON orders (created_at)"),
        (LAST_OF_EACH, "orders(customer_id)", "CREATE INDEX ON orders (customer_id)"),
    ],
    ids=["scan", "sort", "nested loop"],
)
def test_a_missing_index_is_found_until_it_is_there(
    dsn: str, statement: str, location: str, remedy: str, executed: bool
) -> None:
    run(dsn, statement)
    before = only(analyze(read(dsn, statement, executed=executed)), "missing-index")
    run(dsn, remedy, "ANALYZE")
    after = analyze(read(dsn, statement, executed=executed))

    assert location == before.location
    assert (before.time_share or 0.0) > 0
    assert "missing-index" not in checks(after)


def test_a_statement_that_needs_nothing_is_told_so(dsn: str) -> None:
    run(dsn, BY_KEY, times=50)
    snapshot = read(dsn, BY_KEY)
    told = [each for each in explain_nothing(snapshot, analyze(snapshot)) if "primary key" in each]

    assert 1 == len(told)
    assert "spends it in primary key look-ups on customers" in told[0]


@pytest.mark.finds("unused-index", "duplicate-index")
def test_unused_and_redundant_indexes_are_found(dsn: str) -> None:
    run(dsn, "CREATE INDEX narrow ON orders (shop)", "CREATE INDEX wide ON orders (shop DESC, city)")
    findings = analyze(read(dsn))

    assert "orders: narrow" == only(findings, "duplicate-index").location
    assert "orders: wide" == only(findings, "unused-index").location


@pytest.mark.spares("unused-index")
def test_an_index_that_was_scanned_is_not_unused(dsn: str) -> None:
    run(dsn, "CREATE INDEX by_status ON orders (status)")
    run(dsn, BY_STATUS)
    scanned = read(dsn, until=lambda each: any(one.name == "by_status" and one.scans for one in each.indexes))

    assert "unused-index" not in checks(analyze(scanned))


@pytest.mark.finds("invalid-index")
@pytest.mark.spares("invalid-index", "unused-index", "duplicate-index")
def test_the_remains_of_a_failed_concurrent_build_are_found(dsn: str) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        run(dsn, "CREATE UNIQUE INDEX CONCURRENTLY one_shop ON orders (shop)")
    findings = analyze(read(dsn))
    run(dsn, "DROP INDEX one_shop")

    assert "orders: one_shop" == only(findings, "invalid-index").location
    assert not {"unused-index", "duplicate-index"} & checks(findings)
    assert "invalid-index" not in checks(analyze(read(dsn)))


@pytest.mark.finds("foreign-key-without-index")
@pytest.mark.spares("foreign-key-without-index")
def test_a_foreign_key_without_an_index_is_found_until_it_has_one(dsn: str) -> None:
    before = only(analyze(read(dsn)), "foreign-key-without-index")
    run(dsn, "CREATE INDEX ON orders (customer_id, id)")
    after = analyze(read(dsn))

    assert "orders(customer_id)" == before.location
    assert not {"foreign-key-without-index", "unused-index"} & checks(after)


@pytest.mark.finds("stale-statistics")
@pytest.mark.spares("stale-statistics")
def test_a_table_that_was_never_analysed_is_found(each_postgres_dsn: str) -> None:
    run(each_postgres_dsn, SCHEMA)
    snapshot = read(each_postgres_dsn, until=has_rows)
    found = {each.location for each in analyze(snapshot) if each.check == "stale-statistics"}
    run(each_postgres_dsn, "ANALYZE")

    assert {"customers", "orders"} == found
    assert "stale-statistics" not in checks(analyze(read(each_postgres_dsn)))


@pytest.mark.finds("stale-statistics")
def test_a_table_that_changed_since_it_was_analysed_is_found(dsn: str) -> None:
    switch_off = "ALTER TABLE orders SET (autovacuum_enabled = false)"
    run(dsn, switch_off, "UPDATE orders SET city = city + 1 WHERE id <= 10000")
    changed = read(dsn, until=lambda each: any(table.modified_since_analyze for table in each.tables))
    finding = only(analyze(changed), "stale-statistics")

    assert "orders has changed by 25 % of its rows since it was last analysed" in finding.title


@pytest.mark.finds("row-misestimate")
@pytest.mark.spares("row-misestimate")
def test_columns_that_go_together_are_found_in_an_executed_plan_until_the_planner_knows(dsn: str) -> None:
    run(dsn, CORRELATED)
    before = only(analyze(read(dsn, CORRELATED, executed=True)), "row-misestimate")
    run(dsn, "CREATE STATISTICS together ON shop, city FROM orders", "ANALYZE orders")
    after = analyze(read(dsn, CORRELATED, executed=True))

    assert "orders(city, shop)" == before.location
    assert before.would_try.startswith("extended statistics on orders (city, shop)")
    assert "row-misestimate" not in checks(after)


@pytest.mark.finds("sort-hash-spill")
@pytest.mark.spares("sort-hash-spill")
@pytest.mark.parametrize(("work_mem", "found"), [("64kB", True), ("64MB", False)])
def test_a_sort_that_does_not_fit_into_memory_is_found_in_the_counters(
    dsn: str, work_mem: str, found: bool
) -> None:
    run(dsn, f"SET work_mem = '{work_mem}'", SORTED)
    snapshot = read(dsn, SORTED)

    assert found is ("sort-hash-spill" in checks(analyze(snapshot)))


@pytest.mark.finds("jit-overhead")
def test_compiling_that_takes_longer_than_it_saves_is_found(dsn: str) -> None:
    if not read(dsn).fingerprint.jit_available:
        pytest.skip("this build of PostgreSQL has no JIT")
    run(dsn, "SET jit = on", "SET jit_above_cost = 0", "SET jit_optimize_above_cost = 0", BY_STATUS, times=3)
    finding = only(analyze(read(dsn, BY_STATUS)), "jit-overhead")

    assert "jit_above_cost" == finding.location


@pytest.mark.spares("connections")
def test_a_few_sessions_are_not_spoken_of(dsn: str) -> None:
    with psycopg.connect(dsn) as session:
        session.execute("SELECT 1")
        snapshot = read(dsn, until=lambda each: each.activity.idle_in_transaction >= 1)

    assert "connections" not in checks(analyze(snapshot))


@pytest.fixture
def idle_in_transaction(dsn: str) -> Iterator[None]:
    sessions = [psycopg.connect(dsn) for _ in range(8)]
    for session in sessions:
        session.execute("SELECT 1")
    yield
    for session in sessions:
        session.close()


@pytest.mark.finds("connections")
@pytest.mark.usefixtures("idle_in_transaction")
def test_sessions_idle_in_a_transaction_are_found(dsn: str) -> None:
    snapshot = read(dsn, until=lambda each: each.activity.idle_in_transaction >= 8)

    assert "idle in transaction" == only(analyze(snapshot), "connections").location


@pytest.mark.finds("memory-sum")
@pytest.mark.spares("memory-sum")
def test_memory_that_the_settings_promise_is_held_against_the_machine(dsn: str) -> None:
    """64 MB of buffers, 1.5 x 4 MB for each of 50 connections, 3 x 64 MB for autovacuum: 556 MB."""
    snapshot = read(dsn)
    small = replace(snapshot, host=replace(HOST, runs_server=True, memory_bytes=512 * 1024**2))
    large = replace(snapshot, host=replace(HOST, runs_server=True))

    assert "The settings let PostgreSQL take 556 MB, 109 % of the 512 MB it has" == (
        only(analyze(small), "memory-sum").title
    )
    assert "memory-sum" not in checks(analyze(large))
