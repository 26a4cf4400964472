"""The example service: its rows follow from the seed, its operations run, and what is planted is there."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest
from examples.feedshop import planted, traffic
from examples.feedshop.load import DATABASE_SETTINGS, checksum, load
from examples.feedshop.mix import operations, read_pools, values_for
from examples.feedshop.service import FeedShop, connect
from psycopg.conninfo import make_conninfo

from perfloop.adapters import catalog
from perfloop.adapters.servers import PostgresServer
from perfloop.model.advice import Proposal, RewriteQuery
from perfloop.tune.lab.arms import Arm
from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.proposals import Rewriting
from perfloop.tune.same_rows import compare_rows

SMALL = 0.02
SMALL_CHECKSUM = 819_396_189_310_155_431_713  # of the default seed; PostgreSQL 15 and 18 agree


@pytest.fixture(scope="module")
def small_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """feedshop at a fiftieth of its size; tests of this module may write to it."""
    dsn = postgres_server.dsn()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE feedshop_small")
        try:
            small = make_conninfo(dsn, dbname="feedshop_small")
            load(small, scale=SMALL)
            yield small
        finally:
            connection.execute("DROP DATABASE feedshop_small WITH (FORCE)")


def value(dsn: str, query: str, *parameters: object) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def test_the_same_seed_makes_the_same_rows_on_every_server(each_postgres_dsn: str) -> None:
    load(each_postgres_dsn, scale=SMALL)

    assert SMALL_CHECKSUM == checksum(each_postgres_dsn)


def test_another_seed_makes_other_rows(postgres_dsn: str) -> None:
    load(postgres_dsn, scale=SMALL, seed=8)

    assert checksum(postgres_dsn) != SMALL_CHECKSUM


def test_loading_again_replaces_what_was_there(postgres_dsn: str) -> None:
    first = load(postgres_dsn, scale=SMALL)
    second = load(postgres_dsn, scale=SMALL)

    assert first.rows == second.rows


def test_loading_tells_its_steps_in_order(postgres_dsn: str) -> None:
    told: list[tuple[str, float]] = []
    load(postgres_dsn, scale=SMALL, progress=lambda step, elapsed_s: told.append((step, elapsed_s)))

    assert ("drop", "failed_index") == (told[0][0], told[-1][0])
    assert sorted(elapsed_s for _, elapsed_s in told) == [elapsed_s for _, elapsed_s in told]


def test_an_owner_without_superuser_can_load(postgres_server: PostgresServer) -> None:
    dsn = postgres_server.dsn()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE feedshop_owner LOGIN")
        connection.execute("CREATE DATABASE feedshop_owned OWNER feedshop_owner")
        try:
            loaded = load(make_conninfo(dsn, dbname="feedshop_owned", user="feedshop_owner"), scale=SMALL)
        finally:
            connection.execute("DROP DATABASE feedshop_owned WITH (FORCE)")
            connection.execute("DROP ROLE feedshop_owner")

    assert loaded.rows > 20_000


@pytest.mark.parametrize("name", [operation.name for operation in operations()])
def test_every_operation_runs_through_the_service(small_dsn: str, name: str) -> None:
    rng = random.Random(1)
    operation = next(each for each in operations() if each.name == name)
    with connect(small_dsn) as connection:
        values = values_for(operation, read_pools(connection, rng), rng)
        rows = getattr(FeedShop(connection), name)(*values)

    assert isinstance(rows, list)


def test_traffic_is_the_same_under_the_same_seed(postgres_dsn: str) -> None:
    load(postgres_dsn, scale=SMALL)
    first = traffic.run_traffic(postgres_dsn, operations=200, connections=1, seed=3)
    load(postgres_dsn, scale=SMALL)
    second = traffic.run_traffic(postgres_dsn, operations=200, connections=1, seed=3)

    assert first.calls == second.calls
    assert 200 == first.total


def test_traffic_shares_its_calls_among_the_connections(small_dsn: str) -> None:
    assert 101 == traffic.run_traffic(small_dsn, operations=101, connections=3).total


def test_traffic_without_an_end_is_refused(small_dsn: str) -> None:
    with pytest.raises(ValueError, match="give seconds, operations, or both"):
        traffic.run_traffic(small_dsn)


def test_each_statement_is_one_entry_of_pg_stat_statements(postgres_dsn: str) -> None:
    load(postgres_dsn, scale=SMALL)
    value(postgres_dsn, "SELECT pg_stat_statements_reset()::text")
    traffic.run_traffic(postgres_dsn, operations=600, connections=2)
    entries = value(
        postgres_dsn,
        "SELECT count(*) FROM pg_stat_statements WHERE toplevel AND query LIKE %s"
        " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        "SELECT o.id, o.status, o.total_cents, o.placed_at%",
    )

    assert 1 == entries


def test_the_failed_index_is_invalid_and_still_there(small_dsn: str) -> None:
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_session_key'::regclass"

    assert value(small_dsn, query) is False


def test_the_duplicate_indexes_have_the_same_definition(small_dsn: str) -> None:
    query = """
        SELECT count(DISTINCT (indkey::text, indclass::text, indoption::text))
        FROM pg_index
        WHERE indexrelid IN ('orders_tenant_placed_idx'::regclass, 'orders_by_tenant_and_day'::regclass)
    """

    assert 1 == value(small_dsn, query)


def test_the_import_was_never_analysed(small_dsn: str) -> None:
    known = "SELECT most_common_vals::text FROM pg_stats" + (
        " WHERE tablename = 'classifications' AND attname = 'model_version'"
    )

    assert value(small_dsn, known) in ("{1,2}", "{2,1}")
    assert 5 == value(small_dsn, "SELECT count(DISTINCT model_version) FROM classifications")
    assert ["autovacuum_enabled=false"] == value(
        small_dsn, "SELECT reloptions FROM pg_class WHERE oid = 'classifications'::regclass"
    )


def test_the_operators_settings_hold_for_new_sessions(small_dsn: str) -> None:
    assert DATABASE_SETTINGS == {
        name: value(small_dsn, "SELECT current_setting(%s)", name) for name in DATABASE_SETTINGS
    }


@pytest.mark.parametrize(
    "problem", [each for each in planted.PLANTED if each.change == "create-index"], ids=lambda each: each.id
)
def test_no_index_serves_what_is_planted_as_missing(small_dsn: str, problem: planted.Planted) -> None:
    query = """
        SELECT count(*) FROM pg_index AS i
        JOIN pg_attribute AS first ON first.attrelid = i.indrelid AND first.attnum = i.indkey[0]
        JOIN pg_attribute AS any_of ON any_of.attrelid = i.indrelid AND any_of.attnum = ANY (i.indkey)
        WHERE i.indrelid = %s::regclass AND first.attname = %s AND any_of.attname = %s
    """

    assert 0 == value(small_dsn, query, problem.location, problem.columns[0], problem.columns[-1])


def test_at_least_nine_problems_and_three_traps_are_named() -> None:
    assert len(planted.PLANTED) >= 9
    assert len(planted.TRAPS) >= 3
    assert len({each.id for each in (*planted.PLANTED, *planted.TRAPS)}) == len(planted.PLANTED) + len(
        planted.TRAPS
    )


@pytest.mark.parametrize("wrong", planted.WRONG_REWRITES, ids=lambda each: each.id)
def test_a_wrong_rewrite_gives_the_same_rows_here_and_is_seen_on_made_up_ones(
    small_dsn: str, wrong: planted.WrongRewrite
) -> None:
    change = RewriteQuery(
        query_id="1", rule="wrong", before=wrong.statement, after=wrong.text, label=wrong.id
    )
    rewriting = Rewriting(
        proposal=Proposal(change=change, reason=wrong.story),
        change=change,
        wording={wrong.statement: wrong.text},
    )
    with psycopg.connect(small_dsn, autocommit=True) as connection:
        tables = catalog.read_tables(connection)
        catalogue = Catalogue(
            tables=catalog.with_columns(tables, catalog.read_columns(connection, tables)),
            indexes=catalog.read_indexes(connection, tables),
        )
        arm = Arm(name="control", connection=connection)
        found = compare_rows(arm, rewriting, catalogue, limit_s=5.0, seed=1)

    assert found.difference is not None
    assert found.difference.startswith("on made-up rows")
