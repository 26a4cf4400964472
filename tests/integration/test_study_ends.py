"""However a study ends, nothing of its lab is left and the journal says how far it came."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.adapters.store import Journal
from perfloop.errors import InvalidInput, LabRefused, ServerFailed, TargetUnreachable
from perfloop.model.outcome import StudyState
from perfloop.tune.observer import Silence
from perfloop.tune.study import StudyOptions, optimize

DEADLINE_S = 60.0
TARGET_SQL = """
CREATE EXTENSION pg_stat_statements;
CREATE TABLE orders (id int PRIMARY KEY, customer int, note text);
INSERT INTO orders SELECT g, g % 500, repeat('x', 40) FROM generate_series(1, 40000) g;
ANALYZE orders;
SELECT pg_stat_statements_reset();
"""
SLOW = "SELECT count(*), max(length(repeat(note, 20))) FROM orders WHERE customer = %s"
COPY = """
import sys
from perfloop.adapters.servers import find_postgres
from perfloop.tune.lab.fill import copy_database
copy_database(sys.argv[1], sys.argv[1], find_postgres(prefer_major=int(sys.argv[2])))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a child process works: its journal and its folder for labs."""

    state: Path
    temporary: Path

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PERFLOOP_STATE": str(self.state), "TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def leftovers(self) -> list[Path]:
        return sorted(self.temporary.glob("perfloop-server-*"))

    def processes(self) -> list[str]:
        """Command lines of running processes that name the folder."""
        lines = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.temporary) in line:
                lines.append(line)
        return lines

    def state_of_the_study(self) -> StudyState:
        with Journal(self.state / "journal.sqlite3") as journal:
            return journal.study("latest").state


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    # A socket's path must be short, and servers of root run as somebody else.
    temporary = Path(tempfile.mkdtemp(prefix="pl-"))
    temporary.chmod(0o755)
    yield Place(state=tmp_path, temporary=temporary)
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def target(each_postgres_binaries: PostgresBinaries) -> Iterator[str]:
    settings = {"fsync": "off", "shared_preload_libraries": "pg_stat_statements"}
    with PostgresServer(each_postgres_binaries, settings=settings) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            for statement in TARGET_SQL.strip().split(";\n"):
                connection.execute(statement)
            for customer in range(10):
                connection.execute(SLOW, [customer])
        yield server.dsn()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"waited in vain until {what}"
        time.sleep(0.02)


def start_and_wait_for_trial(place: Place, target: str) -> subprocess.Popen[str]:
    child = place.start("-m", "perfloop", "optimize", target)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("searching for changes"):
            return child
    raise AssertionError(f"no trial began: {child.communicate()}")


def test_ctrl_c_ends_a_study_at_once_and_leaves_nothing(place: Place, target: str) -> None:
    child = start_and_wait_for_trial(place, target)
    began_s = time.monotonic()

    child.send_signal(signal.SIGINT)
    child.communicate(timeout=DEADLINE_S)

    assert time.monotonic() - began_s < 10
    assert 130 == child.returncode
    assert StudyState.INTERRUPTED == place.state_of_the_study()
    assert [] == place.leftovers()
    assert [] == place.processes()


def test_a_killed_study_leaves_nothing_after_recover(place: Place, target: str) -> None:
    child = start_and_wait_for_trial(place, target)

    child.kill()
    child.communicate(timeout=DEADLINE_S)
    wait_until(lambda: not place.processes(), "the lab's server had ended")
    recovery = place.start("-m", "perfloop", "recover")
    recovery.communicate(timeout=DEADLINE_S)

    assert 0 == recovery.returncode
    assert StudyState.INTERRUPTED == place.state_of_the_study()
    assert [] == place.leftovers()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        # A killed perfloop cannot end its dump, which gives up its own wait for the lock after ten seconds.
        pytest.param(signal.SIGKILL, id="kill -9", marks=pytest.mark.slow),
    ],
)
def test_a_dump_that_is_cut_ends_on_the_target_too(
    how: signal.Signals, place: Place, target: str, each_postgres_binaries: PostgresBinaries
) -> None:
    dsn = make_conninfo(target, dbname="postgres")
    waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
    dumping = "SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump'"
    with psycopg.connect(dsn, autocommit=True) as watching, psycopg.connect(dsn) as holding:
        holding.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        child = place.start("-c", COPY, dsn, str(each_postgres_binaries.major))
        wait_until(lambda: bool(watching.execute(waiting).fetchall()), "the dump waited for the table")

        child.send_signal(how)
        child.communicate(timeout=DEADLINE_S)
        wait_until(lambda: not watching.execute(dumping).fetchall(), "the dump had ended")
        wait_until(lambda: not place.leftovers(), "the dump's folder was gone")

    assert 0 != child.returncode


def test_a_study_whose_lab_fails_is_failed_in_the_journal(target: str, tmp_path: Path) -> None:
    class Failing(Silence):
        def phase(self, text: str) -> None:
            if text == "searching for changes":
                raise ServerFailed("the lab is gone")

    with Journal(tmp_path / "journal.sqlite3") as journal:
        with pytest.raises(ServerFailed):
            optimize(target, StudyOptions(), journal, Failing())

        assert StudyState.FAILED == journal.study("latest").state


class Counting(Silence):
    """Counts the phases that a study says."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, text: str) -> None:
        self.phases.append(text)


@pytest.mark.parametrize(
    ("options", "refusal", "way_out"),
    [
        (StudyOptions(max_lab_bytes=1), LabRefused, "--max-lab-size"),
        (StudyOptions(lab_dsn="foo"), InvalidInput, "--lab, the scratch server: .*expected postgresql://"),
        (StudyOptions(lab_dsn="host=127.0.0.1 port=1"), TargetUnreachable, "--lab, .*refused"),
        (StudyOptions(lab_dsn="the target"), LabRefused, "the target's own server"),
    ],
    ids=["too large", "no DSN", "nobody there", "the target"],
)
def test_a_lab_that_cannot_be_is_refused_before_the_target_is_read(
    target: str, tmp_path: Path, options: StudyOptions, refusal: type[Exception], way_out: str
) -> None:
    if options.lab_dsn == "the target":
        options = replace(options, lab_dsn=target)
    observer = Counting()
    with Journal(tmp_path / "journal.sqlite3") as journal:
        with pytest.raises(refusal, match=way_out):
            optimize(target, options, journal, observer)

        assert ([], ()) == (observer.phases, tuple(journal.studies()))


def test_an_error_is_not_hidden_by_a_journal_that_cannot_be_written(target: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"

    class Saboteur(Silence):
        def phase(self, text: str) -> None:
            if text.startswith("copying"):
                with sqlite3.connect(path) as other:
                    other.execute("DROP TABLE studies")
                other.close()
                raise RuntimeError("the first fault")

    with Journal(path) as journal, pytest.raises(RuntimeError, match="the first fault"):
        optimize(target, StudyOptions(), journal, Saboteur())
