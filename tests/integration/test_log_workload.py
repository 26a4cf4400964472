"""Logs written by real servers: the workload that comes out is what was run, parameters included."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.tune.analysis import analyze_target
from perfloop.tune.observer import Silence
from perfloop.validate.server_log import LogOptions, LogReading, read_logs

DEADLINE_S = 30.0
FORMATS = {"stderr": "log", "csvlog": "csv", "jsonlog": "json"}
SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "session_preload_libraries": "auto_explain",
    "log_directory": "log",
    "log_filename": "server.log",
    "log_file_mode": "0644",
    "log_line_prefix": "%m [%p] %q%u@%d %Q ",
    "log_min_duration_statement": "0",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_format": "json",
}
BY_USER = "SELECT id, total FROM orders WHERE user_id = $1"
RAISED = "UPDATE orders SET total = total + $1 WHERE id = $2"
BY_NOTE = "SELECT count(*) FROM orders WHERE note = $1 AND total > $2"
INSIDE = "SELECT note FROM orders WHERE id = $1"
PREPARED = "SELECT note FROM orders WHERE id = $1 AND note <> $2"


class LoggingServer(PostgresServer):
    """A server that collects its log in every format at once."""

    def _command(self) -> list[str]:
        formats = ",".join(FORMATS)
        return [*super()._command(), "-c", "logging_collector=on", "-c", f"log_destination={formats}"]


@dataclass(frozen=True)
class Logged:
    server: PostgresServer
    folder: Path

    @property
    def dsn(self) -> str:
        return self.server.dsn("shop")

    def path(self, form: str) -> Path:
        return self.folder / f"server.{FORMATS[form]}"


@pytest.fixture(scope="module")
def logged(each_postgres_binaries: PostgresBinaries) -> Iterator[Logged]:
    """A server on which every statement of the module ran, with its log."""
    with LoggingServer(each_postgres_binaries, settings=SETTINGS) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
            connection.execute("CREATE TABLE elsewhere (a int)")
            connection.execute("SELECT * FROM elsewhere WHERE a = 1")
        with psycopg.connect(server.dsn("shop"), autocommit=True) as connection:
            run_statements(connection)
        folder = server.data_dir / "log"
        wait_for(folder / "server.json", "the last one")
        yield Logged(server, folder)


def run_statements(connection: psycopg.Connection) -> None:
    connection.execute("CREATE EXTENSION pg_stat_statements")
    connection.execute("CREATE TABLE orders (id int PRIMARY KEY, user_id int, total int, note text)")
    connection.execute("INSERT INTO orders SELECT i, i % 500, i, 'n' || i FROM generate_series(1, 20000) i")
    connection.execute("ANALYZE orders")
    for user in range(3, 33):
        connection.execute("SELECT id, total FROM orders WHERE user_id = %s", (user,), prepare=user > 10)
    for number in (7, 8):
        connection.execute(f"UPDATE orders SET total = total + 1 WHERE id = {number}")
    connection.execute("SELECT count(*) FROM orders\n WHERE note = 'it''s\n\té' AND total > 5")
    connection.execute("PREPARE by_id (int, text) AS " + PREPARED)
    connection.execute("EXECUTE by_id (4, 'a, b')")
    connection.execute("BEGIN; SELECT note FROM orders WHERE id = 5; COMMIT")
    connection.execute("SELECT 1")
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT broken FROM")
    connection.execute("DO $$ BEGIN PERFORM count(*) FROM orders; END $$")
    with connection.cursor().copy("COPY orders FROM STDIN") as copy:
        copy.write_row((99_999, 1, 1, "x"))
    connection.execute("SHOW work_mem /* the last one */")


def wait_for(path: Path, text: str) -> None:
    ends_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends_s:
        if path.exists() and text in path.read_text(encoding="utf-8"):
            return
        time.sleep(0.02)
    pytest.fail(f"{text!r} is not in {path} after {DEADLINE_S} s")


def read(path: Path) -> LogReading:
    return read_logs([path], LogOptions(database="shop"))


def beginning(text: str) -> str:
    return " ".join(text.split())[:60]


@pytest.mark.parametrize("form", FORMATS)
def test_calls_are_those_that_were_made(logged: Logged, form: str) -> None:
    reading = read(logged.path(form))

    expected = {
        BY_USER: 30,
        RAISED: 2,
        BY_NOTE: 1,
        PREPARED: 1,
        INSIDE: 1,
        "INSERT INTO orders SELECT i, i % $1, i, $2 || i FROM generate_series($3, $4) i": 1,
    }
    calls = {beginning(each.statement.text): each.calls for each in reading.statements}
    assert {beginning(text): count for text, count in expected.items()} == {
        text: count for text, count in calls.items() if text in {beginning(each) for each in expected}
    }
    assert [] == [each.statement.text for each in reading.statements if "elsewhere" in each.statement.text]


@pytest.mark.parametrize("form", FORMATS)
def test_parameters_are_those_that_were_bound(logged: Logged, form: str) -> None:
    samples = {beginning(each.statement.text): each.samples for each in read(logged.path(form)).statements}

    users = {text.rpartition("= ")[2].strip("'") for text in samples[beginning(BY_USER)]}
    assert users <= {str(user) for user in range(3, 33)}
    assert 25 == len(users)
    assert ("SELECT count(*) FROM orders\n WHERE note = 'it''s\n\té' AND total > 5",) == samples[
        beginning(BY_NOTE)
    ]
    assert "a, b" in samples[beginning(PREPARED)][0]


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_are_those_of_pg_stat_statements(logged: Logged, form: str) -> None:
    with psycopg.connect(logged.dsn) as connection:
        counted = {
            str(row[0]): row[1]
            for row in connection.execute(
                "SELECT queryid, sum(calls) FROM pg_stat_statements"
                " WHERE query ~* '^(select id|update)' GROUP BY 1"
            )
        }
    found = {each.statement.query_id: each.calls for each in read(logged.path(form)).statements}

    assert {30, 2} <= set(counted.values())
    assert [] == [number for number, calls in counted.items() if found.get(number) != calls]


def test_plans_come_with_measured_figures(logged: Logged) -> None:
    plans = [plan for each in read(logged.path("csvlog")).statements for plan in each.plans]

    assert len(plans) > 5
    assert [] == [plan.instance for plan in plans if plan.plan.root.actual_rows is None]


def test_an_analysis_of_a_log_sees_its_statements_and_measured_plans(logged: Logged) -> None:
    analysis = analyze_target(logged.dsn, Silence(), workload_source=str(logged.path("stderr")))

    assert analysis.workload is not None
    instances = [text for each in analysis.workload.operations for text in each.instances]
    assert [] == [text for text in instances if "user_id" in text and not text.endswith("'")]
    assert any(plan.plan.root.actual_rows is not None for plan in analysis.snapshot.plans)
    assert any("orders" in finding.title for finding in analysis.findings)


def test_a_folder_is_read_in_one_of_its_formats_packed_files_included(logged: Logged, tmp_path: Path) -> None:
    for form in FORMATS:
        shutil.copy(logged.path(form), tmp_path)
    packed = gzip.compress(logged.path("jsonlog").read_bytes())
    (tmp_path / "server.json").unlink()
    (tmp_path / "server.json.1.gz").write_bytes(packed)
    analysis = analyze_target(logged.dsn, Silence(), workload_source=str(tmp_path))

    calls = {each.statement.text: each.calls for each in analysis.snapshot.statements}
    assert [30] == [count for text, count in calls.items() if "user_id = " in text]
    reasons = [each.reason for each in analysis.snapshot.limitations]
    assert 2 == sum("jsonlog is there, too" in reason for reason in reasons)


def test_real_parameters_go_before_drawn_ones(logged: Logged) -> None:
    analysis = analyze_target(logged.dsn, Silence(), log=str(logged.path("csvlog")))

    assert analysis.workload is not None
    assert "pg_stat_statements" == analysis.workload.origin
    texts = [text for each in analysis.workload.operations for text in each.instances if "user_id = " in text]
    assert {f"'{user}'" for user in range(3, 33)} >= {text.rpartition("= ")[2] for text in texts}


def test_the_command_line_takes_a_log(logged: Logged) -> None:
    command = [sys.executable, "-m", "perfloop", "analyze", logged.dsn, "--json"]
    done = subprocess.run(
        [*command, "--workload", str(logged.path("jsonlog"))], capture_output=True, text=True, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert str(logged.path("jsonlog")) == json.loads(done.stdout)["workload_origin"]


def test_a_log_without_statements_says_what_to_set(logged: Logged, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.log"
    quiet.write_text("2026-01-01 00:00:00.000 UTC [1] LOG:  database system is ready to accept connections\n")
    command = [sys.executable, "-m", "perfloop", "analyze", logged.dsn, "--workload", str(quiet)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 3 == done.returncode
    assert "set log_min_duration_statement" in done.stderr
