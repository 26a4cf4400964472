"""Statements that ask for more than they need, or in the wrong words, on servers of every version.

One database and one analysis for the module. The statements come from files and are only planned, so that a
slow one costs no time; work_mem holds a hash of some hundred rows.
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
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, shop int NOT NULL);
    INSERT INTO customers SELECT i, 'name' || i, i % 400 FROM generate_series(1, 20000) i;
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, city int, status text);
    INSERT INTO orders
    SELECT i, i % 20000 + 1, i % 500, CASE WHEN i % 100 = 0 THEN 'open' ELSE 'done' END
    FROM generate_series(1, 30000) i;
    CREATE TABLE wide (id int PRIMARY KEY, a int, b int, c int, body text);
    INSERT INTO wide SELECT i, i, i, i, repeat(md5(i::text), 40) FROM generate_series(1, 3000) i;
    CREATE INDEX ON orders (customer_id);
    CREATE INDEX ON orders (city);
    ANALYZE;
"""
LIST = ", ".join(str(number) for number in range(1, 1201))
SHORT_LIST = ", ".join(str(number) for number in range(1, 101))


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A statement with what is wrong with it, and a near one with nothing wrong."""

    sql: str
    near_miss: str
    title: str
    """Words of the finding's title."""
    remedy: str
    """Words of what perfloop would try, or says that the service can do."""


PLANTED = {
    "not-in-subquery": Planted(
        sql="SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders WHERE status = 'done')",
        near_miss="SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders WHERE city = 7)",
        title="rows of a NOT IN from the start",
        remedy="NOT EXISTS",
    ),
    "outer-join-filtered": Planted(
        sql="""SELECT o.id FROM orders o LEFT JOIN customers c ON c.id = o.customer_id
               WHERE coalesce(c.name, 'none') = 'name7'""",
        near_miss="""SELECT o.city FROM orders o LEFT JOIN customers c ON c.id = o.customer_id
                     WHERE coalesce(c.name, 'none') = 'none'""",
        title="joins rows without a partner",
        remedy="inner join",
    ),
    "distinct-after-join": Planted(
        sql="SELECT DISTINCT c.shop FROM customers c JOIN orders o ON o.customer_id = c.id",
        near_miss="SELECT DISTINCT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id",
        title="removes duplicates",
        remedy="EXISTS on o",
    ),
    "wide-rows": Planted(
        sql="SELECT * FROM wide",
        near_miss="SELECT id, body FROM wide",
        title="returns every column of wide: 3,000 rows",
        remedy="name the columns",
    ),
    "exact-count": Planted(
        sql="SELECT count(*) FROM orders WHERE status = 'done'",
        near_miss="SELECT count(*) FROM orders WHERE city = 7",
        title="visits 29,700 rows of orders only to count them",
        remedy="reltuples",
    ),
    "long-value-list": Planted(
        sql=f"SELECT id FROM orders WHERE id IN ({LIST})",
        near_miss=f"SELECT id FROM orders WHERE id IN ({SHORT_LIST})",
        title="has a list of 1,200 values in its text",
        remedy="= ANY($1)",
    ),
    "random-order": Planted(
        sql="SELECT id FROM orders ORDER BY random() LIMIT 5",
        near_miss="SELECT id FROM orders WHERE city = 7 ORDER BY random() LIMIT 4",
        title="sorts 30,000 rows by (random())",
        remedy="TABLESAMPLE",
    ),
}


OTHER_NEAR_MISSES = {
    "listed_not_in": ("not-in-subquery", "SELECT id FROM customers WHERE shop NOT IN (1, 2, 3)"),
    "strict_filter": (
        "outer-join-filtered",
        "SELECT o.id FROM orders o LEFT JOIN customers c ON c.id = o.customer_id WHERE c.name = 'name7'",
    ),
    "grouped": (
        "distinct-after-join",
        "SELECT c.shop, count(*) FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.shop",
    ),
    "few_wide_rows": ("wide-rows", "SELECT * FROM wide WHERE id < 20"),
    "many_narrow_rows": ("wide-rows", "SELECT * FROM orders"),
    "count_by_group": ("exact-count", "SELECT city, count(*) FROM orders GROUP BY city"),
    "array_of_values": ("long-value-list", f"SELECT id FROM orders WHERE id = ANY ('{{{LIST}}}')"),
    "many_rows_written": (
        "long-value-list",
        f"INSERT INTO customers VALUES {', '.join(f'({-number}, $$n$$, 1)' for number in range(1, 1201))}",
    ),
}


@pytest.fixture(scope="module")
def findings(
    each_postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Finding]]:
    """What is found in each statement, by its name and the name of the check."""
    folder = tmp_path_factory.mktemp("statements")
    for check, planted in PLANTED.items():
        (folder / f"{check}.sql").write_text(planted.sql)
        (folder / f"near-{check}.sql").write_text(planted.near_miss)
    for file, (_, sql) in OTHER_NEAR_MISSES.items():
        (folder / f"{file}.sql").write_text(sql)
    name = f"perfloop_asked_{secrets.token_hex(4)}"
    with psycopg.connect(each_postgres_server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        dsn = make_conninfo(each_postgres_server.dsn(), dbname=name, options="-c work_mem=128kB")
        try:
            with psycopg.connect(dsn, autocommit=True) as inside:
                inside.execute(SCHEMA)
            analysis = analyze_target(dsn, Silence(), workload_source=str(folder))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert analysis.workload is not None, analysis.unexplained
    assert () == analysis.workload.skipped
    return {
        str(one.statement.name): {
            each.check: each for each in analysis.findings if one.statement.query_id in each.query_ids
        }
        for one in analysis.workload.operations
    }


@pytest.mark.finds(*PLANTED)
@pytest.mark.parametrize("check", PLANTED)
def test_a_statement_that_asks_for_too_much_is_told_so(
    findings: dict[str, dict[str, Finding]], check: str
) -> None:
    finding = findings[check].get(check)

    assert finding is not None, findings[check]
    assert PLANTED[check].title in finding.title
    assert PLANTED[check].remedy in finding.would_try
    assert "correlated-subplan" not in findings[check]


@pytest.mark.spares(*PLANTED)
@pytest.mark.parametrize(
    ("statement", "check"),
    [(f"near-{check}", check) for check in PLANTED]
    + [(name, check) for name, (check, _) in OTHER_NEAR_MISSES.items()],
)
def test_a_statement_that_only_looks_like_it_is_not_spoken_of(
    findings: dict[str, dict[str, Finding]], statement: str, check: str
) -> None:
    assert check not in findings[statement]
