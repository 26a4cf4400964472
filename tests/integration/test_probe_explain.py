"""Plans of single statements; without ANALYZE nothing is ever executed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.errors import InvalidInput, TargetUnreachable, UnsupportedStatement

SCHEMA = """
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO parent SELECT generate_series(1, 5000);
    INSERT INTO child SELECT i, i FROM generate_series(1, 5000) i;
    CREATE SEQUENCE numbers;
    ANALYZE;
"""


@pytest.fixture
def lab(each_filled_dsn: str) -> Iterator[psycopg.Connection]:
    """A session that may write."""
    with connect(each_filled_dsn, read_only=False) as connection:
        yield connection


@pytest.fixture
def target(lab: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A read-only session on the same database."""
    with connect(lab.info.dsn, read_only=True) as connection:
        yield connection


def count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return row[0] if row else -1


def test_a_plan_names_what_it_reads(target):
    plan = explain(target, "SELECT * FROM child WHERE id = 7 -- as the service wrote it; 100 %s")

    assert ("Index Scan", "public", "child", "child_pkey") == (
        plan.root.kind,
        plan.root.schema,
        plan.root.relation,
        plan.root.index,
    )
    assert (None, 0) == (plan.execution_s, plan.counters.blocks)


def test_writes_are_planned_on_a_read_only_session_and_not_executed(target):
    before = count(target, "child")
    for text in ("DELETE FROM child", "UPDATE child SET id = id", "INSERT INTO parent VALUES (0)"):
        assert "ModifyTable" == explain(target, text).root.kind

    assert before == count(target, "child")


@pytest.mark.parametrize("analyze", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; DROP TABLE child",
        "SELECT 1; ; COMMIT; DROP TABLE child",
        "SELECT 1;\n-- ;\nTRUNCATE child",
        "SELECT $$;$$; DELETE FROM child",
        "ANALYZE DELETE FROM child",
        "(ANALYZE) DELETE FROM child",
        "DROP TABLE child",
        "DO $$ BEGIN DELETE FROM child; END $$",
        "EXECUTE something",
        "",
    ],
)
def test_a_second_command_or_anything_but_a_query_is_refused(lab, text, analyze):
    with pytest.raises(UnsupportedStatement):
        explain(lab, text, analyze=analyze)

    assert 5000 == count(lab, "child")


@pytest.mark.parametrize(
    "text", ["SELECT 1;", "SELECT 1 ; -- done", "(SELECT 1) UNION (SELECT 2)", "VALUES (1)", "TABLE child"]
)
def test_one_query_in_any_dress_has_a_plan(target, text):
    assert explain(target, text).root.total_cost >= 0


def test_a_function_that_writes_while_it_is_planned_is_stopped(lab, target):
    lab.execute(
        "CREATE FUNCTION sly() RETURNS int IMMUTABLE LANGUAGE plpgsql "
        "AS $$ BEGIN DELETE FROM child; RETURN 1; END $$"
    )
    for connection in (lab, target):
        with pytest.raises(UnsupportedStatement):
            explain(connection, "SELECT * FROM child WHERE id = sly()")

    assert 5000 == count(lab, "child")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT * FROM nowhere", "search_path"),
        ("SELECT * FROM child WHERE id = $1", "give it values"),
        ("SELECT nonsense FROM child", 'column "nonsense" does not exist'),
        ("SELECT FROM WHERE", "syntax error"),
    ],
)
def test_the_servers_reason_and_the_way_out_are_told(target, text, reason):
    with pytest.raises(UnsupportedStatement, match=reason):
        explain(target, text)

    assert psycopg.pq.TransactionStatus.IDLE == target.info.transaction_status


def test_an_executed_plan_has_times_and_work(lab):
    plan = explain(lab, "SELECT count(*) FROM child WHERE id > 10", analyze=True)

    assert plan.execution_s is not None
    assert plan.execution_s > 0
    assert plan.counters.blocks > 10
    assert 1 == plan.root.actual_rows


def test_an_executed_write_counts_its_wal_and_is_rolled_back(lab):
    plan = explain(lab, "INSERT INTO parent SELECT generate_series(6000, 6999)", analyze=True)

    assert plan.counters.wal_bytes > 50_000
    assert 5000 == count(lab, "parent")


def test_deferred_constraints_are_checked_before_the_rollback(lab):
    with pytest.raises(UnsupportedStatement, match="child_parent_id_fkey"):
        explain(lab, "INSERT INTO child VALUES (9000, 9000)", analyze=True)

    assert 5000 == count(lab, "child")


def test_settings_that_differ_from_the_defaults_are_part_of_the_plan(lab):
    lab.execute("SET work_mem = '7MB'")

    assert "7MB" == explain(lab, "SELECT 1").fields["Settings"]["work_mem"]


def test_a_surrounding_transaction_goes_on_and_may_write(lab):
    with lab.transaction():
        lab.execute("CREATE INDEX another ON child (parent_id)")
        assert "another" == explain(lab, "SELECT * FROM child WHERE parent_id = 7").root.index
        with pytest.raises(UnsupportedStatement):
            explain(lab, "SELECT * FROM nowhere")
        lab.execute("INSERT INTO parent VALUES (0)")

    assert 5001 == count(lab, "parent")


def test_a_generic_plan_needs_no_values(target):
    text = "SELECT * FROM child WHERE id = $1 AND parent_id > $2 LIMIT $3"
    for _ in range(2):
        assert ["Limit", "Index Scan"] == [
            node.kind for node in explain(target, text, generic=True).root.walk()
        ]
    assert "Result" == explain(target, "SELECT 1", generic=True).root.kind

    assert (0,) == target.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()


def test_a_generic_plan_that_fails_leaves_nothing_behind(target):
    for text in ("SELECT * FROM nowhere WHERE id = $1", "SELECT 1; DROP TABLE child", "SELECT $2"):
        with pytest.raises(UnsupportedStatement):
            explain(target, text, generic=True)

    assert (0,) == target.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()


def test_a_generic_plan_has_nothing_to_execute(lab):
    with pytest.raises(InvalidInput, match="choose"):
        explain(lab, "SELECT $1", analyze=True, generic=True)


def test_planning_that_takes_too_long_is_cut_off(each_postgres_dsn):
    with (
        connect(each_postgres_dsn, read_only=False, statement_timeout_s=0.1) as connection,
        pytest.raises(UnsupportedStatement, match="longer statement timeout"),
    ):
        explain(connection, "SELECT pg_sleep(20)", analyze=True)


def test_a_lost_connection_is_no_fault_of_the_statement(lab, target):
    lab.execute("SELECT pg_terminate_backend(%s, 5000)", [target.info.backend_pid])
    with pytest.raises(TargetUnreachable):
        explain(target, "SELECT 1")
