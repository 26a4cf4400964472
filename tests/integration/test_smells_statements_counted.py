"""What only counters tell of statements: updates that cannot be HOT, look-ups per row, generic plans."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.servers import PostgresServer
from perfloop.model.advice import Finding
from perfloop.tune.analysis import analyze_target
from perfloop.tune.observer import Silence

SCHEMA = """
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL) WITH (autovacuum_enabled = false);
    INSERT INTO customers SELECT i, 'name' || i FROM generate_series(1, 2000) i;
    CREATE TABLE orders (
        id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, status text, changed timestamp
    ) WITH (autovacuum_enabled = false);
    INSERT INTO orders
    SELECT i, i % 2000 + 1, CASE WHEN i % 1000 = 0 THEN 'open' ELSE 'done' END, now()
    FROM generate_series(1, 20000) i;
    CREATE INDEX orders_status ON orders (status);
    CREATE INDEX orders_changed ON orders (changed);
    CREATE TABLE carts (id int PRIMARY KEY, note text, amount int)
    WITH (autovacuum_enabled = false, fillfactor = 50);
    INSERT INTO carts SELECT i, 'note', 0 FROM generate_series(1, 2000) i;
    CREATE TABLE crates (LIKE carts INCLUDING ALL) WITH (autovacuum_enabled = false, fillfactor = 100);
    INSERT INTO crates SELECT i, 'note', 0 FROM generate_series(1, 20000) i;
    CREATE TABLE visits (id int PRIMARY KEY, region int, page text);
    INSERT INTO visits
    SELECT i, CASE WHEN i % 10 = 0 THEN i ELSE 0 END, 'page' || i FROM generate_series(1, 40000) i;
    CREATE INDEX ON visits (region);
    VACUUM ANALYZE;
"""
FORGET = "SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()"
LOOK_UP = "SELECT name FROM customers WHERE id = %s"


@pytest.fixture(scope="module")
def shop(each_postgres_server: PostgresServer) -> Iterator[str]:
    """A database for the module; what the tests do in it does not disturb the others."""
    name = f"perfloop_counted_{secrets.token_hex(4)}"
    with psycopg.connect(each_postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        dsn = make_conninfo(each_postgres_server.dsn(), dbname=name)
        try:
            with psycopg.connect(dsn, autocommit=True) as inside:
                inside.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
                for statement in SCHEMA.split(";"):
                    inside.execute(statement)
            yield dsn
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def dsn(shop: str) -> str:
    with psycopg.connect(shop, autocommit=True) as connection:
        connection.execute(FORGET)
        connection.execute("SELECT pg_stat_reset()")
    return shop


def found(dsn: str) -> dict[str, list[Finding]]:
    """What is found, by the name of the check."""
    by_check: dict[str, list[Finding]] = {}
    for each in analyze_target(dsn, Silence()).findings:
        by_check.setdefault(each.check, []).append(each)
    return by_check


def wait_for(dsn: str, question: str) -> None:
    """Until the counters say so: a session sends them off at its end."""
    deadline = time.monotonic() + 20
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(question).fetchone() != (True,):
            assert time.monotonic() < deadline, question
            connection.execute("SELECT pg_stat_clear_snapshot()")


@pytest.mark.finds("hot-updates")
@pytest.mark.spares("hot-updates")
def test_updates_of_an_indexed_column_name_the_index(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE orders SET changed = now() WHERE id <= 3000")
        connection.execute("UPDATE carts SET amount = amount + 1")
        connection.execute("UPDATE crates SET amount = amount + 1")
    wait_for(dsn, "SELECT sum(n_tup_upd) >= 25000 FROM pg_stat_user_tables")
    by_table = {each.location: each for each in found(dsn).get("hot-updates", ())}

    assert {"orders", "crates"} == set(by_table)
    assert "drop orders_changed, which no query has used" == by_table["orders"].would_try
    assert any("orders_changed holds changed" in each.value for each in by_table["orders"].evidence)
    assert "a fillfactor of 90 for crates" in by_table["crates"].would_try
    assert any("amount, which no index holds" in each.value for each in by_table["crates"].evidence)


@pytest.mark.finds("n-plus-one")
def test_a_look_up_for_each_row_of_a_list_is_told_with_the_list(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for first in range(0, 2000, 50):
            listed = connection.execute(
                "SELECT id, customer_id FROM orders WHERE id > %s AND id <= %s", (first, first + 50)
            )
            for _, customer in listed.fetchall():
                connection.execute(LOOK_UP, (customer,))
    (finding,) = found(dsn)["n-plus-one"]

    assert "looks up one row of customers about 50 times in a row" in finding.title
    assert any("FROM orders" in each.value and "40 calls" in each.value for each in finding.evidence)
    assert "a join in the statement that lists them" in finding.would_try


def test_many_look_ups_in_few_transactions_are_told_with_their_number(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        for customer in range(1, 1501):
            connection.execute(LOOK_UP, (customer,))
    wait_for(
        dsn,
        "SELECT coalesce(sum(idx_scan), 0) >= 1500 FROM pg_stat_user_tables WHERE relname = 'customers'",
    )
    (finding,) = found(dsn)["n-plus-one"]

    assert any("transactions" in each.label for each in finding.evidence)


@pytest.mark.spares("n-plus-one")
def test_look_ups_of_their_own_are_not_spoken_of(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for customer in range(1, 1501):
            connection.execute(LOOK_UP, (customer,))
            if customer % 3 == 0:
                connection.execute("SELECT id, customer_id FROM orders WHERE id = %s", (customer,))
    wait_for(
        dsn,
        "SELECT coalesce(sum(idx_scan), 0) >= 1500 FROM pg_stat_user_tables WHERE relname = 'customers'",
    )

    assert "n-plus-one" not in found(dsn)


@pytest.mark.finds("generic-plan")
@pytest.mark.spares("generic-plan")
def test_a_generic_plan_far_from_what_some_values_need_is_told(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for region in (0, 10, 20, 30):
            connection.execute("SELECT page FROM visits WHERE region = %s", (region,))
            connection.execute("SELECT page FROM visits WHERE id = %s", (region,))
    findings = found(dsn)
    custom = found(make_conninfo(dsn, options="-c plan_cache_mode=force_custom_plan"))
    (finding,) = findings["generic-plan"]

    assert "region = $1" in finding.title
    assert "force_custom_plan" in finding.would_try
    assert "generic-plan" not in custom
