"""An index of a partitioned table: thought of, tried, applied part by part, undone, and recovered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.store import BackendMark, Journal
from perfloop.model.advice import CreateIndex
from perfloop.model.outcome import ActState, Study
from perfloop.model.snapshot import Host
from perfloop.model.target import IndexKey, TableName
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.acts import act, undo
from perfloop.tune.advisor.advice import propose
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.apply import apply_study
from perfloop.tune.partitioned import build_steps
from perfloop.tune.recover import RecoveryOutcome, recover
from perfloop.tune.states import read_before, standing
from perfloop.tune.undo import undo_study

HOST = Host(cpus=2, memory_bytes=2**32, available_bytes=2**31, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0)
EVENTS = TableName(schema="public", name="events")
BY_OWNER = CreateIndex(table=EVENTS, name="events_owner", keys=(IndexKey(text="owner"),))
SCHEMA = """
CREATE TABLE events (id bigint, owner integer, day integer, note text) PARTITION BY RANGE (day);
CREATE TABLE events_a PARTITION OF events FOR VALUES FROM (0) TO (10);
CREATE TABLE events_b PARTITION OF events FOR VALUES FROM (10) TO (20);
CREATE TABLE events_c PARTITION OF events FOR VALUES FROM (20) TO (30);
CREATE TABLE events_d PARTITION OF events FOR VALUES FROM (30) TO (40) PARTITION BY LIST (owner);
CREATE TABLE events_rest PARTITION OF events_d DEFAULT;
INSERT INTO events SELECT i, i % 3000, i % 40, 'note ' || i FROM generate_series(1, 40000) AS i;
ANALYZE events;
"""
INDEXES = """SELECT x.indexrelid::regclass::text, x.indisvalid
             FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
             WHERE c.relname LIKE 'events%' ORDER BY 1"""
GONE = BackendMark(process_id=1, started="2026-01-01 00:00:00.000000")

StudyOf = Callable[..., Study]


def quiet(line: str) -> None:
    """A report that nobody reads."""


@pytest.fixture
def target(act_target: Any) -> Any:
    with act_target.connect() as connection:
        connection.execute(SCHEMA)
    return act_target


def indexes(target: Any) -> list[tuple[Any, ...]]:
    with target.connect() as connection:
        return connection.execute(INDEXES).fetchall()


def operation(text: str) -> Operation:
    statement = Statement(query_id=text, text=text, kind=StatementKind.READ, name="read")
    return Operation(statement=statement, calls_share=0.5, instances=(text,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT note FROM events WHERE owner = 17", ["create index on events (owner)"]),
        ("SELECT note FROM events WHERE owner = 17 AND day < 5", ["create index on events (owner, day)"]),
        ("SELECT note FROM events_b WHERE id = 17", ["create index on events (id)"]),
        ("SELECT count(*) FROM events", []),
    ],
)
def test_a_statement_on_partitions_gets_an_index_of_the_whole_table(
    each_postgres_dsn: str, text: str, expected: list[str]
) -> None:
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        snapshot = take_snapshot(connection, taken_at_s=0.0, host=HOST)
        with open_what_if(connection, snapshot.tables) as what_if:
            workload = Workload(origin="test", operations=(operation(text),))
            advice = propose(snapshot, (), workload, what_if)
        left = connection.execute(INDEXES).fetchall()
    titles = [each.change.title for each in advice.proposals if isinstance(each.change, CreateIndex)]

    assert expected == titles[:1]
    assert [] == left


def test_a_lab_builds_it_at_once_and_takes_it_back(target: Any) -> None:
    with target.connect() as connection:
        act(connection, BY_OWNER, concurrently=False)
        plan = str(connection.execute("EXPLAIN SELECT note FROM events WHERE owner = 17").fetchall())
        undo(connection, BY_OWNER, None, concurrently=False)

    assert 4 == plan.count("Index Scan")
    assert [] == indexes(target)


def test_apply_builds_it_partition_by_partition_and_undo_leaves_nothing(
    target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(BY_OWNER)

    batch = apply_study(study, target.connect, journal, report=quiet)
    there = indexes(target)
    undo_study(study.study_id, target.connect, journal, report=quiet)

    assert ActState.APPLIED is batch.state
    assert 6 == len(there)
    assert all(is_valid for _, is_valid in there)
    assert [] == indexes(target)


def test_a_partition_that_comes_later_has_the_index_and_undo_takes_it_too(
    target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(BY_OWNER)
    apply_study(study, target.connect, journal, report=quiet)
    with target.connect() as connection:
        connection.execute("CREATE TABLE events_e PARTITION OF events FOR VALUES FROM (40) TO (50)")

    undo_study(study.study_id, target.connect, journal, report=quiet)

    assert [] == indexes(target)


@pytest.mark.parametrize("cut_after", range(12))
def test_an_apply_killed_at_any_step_is_finished_or_undone(
    target: Any, journal: Journal, cut_after: int
) -> None:
    """All steps: the parent's index, three partitions, a sub-partitioned one with its own, each attached."""
    batch_id = journal.begin("20261121-4f2c", target.dsn, (BY_OWNER,), GONE)
    with target.connect() as connection:
        journal.intend(batch_id, BY_OWNER, read_before(connection, BY_OWNER))
        for statement in itertools.islice(build_steps(connection, BY_OWNER), cut_after):
            connection.execute(statement)
        before = standing(connection, BY_OWNER)

    (told,) = recover(journal, lambda dsn: psycopg.connect(dsn, autocommit=True), report=quiet)

    is_whole = cut_after == 11
    assert (before.value == "in effect") is is_whole
    assert (RecoveryOutcome.FINISHED if is_whole else RecoveryOutcome.UNDONE) is told.outcome
    assert (6 if is_whole else 0) == len(indexes(target))
    assert () == journal.unfinished()


def test_what_an_invalid_build_of_one_partition_left_is_removed_too(target: Any, journal: Journal) -> None:
    batch_id = journal.begin("20261121-4f2c", target.dsn, (BY_OWNER,), GONE)
    with target.connect() as connection:
        journal.intend(batch_id, BY_OWNER, read_before(connection, BY_OWNER))
        for statement in itertools.islice(build_steps(connection, BY_OWNER), 2):
            connection.execute(statement)
        connection.execute(
            "UPDATE pg_index SET indisvalid = false, indisready = false WHERE indrelid = 'events_a'::regclass"
        )

    (told,) = recover(journal, lambda dsn: psycopg.connect(dsn, autocommit=True), report=quiet)

    assert RecoveryOutcome.UNDONE is told.outcome
    assert [] == indexes(target)
