"""One Snapshot of a real target: everything that the role may read, and a Limitation for all else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from perfloop.adapters.connection import connect
from perfloop.adapters.postgres import take_snapshot
from perfloop.errors import TargetUnreachable
from perfloop.model.snapshot import Host, Limitation, Snapshot
from perfloop.model.target import ExtendedStatistics, ForeignKey, Index, IndexKey, TableName
from perfloop.model.value import from_json, to_json

HOST = Host(cpus=2, memory_bytes=1, available_bytes=1, load_1m=0.0, busy_ratio=0.0, steal_ratio=0.0)
SCHEMA = """
    CREATE EXTENSION pg_trgm;
    CREATE SCHEMA app;
    CREATE TABLE app.person (
        id bigint PRIMARY KEY, email text NOT NULL UNIQUE, age int, "Odd Name" int, dropped int,
        seen timestamptz
    ) WITH (fillfactor = 90);
    ALTER TABLE app.person DROP COLUMN dropped;
    CREATE INDEX by_expression ON app.person (lower(email) text_pattern_ops DESC NULLS LAST, age)
        INCLUDE (id) WHERE age > 17;
    CREATE INDEX by_collation ON app.person (email COLLATE "C", "Odd Name" NULLS FIRST);
    CREATE INDEX by_trigram ON app.person USING gin (email gin_trgm_ops);
    CREATE STATISTICS app.together (dependencies, mcv) ON age, "Odd Name" FROM app.person;
    CREATE TABLE app.visit (
        id bigint, person_id bigint REFERENCES app.person, day date, tags text[]
    ) PARTITION BY RANGE (day);
    CREATE TABLE app.visit_2020 PARTITION OF app.visit FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE INDEX visit_id ON app.visit (id);
    CREATE MATERIALIZED VIEW app.summary AS SELECT 1 AS one;
    CREATE TEMPORARY TABLE passing (a int);
    INSERT INTO app.person SELECT i, 'p' || i || '@example.org', i % 50, i % 2, '2020-05-06'
        FROM generate_series(1, 2000) i;
    INSERT INTO app.visit SELECT i, i, '2020-06-07', ARRAY['a', 'b c'] FROM generate_series(1, 500) i;
    SET DateStyle = 'German';
    ANALYZE;
"""


def read(dsn: str, *, taken_at_s: float = 1.0) -> Snapshot:
    with connect(dsn, read_only=True) as connection:
        return take_snapshot(connection, taken_at_s=taken_at_s, host=HOST)


def run(dsn: str, script: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script)


def app(name: str) -> TableName:
    return TableName(schema="app", name=name)


def index(snapshot: Snapshot, name: str) -> Index:
    return next(each for each in snapshot.indexes if each.name == name)


def of(limitations: tuple[Limitation, ...], subject: str) -> list[Limitation]:
    return [each for each in limitations if each.subject == subject]


@pytest.fixture
def shop_dsn(each_postgres_dsn: str) -> str:
    run(each_postgres_dsn, SCHEMA)
    return each_postgres_dsn


@pytest.fixture
def plain_role(shop_dsn: str) -> Iterator[str]:
    """A role without any grant, gone after the test."""
    name = f"plain {secrets.token_hex(4)}"
    run(shop_dsn, f'CREATE ROLE "{name}" LOGIN')
    yield name
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        role = sql.Identifier(name)
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_the_users_tables_are_read_and_nobody_elses(shop_dsn):
    snapshot = read(shop_dsn)

    assert ["person", "summary", "visit", "visit_2020"] == [each.name.name for each in snapshot.tables]
    assert ["visit"] == [each.name.name for each in snapshot.tables if each.is_partitioned]
    person = snapshot.table(app("person"))
    assert person is not None
    assert (2000, ("fillfactor=90",)) == (person.rows, person.options)
    assert person.size_bytes > 8192
    assert person.analyzed_ago_s is not None
    assert 0 <= person.analyzed_ago_s < 300
    assert ["id", "email", "age", "Odd Name", "seen"] == [each.name for each in person.columns]


def test_columns_carry_the_planners_statistics_as_text(shop_dsn):
    snapshot = read(shop_dsn)

    person, visit = snapshot.table(app("person")), snapshot.table(app("visit"))
    assert person is not None
    assert visit is not None
    age, email = person.column("age"), person.column("email")
    seen, tags = person.column("seen"), visit.column("tags")
    assert age is not None
    assert age.statistics is not None
    assert email is not None
    assert email.statistics is not None
    assert seen is not None
    assert seen.statistics is not None
    assert tags is not None
    assert tags.statistics is not None
    assert ("integer", False, 50) == (age.type_name, age.not_null, age.statistics.distinct)
    assert {str(each) for each in range(50)} == set(age.statistics.common_values)
    assert 1.0 == pytest.approx(sum(age.statistics.common_ratios))
    assert (True, -1.0, ()) == (email.not_null, email.statistics.distinct, email.statistics.common_values)
    assert len(email.statistics.histogram) > 50
    assert seen.statistics.common_values[0].startswith("2020-05-06")
    assert ('{a,"b c"}',) == tags.statistics.common_values


def test_indexes_are_read_down_to_direction_class_and_collation(shop_dsn):
    snapshot = read(shop_dsn)

    by_expression = index(snapshot, "by_expression")
    assert (
        IndexKey(
            text="lower(email)",
            is_expression=True,
            descending=True,
            nulls_first=False,
            operator_class="text_pattern_ops",
        ),
        IndexKey(text="age"),
    ) == by_expression.keys
    assert (("id",), "(age > 17)", "btree") == (
        by_expression.included,
        by_expression.predicate,
        by_expression.method,
    )
    assert (IndexKey(text="email", collation="C"), IndexKey(text="Odd Name", nulls_first=True)) == index(
        snapshot, "by_collation"
    ).keys
    by_trigram = index(snapshot, "by_trigram")
    assert ("gin", (IndexKey(text="email", operator_class="gin_trgm_ops"),)) == (
        by_trigram.method,
        by_trigram.keys,
    )


def test_an_index_tells_what_depends_on_it(shop_dsn):
    run(
        shop_dsn,
        "CREATE UNIQUE INDEX spare ON app.person (id); UPDATE pg_index SET indisvalid = false "
        "WHERE indexrelid = 'app.by_collation'::regclass; "
        "ALTER TABLE app.person REPLICA IDENTITY USING INDEX person_email_key",
    )
    snapshot = read(shop_dsn)

    facts = {
        name: (
            each.is_unique,
            each.is_primary,
            each.backs_constraint,
            each.is_valid,
            each.is_replica_identity,
        )
        for name in ("person_pkey", "person_email_key", "spare", "by_collation")
        for each in [index(snapshot, name)]
    }
    assert {
        "person_pkey": (True, True, True, True, False),
        "person_email_key": (True, False, True, True, True),
        "spare": (True, False, False, True, False),
        "by_collation": (False, False, False, False, False),
    } == facts


def test_a_partitioned_index_has_the_scans_and_the_size_of_its_parts(shop_dsn):
    run(
        shop_dsn,
        "SET enable_seqscan = off; SELECT * FROM app.visit WHERE id = 7; SELECT pg_stat_clear_snapshot()",
    )
    snapshot = read(shop_dsn)

    whole, part = index(snapshot, "visit_id"), index(snapshot, "visit_2020_id_idx")
    assert (1, 1) == (whole.scans, part.scans)
    assert (False, True) == (whole.is_attached, part.is_attached)
    assert whole.size_bytes == part.size_bytes > 0
    run(shop_dsn, f"DROP INDEX app.visit_id; {whole.definition}")
    assert 2 == len(
        [each for each in read(shop_dsn).indexes if each.columns == ("id",) and "visit" in each.name]
    )


def test_keys_between_tables_and_statistics_objects_are_read_once(shop_dsn):
    snapshot = read(shop_dsn)

    expected = ForeignKey(
        name="visit_person_id_fkey",
        table=app("visit"),
        columns=("person_id",),
        referenced=app("person"),
        referenced_columns=("id",),
    )
    assert (expected,) == snapshot.foreign_keys
    together = ExtendedStatistics(
        name="together", table=app("person"), columns=("age", "Odd Name"), kinds=("dependencies", "mcv")
    )
    assert (together,) == snapshot.extended_statistics


def test_settings_come_with_unit_limits_and_context(shop_dsn):
    snapshot = read(shop_dsn)

    work_mem, compression = snapshot.setting("work_mem"), snapshot.setting("wal_compression")
    assert work_mem is not None
    assert compression is not None
    assert ("4096", "kB", "user", "integer", 64.0) == (
        work_mem.value,
        work_mem.unit,
        work_mem.context,
        work_mem.kind,
        work_mem.minimum,
    )
    assert "off" in compression.choices


def test_settings_are_the_targets_own_not_those_of_perfloops_session(shop_dsn):
    run(
        shop_dsn,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = 7000', "
        "current_database()); EXECUTE format('ALTER DATABASE %I SET search_path = app', current_database()); "
        "END $$",
    )
    snapshot = read(shop_dsn)

    names = ("idle_in_transaction_session_timeout", "search_path", "DateStyle")
    found = [snapshot.setting(name) for name in names]
    assert [("7000", "database"), ("app", "database")] == [
        (each.value, each.source) for each in found[:2] if each
    ]
    assert "ISO, YMD" not in [each.value for each in found if each]
    assert [None, None] == [snapshot.setting(name) for name in ("statement_timeout", "lock_timeout")]


def test_the_fingerprint_says_what_the_build_can_do_whatever_is_switched_on(shop_dsn, each_postgres_binaries):
    with_jit = read(make_conninfo(shop_dsn, options="-c jit=on")).fingerprint
    without_jit = read(make_conninfo(shop_dsn, options="-c jit=off")).fingerprint

    assert with_jit == without_jit
    assert each_postgres_binaries.major == with_jit.major
    assert "pglz" in with_jit.wal_compressions
    assert {"on", "off"}.isdisjoint(with_jit.wal_compressions)
    assert (with_jit.major >= 18) == ("worker" in with_jit.io_methods)
    assert {"plpgsql", "pg_trgm"} <= set(with_jit.extensions)
    assert 8192 == with_jit.block_bytes


def test_activity_counts_the_others(shop_dsn):
    with psycopg.connect(shop_dsn) as waiting:
        waiting.execute("SELECT 1")
        activity = read(shop_dsn).activity

    assert activity.connections >= 1
    assert activity.idle_in_transaction >= 1
    assert activity.database_bytes > 1_000_000


def test_a_snapshot_survives_its_json(shop_dsn):
    snapshot = read(shop_dsn, taken_at_s=12.5)

    assert snapshot == from_json(to_json(snapshot), Snapshot)


def test_an_all_seeing_role_has_no_limitation(shop_dsn):
    run(shop_dsn, "SELECT count(*) FROM app.person")

    assert () == read(shop_dsn).limitations


def test_a_role_without_grants_still_gets_a_snapshot_and_the_commands_that_would_complete_it(
    shop_dsn, plain_role
):
    run(shop_dsn, "SELECT count(*) FROM app.person")
    dsn = make_conninfo(shop_dsn, user=plain_role)
    first = read(dsn)

    assert 4 == len(first.tables)
    assert index(first, "by_expression").scans >= 0
    subjects = {each.subject for each in first.limitations}
    assert {"pg_settings", "pg_stats", "pg_stat_statements"} <= subjects
    assert [] == [each for each in first.tables if any(column.statistics for column in each.columns)]
    for limitation in first.limitations:
        run(shop_dsn, limitation.remedy)
    second = read(dsn)
    assert () == second.limitations
    assert [True] == [bool(each.statistics) for each in second.tables[0].columns[:1]]


def test_row_level_security_is_told_apart_from_a_missing_grant(shop_dsn, plain_role):
    run(shop_dsn, f'GRANT pg_monitor, pg_read_all_data TO "{plain_role}"')
    run(shop_dsn, "ALTER TABLE app.person ENABLE ROW LEVEL SECURITY")
    (told,) = of(read(make_conninfo(shop_dsn, user=plain_role)).limitations, "pg_stats")

    assert "row-level security holds on app.person" in told.reason
    run(shop_dsn, told.remedy)
    assert [] == of(read(make_conninfo(shop_dsn, user=plain_role)).limitations, "pg_stats")


def test_a_probe_that_is_refused_leaves_the_others_alone(shop_dsn, plain_role):
    run(
        shop_dsn,
        f'GRANT pg_monitor TO "{plain_role}"; '
        "REVOKE SELECT ON pg_catalog.pg_stat_database, pg_catalog.pg_statistic_ext FROM PUBLIC",
    )
    snapshot = read(make_conninfo(shop_dsn, user=plain_role))

    refused = [each for each in snapshot.limitations if "permission denied" in each.reason]
    assert ["extended statistics", "pg_stat_database"] == sorted(each.subject for each in refused)
    assert 4 == len(snapshot.tables)
    assert snapshot.activity.database_bytes > 0


def test_a_hostile_search_path_changes_nothing(shop_dsn):
    run(
        shop_dsn,
        "CREATE SCHEMA evil; CREATE VIEW evil.pg_class AS SELECT 1 AS oid; "
        "CREATE FUNCTION evil.version() RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$",
    )
    snapshot = read(make_conninfo(shop_dsn, options="-c search_path=evil,pg_catalog"))

    assert snapshot.fingerprint.server_text.startswith("PostgreSQL")
    assert 4 == len(snapshot.tables)


def test_an_empty_database_makes_an_empty_snapshot(each_postgres_dsn):
    snapshot = read(each_postgres_dsn)

    assert ((), (), ()) == (snapshot.tables, snapshot.indexes, snapshot.foreign_keys)


def test_a_snapshot_leaves_the_session_as_it_was(shop_dsn):
    with connect(make_conninfo(shop_dsn, options="-c search_path=app"), read_only=True) as connection:
        take_snapshot(connection, taken_at_s=1.0, host=HOST)

        assert ("app",) == connection.execute("SHOW search_path").fetchone()
        assert psycopg.pq.TransactionStatus.IDLE == connection.info.transaction_status


def test_a_server_that_goes_away_is_no_limitation(shop_dsn):
    with connect(shop_dsn, read_only=True) as connection:
        run(shop_dsn, f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        with pytest.raises(TargetUnreachable):
            take_snapshot(connection, taken_at_s=1.0, host=HOST)
