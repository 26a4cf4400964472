"""Rules on planning, workers, partitions, foreign tables and writes, planted on real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from perfloop.model.advice import Finding

Smells = Callable[..., dict[str, Finding]]

CLIQUE = (
    "SELECT * FROM "
    + ", ".join(f"tags t{i}" for i in range(9))
    + " WHERE t0.id = 1 AND "
    + " AND ".join(f"t{i}.order_id = t0.order_id" for i in range(1, 9))
)
EXHAUSTIVE = (
    "CREATE INDEX ON tags (order_id)",
    "SET LOCAL join_collapse_limit = 10",
    "SET LOCAL from_collapse_limit = 10",
    "SET LOCAL geqo = off",
)
PARALLEL = (
    "SET LOCAL min_parallel_table_scan_size = 0",
    "SET LOCAL parallel_setup_cost = 0",
    "SET LOCAL parallel_tuple_cost = 0",
    "SET LOCAL max_parallel_workers_per_gather = 2",
    "ALTER TABLE orders SET (parallel_workers = 2)",
    "ALTER TABLE tags SET (parallel_workers = 2)",
)
BUSY = "SELECT max(md5(repeat(note, 12))) FROM orders"
SLOW_TRIGGER = (
    "CREATE TABLE log (id int)",
    """CREATE FUNCTION count_much() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM count(*) FROM generate_series(1, 500); RETURN NULL; END $$""",
)
QUICK_TRIGGER = (
    SLOW_TRIGGER[0],
    SLOW_TRIGGER[1].replace("generate_series(1, 500)", "log WHERE false"),
    "INSERT INTO log VALUES (1)",  # loads the language and compiles the function
)
PER_ROW = "CREATE TRIGGER counted AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION count_much()"
PER_STATEMENT = "CREATE TRIGGER counted AFTER INSERT ON log FOR EACH STATEMENT EXECUTE FUNCTION count_much()"
INSERT = "INSERT INTO log SELECT generate_series(1, 2000)"
FAMILY = (
    "CREATE TABLE parents (id int PRIMARY KEY)",
    "INSERT INTO parents SELECT generate_series(1, 100)",
    "CREATE TABLE children (id int, parent int REFERENCES parents)",
    "INSERT INTO children SELECT i, i % 50 + 51 FROM generate_series(1, 20000) i",
    "ANALYZE parents, children",
)
ORPHAN = "DELETE FROM parents WHERE id <= 20"
INDEXES = tuple(f"CREATE INDEX ON log (id, ({i} + id))" for i in range(5))
SPARSE_UPDATE = "UPDATE orders SET status = 'sent' WHERE id % 18 = 0"

PLANTED = [
    ("planning-time", "query 1", CLIQUE, EXHAUSTIVE),
    ("workers-missing", "max_parallel_workers", BUSY, (*PARALLEL, "SET LOCAL max_parallel_workers = 0")),
    ("parallel-useless", "query 1: Gather", "SELECT max(id) FROM tags", PARALLEL),
    ("partitions-unpruned", "days: partitions", "SELECT * FROM days WHERE day::text = '2026-03-05'", ()),
    ("trigger-time", "log: counted", INSERT, (*SLOW_TRIGGER, PER_ROW)),
    ("foreign-key-without-index", "children(parent)", ORPHAN, FAMILY),
    ("write-amplification", "log", INSERT, (SLOW_TRIGGER[0], *INDEXES)),
    ("write-amplification", "orders", SPARSE_UPDATE, ("CHECKPOINT",)),
]
NEAR_MISSES = [
    ("planning-time", "SELECT count(*) FROM orders JOIN items USING (id)", EXHAUSTIVE),
    ("workers-missing", BUSY, PARALLEL),
    ("workers-missing", BUSY, ("SET LOCAL max_parallel_workers_per_gather = 0",)),
    ("parallel-useless", BUSY, PARALLEL),
    ("partitions-unpruned", "SELECT * FROM days WHERE day = '2026-03-05'", ()),
    ("partitions-unpruned", "SELECT * FROM days WHERE amount = 47999", ()),
    ("partitions-unpruned", "SELECT * FROM days WHERE amount % 7 = 3", ()),
    (
        "partitions-unpruned",
        " UNION ALL ".join("SELECT * FROM tags WHERE order_id < 0" for _ in range(5)),
        (),
    ),
    ("trigger-time", INSERT.replace("2000", "30000"), (*QUICK_TRIGGER[:2], PER_STATEMENT, QUICK_TRIGGER[2])),
    ("trigger-time", ORPHAN, FAMILY),
    ("foreign-key-without-index", ORPHAN, (*FAMILY, "CREATE INDEX ON children (parent)")),
    ("write-amplification", INSERT, (SLOW_TRIGGER[0], INDEXES[0])),
    ("write-amplification", "INSERT INTO log VALUES (1)", (SLOW_TRIGGER[0], *INDEXES)),
]


@pytest.mark.finds(*{case[0] for case in PLANTED})
@pytest.mark.parametrize(("check", "location", "statement", "setup"), PLANTED)
def test_a_planted_execution_smells(
    smells: Smells, check: str, location: str, statement: str, setup: tuple[str, ...]
) -> None:
    found = smells(statement, *setup)

    assert location == (found[check].location if check in found else sorted(found))


@pytest.mark.spares(*{case[0] for case in NEAR_MISSES})
@pytest.mark.parametrize(("check", "statement", "setup"), NEAR_MISSES)
def test_an_execution_that_nearly_smells_does_not(
    smells: Smells, check: str, statement: str, setup: tuple[str, ...]
) -> None:
    assert check not in smells(statement, *setup)


@pytest.mark.parametrize(("check", "location", "statement", "setup"), PLANTED)
def test_what_only_an_execution_shows_is_not_guessed(
    smells: Smells, check: str, location: str, statement: str, setup: tuple[str, ...]
) -> None:
    assert check not in smells(statement, *setup, executed=False)


def test_partitions_without_an_index_are_told_as_that(smells: Smells) -> None:
    """They hold more than 10,000 rows each, and the column is not the key: which to skip nobody can say."""
    found = smells("SELECT * FROM days WHERE amount = 47999")

    assert "missing-index" in found
    assert "partitions-unpruned" not in found


def test_a_cast_around_the_key_of_partitions_is_told_once(smells: Smells) -> None:
    found = smells("SELECT * FROM days WHERE day::text = '2026-03-05'")

    assert {"partitions-unpruned"} == set(found) & {
        "partitions-unpruned",
        "missing-index",
        "function-on-column",
        "implicit-cast",
    }


@pytest.fixture
def elsewhere(smell_dsn: str) -> tuple[str, ...]:
    """Statements that make the shop's own orders a foreign table, and a function that stays here."""
    with psycopg.connect(smell_dsn) as connection:
        info = connection.info
        options = sql.SQL("host {}, port {}, dbname {}").format(
            sql.Literal(info.host), sql.Literal(str(info.port)), sql.Literal(info.dbname)
        )
        user = sql.SQL("user {}, password {}").format(
            sql.Literal(info.user), sql.Literal(info.password or "none")
        )
        return (
            "CREATE EXTENSION postgres_fdw",
            f"CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({options.as_string(connection)})",
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS ({user.as_string(connection)})",
            "CREATE FOREIGN TABLE far (id int, shop int, late int) SERVER here OPTIONS (table_name 'orders')",
            """CREATE FUNCTION is_round(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
               $$ BEGIN RETURN n % 100 = 0; END $$""",
        )


@pytest.mark.finds("foreign-scan-discard")
@pytest.mark.spares("foreign-scan-discard")
def test_rows_fetched_from_another_server_to_be_thrown_away_smell(
    smells: Smells, elsewhere: tuple[str, ...]
) -> None:
    found = smells("SELECT * FROM far WHERE is_round(late)", *elsewhere)
    pushed = smells("SELECT * FROM far WHERE late % 100 = 0", *elsewhere)
    kept = smells("SELECT * FROM far WHERE NOT is_round(late)", *elsewhere)

    assert "far" == found["foreign-scan-discard"].location
    assert "row-misestimate" not in found
    assert "foreign-scan-discard" not in pushed
    assert "foreign-scan-discard" not in kept


@pytest.fixture
def held_row(smell_dsn: str) -> Iterator[Callable[[], None]]:
    """The order with id 1, locked by another session until somebody has waited a quarter of a second."""
    waiting = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '0.25 s'"""

    def release_when_waited_for() -> None:
        deadline = time.monotonic() + 20
        with psycopg.connect(smell_dsn, autocommit=True) as watcher:
            while watcher.execute(waiting).fetchone() == (0,) and time.monotonic() < deadline:
                pass
        holder.rollback()

    with psycopg.connect(smell_dsn) as holder:
        holder.execute("SELECT 1 FROM orders WHERE id = 1 FOR UPDATE")
        releaser = threading.Thread(target=release_when_waited_for)
        releaser.start()
        yield
        releaser.join()


@pytest.mark.finds("lock-wait")
@pytest.mark.usefixtures("held_row")
@pytest.mark.parametrize(
    "statement",
    ["UPDATE orders SET status = 'sent' WHERE id = 1", "SELECT * FROM orders WHERE id = 1 FOR UPDATE"],
    ids=["write", "lock"],
)
def test_time_spent_waiting_for_a_lock_smells(smells: Smells, statement: str) -> None:
    assert "query 1" == smells(statement)["lock-wait"].location


@pytest.mark.usefixtures("held_row")
def test_a_key_that_waits_for_its_row_smells_of_the_lock(smells: Smells) -> None:
    found = smells("INSERT INTO refers VALUES (1)", "CREATE TABLE refers (id int REFERENCES orders)")

    assert "query 1" == found["lock-wait"].location
    assert "trigger-time" not in found


@pytest.mark.spares("lock-wait")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET status = 'sent' WHERE id <= 3000",
        "SELECT * FROM orders WHERE id = 1 FOR UPDATE",
        BUSY,
    ],
)
def test_a_statement_that_works_all_the_time_does_not_wait(smells: Smells, statement: str) -> None:
    assert "lock-wait" not in smells(statement)
