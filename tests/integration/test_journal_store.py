"""The journal on disk: what is written stays, what may not be written is refused, damage is told."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import psutil
import pytest

from perfloop.adapters.store import SCHEMA_VERSION, BackendMark, Journal, ProcessMark, journal_path
from perfloop.errors import BaselineNotFound, InvalidInput, JournalDamaged, StudyNotFound
from perfloop.model.advice import AlterSetting, Change, CreateIndex
from perfloop.model.baseline import Baseline, BaselinePlan, BaselineTable
from perfloop.model.outcome import ActState, Study, StudyState
from perfloop.model.target import Fingerprint, IndexKey, TableName

GOLDEN = Path(__file__).parent / "data" / "journal_v1.sql"
BACKEND = BackendMark(process_id=77, started="2026-11-21 07:00:00.000001")
CHANGES: tuple[Change, ...] = (
    CreateIndex(table=TableName(schema="public", name="orders"), name="by_day", keys=(IndexKey(text="day"),)),
    AlterSetting(name="work_mem", value="64MB", scope_name="shop"),
)
STUDY = Study(
    study_id="20261121-4f2c",
    target="postgresql://shop@db:5432/shop",
    started_at_s=1_795_247_774.0,
    state=StudyState.FINISHED,
    seed=7,
    fingerprint=Fingerprint(
        server_version=150018,
        server_text="PostgreSQL 15.18",
        block_bytes=8192,
        data_checksums=False,
        jit_available=True,
        wal_compressions=("pglz",),
        io_methods=(),
        extensions=("plpgsql",),
    ),
)

BASELINE = Baseline(
    name="before",
    target=STUDY.target,
    database="shop",
    taken_at_s=3.0,
    fingerprint=STUDY.fingerprint,
    plans=(
        BaselinePlan(
            query_id="7",
            label="one",
            instance="SELECT 1",
            shape="ab",
            total_cost=1.5,
            outline="Seq Scan on orders",
        ),
    ),
    tables=(BaselineTable(name=TableName(schema="public", name="orders"), rows=10.0, size_bytes=8192),),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite3"


def named(study_id: str, started_at_s: float, state: StudyState = StudyState.FINISHED) -> Study:
    return msgspec.structs.replace(STUDY, study_id=study_id, started_at_s=started_at_s, state=state)


def test_a_study_comes_back_as_it_was_saved(path: Path) -> None:
    with Journal(path) as journal:
        journal.save_study(STUDY)

    with Journal(path) as journal:
        assert STUDY == journal.study("20261121-4f2c")


def test_a_study_is_found_by_the_beginning_of_its_name_or_as_the_latest(path: Path) -> None:
    old, new = named("20261120-aaaa", 1.0), named("20261121-bbbb", 2.0)
    with Journal(path) as journal:
        for study in (new, old):
            journal.save_study(study)

        assert old == journal.study("20261120")
        assert new == journal.study("latest")
        assert (new, old) == journal.studies()
        with pytest.raises(StudyNotFound, match="begins the names of 2 studies"):
            journal.study("2026")
        with pytest.raises(StudyNotFound, match="holds no study x%"):
            journal.study("x%")


def test_a_name_that_begins_another_is_still_found(path: Path) -> None:
    with Journal(path) as journal:
        journal.save_study(named("night", 1.0))
        journal.save_study(named("night-2", 2.0))

        assert "night" == journal.study("night").study_id


def test_acts_come_back_in_the_order_of_applying_with_their_exact_undo(path: Path) -> None:
    with Journal(path, clock=lambda: 12.5) as journal:
        batch_id = journal.begin(STUDY.study_id, STUDY.target, CHANGES, BACKEND)
        first = journal.intend(batch_id, CHANGES[0], None)
        journal.mark(first, ActState.APPLIED, after="CREATE INDEX by_day")
        journal.intend(batch_id, CHANGES[1], "4MB")

    with Journal(path) as journal:
        (batch,) = journal.unfinished()

        assert CHANGES == batch.changes
        assert (ProcessMark.own(), BACKEND) == (batch.process, batch.backend)
        assert ["CREATE INDEX by_day", None] == [act.after for act in batch.acts]
        assert [None, "4MB"] == [act.before for act in batch.acts]
        assert [ActState.APPLIED, ActState.INTENDED] == [act.state for act in journal.acts()]
        assert [12.5, 12.5] == [act.at_s for act in journal.acts(STUDY.study_id)]
        assert () == journal.acts("another")


def test_what_was_applied_keeps_its_after_through_undo(path: Path) -> None:
    with Journal(path) as journal:
        act_id = journal.intend(journal.begin("s", STUDY.target, CHANGES, BACKEND), CHANGES[0], None)
        journal.mark(act_id, ActState.APPLIED, after="64MB")
        journal.mark(act_id, ActState.UNDONE)

        assert ["64MB"] == [act.after for act in journal.acts()]


@pytest.mark.parametrize(
    "target",
    [
        "postgresql://shop:s3cret@db/shop",
        "host=db password=s3cret",
        "postgresql://db/shop?sslpassword=s3cret",
    ],
)
def test_a_password_is_refused_and_not_repeated(path: Path, target: str) -> None:
    with Journal(path) as journal:
        with pytest.raises(InvalidInput) as refusal:
            journal.save_study(msgspec.structs.replace(STUDY, target=target))
        with pytest.raises(InvalidInput):
            journal.begin("s", target, CHANGES, BACKEND)

    assert "s3cret" not in str(refusal.value)
    assert b"s3cret" not in b"".join(each.read_bytes() for each in path.parent.iterdir())


def test_text_that_is_no_connection_string_is_refused_without_being_repeated(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(InvalidInput) as refusal:
        journal.begin("s", "passw0rd of the shop", CHANGES, BACKEND)

    assert "passw0rd" not in str(refusal.value)


def test_nobody_else_can_read_it(path: Path) -> None:
    with Journal(path) as journal:
        journal.save_study(STUDY)
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, *path.parent.iterdir())]

    assert [0o700, 0o600, 0o600, 0o600] == modes


def test_it_lies_where_perfloop_state_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERFLOOP_STATE", str(tmp_path))
    given = journal_path()
    monkeypatch.delenv("PERFLOOP_STATE")

    assert tmp_path / "journal.sqlite3" == given
    assert "perfloop" == journal_path().parent.name


def test_a_second_writer_waits_for_the_first(path: Path) -> None:
    with Journal(path), contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        leaving = threading.Timer(0.3, other.rollback)
        leaving.start()
        with Journal(path) as journal:
            journal.save_study(STUDY)
        leaving.join()

    with Journal(path) as journal:
        assert STUDY == journal.study("latest")


def test_a_killed_writer_leaves_what_it_had_written(path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from perfloop.adapters.store import BackendMark, Journal\n"
        "with Journal(pathlib.Path(sys.argv[1])) as journal:\n"
        "    mark = BackendMark(process_id=1, started='then')\n"
        "    journal.begin('killed', 'dbname=shop', (), mark)\n"
        "    os.kill(os.getpid(), 9)\n"
    )

    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False)

    with Journal(path) as journal:
        (batch,) = journal.unfinished()
        assert -9 == ended.returncode
        assert ("killed", False) == (batch.study_id, batch.process.is_alive)


def test_a_process_number_that_was_given_out_again_is_not_alive() -> None:
    own = ProcessMark.own()
    earlier = msgspec.structs.replace(own, started_s=own.started_s - 100)

    assert (True, False) == (own.is_alive, earlier.is_alive)
    assert own.started_s == psutil.Process().create_time()


@pytest.mark.parametrize(
    ("content", "fact"), [(b"this is not SQLite" * 100, "the file is damaged"), (None, "PERFLOOP_STATE")]
)
def test_damage_is_told_with_the_way_out(path: Path, content: bytes | None, fact: str) -> None:
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    with pytest.raises(JournalDamaged, match=fact), Journal(path):
        pass


def test_a_full_disk_is_told_and_nothing_is_half_written(path: Path) -> None:
    with Journal(path) as journal:
        journal.save_study(STUDY)
        assert journal._connection is not None
        journal._connection.execute("PRAGMA max_page_count = 1")
        big = msgspec.structs.replace(STUDY, notes=("x" * 1_000_000,))

        with pytest.raises(JournalDamaged, match="free some space"):
            journal.save_study(big)

        assert STUDY == journal.study("latest")


def test_what_an_unknown_program_wrote_into_it_is_told(path: Path) -> None:
    with Journal(path) as journal:
        journal.save_study(STUDY)
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE studies SET document = '{}'")

        with pytest.raises(JournalDamaged, match="cannot read"):
            journal.study("latest")


def test_a_journal_of_a_newer_perfloop_is_not_touched(path: Path) -> None:
    with Journal(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    with pytest.raises(JournalDamaged, match="upgrade perfloop"), Journal(path):
        pass


def test_a_journal_that_is_not_open_says_so(path: Path) -> None:
    with pytest.raises(JournalDamaged, match="not open"):
        Journal(path).studies()


def test_a_journal_of_version_1_is_read_as_it_was_written(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as golden:
        golden.executescript(GOLDEN.read_text())

    with Journal(path) as journal:
        (batch,) = journal.unfinished()

        assert STUDY == journal.study("latest")
        assert CHANGES == batch.changes
        assert [(ActState.APPLIED, None), (ActState.UNDOING, "4MB")] == [
            (act.state, act.before) for act in batch.acts
        ]


def test_a_journal_of_version_1_becomes_one_of_today(path: Path, tmp_path: Path) -> None:
    old_path = tmp_path / "old.sqlite3"
    with contextlib.closing(sqlite3.connect(old_path)) as old:
        old.executescript(GOLDEN.read_text())
    with Journal(old_path) as journal:
        journal.save_baseline(BASELINE)
    with Journal(path):
        pass

    assert schema_of(old_path) == schema_of(path)
    with Journal(old_path) as journal:
        assert (STUDY, (BASELINE,)) == (journal.study("latest"), journal.baselines())


def test_a_migration_that_is_cut_off_leaves_the_old_journal(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(GOLDEN.read_text())
        before = schema_of(path)
        old.execute("CREATE TABLE baselines (other)")
        old.commit()
    with pytest.raises(JournalDamaged, match="already exists"), Journal(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("DROP TABLE baselines")
        (version,) = old.execute("PRAGMA user_version").fetchone()

    assert (1, before) == (version, schema_of(path))


def test_baselines_come_back_as_they_were_saved_the_newest_first(path: Path) -> None:
    newer = msgspec.structs.replace(BASELINE, name="after", taken_at_s=9.0)
    with Journal(path) as journal:
        journal.save_baseline(BASELINE)
        journal.save_baseline(newer)

    with Journal(path) as journal:
        assert BASELINE == journal.baseline("before")
        assert (newer, BASELINE) == journal.baselines()


def test_a_baseline_is_only_replaced_on_demand(path: Path) -> None:
    other = msgspec.structs.replace(BASELINE, database="other")
    with Journal(path) as journal:
        journal.save_baseline(BASELINE)
        with pytest.raises(InvalidInput, match="baseline before already"):
            journal.save_baseline(other)
        kept = journal.baseline("before")
        journal.save_baseline(other, replace=True)

        assert (BASELINE, other) == (kept, journal.baseline("before"))


def test_a_removed_baseline_is_gone_and_the_others_are_named(path: Path) -> None:
    with Journal(path) as journal:
        journal.save_baseline(BASELINE)
        with pytest.raises(BaselineNotFound, match="it holds before"):
            journal.baseline("latest")
        journal.remove_baseline("before")

        with pytest.raises(BaselineNotFound, match="capture DSN"):
            journal.remove_baseline("before")


def test_a_baseline_with_a_password_is_refused(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(InvalidInput, match="does not store a password"):
        journal.save_baseline(msgspec.structs.replace(BASELINE, target="host=db password=s3cret"))


def schema_of(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT name, replace(sql, '/* perfloop */ ', '') FROM sqlite_schema "
            "WHERE sql IS NOT NULL ORDER BY 1"
        ).fetchall()
