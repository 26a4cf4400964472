"""`perfloop baseline` as its users run it."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

import psycopg
import pytest

INDEX = "CREATE INDEX orders_customer ON orders (customer)"


@pytest.fixture
def kept(perfloop: Any, shop_dsn: str) -> str:
    """A shop with its index, and a baseline of it."""
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        connection.execute(INDEX)
    captured = perfloop("baseline", "capture", shop_dsn, "--name", "before")
    assert (0, "") == (captured.code, captured.fault)
    return shop_dsn


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def drop_index(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP INDEX orders_customer")


def test_where_nothing_changed_compare_says_so(perfloop: Any, kept: str) -> None:
    told = perfloop("baseline", "compare", kept, "--fail-on", "low")

    assert 0 == told.code
    assert "nothing is worse than it was" in told.out


def test_a_lost_index_fails_the_job(perfloop: Any, kept: str) -> None:
    drop_index(kept)
    told = perfloop("baseline", "compare", kept, "--baseline", "before", "--fail-on", "medium")

    assert 1 == told.code
    assert "is planned otherwise" in unwrapped(told.out)
    assert "index orders_customer is gone" in unwrapped(told.out)
    assert 0 == perfloop("baseline", "compare", kept, "--fail-on", "high").code


def test_analyze_tells_of_it_too(perfloop: Any, kept: str) -> None:
    drop_index(kept)
    told = perfloop("analyze", kept, "--baseline", "before", "--html", "page.html")
    document = json.loads(perfloop("analyze", kept, "--baseline", "before", "--json").out)

    assert "is planned otherwise" in unwrapped(told.out)
    assert "Held against baseline" in perfloop.folder.joinpath("page.html").read_text()
    assert "before" == document["comparison"]["baseline"]
    assert "plan-flip" in {each["check"] for each in document["findings"]}


def test_comparison_and_baseline_have_their_json(perfloop: Any, kept: str) -> None:
    comparison = json.loads(perfloop("baseline", "compare", kept, "--json").out)
    shown = perfloop("baseline", "show", "before", "--json").out

    assert "perfloop-comparison-1" == comparison["format"]
    assert "perfloop-baseline-1" == json.loads(shown)["format"]
    assert "instance" not in shown


def test_it_is_listed_shown_and_removed(perfloop: Any, kept: str) -> None:
    listed = perfloop("baseline", "list").out
    shown = perfloop("baseline", "show", "before").out
    removed = perfloop("baseline", "remove", "before")

    assert "before" in listed
    assert "SELECT id" in shown
    assert (0, "removed before\n") == (removed.code, removed.out)
    assert "no baselines yet" in perfloop("baseline", "list").out


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["capture", "{dsn}", "--name", "before"], "baseline before already; choose another name"),
        (["compare", "{dsn}", "--baseline", "other"], "holds no baseline other; it holds before"),
        (["compare", "dbname=nowhere host=/nowhere"], "no baseline was captured from"),
        (["show", "other"], "holds no baseline other"),
        (["remove", "other"], "holds no baseline other"),
    ],
)
def test_what_cannot_be_done_ends_with_3_and_the_way_out(
    perfloop: Any, kept: str, arguments: list[str], fact: str
) -> None:
    told = perfloop("baseline", *(each.format(dsn=kept) for each in arguments))

    assert 3 == told.code
    assert fact in told.fault


def test_a_capture_that_is_killed_leaves_no_half_baseline(perfloop: Any, kept: str) -> None:
    process = perfloop.start("baseline", "capture", kept, "--name", "cut", "--window", "30")
    deadline = time.monotonic() + 60
    with psycopg.connect(kept, autocommit=True) as connection:
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'perfloop'"
        while connection.execute(sessions).fetchone() == (0,):
            assert time.monotonic() < deadline, "it never connected"
    perfloop.kill(process)

    assert "cut" not in perfloop("baseline", "list").out
    with sqlite3.connect(perfloop.state / "journal.sqlite3") as journal:
        assert [("before",)] == journal.execute("SELECT name FROM baselines").fetchall()
    assert 0 == perfloop("baseline", "capture", kept, "--name", "cut").code


@pytest.mark.parametrize("columns", [60, 140])
def test_lines_keep_to_the_terminal(perfloop: Any, kept: str, columns: int) -> None:
    drop_index(kept)
    told = perfloop("baseline", "compare", kept, COLUMNS=str(columns))

    assert max(len(line) for line in told.out.splitlines()[1:]) <= columns
