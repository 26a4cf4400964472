"""What a killed apply or undo left is finished or undone, and recovery says which."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import psutil
import psycopg

from perfloop.adapters.store import BackendMark, Journal
from perfloop.errors import TargetUnreachable
from perfloop.model.advice import AlterSetting, AnalyzeTable, Change, CreateIndex, DropIndex, SettingScope
from perfloop.model.outcome import ActState, Study, StudyState
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.acts import act
from perfloop.tune.apply import apply_study
from perfloop.tune.recover import Recovery, RecoveryOutcome, recover
from perfloop.tune.states import read_before

ORDERS = TableName(schema="public", name="orders")
CUSTOMER = CreateIndex(table=ORDERS, name="orders_customer", keys=(IndexKey(text="customer"),))
DROP_STATUS = DropIndex(
    table=ORDERS,
    name="orders_status",
    definition="CREATE INDEX orders_status ON public.orders USING btree (status DESC) "
    "WHERE (status <> 'done'::text)",
)
WAL_SIZE = AlterSetting(name="max_wal_size", value="2GB", scope=SettingScope.SYSTEM)
GONE = BackendMark(process_id=1, started="2026-01-01 00:00:00.000000")


def quiet(line: str) -> None:
    """A report that nobody reads."""


def cut_apply(
    target: Any, journal: Journal, done: tuple[Change, ...], *, intended: tuple[Change, ...] = ()
) -> None:
    """Leave the journal and the target as an apply leaves them that was killed after `done`."""
    batch_id = journal.begin("20261121-4f2c", target.dsn, (*done, *intended), GONE)
    with target.connect() as connection:
        for change in done:
            act_id = journal.intend(batch_id, change, read_before(connection, change))
            act(connection, change, concurrently=True)
            if change is not done[-1]:
                journal.mark(act_id, ActState.APPLIED)


def recovered(target: Any, journal: Journal) -> tuple[Recovery, ...]:
    return recover(journal, lambda dsn: psycopg.connect(dsn, autocommit=True), report=quiet)


def test_a_batch_that_is_wholly_in_effect_is_finished(act_target: Any, journal: Journal) -> None:
    cut_apply(act_target, journal, (CUSTOMER, WAL_SIZE))
    state = act_target.state()

    (told,) = recovered(act_target, journal)

    assert RecoveryOutcome.FINISHED is told.outcome
    assert "study 20261121-4f2c: all 2 changes are in effect; apply is finished" == told.sentence
    assert state == act_target.state()
    assert [ActState.APPLIED, ActState.APPLIED] == [each.state for each in journal.acts()]


def test_a_batch_that_lacks_a_change_is_undone_as_a_whole(act_target: Any, journal: Journal) -> None:
    earlier = act_target.state()
    cut_apply(act_target, journal, (DROP_STATUS, WAL_SIZE), intended=(CUSTOMER,))

    (told,) = recovered(act_target, journal)

    assert RecoveryOutcome.UNDONE is told.outcome
    assert "2 of 3 changes had been begun; all of them are undone" in told.sentence
    assert earlier == act_target.state()
    assert () == recovered(act_target, journal)


def test_an_analyze_that_may_not_have_ended_is_not_taken_for_done(act_target: Any, journal: Journal) -> None:
    cut_apply(act_target, journal, (CUSTOMER, AnalyzeTable(table=ORDERS)))

    (told,) = recovered(act_target, journal)

    assert RecoveryOutcome.UNDONE is told.outcome


def test_a_line_that_was_written_and_not_loaded_is_taken_back(act_target: Any, journal: Journal) -> None:
    earlier = act_target.state()
    cut_apply(act_target, journal, (), intended=(WAL_SIZE,))
    (batch,) = journal.unfinished()
    journal.intend(batch.batch_id, WAL_SIZE, None)
    with act_target.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_wal_size = '2GB'")

    (told,) = recovered(act_target, journal)

    assert RecoveryOutcome.UNDONE is told.outcome
    assert earlier == act_target.state()


def test_an_undo_that_wrote_its_line_and_did_not_load_it_is_finished(
    act_target: Any, journal: Journal
) -> None:
    earlier = act_target.state()
    cut_apply(act_target, journal, (WAL_SIZE,))
    recovered(act_target, journal)
    (batch,) = journal.batches()
    journal.mark_batch(batch.batch_id, ActState.UNDOING)
    journal.mark(batch.acts[0].act_id, ActState.UNDOING)
    with act_target.connect() as connection:
        connection.execute("ALTER SYSTEM RESET max_wal_size")

    (told,) = recovered(act_target, journal)

    assert "its undo was cut off and is finished" in told.sentence
    assert earlier == act_target.state()


def test_the_undo_of_one_change_is_finished_and_the_others_stay(
    act_target: Any, journal: Journal, study_of: Callable[..., Study]
) -> None:
    batch = apply_study(study_of(CUSTOMER, WAL_SIZE), act_target.connect, journal, report=quiet)
    journal.mark(batch.acts[0].act_id, ActState.UNDOING)

    (told,) = recovered(act_target, journal)

    assert "the rest stays" in told.sentence
    assert ["max_wal_size = '2GB'"] == act_target.lines()
    assert [ActState.UNDONE, ActState.APPLIED] == [each.state for each in journal.acts()]


def test_the_orphaned_backend_is_ended_before_anything_is_decided(act_target: Any, journal: Journal) -> None:
    earlier = act_target.state()
    with act_target.connect() as blocker, act_target.connect() as orphan, act_target.connect() as onlooker:
        blocker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1")
        row = orphan.execute(
            "SELECT pid, to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') "
            "FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        assert row is not None
        mark = BackendMark(process_id=row[0], started=row[1])
        batch_id = journal.begin("20261121-4f2c", act_target.dsn, (CUSTOMER,), mark)
        journal.intend(batch_id, CUSTOMER, None)
        building = threading.Thread(target=build_in_vain, args=(orphan,))
        building.start()
        wait_until_building(onlooker)

        (told,) = recovered(act_target, journal)
        building.join()

    assert RecoveryOutcome.UNDONE is told.outcome
    assert earlier == act_target.state()


def build_in_vain(connection: psycopg.Connection) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        connection.execute("CREATE INDEX CONCURRENTLY orders_customer ON orders (customer)")


def wait_until_building(connection: psycopg.Connection) -> None:
    deadline_s = time.monotonic() + 20
    query = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('orders_customer') AND indisready"
    while connection.execute(query).fetchone() != (1,):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_an_apply_that_still_runs_is_left_alone(act_target: Any, journal: Journal) -> None:
    cut_apply(act_target, journal, (WAL_SIZE,))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        give_batch_to(journal, other.pid)
        (told,) = recovered(act_target, journal)
        other.communicate(b"\n")

    assert RecoveryOutcome.LEFT is told.outcome
    assert f"process {other.pid} is still at work on it" in told.sentence
    assert RecoveryOutcome.FINISHED is recovered(act_target, journal)[0].outcome


def give_batch_to(journal: Journal, process_id: int) -> None:
    with contextlib.closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute(
            "UPDATE batches SET process_id = ?, process_started_s = ?",
            [process_id, psutil.Process(process_id).create_time()],
        )


def test_a_target_that_cannot_be_reached_is_told_and_tried_again_later(
    act_target: Any, journal: Journal
) -> None:
    cut_apply(act_target, journal, (WAL_SIZE,))

    def refuse(dsn: str) -> psycopg.Connection:
        raise TargetUnreachable("nothing answers there; start the server")

    (told,) = recover(journal, refuse, report=quiet)

    assert "study 20261121-4f2c: not recovered: nothing answers there; start the server" == told.sentence
    assert RecoveryOutcome.FINISHED is recovered(act_target, journal)[0].outcome


def test_what_somebody_has_changed_since_is_left_unless_forced(act_target: Any, journal: Journal) -> None:
    earlier = act_target.state()
    cut_apply(act_target, journal, (WAL_SIZE,), intended=(CUSTOMER,))
    with act_target.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_wal_size = '3GB'")

    (told,) = recovered(act_target, journal)
    (forced,) = recover(journal, lambda dsn: psycopg.connect(dsn, autocommit=True), report=quiet, force=True)

    assert (RecoveryOutcome.LEFT, RecoveryOutcome.UNDONE) == (told.outcome, forced.outcome)
    assert "somebody has changed it since, it is now 3GB" in told.sentence
    assert earlier == act_target.state()


def test_a_study_whose_process_is_gone_is_marked_interrupted(
    journal: Journal, act_target: Any, study_of: Callable[..., Study]
) -> None:
    running = msgspec.structs.replace(study_of(), state=StudyState.RUNNING)
    journal.save_study(running)
    own = recovered(act_target, journal), journal.study("latest").state
    with contextlib.closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE studies SET process_started_s = 0 WHERE process_id = ?", [os.getpid()])

    recovered(act_target, journal)

    assert ((), StudyState.RUNNING) == own
    assert StudyState.INTERRUPTED is journal.study("latest").state
