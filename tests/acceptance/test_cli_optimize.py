"""From `optimize` to `undo` on a small shop, as its users run them: each step in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict

from perfloop.adapters.store import Journal
from perfloop.model.outcome import StudyState

DEADLINE_S = 60.0


@pytest.fixture
def uri(shop_dsn: str) -> str:
    """The shop by a URI with a password, which a trusting socket does not ask for."""
    parts = conninfo_to_dict(shop_dsn)
    place = f"/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    return f"postgresql://{parts['user']}:gehe%40im@{place}"


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"{what} did not come to pass"
        time.sleep(0.02)


def texts_of_children(process_id: int) -> Iterator[str]:
    """The command lines of all that a process has started."""
    try:
        for child in psutil.Process(process_id).children(recursive=True):
            yield " ".join(child.cmdline())
    except psutil.Error:
        return


def test_the_loop_from_optimize_to_undo(
    perfloop: Any, uri: str, shop_dsn: str, workload: Path, catalogue_digest: Callable[[str], str]
) -> None:
    before = catalogue_digest(shop_dsn)
    process = perfloop.start("optimize", uri, "--workload", workload, "--html", "report.html")
    seen: set[str] = set()
    while process.poll() is None:
        seen.update(texts_of_children(process.pid))
        time.sleep(0.05)
    optimized = perfloop.end(process)

    assert 0 == optimized.code, optimized.err
    assert before == catalogue_digest(shop_dsn)
    assert "create index on orders (customer" in optimized.out
    assert "keep  " in optimized.out
    assert "mean time per call" in optimized.out

    applied = perfloop("apply", "latest", "--yes")
    assert 0 == applied.code, applied.err
    assert before != catalogue_digest(shop_dsn)
    with psycopg.connect(shop_dsn) as connection:
        plan = connection.execute("EXPLAIN SELECT id FROM orders WHERE customer = 77").fetchall()
    assert "perfloop_orders_customer" in str(plan)

    again = perfloop("apply", "latest", "--yes")
    assert 3 == again.code
    assert "is applied to this target already" in again.fault

    listed = json.loads(perfloop("studies", "--json").out)
    assert {"applied"} == {act["state"] for act in listed["acts"]}

    unconfirmed = perfloop("undo", "latest")
    assert (3, True) == (unconfirmed.code, "nothing was changed" in unconfirmed.fault)

    undone = perfloop("undo", "latest", "--yes")
    assert 0 == undone.code, undone.err
    assert before == catalogue_digest(shop_dsn)
    assert "nothing of study" in perfloop("undo", "latest", "--yes").fault

    for form in ("text", "html", "markdown", "json", "apply.sql", "undo.sql"):
        shown = perfloop("report", "latest", "--format", form)
        assert (0, "") == (shown.code, shown.err)
        seen.add(shown.out)
    seen |= {optimized.out, optimized.err, applied.out, applied.err, undone.out, again.err}
    seen.add(perfloop.folder.joinpath("report.html").read_text())
    seen.add(b"".join(path.read_bytes() for path in perfloop.state.iterdir()).decode("latin-1"))
    assert [] == [text for text in seen if "gehe" in text]


def test_the_space_for_indexes_and_the_weighing_are_what_was_asked_for(
    perfloop: Any, uri: str, workload: Path
) -> None:
    """A Finding asks for the index whatever it takes, so that its trial has to refuse it."""
    limits = ("--max-index-size", "8kB", "--weigh", "equal", "--trials", "1")
    optimized = perfloop("optimize", uri, "--workload", workload, *limits, "--json")
    assert 0 == optimized.code, optimized.err
    study = json.loads(optimized.out)
    (trial,) = study["trials"]

    assert "every statement counts the same, however often it is called" in study["notes"]
    assert "revert" == trial["verdict"]
    assert trial["reason"].startswith("size of all kept changes")


def test_one_change_of_several_is_undone_by_its_number(
    perfloop: Any, studied_dsn: str, catalogue_digest: Callable[[str], str]
) -> None:
    before = catalogue_digest(studied_dsn)
    assert 0 == perfloop("apply", "latest", "--yes").code
    acts = json.loads(perfloop("studies", "--json").out)["acts"]
    assert len(acts) >= 2

    for act in reversed(acts):
        told = perfloop("undo", str(act["act_id"]), "--yes")
        assert 0 == told.code, told.err

    assert before == catalogue_digest(studied_dsn)


def test_after_a_study_that_kept_nothing_the_one_that_did_is_named_and_not_chosen(
    perfloop: Any, studied_dsn: str
) -> None:
    with Journal(perfloop.state / "journal.sqlite3") as journal:
        kept = journal.study("latest")
        later = replace(kept, study_id="later", started_at_s=kept.started_at_s + 1, trials=())
        journal.save_study(replace(later, state=StudyState.INTERRUPTED))

    untouched = perfloop("undo", "latest", "--yes")
    refused = perfloop("apply", "latest", "--yes")
    assert 0 == perfloop("apply", kept.study_id, "--yes").code
    other = perfloop("undo", "latest", "--yes")
    assert 0 == perfloop("undo", kept.study_id, "--yes").code

    assert (3, 3, 3) == (untouched.code, refused.code, other.code)
    assert "study later was cut off and kept no change" in refused.fault
    assert refused.fault.endswith(f"did: perfloop apply {kept.study_id}")
    assert other.fault.endswith(f"is: perfloop undo {kept.study_id}")
    assert untouched.fault.endswith("`perfloop studies` lists what is")


def test_a_study_is_undone_where_it_was_applied(
    perfloop: Any, studied_dsn: str, catalogue_digest: Callable[[str], str]
) -> None:
    """The second target is a copy of the first; undo must not look for the changes on the first."""
    copy = f"{conninfo_to_dict(studied_dsn)['dbname']}_copy"
    copy_dsn = f"{studied_dsn} dbname={copy}"
    with psycopg.connect(studied_dsn, dbname="postgres", autocommit=True) as admin:
        name = conninfo_to_dict(studied_dsn)["dbname"]
        admin.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
        try:
            before = catalogue_digest(copy_dsn)
            assert 0 == perfloop("apply", "latest", "--yes", "--dsn", copy_dsn).code
            assert before != catalogue_digest(copy_dsn)

            assert 0 == perfloop("undo", "latest", "--yes").code

            assert before == catalogue_digest(copy_dsn)
        finally:
            admin.execute(f"DROP DATABASE {copy} WITH (FORCE)")


def test_a_study_whose_process_is_gone_is_all_that_recover_tells(perfloop: Any, studied_dsn: str) -> None:
    journal = perfloop.state / "journal.sqlite3"
    with contextlib.closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE studies SET state = 'running', process_started_s = 0")

    told = perfloop("recover")

    assert 0 == told.code
    assert ["it measured until then is kept"] == [
        line.rpartition("what ")[2] for line in told.out.splitlines()
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_cut_apply_undoes_itself(
    perfloop: Any,
    studied_dsn: str,
    workload: Path,
    catalogue_digest: Callable[[str], str],
    number: signal.Signals,
) -> None:
    before = catalogue_digest(studied_dsn)
    building = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX CONC%'"
    )
    with (
        psycopg.connect(studied_dsn) as writer,
        psycopg.connect(studied_dsn, autocommit=True) as watcher,
    ):
        # A build waits for transactions that have written to the table.
        writer.execute("DELETE FROM orders WHERE id = 1")
        process = perfloop.start("apply", "latest", "--yes")
        wait_until(lambda: watcher.execute(building).fetchone() != (0,), "the build")
        os.killpg(process.pid, number)
        wait_until(lambda: watcher.execute(building).fetchone() == (0,), "the end of the build")
        writer.rollback()
    told = perfloop.end(process)

    assert 130 == told.code, told.err
    assert "undoing what this apply did" in told.out
    assert before == catalogue_digest(studied_dsn)
    assert "nothing was cut off\n" == perfloop("recover").out


@pytest.mark.parametrize("phase", ["reading", "copying", "running the workload", "searching", "keep"])
def test_nothing_is_left_of_an_interrupted_study(
    perfloop: Any, shop_dsn: str, workload: Path, phase: str
) -> None:
    process = perfloop.start("optimize", shop_dsn, "--workload", workload)
    said = []
    for line in process.stderr:
        said.append(line)
        if line.strip().startswith(phase):
            break
    children = psutil.Process(process.pid).children(recursive=True)
    told = perfloop.end(process, signal.SIGINT)

    assert 130 == told.code, "".join(said) + told.err
    assert "Traceback" not in told.err
    wait_until(lambda: not any(child.is_running() for child in children), "the end of all children")
    wait_until(lambda: not list(perfloop.servers.iterdir()), "the end of all folders of servers")
    states = [study["state"] for study in json.loads(perfloop("studies", "--json").out)["studies"]]
    assert set(states) <= {"interrupted"}


def test_a_session_that_is_ended_by_the_server_is_told_in_one_line(perfloop: Any, shop_dsn: str) -> None:
    ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perfloop'"
    process = perfloop.start("analyze", shop_dsn, "--window", "3")
    with psycopg.connect(shop_dsn, autocommit=True) as watcher:
        wait_until(lambda: bool(watcher.execute(ours).fetchall()), "the session")
    told = perfloop.end(process)

    assert 3 == told.code
    assert 1 == len(told.fault.splitlines())
    assert "Traceback" not in told.err
