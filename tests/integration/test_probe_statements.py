"""pg_stat_statements of any version, wherever it is, and the way out where it is not."""

from __future__ import annotations

import secrets

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.activity import read_activity
from perfloop.adapters.catalog import read_fingerprint, read_role, read_settings, read_tables
from perfloop.adapters.connection import connect
from perfloop.adapters.probe import ProbeLog
from perfloop.adapters.servers import PostgresServer
from perfloop.adapters.statement_counters import StatementReading, read_statements, statement_difference
from perfloop.model.snapshot import StatementCounters
from perfloop.model.workload import StatementKind


def read(dsn: str) -> StatementReading:
    with connect(dsn, read_only=True) as connection:
        return read_statements(connection, role=connection.info.user)


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def counters_of(reading: StatementReading, text: str) -> StatementCounters:
    return next(each for each in reading.counters if each.statement.text == text)


def texts(reading: StatementReading) -> list[str]:
    return sorted(each.statement.text for each in reading.counters)


@pytest.fixture
def counted_dsn(each_postgres_dsn: str) -> str:
    """A database in which a service has done a few things, and nothing but those was counted."""
    run(
        each_postgres_dsn,
        "CREATE TABLE item (id int PRIMARY KEY, note text)",
        "SELECT pg_stat_statements_reset()",
    )
    run(
        each_postgres_dsn,
        "INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i",
        *(f"SELECT note FROM item WHERE id = {number}" for number in range(10)),
        "/* trace=7 */ SELECT count(*) FROM item /* by hand */",
        "BEGIN",
        "SELECT id FROM item WHERE id = 1 FOR UPDATE",
        "COMMIT",
        "EXPLAIN SELECT 1",
        "PREPARE by_id (int) AS SELECT id FROM item WHERE id > $1",
        "EXECUTE by_id (990)",
        "ANALYZE item",
    )
    return each_postgres_dsn


def test_a_statement_is_counted_with_its_work(counted_dsn):
    reading = read(counted_dsn)

    point = counters_of(reading, "SELECT note FROM item WHERE id = $1")
    assert (10, 9, StatementKind.READ) == (point.calls, point.rows, point.statement.kind)
    assert 0 < point.total_s < 1
    assert point.mean_s == pytest.approx(point.total_s / 10)
    assert point.hit_blocks + point.read_blocks >= 20
    insert = next(each for each in reading.counters if each.statement.text.startswith("INSERT"))
    assert (1000, StatementKind.WRITE) == (insert.rows, insert.statement.kind)
    assert insert.wal_bytes > 100_000


def test_what_locks_rows_is_a_write_and_utilities_are_left_out(counted_dsn):
    reading = read(counted_dsn)

    kinds = {each.statement.text.split(" FROM ")[-1]: each.statement.kind for each in reading.counters}
    assert StatementKind.WRITE is kinds["item WHERE id = $1 FOR UPDATE"]
    words = {text.split()[0].upper() for text in texts(reading)}
    assert words.isdisjoint({"BEGIN", "COMMIT", "EXPLAIN", "PREPARE", "ANALYZE", "EXECUTE"})


def test_the_load_of_a_prepared_statement_is_counted_under_its_inside(counted_dsn):
    assert 1 == counters_of(read(counted_dsn), "SELECT id FROM item WHERE id > $1").calls


@pytest.mark.parametrize(
    ("statement", "inside"),
    [
        ("COPY (SELECT pg_sleep(0.05)) TO PROGRAM 'cat > /dev/null'", "the query inside, where it has one,"),
        ("DO $$ BEGIN PERFORM pg_sleep(0.05); END $$", "the statements inside"),
    ],
    ids=["copy", "do"],
)
def test_time_in_what_cannot_be_planned_is_told_with_what_can(counted_dsn, statement, inside):
    run(counted_dsn, statement)
    (left_out,) = (each for each in read(counted_dsn).limitations if "not analysed" in each.reason)

    assert f"give perfloop {inside} as .sql files" == left_out.remedy


def test_perfloops_own_statements_are_never_part_of_the_workload(counted_dsn):
    before = texts(read(counted_dsn))
    with connect(counted_dsn, read_only=True) as connection:
        role = read_role(connection).user
        for probe in (read_fingerprint, read_settings, read_tables):
            probe(connection)
        read_activity(connection, ProbeLog(role), role)

    assert before == texts(read(counted_dsn))


def test_two_readings_make_a_window(counted_dsn):
    earlier = read(counted_dsn)
    run(counted_dsn, *["SELECT note FROM item WHERE id = 5"] * 3)
    difference = statement_difference(earlier, read(counted_dsn))

    (point,) = [each for each in difference.counters if "note" in each.statement.text]
    assert (3, 3) == (point.calls, point.rows)
    assert () == difference.limitations


def test_a_reset_between_two_readings_is_noticed(counted_dsn):
    earlier = read(counted_dsn)
    run(counted_dsn, "SELECT pg_stat_statements_reset()", "SELECT note FROM item WHERE id = 5")
    difference = statement_difference(earlier, read(counted_dsn))

    assert 1 == counters_of(difference, "SELECT note FROM item WHERE id = $1").calls
    assert ["reset between the two readings" in each.reason for each in difference.limitations] == [True]


def test_rows_of_several_roles_are_one_statement(counted_dsn):
    role = f"other_{secrets.token_hex(4)}"
    run(counted_dsn, f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON item TO {role}")
    try:
        run(make_conninfo(counted_dsn, user=role), "SELECT note FROM item WHERE id = 3")

        assert 11 == counters_of(read(counted_dsn), "SELECT note FROM item WHERE id = $1").calls
    finally:
        run(counted_dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_the_extension_is_found_in_another_schema(counted_dsn):
    run(counted_dsn, 'CREATE SCHEMA "Ext"', 'ALTER EXTENSION pg_stat_statements SET SCHEMA "Ext"')

    assert 10 == counters_of(read(counted_dsn), "SELECT note FROM item WHERE id = $1").calls


@pytest.mark.parametrize("version", ["1.4", "1.8", "1.9", "1.10"])
def test_an_old_extension_is_read_as_far_as_it_goes(counted_dsn, version):
    run(
        counted_dsn,
        "DROP EXTENSION pg_stat_statements",
        f"CREATE EXTENSION pg_stat_statements VERSION '{version}'",
    )
    reading = read(counted_dsn)

    point = counters_of(reading, "SELECT note FROM item WHERE id = $1")
    assert 10 == point.calls
    assert point.total_s > 0
    for told in reading.limitations:
        assert f"the extension is {version}" in told.reason
        run(counted_dsn, told.remedy)
    assert () == read(counted_dsn).limitations


def test_an_extension_that_was_not_created_is_created_by_the_remedy(counted_dsn):
    run(counted_dsn, "DROP EXTENSION pg_stat_statements")
    reading = read(counted_dsn)

    (told,) = reading.limitations
    assert ((), "CREATE EXTENSION pg_stat_statements;") == (reading.counters, told.remedy)
    run(counted_dsn, told.remedy)
    assert () == read(counted_dsn).limitations


def test_an_extension_that_was_not_loaded_is_loaded_by_the_remedy_and_a_restart(each_postgres_binaries):
    with PostgresServer(
        each_postgres_binaries, settings={"shared_preload_libraries": "auto_explain"}
    ) as server:
        run(server.dsn(), "CREATE EXTENSION pg_stat_statements")
        (told,) = read(server.dsn()).limitations

        assert "not loaded by the server" in told.reason
        command, then = told.remedy.splitlines()
        run(server.dsn(), command)
        assert "-- then restart the server" == then
        server.restart()
        run(server.dsn(), "SELECT 1 AS one")
        reading = read(server.dsn())
        assert ("SELECT $1 AS one", ()) == (texts(reading)[0], reading.limitations)
        with connect(server.dsn(), read_only=True) as connection:
            libraries = next(
                each for each in read_settings(connection) if each.name == "shared_preload_libraries"
            )
        assert "auto_explain, pg_stat_statements" == libraries.value.replace('"', "")


@pytest.mark.parametrize(
    ("off", "reason"),
    [
        ("ALTER SYSTEM SET pg_stat_statements.track = 'none'", "track no statements"),
        ("ALTER SYSTEM SET compute_query_id = 'off'", "compute_query_id is off"),
    ],
)
def test_counting_that_was_switched_off_is_switched_on_by_the_remedy(postgres_binaries, off, reason):
    with PostgresServer(
        postgres_binaries, settings={"shared_preload_libraries": "pg_stat_statements"}
    ) as server:
        run(server.dsn(), "CREATE EXTENSION pg_stat_statements", off, "SELECT pg_reload_conf()")
        (told,) = read(server.dsn()).limitations

        assert reason in told.reason
        run(server.dsn(), *told.remedy.split("; "), "SELECT pg_sleep(0)")
        run(server.dsn(), "SELECT 1 AS one")
        assert () == read(server.dsn()).limitations


def test_evictions_between_two_readings_are_told(postgres_binaries):
    settings = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "100"}
    with PostgresServer(postgres_binaries, settings=settings) as server:
        run(server.dsn(), "CREATE EXTENSION pg_stat_statements")
        earlier = read(server.dsn())
        run(server.dsn(), *(f"SELECT 1{', 1' * number}" for number in range(150)))
        difference = statement_difference(earlier, read(server.dsn()))

    assert ["pg_stat_statements.max = 200" in told.remedy for told in difference.limitations] == [True]


def test_statements_of_other_roles_are_told_to_be_hidden(counted_dsn):
    role = f"plain_{secrets.token_hex(4)}"
    run(counted_dsn, f"CREATE ROLE {role} LOGIN")
    try:
        dsn = make_conninfo(counted_dsn, user=role)
        (told,) = read(dsn).limitations

        assert "statements of other roles are hidden" in told.reason
        run(counted_dsn, told.remedy)
        assert 10 == counters_of(read(dsn), "SELECT note FROM item WHERE id = $1").calls
    finally:
        run(counted_dsn, f"DROP ROLE {role}")


def test_time_spent_in_cursors_is_told(counted_dsn):
    run(
        counted_dsn,
        "SELECT pg_stat_statements_reset()",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT * FROM item ORDER BY md5(note)",
        "FETCH 500 FROM c",
        "COMMIT",
    )
    (told,) = read(counted_dsn).limitations

    assert "FETCH" in told.reason
