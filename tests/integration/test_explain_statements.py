"""`explain` on real servers: which statement, what is said of it, what is run and what is never run."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.explained import Explanation
from perfloop.tune.asked import ExplainOptions
from perfloop.tune.explained import explain_query, explain_text
from perfloop.tune.observer import Silence

SCHEMA = """
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 500) g;
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, status text NOT NULL);
    INSERT INTO orders SELECT g, 1 + g % 500, CASE WHEN g % 100 = 0 THEN 'open' ELSE 'done' END
        FROM generate_series(1, 20000) g;
    CREATE TABLE logs (id int, line text);
    INSERT INTO logs SELECT g, repeat('x', 500) FROM generate_series(1, 2000) g;
    CREATE INDEX orders_status ON orders (status) WHERE status <> 'done';
    ANALYZE
"""
BY_CUSTOMER = "SELECT id, status FROM orders WHERE customer = %s"
IN_FILE = "SELECT id, status FROM orders WHERE customer = $1"
WRITE = "UPDATE orders SET status = 'seen' WHERE id = 7"


@pytest.fixture
def dsn(each_postgres_dsn: str) -> str:
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        for customer in range(1, 30):
            connection.execute(BY_CUSTOMER, [customer])
    return each_postgres_dsn


def counted_id(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT queryid FROM pg_stat_statements WHERE query LIKE 'SELECT id, status FROM orders%'"
            " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchone()
    assert row is not None
    return str(row[0])


def explained(dsn: str, text: str, **options: object) -> tuple[Explanation, ...]:
    return explain_text(dsn, text, "given", ExplainOptions(**options), Silence())  # type: ignore[arg-type]


def remarks(explanation: Explanation) -> set[str]:
    return {remark.check for plan in explanation.plans for remark in plan.remarks}


@pytest.mark.parametrize("cut", [0, -6], ids=["whole", "its end"])
def test_a_counted_statement_is_found_by_its_query_id(dsn: str, cut: int) -> None:
    (found,) = explain_query(dsn, counted_id(dsn)[cut:], ExplainOptions(), Silence())

    assert found.counters is not None
    assert 29 == found.counters.calls
    assert "missing-index" in remarks(found)
    assert not found.plans[0].is_measured


def test_an_unknown_query_id_is_told_with_the_way_out(dsn: str) -> None:
    with pytest.raises(InvalidInput, match=r"no statement with the query id 123456.*perfloop analyze"):
        explain_query(dsn, "123456", ExplainOptions(), Silence())


def test_a_remark_stands_at_the_node_that_it_is_about(dsn: str) -> None:
    (found,) = explained(dsn, IN_FILE)
    (plan,) = found.plans
    scan = next(node for node in plan.nodes if node.title == "Seq Scan on orders")

    assert [(scan.position,)] == [each.positions for each in plan.remarks if each.check == "missing-index"]
    assert scan.share > 0.9


def test_what_is_run_has_rows_and_blocks_beside_what_was_expected(dsn: str) -> None:
    (found,) = explained(dsn, IN_FILE, analyze=True)
    (plan,) = found.plans
    scan = next(node for node in plan.nodes if node.title == "Seq Scan on orders")

    assert plan.is_measured
    assert (40.0, 19960.0) == (scan.rows, scan.removed_rows)
    assert scan.blocks == plan.blocks
    assert scan.estimate_factor == pytest.approx(1.0, abs=0.5)


def test_values_of_ones_own_stand_in_for_parameters(dsn: str) -> None:
    (found,) = explained(dsn, IN_FILE, parameters=((1, "77"),))

    assert ["SELECT id, status FROM orders WHERE customer = 77"] == [each.instance for each in found.plans]


def test_light_and_heavy_parameters_with_different_plans_are_shown_apart(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE skewed (id int, kind int)")
        connection.execute(
            "INSERT INTO skewed SELECT g, CASE WHEN g % 2 = 0 THEN 0 ELSE g END"
            " FROM generate_series(1, 50000) g"
        )
        connection.execute("CREATE INDEX ON skewed (kind)")
        connection.execute("ANALYZE skewed")
    (found,) = explained(dsn, "SELECT * FROM skewed WHERE kind = $1")

    assert 2 == len(found.plans)
    assert found.plans[0].total_cost > found.plans[1].total_cost
    assert all("draws of parameters" in plan.about for plan in found.plans)


def test_several_statements_come_in_their_order_and_a_broken_one_says_why(dsn: str) -> None:
    found = explained(dsn, f"SELECT 1;\n{IN_FILE};\nSELECT nothing FROM orders;\nSELECT count(*) FROM logs;")

    assert ["given:1", "given:2", "given:3", "given:4"] == [each.statement.name for each in found]
    assert [1, 1, 0, 1] == [len(each.plans) for each in found]
    assert 'column "nothing" does not exist' in found[2].notes[0]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("SELECT nothing FROM orders", "does not exist"),
        ("SELEC 1", "only SELECT, INSERT"),
        ("SELECT 'open", "end"),
        ("", "no statement to explain"),
        ("VACUUM orders", "VACUUM is not tried"),
    ],
)
def test_a_single_broken_statement_is_an_error(dsn: str, text: str, fact: str) -> None:
    with pytest.raises((InvalidInput, UnsupportedStatement), match=fact):
        explained(dsn, text)


def test_a_write_is_planned_but_never_run_without_a_yes(dsn: str) -> None:
    (planned,) = explained(dsn, WRITE)
    with pytest.raises(InvalidInput, match="say --yes"):
        explained(dsn, WRITE, analyze=True)

    assert planned.plans[0].nodes[0].title == "Update on orders"
    assert not planned.plans[0].is_measured


def test_a_write_that_is_run_leaves_nothing(dsn: str) -> None:
    (found,) = explained(dsn, WRITE, analyze=True, may_write=True)
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT status FROM orders WHERE id = 7").fetchone()

    assert found.plans[0].is_measured
    assert ("done",) == row


def test_a_function_that_writes_is_refused_in_what_looks_like_a_read(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION sly() RETURNS int LANGUAGE sql VOLATILE AS 'DELETE FROM logs RETURNING id'"
        )
    (found,) = explained(dsn, "SELECT sly(), id FROM orders WHERE id = 3", analyze=True)
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM logs").fetchone()

    assert any("read-only transaction" in note for note in found.notes)
    assert (2000,) == row


def test_a_statement_that_needs_nothing_is_told_why(dsn: str) -> None:
    (found,) = explained(dsn, "SELECT name FROM customers WHERE id = 8")

    assert () == tuple(remarks(found))
    assert "primary key look-ups on customers" in found.reasons[0]


def test_an_index_that_was_asked_for_is_built_in_a_lab_and_measured(dsn: str, tmp_path: Path) -> None:
    (found,) = explained(dsn, IN_FILE, with_indexes=("orders (customer)",))
    (attempt,) = found.attempts
    ((before, after),) = attempt.pairs

    assert before.is_measured
    assert after.is_measured
    assert (before.blocks or 0) > 2 * (after.blocks or 0) > 0
    assert attempt.size_bytes > 0
    assert "perfloop_tried" in " ".join(node.title for node in after.nodes)
    with psycopg.connect(dsn) as connection:
        assert (
            connection.execute("SELECT 1 FROM pg_class WHERE relname = 'perfloop_tried'").fetchone() is None
        )


def test_the_advisor_proposes_what_helps_this_statement(dsn: str) -> None:
    (found,) = explained(dsn, IN_FILE, what_if=True)
    (attempt,) = found.attempts
    ((before, after),) = attempt.pairs

    assert attempt.title.startswith("orders (customer)")
    assert after.total_cost < before.total_cost / 3


def test_a_write_is_tried_in_the_lab_with_all_that_it_checks(dsn: str) -> None:
    (found,) = explained(
        dsn, "INSERT INTO orders VALUES (50000, 7, 'new')", with_indexes=("orders (customer)",)
    )
    ((before, after),) = found.attempts[0].pairs

    assert before.is_measured
    assert after.is_measured
    assert after.wal_bytes > 0


@pytest.mark.parametrize("index", ["orders (nothing)", "nowhere (id)", "orders (customer); DROP TABLE logs"])
def test_an_index_that_cannot_be_built_is_told(dsn: str, index: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be built"):
        explained(dsn, IN_FILE, with_indexes=(index,))
