"""The installed command, run as its users run it, and a small shop for it to look at."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

DEADLINE_S = 240.0

SHOP_SQL = """
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, "Order Note" text);
INSERT INTO orders SELECT g, (g * 7919) % 5000, repeat('x', 60) FROM generate_series(1, 40000) g;
CREATE INDEX orders_customer_twice ON orders (id);
ANALYZE orders;
-- As perfloop would propose it: its trial is the longest of all, and says nothing here.
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET random_page_cost = 1.1', current_database()); END $$;
"""
CALLS_SQL = 'SELECT id, "Order Note" FROM orders WHERE customer = %s'

DIGEST_SQL = """
SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
    SELECT pg_get_indexdef(indexrelid) || indisvalid FROM pg_index
    JOIN pg_class AS tables ON tables.oid = indrelid
        WHERE relnamespace = 'public'::regnamespace AND (indisvalid OR NOT %(valid_only)s)
    UNION ALL SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
    UNION ALL SELECT setdatabase || ' ' || setrole || ' ' || array_to_string(setconfig, ', ')
        FROM pg_db_role_setting
    UNION ALL SELECT table_name || column_name || data_type FROM information_schema.columns
        WHERE table_schema = 'public'
    UNION ALL SELECT relname || coalesce(reloptions::text, '') FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'
    UNION ALL SELECT name || setting FROM pg_file_settings
) AS told (line)
"""


@pytest.fixture(scope="session")
def catalogue_digest() -> Callable[..., str]:
    """One number over all that perfloop could change in a database: equal ones mean that nothing was."""
    return digest_of


def digest_of(dsn: str, *, valid_only: bool = False) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(DIGEST_SQL, {"valid_only": valid_only}).fetchone()
    assert row is not None
    return str(row[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def fault(self) -> str:
        """What is on standard error from the line on that begins with the command's name."""
        begins = self.err.find("perfloop: ")
        return self.err[begins:].strip() if begins >= 0 else ""


@dataclass(frozen=True, slots=True)
class Command:
    """The installed `perfloop` with a journal of its own, and a place of its own for its servers."""

    folder: Path
    servers: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        program = Path(sys.executable).with_name("perfloop")
        process = subprocess.Popen(
            [program, *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PERFLOOP_STATE": str(self.state),
                "TMPDIR": str(self.servers),
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str | Path, **variables: str) -> Told:
        return self.end(self.start(*arguments, **variables))

    def end(self, process: subprocess.Popen[str], interrupt: signal.Signals | None = None) -> Told:
        """Wait for the end, after a signal to the whole group if one is given, as a terminal sends it."""
        if interrupt is not None:
            os.killpg(process.pid, interrupt)
        try:
            out, err = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise
        return Told(code=process.returncode, out=out, err=err)

    def kill(self, process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[Command]:
    # Pytest's own folder has too long a path for a socket, and lets the server's account not in.
    with tempfile.TemporaryDirectory(prefix="perfloop-", ignore_cleanup_errors=True) as servers:
        Path(servers).chmod(0o755)
        command = Command(folder, Path(servers))
        yield command
        for process in command.started:
            if process.poll() is None:
                command.kill(process)


@pytest.fixture
def perfloop(tmp_path: Path) -> Iterator[Command]:
    with installed(tmp_path) as command:
        yield command


@pytest.fixture
def shop_dsn(postgres_dsn: str) -> str:
    """A database with one table, an index that it lacks, one that it has twice, and counted statements."""
    fill_shop(postgres_dsn)
    return postgres_dsn


def fill_shop(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SHOP_SQL)
        for customer in range(40):
            connection.execute(CALLS_SQL, [customer * 111])


@pytest.fixture(scope="session")
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A shop with a finished study on it: its DSN, and the folder of the journal that holds the study."""
    admin_dsn = os.environ.get("PERFLOOP_TEST_DSN") or request.getfixturevalue("postgres_server").dsn()
    name = f"perfloop_finished_{secrets.token_hex(4)}"
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            dsn = make_conninfo(admin_dsn, dbname=name)
            with psycopg.connect(dsn, autocommit=True) as inside:
                inside.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            fill_shop(dsn)
            with installed(tmp_path_factory.mktemp("finished")) as command:
                optimized = command("optimize", dsn)
                assert 0 == optimized.code, optimized.err
                yield dsn, command.state
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def studied_dsn(perfloop: Command, finished: tuple[str, Path]) -> str:
    """That shop, with the study in the journal of this test."""
    shutil.copytree(finished[1], perfloop.state)
    return finished[0]


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    return write_workload(tmp_path / "queries")


def write_workload(folder: Path) -> Path:
    """A tiny workload: one statement that an index helps, and one that is fine."""
    folder.mkdir()
    folder.joinpath("history.sql").write_text(CALLS_SQL % 77 + ";\n")
    folder.joinpath("one.sql").write_text("SELECT customer FROM orders WHERE id = 11;\n")
    return folder
