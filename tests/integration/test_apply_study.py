"""Apply as a whole: all changes or none, and back again to exactly what was there."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.store import Journal
from perfloop.errors import (
    ChangeFailed,
    ChangeForbidden,
    InvalidInput,
    MissingRights,
    PerfloopError,
    StudyNotFound,
)
from perfloop.model.advice import AlterSetting, Change, CreateIndex, CreateStatistics, DropIndex, SettingScope
from perfloop.model.outcome import ActState, Study
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.acts import LockPolicy
from perfloop.tune.apply import apply_study
from perfloop.tune.preflight import ApplyPolicy
from perfloop.tune.undo import undo_change, undo_study

ORDERS = TableName(schema="public", name="orders")
CUSTOMER = CreateIndex(table=ORDERS, name="orders_customer", keys=(IndexKey(text="customer"),))
DROP_STATUS = DropIndex(
    table=ORDERS,
    name="orders_status",
    definition="CREATE INDEX orders_status ON public.orders USING btree (status DESC) "
    "WHERE (status <> 'done'::text)",
)
WAL_SIZE = AlterSetting(name="max_wal_size", value="2GB", scope=SettingScope.SYSTEM)
WORK_MEM = AlterSetting(name="work_mem", value="64MB")
TOGETHER = CreateStatistics(table=ORDERS, name="orders_together", columns=("customer", "status"))
IMPOSSIBLE = CreateIndex(table=ORDERS, name="orders_no", keys=(IndexKey(text="no_such_column"),))
ALL: tuple[Change, ...] = (CUSTOMER, DROP_STATUS, WAL_SIZE, WORK_MEM, TOGETHER)
HASTY = ApplyPolicy(locks=LockPolicy(wait_s=0.2, concurrent_wait_s=0.2, attempts=1, pause_s=0.01))

StudyOf = Callable[..., Study]


def quiet(line: str) -> None:
    """A report that nobody reads."""


def test_a_study_is_applied_and_undone_without_a_trace(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    earlier = act_target.state()
    study = study_of(*ALL)

    batch = apply_study(study, act_target.connect, journal, report=quiet)
    undone = undo_study(study.study_id, act_target.connect, journal, report=quiet)

    assert ActState.APPLIED is batch.state
    assert len(ALL) == len(undone)
    assert [ActState.UNDONE] * len(ALL) == [act.state for act in journal.acts()]
    assert earlier == act_target.state()
    assert () == journal.unfinished()


def test_a_setting_of_the_database_reaches_new_sessions(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    apply_study(study_of(WORK_MEM), act_target.connect, journal, report=quiet)

    with act_target.connect() as connection:
        assert ("64MB",) == connection.execute("SHOW work_mem").fetchone()
    assert ["shop"] == [act.change.scope_name for act in journal.acts()]


def test_a_failing_change_takes_the_ones_before_it_along(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    earlier = act_target.state()

    with pytest.raises(ChangeFailed, match=r"no_such_column.*the target is as it was before"):
        apply_study(study_of(*ALL, IMPOSSIBLE), act_target.connect, journal, report=quiet)

    assert earlier == act_target.state()
    assert [ActState.UNDONE] == [batch.state for batch in journal.batches()]


def test_ctrl_c_undoes_what_was_done_before_it_ends_the_program(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    earlier = act_target.state()
    with act_target.connect() as blocker, act_target.connect() as onlooker:
        blocker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1")

        def press_ctrl_c() -> None:
            wait_for_backend(onlooker, "CREATE INDEX CONCURRENTLY")
            os.kill(os.getpid(), signal.SIGINT)

        pressing = threading.Thread(target=press_ctrl_c)
        pressing.start()

        with pytest.raises(KeyboardInterrupt):
            apply_study(study_of(DROP_STATUS, WAL_SIZE, CUSTOMER), act_target.connect, journal, report=quiet)
        pressing.join()

    assert earlier == act_target.state()
    assert [ActState.UNDONE] == [batch.state for batch in journal.batches()]
    assert [WAL_SIZE, CUSTOMER] == [act.change for act in journal.acts()]


def wait_for_backend(connection: psycopg.Connection, statement: str) -> int:
    """The backend that waits in such a statement, once there is one."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE starts_with(query, %s) AND wait_event_type = 'Lock'",
            [statement],
        ).fetchone()
        if row:
            return int(row[0])
        time.sleep(0.02)
    raise AssertionError(f"no backend came to wait in {statement}")


def test_a_lost_connection_is_opened_again_to_undo(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    earlier = act_target.state()

    def end_backend(connection: psycopg.Connection) -> None:
        connection.execute(
            "SELECT pg_terminate_backend(%s)", [wait_for_backend(connection, "CREATE INDEX CONCURRENTLY")]
        )

    with act_target.connect() as blocker, act_target.connect() as onlooker:
        blocker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1")
        ending = threading.Thread(target=end_backend, args=(onlooker,))
        ending.start()

        with pytest.raises(ChangeFailed, match="the target is as it was before"):
            apply_study(study_of(WAL_SIZE, CUSTOMER), act_target.connect, journal, report=quiet)
        ending.join()

    assert earlier == act_target.state()


def test_two_applies_never_interleave(act_target: Any, journal: Journal, study_of: StudyOf) -> None:
    study = study_of(WAL_SIZE, CUSTOMER)
    told: list[str] = []

    def second(line: str) -> None:
        if "max_wal_size" in line and not told:
            told.append(line)
            with Journal(journal.path.with_name("other.sqlite3")) as other:
                apply_study(study, act_target.connect, other, report=quiet)

    with pytest.raises(ChangeFailed, match="another perfloop acts on this database"):
        apply_study(study, act_target.connect, journal, report=second)

    assert ["applied"] == [line.partition(":")[0] for line in told]


@pytest.mark.parametrize(
    ("change", "kind", "fact"),
    [
        (
            AlterSetting(name="fsync", value="off", scope=SettingScope.SYSTEM),
            ChangeForbidden,
            "never touched",
        ),
        (AlterSetting(name="work_mem", value="1kB"), InvalidInput, "minimum 64 kB"),
        (AlterSetting(name="max_wal_size", value="2GB"), InvalidInput, "scope system"),
        (
            AlterSetting(name="wal_compression", value="brotli", scope=SettingScope.SYSTEM),
            InvalidInput,
            "is not one of",
        ),
        (
            AlterSetting(name="shared_buffers", value="48MB", scope=SettingScope.SYSTEM),
            ChangeForbidden,
            "only after a restart",
        ),
        (
            CreateIndex(table=ORDERS, name="orders_status", keys=(IndexKey(text="id"),)),
            ChangeFailed,
            "exists already",
        ),
        (
            CreateIndex(table=TableName(schema="public", name="nope"), name="x", keys=(IndexKey(text="id"),)),
            ChangeFailed,
            "there is no table nope",
        ),
    ],
)
def test_what_the_target_would_not_take_is_refused_before_the_first_act(
    act_target: Any,
    journal: Journal,
    study_of: StudyOf,
    change: Change,
    kind: type[PerfloopError],
    fact: str,
) -> None:
    earlier = act_target.state()

    with pytest.raises(kind, match=fact):
        apply_study(study_of(CUSTOMER, change), act_target.connect, journal, report=quiet)

    assert earlier == act_target.state()
    assert () == journal.batches()


def test_a_verdict_is_not_carried_to_another_major_version(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(CUSTOMER)
    other = msgspec.structs.replace(study.fingerprint, server_version=130_004)
    study = msgspec.structs.replace(study, lab_fingerprint=other)

    with pytest.raises(ChangeFailed, match="the verdicts are of PostgreSQL 13"):
        apply_study(study, act_target.connect, journal, report=quiet)


def test_a_verdict_on_jit_is_not_carried_to_another_build(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(AlterSetting(name="jit", value="off"))
    has_jit = not study.fingerprint.jit_available
    other = msgspec.structs.replace(study.fingerprint, jit_available=has_jit)
    study = msgspec.structs.replace(study, lab_fingerprint=other)

    with pytest.raises(ChangeForbidden, match="tried on a build that differs"):
        apply_study(study, act_target.connect, journal, report=quiet)


def test_a_broken_line_in_a_configuration_file_is_told_before_a_reload_ignores_everything(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    broken = act_target.data_dir / "postgresql.conf"
    text = broken.read_text()
    broken.write_text(text + "no_such_setting = 1\n")
    try:
        with pytest.raises(ChangeFailed, match=r"postgresql\.conf line .* until this is mended"):
            apply_study(study_of(WAL_SIZE), act_target.connect, journal, report=quiet)
    finally:
        broken.write_text(text)


def test_a_role_without_rights_is_told_what_to_grant(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(CUSTOMER)
    with act_target.connect() as connection:
        connection.execute("CREATE ROLE guest LOGIN; GRANT pg_read_all_settings TO guest")
        try:
            with pytest.raises(MissingRights, match="needs the owner of orders"):
                apply_study(
                    study,
                    lambda: psycopg.connect(make_conninfo(act_target.dsn, user="guest"), autocommit=True),
                    journal,
                    report=quiet,
                )
        finally:
            connection.execute("DROP ROLE guest")


def test_a_role_that_was_granted_the_parameter_needs_no_superuser(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    earlier = act_target.state()
    study = study_of(WAL_SIZE)
    dsn = make_conninfo(act_target.dsn, user="tuner")
    with act_target.connect() as connection:
        connection.execute(
            "CREATE ROLE tuner LOGIN; GRANT ALTER SYSTEM ON PARAMETER max_wal_size TO tuner;"
            "GRANT SELECT ON pg_file_settings TO tuner; GRANT pg_read_all_settings TO tuner;"
            "GRANT EXECUTE ON FUNCTION pg_show_all_file_settings(), pg_reload_conf() TO tuner"
        )
        try:
            opener = lambda: psycopg.connect(dsn, autocommit=True)  # noqa: E731  # used twice, one line
            apply_study(study, opener, journal, report=quiet)
            during = act_target.lines()
            undo_study(study.study_id, opener, journal, report=quiet)
        finally:
            connection.execute("DROP OWNED BY tuner; DROP ROLE tuner")

    assert ["max_wal_size = '2GB'"] == during
    assert earlier == act_target.state()


def test_undo_refuses_what_somebody_has_changed_since_unless_it_is_forced(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    earlier = act_target.state()
    study = study_of(CUSTOMER, WORK_MEM)
    apply_study(study, act_target.connect, journal, report=quiet)
    with act_target.connect() as connection:
        connection.execute("ALTER DATABASE shop SET work_mem = '7MB'")

    with pytest.raises(ChangeFailed, match="somebody has changed it since, it is now 7MB"):
        undo_study(study.study_id, act_target.connect, journal, report=quiet)
    states = [act.state for act in journal.acts()]
    undo_study(study.study_id, act_target.connect, journal, report=quiet, force=True)

    assert [ActState.APPLIED, ActState.APPLIED] == states
    assert earlier == act_target.state()


def test_one_change_can_be_undone_alone(act_target: Any, journal: Journal, study_of: StudyOf) -> None:
    study = study_of(CUSTOMER, WORK_MEM)
    batch = apply_study(study, act_target.connect, journal, report=quiet)

    undo_change(batch.acts[0].act_id, act_target.connect, journal, report=quiet)

    assert [ActState.UNDONE, ActState.APPLIED] == [act.state for act in journal.acts()]
    assert () == journal.unfinished()
    with pytest.raises(StudyNotFound, match="no change"):
        undo_change(batch.acts[0].act_id, act_target.connect, journal, report=quiet)


def test_a_change_whose_table_was_dropped_counts_as_undone(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(DROP_STATUS)
    apply_study(study, act_target.connect, journal, report=quiet)
    with act_target.connect() as connection:
        connection.execute("DROP TABLE orders")

    undo_study(study.study_id, act_target.connect, journal, report=quiet)

    assert [ActState.UNDONE] == [act.state for act in journal.acts()]


def test_undo_that_fails_says_so_and_leaves_the_rest_to_recover(
    act_target: Any, journal: Journal, study_of: StudyOf
) -> None:
    study = study_of(CUSTOMER, IMPOSSIBLE)
    with act_target.connect() as reader:

        def read_along(line: str) -> None:
            if line.startswith("applied"):
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM orders")

        with pytest.raises(ChangeFailed, match=r"undoing failed too.*run `perfloop recover`"):
            apply_study(study, act_target.connect, journal, report=read_along, policy=HASTY)

    assert [ActState.UNDOING] == [batch.state for batch in journal.unfinished()]
    with pytest.raises(ChangeFailed, match="run `perfloop recover` first"):
        apply_study(study, act_target.connect, journal, report=quiet)


def test_a_password_appears_neither_in_the_journal_nor_in_what_is_told(
    act_target: Any, journal: Journal, study_of: StudyOf, tmp_path: Path
) -> None:
    secret = "h0rse-battery"
    study = study_of(WORK_MEM, IMPOSSIBLE)
    told: list[str] = []

    with pytest.raises(ChangeFailed) as failure:
        apply_study(
            study,
            lambda: psycopg.connect(act_target.dsn, password=secret, autocommit=True),
            journal,
            report=told.append,
        )

    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"work_mem" in written
    assert secret.encode() not in written
    assert secret not in "".join([*told, str(failure.value)])
