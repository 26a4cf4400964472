"""The index search against a real planner: rehearsed in a lab, and the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import msgspec
import psycopg
import pytest

from perfloop.adapters.postgres import take_snapshot
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.target import IndexKey, TableName
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.advisor.advice import propose
from perfloop.tune.advisor.extend import SearchPolicy
from perfloop.tune.advisor.index_search import search_indexes
from perfloop.tune.advisor.lab_rehearsal import rehearsal_beside
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.advisor.naming import new_index

HOST = Host(cpus=2, memory_bytes=2**32, available_bytes=2**31, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0)
SALES = TableName(schema="public", name="sales")

SCHEMA = """
CREATE TABLE shops (id integer PRIMARY KEY, city text NOT NULL, opened date NOT NULL);
CREATE TABLE sales (id integer PRIMARY KEY, shop_id integer NOT NULL, kind integer NOT NULL,
                    day date NOT NULL, cents integer NOT NULL, note text NOT NULL);
INSERT INTO shops SELECT i, 'city ' || i % 20, '2020-01-01'::date + i FROM generate_series(1, 300) AS i;
INSERT INTO sales SELECT i, i * 7 % 300 + 1, i * 13 % 40, '2024-01-01'::date + i % 700, i % 5000,
                         repeat('x', 40)
FROM generate_series(1, 30000) AS i;
"""
QUERIES = {
    "days": "SELECT sum(cents) FROM sales WHERE day BETWEEN '2024-03-01' AND '2024-03-04'",
    "kind": "SELECT count(*) FROM sales WHERE kind = 7 AND cents > 4000",
    "shop": "SELECT s.city, sum(cents) FROM sales JOIN shops s ON s.id = shop_id WHERE s.id = 5 GROUP BY 1",
    "city": "SELECT sum(cents) FROM sales JOIN shops s ON s.id = shop_id WHERE s.city = 'city 7'",
    "newest": "SELECT id FROM sales WHERE shop_id = 9 ORDER BY day DESC LIMIT 5",
    "write": "UPDATE sales SET cents = cents + 1 WHERE id = 77",
}


@pytest.fixture
def lab(each_postgres_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("VACUUM ANALYZE")
        connection.execute("SET max_parallel_workers_per_gather = 0")
        yield connection


def read(lab: psycopg.Connection) -> Snapshot:
    return take_snapshot(lab, taken_at_s=0.0, host=HOST)


def workload(queries: Mapping[str, str] = QUERIES) -> Workload:
    def operation(name: str, text: str) -> Operation:
        kind = StatementKind.WRITE if name == "write" else StatementKind.READ
        statement = Statement(query_id=name, text=text, kind=kind, name=name)
        return Operation(statement=statement, calls_share=1 / len(queries), instances=(text,))

    return Workload(origin="test", operations=tuple(operation(*each) for each in queries.items()))


def test_the_rehearsed_set_is_of_real_sizes_and_leaves_nothing_behind(lab: psycopg.Connection) -> None:
    snapshot = read(lab)
    with open_what_if(lab, snapshot.tables) as what_if:
        rehearsal = rehearsal_beside(lab, what_if)
        found = search_indexes(snapshot, workload(), what_if, SearchPolicy(), rehearsal=rehearsal)
        assert rehearsal is not None
        sizes = {index: rehearsal.size_bytes(index) for index in found.result.chosen}

    assert sizes == {index: found.known.size_bytes(index) for index in found.result.chosen}
    assert [] != list(sizes)
    assert {each.name for each in snapshot.indexes} == {each.name for each in read(lab).indexes}


def test_a_statement_is_run_where_its_plan_changes_and_only_there(lab: psycopg.Connection) -> None:
    index = new_index(SALES, (IndexKey(text="shop_id"),))
    snapshot = read(lab)
    with open_what_if(lab, snapshot.tables) as what_if:
        rehearsal = rehearsal_beside(lab, what_if)
        assert rehearsal is not None
        changed = rehearsal.rehearse(QUERIES["newest"], (index,), known_s=0.01)
        same = rehearsal.rehearse(QUERIES["days"], (index,), known_s=0.01)
        hidden = rehearsal.rehearse(QUERIES["newest"], (), known_s=0.01)

    assert (index.name,) == changed.cost.used
    assert changed.slowdown_ratio is not None
    assert changed.slowdown_ratio < 1
    assert (1.0, ()) == (same.slowdown_ratio, same.cost.used)
    assert hidden.cost.total_cost > changed.cost.total_cost


def test_a_write_is_planned_and_not_run(lab: psycopg.Connection) -> None:
    index = new_index(SALES, (IndexKey(text="kind"),))
    text = "UPDATE sales SET cents = 1 / (cents - cents) WHERE kind = 7"
    with open_what_if(lab, read(lab).tables) as what_if:
        rehearsal = rehearsal_beside(lab, what_if)
        assert rehearsal is not None
        found = rehearsal.rehearse(text, (index,), known_s=0.0)

    assert (index.name,) == found.cost.used
    assert found.slowdown_ratio is None


def test_an_index_that_only_a_real_build_shows_to_be_too_wide_is_told(lab: psycopg.Connection) -> None:
    """HypoPG builds nothing, so that it takes any column."""
    lab.execute("CREATE TABLE pages (id integer PRIMARY KEY, body text NOT NULL)")
    lab.execute("ALTER TABLE pages ALTER COLUMN body SET STORAGE EXTERNAL")
    lab.execute("INSERT INTO pages SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 3000) i")
    lab.execute("VACUUM ANALYZE pages")
    body, day = "SELECT id FROM pages WHERE body = 'a'", QUERIES["days"]
    snapshot = read(lab)
    with open_what_if(lab, snapshot.tables) as what_if:
        rehearsal = rehearsal_beside(lab, what_if)
        found = search_indexes(
            snapshot, workload({"body": body, "day": day}), what_if, SearchPolicy(), rehearsal=rehearsal
        )

    assert {SALES} == {index.table for index in found.result.chosen}
    assert any("pages (body) is refused by the server" in each for each in found.result.refused)


def test_a_plan_says_which_index_of_a_partitioned_table_it_uses(lab: psycopg.Connection) -> None:
    lab.execute("CREATE TABLE days (day date NOT NULL, n integer NOT NULL) PARTITION BY RANGE (day)")
    lab.execute("CREATE TABLE days_24 PARTITION OF days FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    lab.execute("INSERT INTO days SELECT '2024-01-01'::date + i % 300, i FROM generate_series(1, 20000) i")
    lab.execute("VACUUM ANALYZE days")
    index = new_index(TableName(schema="public", name="days"), (IndexKey(text="n"),))
    with open_what_if(lab, read(lab).tables) as what_if:
        rehearsal = rehearsal_beside(lab, what_if)
        assert rehearsal is not None
        found = rehearsal.rehearse("SELECT * FROM days WHERE n = 5", (index,), known_s=0.0)

    assert (index.name,) == found.cost.used


def test_without_a_readable_statement_nothing_is_rehearsed(lab: psycopg.Connection) -> None:
    snapshot = read(lab)
    unreadable = workload({"gone": "SELECT * FROM gone"})
    with open_what_if(lab, snapshot.tables) as what_if:
        rehearsal = rehearsal_beside(lab, what_if)
        found = search_indexes(snapshot, unreadable, what_if, SearchPolicy(), rehearsal=rehearsal)

    assert () == found.result.chosen
    assert 1 == len(found.reading.unreadable)


def test_the_advice_is_the_same_under_every_hash_seed(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("VACUUM ANALYZE")
    found = [
        subprocess.run(
            [sys.executable, __file__, postgres_dsn],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "12345")
    ]

    assert found[0] == found[1]
    assert len(json.loads(found[0])["proposals"]) > 1


def _print_advice(dsn: str) -> None:
    """All that a process of its own proposes and says, as JSON."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        snapshot = read(connection)
        with open_what_if(connection, snapshot.tables) as what_if:
            advice = propose(snapshot, (), workload(), what_if)
    print(msgspec.json.encode(advice).decode())  # noqa: T201  the parent process reads it


if __name__ == "__main__":
    _print_advice(sys.argv[1])
