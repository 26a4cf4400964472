"""Baselines on real servers: what got worse is found, and where nothing changed nothing is said."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import psycopg
import pytest
from msgspec.structs import replace

from perfloop.model.advice import Finding, Severity
from perfloop.model.baseline import Baseline, Comparison
from perfloop.tune.baselines import capture_baseline, compare_with_baseline
from perfloop.tune.observer import Silence

SCHEMA = """
    CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, status text NOT NULL, note text)
        WITH (autovacuum_enabled = false);
    INSERT INTO orders SELECT g, (g * 7919) % 2000, 'done', repeat('x', 80) FROM generate_series(1, 30000) g;
    CREATE INDEX orders_customer ON orders (customer);
    VACUUM ANALYZE orders
"""
BY_CUSTOMER = "SELECT id, note FROM orders WHERE customer = %s"
BY_ID = "SELECT note FROM orders WHERE id = %s"
TOUCH = "UPDATE orders SET status = 'seen' WHERE id = %s"
SORTED = "SELECT * FROM orders ORDER BY note, id"
FORGET = "SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()"
CALLS = 60


@pytest.fixture
def dsn(each_postgres_dsn: str) -> str:
    """A shop that its service has used for a while."""
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(FORGET)
    traffic(each_postgres_dsn)
    return each_postgres_dsn


def traffic(
    dsn: str, *, calls: int = CALLS, seed: int = 1, set_up: str = "", more: Sequence[str] = ()
) -> None:
    rng = Random(seed)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if set_up:
            connection.execute(set_up)
        for _ in range(calls):
            connection.execute(BY_CUSTOMER, [rng.randrange(2000)])
            connection.execute(BY_ID, [rng.randrange(1, 30000)])
            connection.execute(TOUCH, [rng.randrange(1, 30000)])
            for text in more:
                connection.execute(text)


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def captured(dsn: str) -> Baseline:
    return capture_baseline(dsn, Silence(), name="then")


def compared(dsn: str, then: Baseline) -> Comparison:
    return compare_with_baseline(dsn, then, Silence())


def checks(findings: Sequence[Finding]) -> list[str]:
    return sorted({each.check for each in findings})


def only(comparison: Comparison, check: str) -> Finding:
    found = [each for each in comparison.findings if each.check == check]
    assert 1 == len(found), comparison.findings
    return found[0]


def value(finding: Finding, label: str) -> str:
    return next(each.value for each in finding.evidence if each.label == label)


@pytest.mark.spares(
    "gone-statement",
    "index-added",
    "index-dropped",
    "more-work",
    "new-statement",
    "plan-flip",
    "setting-changed",
    "slower-statement",
    "table-grown",
)
def test_where_nothing_changed_nothing_is_said(dsn: str) -> None:
    then = captured(dsn)
    traffic(dsn, seed=2)
    comparison = compared(dsn, then)

    assert () == comparison.findings
    assert 3 == comparison.statements_judged
    assert comparison.plans_judged >= 7


@pytest.mark.finds("plan-flip", "index-dropped")
def test_a_dropped_index_is_found_by_the_plan_before_anybody_suffers(dsn: str) -> None:
    then = captured(dsn)
    run(dsn, "DROP INDEX orders_customer")
    comparison = compared(dsn, then)
    flip = only(comparison, "plan-flip")

    assert ["index-dropped", "plan-flip"] == checks(comparison.findings)
    assert Severity.MEDIUM == flip.severity
    assert "→ Seq Scan on orders" in value(flip, "plan")
    assert "index orders_customer is gone" in flip.would_try
    assert any("times and work are not compared" in note for note in comparison.notes)


def test_a_dropped_index_is_high_once_the_service_suffers(dsn: str) -> None:
    then = captured(dsn)
    run(dsn, "DROP INDEX orders_customer")
    traffic(dsn, seed=2)
    flip = only(compared(dsn, then), "plan-flip")

    assert Severity.HIGH == flip.severity
    assert "times as long" in flip.title
    assert "→" in value(flip, "blocks per call")
    assert (flip.time_share or 0.0) > 0.3


def test_an_index_that_was_built_anew_under_another_name_is_no_news(dsn: str) -> None:
    then = captured(dsn)
    run(dsn, "DROP INDEX orders_customer", "CREATE INDEX renamed ON orders (customer)")
    comparison = compared(dsn, then)

    assert () == comparison.findings


@pytest.mark.finds("index-added")
def test_a_new_index_is_named_for_what_writes_pay(dsn: str) -> None:
    then = captured(dsn)
    run(dsn, "CREATE INDEX orders_status ON orders (status)")
    comparison = compared(dsn, then)

    assert "orders: orders_status" == only(comparison, "index-added").location
    assert ["index-added"] == checks(comparison.findings)


@pytest.mark.finds("more-work")
def test_less_memory_shows_as_more_work(dsn: str) -> None:
    traffic(dsn, calls=25, more=[SORTED], set_up="SET work_mem = '64MB'")
    then = captured(dsn)
    traffic(dsn, calls=25, more=[SORTED], set_up="SET work_mem = '64kB'", seed=2)
    found = [each for each in compared(dsn, then).findings if "ORDER BY note" in each.title]

    assert 1 == len(found)
    assert found[0].check in {"more-work", "slower-statement"}
    assert value(found[0], "temporary blocks per call").startswith("0 →")


@pytest.mark.finds("slower-statement", "table-grown")
def test_a_statement_whose_table_has_grown_is_slower_and_the_growth_is_named(dsn: str) -> None:
    count = "SELECT count(*) FROM orders WHERE note <> ''"
    traffic(dsn, calls=25, more=[count])
    then = captured(dsn)
    run(
        dsn,
        "INSERT INTO orders SELECT g, g % 99, 'done', repeat('x', 80) FROM generate_series(30001, 150000) g",
        "VACUUM ANALYZE orders",
    )
    traffic(dsn, calls=25, more=[count], seed=2)
    comparison = compared(dsn, then)
    slower = [each for each in comparison.findings if "count(*)" in each.title]

    assert ["slower-statement"] == checks(slower)
    assert Severity.HIGH == slower[0].severity
    assert "orders has grown to" in slower[0].would_try
    assert "5.0 times" in only(comparison, "table-grown").title


@pytest.mark.finds("setting-changed")
def test_a_changed_setting_is_named_with_both_values(dsn: str) -> None:
    then = captured(dsn)
    run(
        dsn,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''8MB''', current_database()); END $$",
    )
    comparison = compared(dsn, then)

    assert "work_mem was 4 MB and is 8 MB" == only(comparison, "setting-changed").title
    assert ["setting-changed"] == checks(comparison.findings)


@pytest.mark.finds("new-statement", "gone-statement")
def test_a_new_statement_that_takes_much_time_and_one_that_is_gone_are_told(dsn: str) -> None:
    traffic(dsn, calls=40, more=[SORTED])
    then = captured(dsn)
    traffic(dsn, calls=80, more=["SELECT count(*) FROM orders a JOIN orders b USING (customer)"], seed=2)
    comparison = compared(dsn, then)

    assert "is new and takes" in only(comparison, "new-statement").title
    assert "ORDER BY note" in only(comparison, "gone-statement").title


def test_a_statement_that_cannot_be_planned_any_more_is_told(dsn: str) -> None:
    then = captured(dsn)
    run(dsn, "ALTER TABLE orders RENAME COLUMN note TO remark")
    comparison = compared(dsn, then)

    assert any("cannot be planned any more" in note for note in comparison.notes)


def test_counters_that_were_reset_stand_alone_and_it_is_told(dsn: str) -> None:
    then = replace(captured(dsn), reset_at_s=1.0)
    traffic(dsn, seed=2)
    comparison = compared(dsn, then)

    assert () == comparison.findings
    assert any("reset between the two readings" in note for note in comparison.notes)


def test_a_window_of_its_own_is_counted(dsn: str) -> None:
    then = capture_baseline(dsn, Silence(), name="then", window_s=0.2)
    comparison = compare_with_baseline(dsn, then, Silence(), window_s=0.2)

    assert () == then.statements
    assert then.totals
    assert () == comparison.findings


def test_a_baseline_of_another_major_version_is_matched_by_text(dsn: str) -> None:
    then = captured(dsn)
    older = replace(
        then,
        reset_at_s=1.0,
        fingerprint=replace(then.fingerprint, server_version=140005),
        statements=tuple(
            replace(each, statement=replace(each.statement, query_id=f"9{each.statement.query_id}"))
            for each in then.statements
        ),
    )
    traffic(dsn, seed=2)
    comparison = compared(dsn, older)

    assert 3 == comparison.statements_judged
    assert any("matched by their text" in note for note in comparison.notes)


def test_a_busy_machine_is_not_the_statements_fault(dsn: str) -> None:
    """Every statement takes three times as long for the same work."""
    traffic(dsn, seed=2)
    then = captured(dsn)
    faster = tuple(
        replace(each, total_s=each.total_s / 3, squared_s2=each.squared_s2 / 9) for each in then.statements
    )
    traffic(dsn, seed=3)
    comparison = compared(dsn, replace(then, statements=faster, totals=then.statements))

    assert () == comparison.findings
    assert any("the machine is slower" in note for note in comparison.notes)
