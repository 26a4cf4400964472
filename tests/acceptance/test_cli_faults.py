"""Whatever is wrong, the command says it in one line with the way out, ends with 3, without a traceback."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

IN_A_DESTRUCTOR = """
import os, signal, sys, time
import click
from perfloop.cli import main

class Ending:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

@click.command()
def wait():
    Ending()
    time.sleep(30)

main.cli.add_command(wait)
sys.argv = ["perfloop", "wait"]
main.main()
"""


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def assert_one_line(told: Any, *words: str) -> None:
    assert 3 == told.code, told.err
    assert "Traceback" not in told.err
    assert 1 == len(told.fault.splitlines()), told.err
    assert all(word in told.fault for word in words), told.fault


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("garbage", "expected postgresql://"),
        ("host=/nonexistent", "check host and port"),
        ("postgresql://u@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://u@nosuch.invalid/x", "nosuch.invalid"),
        ("postgresql://u:ge@heim@127.0.0.1:1/x", "write @ as %40"),
        ("service=nosuch", "pg_service.conf"),
    ],
)
def test_a_target_that_cannot_be_reached(perfloop: Any, dsn: str, words: str) -> None:
    assert_one_line(perfloop("analyze", dsn), words)


def test_a_server_that_never_answers(perfloop: Any, silent_port: int) -> None:
    told = perfloop("analyze", f"host=127.0.0.1 port={silent_port} dbname=x connect_timeout=2")

    assert_one_line(told, "timeout expired")


def test_a_backend_that_freezes_in_the_middle(perfloop: Any, shop_dsn: str) -> None:
    process = perfloop.start("analyze", shop_dsn, "--timeout", "0.5")
    with psycopg.connect(shop_dsn, autocommit=True) as other:
        ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'perfloop' AND datname = %s"
        deadline_s = time.monotonic() + 20
        while (row := other.execute(ours, [other.info.dbname]).fetchone()) is None:
            assert time.monotonic() < deadline_s, "perfloop did not connect"
            time.sleep(0.01)
        os.kill(row[0], signal.SIGSTOP)
        try:
            told = perfloop.end(process)
        finally:
            os.kill(row[0], signal.SIGCONT)

    assert_one_line(told, "has not answered for", "run perfloop again")


def test_a_database_and_a_role_that_do_not_exist(perfloop: Any, postgres_dsn: str) -> None:
    assert_one_line(
        perfloop("analyze", make_conninfo(postgres_dsn, dbname="nope")), "check the database name"
    )
    assert_one_line(perfloop("optimize", make_conninfo(postgres_dsn, user="nope")), "check the user")


@pytest.mark.parametrize("command", ["apply", "undo", "report"])
def test_an_unknown_study(perfloop: Any, command: str) -> None:
    assert_one_line(perfloop(command, "nosuch"), "perfloop optimize DSN")


def test_an_empty_journal_is_no_fault(perfloop: Any) -> None:
    assert "no studies yet; `perfloop optimize DSN` makes one\n" == perfloop("studies").out
    assert "nothing was cut off\n" == perfloop("recover").out


def test_a_journal_that_is_none(perfloop: Any) -> None:
    perfloop.state.mkdir()
    perfloop.state.joinpath("journal.sqlite3").write_text("hello")

    assert_one_line(perfloop("studies"), "not a database", "move it away")


def test_a_journal_that_cannot_be_written(perfloop: Any) -> None:
    assert_one_line(perfloop("studies", PERFLOOP_STATE="/proc/nowhere"), "PERFLOOP_STATE")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_disk_that_is_full(perfloop: Any, shop_dsn: str) -> None:
    assert_one_line(perfloop("analyze", shop_dsn, "--html", "/dev/full"), "/dev/full", "No space")


def test_no_statement_to_try_changes_on(perfloop: Any, postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("DROP EXTENSION pg_stat_statements")

    told = perfloop("optimize", postgres_dsn)

    assert_one_line(told, "--workload FOLDER", "pg_stat_statements")


def test_an_empty_dsn_is_not_the_database_that_libpq_takes_by_itself(perfloop: Any) -> None:
    told = perfloop("optimize", "")

    assert (2, True) == (told.code, "it is empty" in told.err)


def test_a_log_that_does_not_exist(perfloop: Any, shop_dsn: str) -> None:
    assert_one_line(
        perfloop("analyze", shop_dsn, "--log", "nosuch.log"), "there is no file or folder nosuch.log"
    )


def test_a_given_workload_of_which_nothing_can_be_planned_says_why(perfloop: Any, shop_dsn: str) -> None:
    folder = perfloop.folder / "queries"
    folder.mkdir()
    folder.joinpath("absent.sql").write_text("SELECT * FROM nosuch")

    told = perfloop("optimize", shop_dsn, "--workload", folder)

    assert_one_line(
        told, f"no statement of {folder} can be tried", 'absent: relation "nosuch" does not exist'
    )


@pytest.mark.parametrize("folder", ["empty", "nosuch"])
def test_a_workload_that_is_none(perfloop: Any, shop_dsn: str, folder: str) -> None:
    perfloop.folder.joinpath("empty").mkdir()

    assert_one_line(perfloop("optimize", shop_dsn, "--workload", folder), folder, ".sql files")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(range(256)) * 10, "not UTF-8 at byte 129; convert it"),
        (b"SELECT 'open", "does not end"),
        (b"VACUUM", "VACUUM is not tried"),
        (b"-- nothing\n", "has no statement that can be read; give"),
    ],
    ids=["binary", "open quote", "no query", "empty"],
)
def test_a_file_in_which_nothing_can_be_read(
    perfloop: Any, shop_dsn: str, content: bytes, reason: str
) -> None:
    file = perfloop.folder / "service.sql"
    file.write_bytes(content)

    assert_one_line(perfloop("analyze", shop_dsn, "--workload", file), "service.sql", reason)


def test_files_of_a_workload_that_cannot_be_used_are_named(perfloop: Any, shop_dsn: str) -> None:
    folder = perfloop.folder / "queries"
    folder.mkdir()
    folder.joinpath("binary.sql").write_bytes(bytes(range(256)) * 10)
    folder.joinpath("typing.sql").write_text("SELEC 1 FROM")
    folder.joinpath("absent.sql").write_text("SELECT * FROM nosuch")

    told = perfloop("analyze", shop_dsn, "--workload", folder)

    assert 0 == told.code
    assert all(f"  {name}: " in told.out for name in ("binary", "typing", "absent"))


def test_a_role_that_may_read_nothing_is_told_what_to_grant(perfloop: Any, shop_dsn: str) -> None:
    role = f"reader_{secrets.token_hex(3)}"
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        try:
            told = perfloop("analyze", make_conninfo(shop_dsn, user=role))
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    assert 0 == told.code
    assert f'GRANT pg_monitor TO "{role}";\n' in told.out


def test_a_database_with_an_odd_name_and_nothing_in_it(perfloop: Any, postgres_dsn: str) -> None:
    name = f"we\"ird 'n ü {secrets.token_hex(3)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            told = perfloop("analyze", make_conninfo(postgres_dsn, dbname=name))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))

    assert 0 == told.code
    assert told.out.startswith(name)
    assert "not read  pg_stat_statements: " in told.out


def test_an_interrupt_that_comes_while_a_destructor_runs_is_not_lost() -> None:
    told = subprocess.run(
        [sys.executable, "-c", IN_A_DESTRUCTOR], capture_output=True, text=True, timeout=20, check=False
    )

    assert (130, "interrupted") == (told.returncode, told.stderr.strip())
