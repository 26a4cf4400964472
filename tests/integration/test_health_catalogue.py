"""Health that the catalogue and the counters of one database tell, on every installed version."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.analyze.bloat import index_bloat, table_bloat
from perfloop.analyze.checks import analyze
from perfloop.analyze.counters import (
    connection_churn,
    deadlocks,
    rollbacks,
    temporary_files,
    unvalidated_constraints,
)
from perfloop.analyze.index_upkeep import duplicate_indexes
from perfloop.analyze.sequences import sequences_near_end
from perfloop.analyze.spills import counted_spills
from perfloop.analyze.vacuum import vacuum_lag
from perfloop.model.advice import Finding, Severity
from perfloop.model.snapshot import Snapshot

Read = Callable[..., Snapshot]
RESET = "SELECT pg_stat_reset()"


def run(dsn: str, *statements: str) -> None:
    """In a session of its own: its end is what sends the counters off."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def locations(findings: tuple[Finding, ...]) -> list[str]:
    return [each.location for each in findings]


NEAR_THEIR_END = """
    CREATE TABLE item (id serial PRIMARY KEY, small smallint GENERATED ALWAYS AS IDENTITY, big bigserial);
    SELECT setval('item_id_seq', 2000000000), setval('item_small_seq', 31000);
    SELECT setval('item_big_seq', 2000000000);
    CREATE SEQUENCE wide; CREATE TABLE narrow (id int DEFAULT nextval('wide'));
    SELECT setval('wide', 2100000000);
    CREATE SEQUENCE down INCREMENT -1 MINVALUE -1000; SELECT setval('down', -950);
    CREATE SEQUENCE turns MAXVALUE 100 CYCLE; SELECT setval('turns', 99);
    CREATE SEQUENCE turns_late CYCLE; CREATE TABLE full_first (id int DEFAULT nextval('turns_late'));
    SELECT setval('turns_late', 2147000000);
    CREATE SEQUENCE unused MAXVALUE 3;
    CREATE SEQUENCE from_below MINVALUE -2147483648 START -2147483648 MAXVALUE 2147483647;
    SELECT setval('from_below', 1);
"""


@pytest.mark.finds("sequence-end")
@pytest.mark.spares("sequence-end")
def test_sequences_near_their_end_are_found_with_the_column_that_is_full_first(
    each_postgres_dsn: str, read_target: Read
) -> None:
    run(each_postgres_dsn, NEAR_THEIR_END)
    found = sequences_near_end(read_target(each_postgres_dsn))

    assert ["down", "item_id_seq", "item_small_seq", "turns_late", "wide"] == locations(found)
    assert "Column narrow.id has 47,483,647 values left: then inserts fail" == found[-1].title
    assert "Sequence down has 50 values left: then inserts fail" == found[0].title


def test_a_sequence_in_another_schema_is_named_with_it(each_postgres_dsn: str, read_target: Read) -> None:
    run(
        each_postgres_dsn,
        "CREATE SCHEMA shop; CREATE TABLE shop.item (id smallserial)",
        "SELECT setval('shop.item_id_seq', 32000)",
    )
    finding = sequences_near_end(read_target(each_postgres_dsn))[0]

    assert finding.title.startswith("Sequence shop.item_id_seq has 767 values left")


@pytest.mark.finds("unvalidated-constraint")
@pytest.mark.spares("unvalidated-constraint")
def test_constraints_never_validated_are_found_until_they_are(
    each_postgres_dsn: str, read_target: Read
) -> None:
    run(
        each_postgres_dsn,
        "CREATE TABLE item (id int PRIMARY KEY, price int, parent int, CONSTRAINT ok CHECK (id > 0))",
        "ALTER TABLE item ADD CONSTRAINT positive CHECK (price > 0) NOT VALID",
        "ALTER TABLE item ADD CONSTRAINT within FOREIGN KEY (parent) REFERENCES item NOT VALID",
    )
    before = unvalidated_constraints(read_target(each_postgres_dsn))
    run(each_postgres_dsn, *(each.would_try.split(": ")[1].split(",")[0] for each in before))

    assert ["item: positive", "item: within"] == locations(before)
    assert () == unvalidated_constraints(read_target(each_postgres_dsn))


def test_a_constraint_that_is_not_enforced_is_meant_so(each_postgres_dsn: str, read_target: Read) -> None:
    with psycopg.connect(each_postgres_dsn) as connection:
        if connection.info.server_version < 180_000:
            pytest.skip("NOT ENFORCED came with PostgreSQL 18")
    run(each_postgres_dsn, "CREATE TABLE item (price int, CONSTRAINT wished CHECK (price > 0) NOT ENFORCED)")

    assert () == unvalidated_constraints(read_target(each_postgres_dsn))


BLOATED = (
    "CREATE TABLE item (id int PRIMARY KEY, note text, kind int) WITH (autovacuum_enabled = false)",
    "INSERT INTO item SELECT i, repeat('x', 200) || i, i % 9 FROM generate_series(1, 60000) i",
    "CREATE INDEX by_note ON item (note); CREATE INDEX by_half ON item (note) WHERE kind = 1",
    "CREATE INDEX by_expression ON item ((lower(note) || note)); CREATE INDEX by_kind ON item (kind)",
    "VACUUM (ANALYZE) item",
)


@pytest.mark.finds("table-bloat", "index-bloat")
@pytest.mark.spares("table-bloat", "index-bloat")
def test_bloat_is_found_and_gone_after_a_rewrite(each_postgres_dsn: str, read_target: Read) -> None:
    """Nothing is said of the partial index and that on an expression, nor of little waste."""
    run(each_postgres_dsn, *BLOATED[:-1])
    read_target(each_postgres_dsn, until=lambda seen: seen.tables[0].live_rows)
    run(each_postgres_dsn, BLOATED[-1])
    fresh = read_target(each_postgres_dsn)
    run(each_postgres_dsn, "DELETE FROM item WHERE id % 4 <> 0")
    read_target(each_postgres_dsn, until=lambda seen: seen.tables[0].dead_rows)
    run(each_postgres_dsn, "VACUUM (ANALYZE) item")
    emptied = read_target(each_postgres_dsn)
    run(each_postgres_dsn, "VACUUM (FULL, ANALYZE) item")

    assert [] == locations(table_bloat(fresh)) + locations(index_bloat(fresh))
    assert ["item"] == locations(table_bloat(emptied))
    assert ["item: by_note"] == locations(index_bloat(emptied))
    assert table_bloat(emptied)[0].title.startswith("Table item is about 7")
    assert [] == locations(table_bloat(read_target(each_postgres_dsn)))


def test_bloat_is_not_guessed_from_old_statistics(each_postgres_dsn: str, read_target: Read) -> None:
    run(
        each_postgres_dsn, *BLOATED, "DELETE FROM item WHERE id % 4 <> 0", "VACUUM item", "TRUNCATE item",
        "INSERT INTO item SELECT i, repeat('x', 900) || i, i % 9 FROM generate_series(1, 20000) i",
    )  # fmt: skip
    snapshot = read_target(
        each_postgres_dsn, until=lambda seen: seen.tables[0].modified_since_analyze > 20_000
    )

    assert [] == locations(table_bloat(snapshot)) + locations(index_bloat(snapshot))


@pytest.mark.finds("vacuum-lag")
@pytest.mark.spares("vacuum-lag")
def test_dead_rows_that_no_vacuum_removes_are_found_until_one_does(
    each_postgres_dsn: str, read_target: Read
) -> None:
    run(
        each_postgres_dsn,
        "CREATE TABLE off (id int) WITH (autovacuum_enabled = false); CREATE TABLE few (id int)",
        "CREATE TABLE patient (id int) WITH (autovacuum_vacuum_threshold = 100000)",
        *(f"INSERT INTO {name} SELECT generate_series(1, 5000)" for name in ("off", "few", "patient")),
        "ANALYZE", "DELETE FROM off", "DELETE FROM few WHERE id < 500", "DELETE FROM patient",
    )  # fmt: skip
    before = vacuum_lag(
        read_target(
            each_postgres_dsn, until=lambda seen: sum(each.dead_rows for each in seen.tables) > 10_000
        )
    )
    run(each_postgres_dsn, "VACUUM off")
    after = read_target(each_postgres_dsn, until=lambda seen: seen.tables[1].dead_rows == 0)

    assert ["off"] == locations(before)
    assert "off has 5,000 dead rows" in before[0].title
    assert [] == locations(vacuum_lag(after))


def test_rows_that_no_vacuum_has_seen_are_found(each_postgres_dsn: str, read_target: Read) -> None:
    run(
        each_postgres_dsn,
        "CREATE TABLE log (id int) WITH (autovacuum_enabled = false)",
        "INSERT INTO log SELECT generate_series(1, 120000)",
    )
    before = read_target(each_postgres_dsn, until=lambda seen: seen.tables[0].inserts_since_vacuum)
    run(each_postgres_dsn, "VACUUM log")
    after = read_target(each_postgres_dsn, until=lambda seen: not seen.tables[0].inserts_since_vacuum)

    assert ["log: inserts"] == locations(vacuum_lag(before))
    assert [] == locations(vacuum_lag(after))


@pytest.mark.parametrize(
    ("one", "other", "redundant"),
    [
        (
            "UNIQUE INDEX one ON item (a) NULLS NOT DISTINCT",
            "UNIQUE INDEX other ON item (a)",
            ["item: other"],
        ),
        ("UNIQUE INDEX one ON item (a)", "INDEX other ON item (a)", ["item: other"]),
        ("INDEX one ON item (a)", "INDEX other ON item (a, b)", ["item: one"]),
        ("INDEX one ON item (b text_pattern_ops)", "INDEX other ON item (b, a)", []),
        ('INDEX one ON item (b COLLATE "C")', "INDEX other ON item (b, a)", []),
        ("INDEX one ON item (a)", "INDEX other ON item (a, b) WHERE a > 0", []),
        ("INDEX one ON item (a DESC)", "INDEX other ON item (a, b DESC)", ["item: one"]),
    ],
)
def test_an_index_is_redundant_only_where_another_does_all_that_it_does(
    each_postgres_dsn: str, read_target: Read, one: str, other: str, redundant: list[str]
) -> None:
    run(each_postgres_dsn, "CREATE TABLE item (a int, b text)", f"CREATE {one}", f"CREATE {other}")

    assert redundant == locations(duplicate_indexes(read_target(each_postgres_dsn)))


@pytest.mark.finds("temporary-files")
def test_temporary_files_are_found(each_postgres_dsn: str, read_target: Read) -> None:
    run(
        each_postgres_dsn,
        RESET,
        "SET work_mem = '64kB'",
        "SELECT count(*) FROM (SELECT repeat('x', 500) || i FROM generate_series(1, 240000) i ORDER BY 1) s",
    )
    snapshot = read_target(each_postgres_dsn, until=lambda seen: seen.activity.temp_bytes)
    finding = temporary_files(snapshot)[0]

    assert finding.title.startswith("Queries wrote 1")
    assert finding.query_ids


@pytest.mark.spares("temporary-files", "sort-hash-spill")
def test_a_load_that_spilled_once_is_not_found(each_postgres_dsn: str, read_target: Read) -> None:
    run(
        each_postgres_dsn,
        RESET,
        "SET maintenance_work_mem = '1MB'",
        "SET work_mem = '64kB'",
        "CREATE TABLE item (note text)",
        "INSERT INTO item SELECT repeat('x', 500) || i FROM generate_series(1, 240000) i ORDER BY 1",
        "CREATE INDEX ON item (note)",
    )
    snapshot = read_target(each_postgres_dsn, until=lambda seen: seen.activity.temp_bytes > 2 * 10**8)

    assert snapshot.utility_temp_blocks > 10_000
    assert () == temporary_files(snapshot) + counted_spills(snapshot)


@pytest.mark.spares("temporary-files")
def test_small_temporary_files_are_not_found(each_postgres_dsn: str, read_target: Read) -> None:
    run(
        each_postgres_dsn,
        RESET,
        "SET work_mem = '64kB'",
        "SELECT i FROM generate_series(1, 90000) i ORDER BY 1",
    )
    snapshot = read_target(each_postgres_dsn, until=lambda seen: seen.activity.temp_bytes)

    assert () == temporary_files(snapshot)


@pytest.mark.finds("deadlocks")
@pytest.mark.spares("deadlocks")
def test_a_deadlock_is_found(each_postgres_dsn: str, read_target: Read) -> None:
    run(each_postgres_dsn, RESET, "CREATE TABLE item (id int)", "INSERT INTO item VALUES (1), (2)")
    before = deadlocks(read_target(each_postgres_dsn))
    with psycopg.connect(each_postgres_dsn) as one, psycopg.connect(each_postgres_dsn) as other:
        one.execute("SET deadlock_timeout = '1h'")
        other.execute("SET deadlock_timeout = '10ms'")
        one.execute("UPDATE item SET id = id WHERE id = 1")
        other.execute("UPDATE item SET id = id WHERE id = 2")
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(one.execute, "UPDATE item SET id = id WHERE id = 2")
            with pytest.raises(psycopg.errors.DeadlockDetected):
                other.execute("UPDATE item SET id = id WHERE id = 1")
            other.rollback()
            waiting.result()
    snapshot = read_target(each_postgres_dsn, until=lambda seen: seen.activity.deadlocks)

    assert () == before
    assert ["1 transaction ended in a deadlock since the last reset"] == [
        each.title for each in deadlocks(snapshot)
    ]


@pytest.mark.finds("rollbacks")
@pytest.mark.spares("rollbacks")
@pytest.mark.parametrize(("share", "found"), [(3, ["rollbacks"]), (20, [])], ids=["many", "few"])
def test_rollbacks_are_found_where_they_are_many(
    each_postgres_dsn: str, read_target: Read, share: int, found: list[str]
) -> None:
    run(each_postgres_dsn, RESET)
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection, connection.pipeline():
        for number in range(1200):
            connection.execute(b"BEGIN")
            connection.execute(b"ROLLBACK" if number % share == 0 else b"COMMIT")
            connection.execute(b"BEGIN")
            connection.execute(b"COMMIT")
    snapshot = read_target(each_postgres_dsn, until=lambda seen: seen.activity.commits > 1000)

    assert found == locations(rollbacks(snapshot))


def test_a_quiet_database_has_none_of_it(each_postgres_dsn: str, read_target: Read) -> None:
    run(each_postgres_dsn, "CREATE TABLE item (id serial PRIMARY KEY, note text)", "ANALYZE")
    snapshot = read_target(each_postgres_dsn)

    assert {"unsafe-setting: fsync is off"} >= {
        f"{each.check}: {each.title.split(':')[0]}"
        for each in analyze(snapshot)
        if each.severity is Severity.HIGH
    }


@pytest.mark.finds("connection-churn")
@pytest.mark.spares("connection-churn")
def test_connections_opened_for_a_moment_are_found(each_postgres_dsn: str, read_target: Read) -> None:
    run(each_postgres_dsn, RESET)
    for _ in range(60):
        run(each_postgres_dsn, "SELECT 1")
    snapshot = read_target(each_postgres_dsn, until=lambda seen: seen.activity.sessions >= 60)
    (finding,) = connection_churn(snapshot, least_s=0.0)

    assert finding.title.startswith("Services open ")
    assert () == connection_churn(snapshot)


def test_a_role_without_rights_reads_what_it_may_and_is_told_the_rest(
    each_postgres_dsn: str, read_target: Read
) -> None:
    run(
        each_postgres_dsn,
        "CREATE ROLE perfloop_plain LOGIN",
        "CREATE TABLE item (id serial PRIMARY KEY, note text)",
        "INSERT INTO item (note) SELECT 'x' FROM generate_series(1, 100)",
        "ANALYZE",
    )
    try:
        snapshot = read_target(make_conninfo(each_postgres_dsn, user="perfloop_plain"))
        remedies = {each.subject: each.remedy for each in snapshot.limitations}
        analyze(snapshot)
        run(each_postgres_dsn, *remedies["sequences"].splitlines())
        after = read_target(make_conninfo(each_postgres_dsn, user="perfloop_plain"))
    finally:
        run(each_postgres_dsn, "DROP OWNED BY perfloop_plain", "DROP ROLE perfloop_plain")

    assert None is snapshot.health.sequences[0].last_value
    assert snapshot.health.ages
    assert snapshot.health.checkpoints is not None
    assert "sequences" not in {each.subject for each in after.limitations}
    assert 100 == after.health.sequences[0].last_value
