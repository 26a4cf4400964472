"""An index that needs an extension, applied and undone, by a superuser and by a plain owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.store import BackendMark, Journal
from perfloop.errors import MissingRights
from perfloop.model.advice import CreateExtension, CreateIndex
from perfloop.model.outcome import ActState, Study
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.acts import act
from perfloop.tune.advisor.naming import new_index
from perfloop.tune.apply import apply_study
from perfloop.tune.recover import RecoveryOutcome, recover
from perfloop.tune.states import read_before
from perfloop.tune.undo import undo_study

TRIGRAMS = new_index(
    TableName(schema="public", name="orders"),
    (IndexKey(text="status", operator_class="gin_trgm_ops"),),
    method="gin",
    requires_extension="pg_trgm",
)
INDEXES_SQL = "SELECT indexname FROM pg_indexes WHERE tablename = 'orders' ORDER BY 1"
BEFORE = [("orders_pkey",), ("orders_status",)]

StudyOf = Callable[..., Study]


def quiet(line: str) -> None:
    """A report that nobody reads."""


def has_trigrams(target: Any) -> bool:
    with target.connect() as connection:
        return bool(connection.execute("SELECT FROM pg_extension WHERE extname = 'pg_trgm'").fetchall())


def indexes(target: Any) -> list[tuple[Any, ...]]:
    with target.connect() as connection:
        return connection.execute(INDEXES_SQL).fetchall()


@pytest.fixture
def owner_dsn(act_target: Any) -> Iterator[str]:
    """Of a role that owns the table, and nothing else."""
    with act_target.connect() as connection:
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute("ALTER TABLE orders OWNER TO plain")
        connection.execute("GRANT CREATE ON SCHEMA public TO plain")
        connection.execute("GRANT pg_monitor TO plain")
        yield make_conninfo(act_target.dsn, user="plain")
        connection.execute("DROP OWNED BY plain CASCADE")
        connection.execute("DROP ROLE plain")


def test_the_extension_comes_with_the_index_and_goes_with_it(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    earlier = act_target.state()
    study = study_of(TRIGRAMS)

    batch = apply_study(study, act_target.connect, journal, report=quiet)
    titles = [each.change.title for each in batch.acts]
    there = has_trigrams(act_target)
    undo_study(study.study_id, act_target.connect, journal, report=quiet)

    assert ["create extension pg_trgm", TRIGRAMS.title] == titles
    assert there
    assert not has_trigrams(act_target)
    assert earlier == act_target.state()


def test_an_extension_that_was_there_before_stays(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    """In a schema that no search_path names, as hosting services have it."""
    with act_target.connect() as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("CREATE EXTENSION pg_trgm SCHEMA extensions")
    study = study_of(TRIGRAMS)

    batch = apply_study(study, act_target.connect, journal, report=quiet)
    undo_study(study.study_id, act_target.connect, journal, report=quiet)

    assert [TRIGRAMS] == [each.change for each in batch.acts]
    assert has_trigrams(act_target)
    assert BEFORE == indexes(act_target)


def test_an_extension_that_others_use_by_now_stays_and_that_is_told(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(TRIGRAMS)
    lines: list[str] = []
    apply_study(study, act_target.connect, journal, report=quiet)
    with act_target.connect() as connection:
        connection.execute("CREATE TABLE other (t text)")
        connection.execute("CREATE INDEX ON other USING gin (t gin_trgm_ops)")

    undo_study(study.study_id, act_target.connect, journal, report=lines.append)

    assert "undone: create extension pg_trgm (it stays: objects that others have made by now use it)" in lines
    assert has_trigrams(act_target)
    assert BEFORE == indexes(act_target)


def test_a_plain_owner_that_may_create_in_the_database_creates_a_trusted_extension(
    act_target: Any, owner_dsn: str, journal: Journal, study_of: StudyOf
) -> None:
    with act_target.connect() as connection:
        connection.execute("GRANT CREATE ON DATABASE shop TO plain")
    study = study_of(TRIGRAMS)

    def connect() -> psycopg.Connection:
        return psycopg.connect(owner_dsn, autocommit=True)

    apply_study(study, connect, journal, report=quiet)
    there = has_trigrams(act_target)
    undo_study(study.study_id, connect, journal, report=quiet)

    assert there
    assert not has_trigrams(act_target)
    assert BEFORE == indexes(act_target)


def test_a_plain_owner_of_the_table_is_told_what_a_superuser_has_to_run(
    act_target: Any, owner_dsn: str, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(TRIGRAMS)

    with pytest.raises(MissingRights) as refused:
        apply_study(study, lambda: psycopg.connect(owner_dsn, autocommit=True), journal, report=quiet)

    assert (
        "this role may not create extension pg_trgm; let a superuser run in database shop: "
        "CREATE EXTENSION pg_trgm; or, as it is trusted: "
        'GRANT CREATE ON DATABASE "shop" TO "plain";' == str(refused.value)
    )
    assert [] == list(journal.acts())


def test_once_the_superuser_has_run_it_the_plain_owner_applies(
    act_target: Any, owner_dsn: str, journal: Journal, study_of: StudyOf
) -> None:
    with act_target.connect() as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
    study = study_of(TRIGRAMS)

    def connect() -> psycopg.Connection:
        return psycopg.connect(owner_dsn, autocommit=True)

    batch = apply_study(study, connect, journal, report=quiet)

    assert ActState.APPLIED is batch.state
    assert (TRIGRAMS.name,) in indexes(act_target)


def test_an_apply_that_was_killed_before_the_index_is_undone_with_its_extension(
    act_target: Any, journal: Journal
) -> None:
    extension = CreateExtension(name="pg_trgm")
    gone = BackendMark(process_id=1, started="2026-01-01 00:00:00.000000")
    batch_id = journal.begin("20261121-4f2c", act_target.dsn, (extension, TRIGRAMS), gone)
    with act_target.connect() as connection:
        journal.intend(batch_id, extension, read_before(connection, extension))
        act(connection, extension, concurrently=True)

    (told,) = recover(journal, lambda dsn: psycopg.connect(dsn, autocommit=True), report=quiet)

    assert RecoveryOutcome.UNDONE is told.outcome
    assert not has_trigrams(act_target)


def test_an_index_on_an_expression_has_statistics_from_the_start(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    key = IndexKey(text="lower(status)", is_expression=True)
    index = CreateIndex(table=TRIGRAMS.table, name="orders_lower", keys=(key,))

    apply_study(study_of(index), act_target.connect, journal, report=quiet)
    with act_target.connect() as connection:
        row = connection.execute("SELECT count(*) FROM pg_stats WHERE tablename = 'orders_lower'").fetchone()

    assert (1,) == row
