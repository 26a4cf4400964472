"""Conditions written so that no index serves them, on servers of every version: told once, by their cause.

One database and one analysis for the module: the statements come from files, so that nothing is quiet only
because it takes little of the time.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.servers import PostgresServer
from perfloop.model.advice import Finding
from perfloop.tune.analysis import analyze_target
from perfloop.tune.observer import Silence

SCHEMA = """
    CREATE TABLE customers (
        id int PRIMARY KEY, name text NOT NULL, email varchar(80), code char(8), joined timestamp NOT NULL,
        seen timestamptz, tags text[], attrs jsonb, notes jsonb, number numeric, shop int
    ) WITH (autovacuum_enabled = false);
    INSERT INTO customers
    SELECT i, 'name' || i, 'Mail' || i || '@example.org', 'c' || i,
           timestamp '2026-01-01' + i * interval '1 hour',
           timestamptz '2026-01-01 00:00:00+00' + i * interval '1 hour', ARRAY['t' || i % 500, 'u' || i % 7],
           jsonb_build_object('k', i % 1000), jsonb_build_object('s', 'v' || i % 1000),
           i, i % 4
    FROM generate_series(1, 20000) i;
    CREATE TABLE orders (
        id int PRIMARY KEY, customer_id int NOT NULL, ref text, shop int, city int, status text,
        number numeric
    ) WITH (autovacuum_enabled = false);
    INSERT INTO orders
    SELECT i, i % 20000 + 1, 'r' || i, i % 400, i % 500, CASE WHEN i % 100 = 0 THEN 'open' ELSE 'done' END, i
    FROM generate_series(1, 30000) i;
    CREATE TABLE few (id int PRIMARY KEY, name text, attrs jsonb);
    INSERT INTO few SELECT i, 'name' || i, '{}' FROM generate_series(1, 500) i;
    CREATE TABLE wide (id int PRIMARY KEY, a int, b int, c int, body text);
    INSERT INTO wide SELECT i, i, i, i, repeat(md5(i::text), 40) FROM generate_series(1, 3000) i;
    CREATE INDEX ON customers (lower(email));
    CREATE INDEX ON customers (shop);
    CREATE INDEX ON orders (customer_id);
    CREATE INDEX ON orders (ref);
    CREATE EXTENSION pg_trgm;
    CREATE INDEX ON orders USING gin (status gin_trgm_ops);
    ANALYZE;
"""
SCAN = {"missing-index", "function-on-column", "implicit-cast", "leading-wildcard", "or-across-columns"}
"""The rules of which one at most says why a scan is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A statement with what is wrong with it."""

    sql: str
    check: str
    location: str
    """How the finding's location begins."""
    remedy: str
    """Words of what perfloop would try."""


PLANTED = {
    "function": Planted(
        sql="SELECT id FROM customers WHERE lower(name) = 'name7' AND id > 5",
        check="function-on-column",
        location="customers(name)",
        remedy="an index on the expression LOWER(name)",
    ),
    "written_cast": Planted(
        sql="SELECT id FROM customers WHERE joined::date = '2026-02-03'",
        check="function-on-column",
        location="customers(joined)",
        remedy="expression",
    ),
    "day_of_zone": Planted(
        sql="SELECT id FROM customers WHERE seen::date = '2026-02-03'",
        check="function-on-column",
        location="customers(seen)",
        remedy="a range of times",
    ),
    "arithmetic": Planted(
        sql="SELECT id FROM customers WHERE id + 1 = 77",
        check="function-on-column",
        location="customers(id)",
        remedy="id compared bare",
    ),
    "decimal_parameter": Planted(
        sql="SELECT id FROM customers WHERE id = 77.5",
        check="implicit-cast",
        location="customers(id)",
        remedy="the type of the column, integer",
    ),
    "text_parameter": Planted(
        sql="SELECT id FROM customers WHERE code = 'c7'::text",
        check="implicit-cast",
        location="customers(code)",
        remedy="the type of the column, character(8)",
    ),
    "join_of_types": Planted(
        sql="SELECT o.id FROM customers c JOIN orders o ON o.customer_id = c.number WHERE c.id < 5",
        check="implicit-cast",
        location="orders(customer_id)",
        remedy="one type",
    ),
    "wildcard": Planted(
        sql="SELECT id FROM customers WHERE name LIKE '%me777%'",
        check="leading-wildcard",
        location="customers(name)",
        remedy="pg_trgm",
    ),
    "ilike": Planted(
        sql="SELECT id FROM customers WHERE email ILIKE 'MAIL777%'",
        check="leading-wildcard",
        location="customers(email)",
        remedy="pg_trgm",
    ),
    "short_pattern": Planted(
        sql="SELECT id FROM orders WHERE ref LIKE '%7_77'",
        check="leading-wildcard",
        location="orders(ref)",
        remedy="nothing in the database",
    ),
    "or": Planted(
        sql="SELECT id FROM orders WHERE shop = 7 OR city = 9",
        check="or-across-columns",
        location="orders(city, shop)",
        remedy="UNION ALL",
    ),
    "or_of_tables": Planted(
        sql="""SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer_id
               WHERE o.ref = 'r5' OR c.name = 'name5'""",
        check="or-across-columns",
        location="customers or orders",
        remedy="UNION",
    ),
    "document": Planted(
        sql="SELECT id FROM customers WHERE attrs @> '{\"k\": 5}'",
        check="missing-index",
        location="customers(attrs)",
        remedy="jsonb_path_ops",
    ),
    "element": Planted(
        sql="SELECT id FROM customers WHERE 't5' = ANY (tags)",
        check="missing-index",
        location="customers(tags)",
        remedy="tags @> ARRAY",
    ),
    "key_of_document": Planted(
        sql="SELECT id FROM customers WHERE notes ->> 's' = 'v5'",
        check="missing-index",
        location="customers(notes)",
        remedy="expression",
    ),
    "document_after_index": Planted(
        sql="SELECT id FROM customers WHERE shop = 3 AND attrs @> '{\"k\": 5}'",
        check="filter-without-gin",
        location="customers(attrs)",
        remedy="jsonb_path_ops",
    ),
}
INNOCENT = {
    "small_table": "SELECT id FROM few WHERE lower(name) = 'name7'",
    "indexed_expression": "SELECT id FROM customers WHERE lower(email) = 'mail7@example.org'",
    "function_keeps_most": "SELECT id FROM customers WHERE length(name) > 4",
    "free_cast": "SELECT id FROM customers WHERE email = 'x'::text",
    "other_integer": "SELECT id FROM customers WHERE id = 77::bigint",
    "bare_column_too": "SELECT id FROM customers WHERE lower(name) = 'name7' AND number = 7",
    "join_of_one_type": "SELECT o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id < 5",
    "pattern_on_few": "SELECT id FROM few WHERE name LIKE '%77%'",
    "pattern_keeps_much": "SELECT id FROM orders WHERE ref LIKE '%7%'",
    "trigrams_there": "SELECT id FROM orders WHERE status LIKE '%pen%'",
    "pattern_denied": "SELECT id FROM customers WHERE name NOT LIKE '%me7%'",
    "or_of_one_column": "SELECT id FROM orders WHERE city = 3 OR city = 4",
    "or_with_indexes": "SELECT id FROM orders WHERE ref = 'r5' OR customer_id = 7",
    "or_beside_equality": "SELECT id FROM orders WHERE city = 3 AND (shop = 7 OR status = 'x')",
    "document_of_few": "SELECT id FROM few WHERE attrs @> '{\"k\": 5}'",
}


@pytest.fixture(scope="module")
def findings(
    each_postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Finding]]:
    """What is found in each statement, by its name and the name of the check."""
    folder = tmp_path_factory.mktemp("statements")
    for file, sql in ({name: each.sql for name, each in PLANTED.items()} | INNOCENT).items():
        (folder / f"{file}.sql").write_text(sql)
    name = f"perfloop_smells_{secrets.token_hex(4)}"
    with psycopg.connect(each_postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        fresh = make_conninfo(each_postgres_server.dsn(), dbname=name)
        try:
            with psycopg.connect(fresh, autocommit=True) as inside:
                inside.execute(SCHEMA)
            analysis = analyze_target(fresh, Silence(), workload_source=str(folder))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert analysis.workload is not None, analysis.unexplained
    return {
        str(one.statement.name): {
            each.check: each for each in analysis.findings if one.statement.query_id in each.query_ids
        }
        for one in analysis.workload.operations
    }


@pytest.mark.finds(*{each.check for each in PLANTED.values()})
@pytest.mark.parametrize("name", PLANTED)
def test_a_condition_that_no_index_serves_is_told_once_with_its_cause(
    findings: dict[str, dict[str, Finding]], name: str
) -> None:
    planted = PLANTED[name]
    finding = findings[name].get(planted.check)

    assert finding is not None, findings[name]
    assert finding.location.startswith(planted.location)
    assert planted.remedy in finding.would_try
    assert {planted.check} == set(findings[name]) & {*SCAN, "filter-without-gin"}


@pytest.mark.spares(*SCAN, "filter-without-gin")
@pytest.mark.parametrize("name", INNOCENT)
def test_a_condition_with_nothing_wrong_is_not_spoken_of(
    findings: dict[str, dict[str, Finding]], name: str
) -> None:
    spoken = {*SCAN, "filter-without-gin"} - {"missing-index"}

    assert set() == set(findings[name]) & spoken, findings[name]
