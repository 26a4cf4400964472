"""`perfloop analyze` as its users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict


def test_findings_say_what_they_cost_and_what_would_be_tried(perfloop: Any, shop_dsn: str) -> None:
    told = perfloop("analyze", shop_dsn)

    assert 0 == told.code
    assert "scan of orders" in told.out
    assert "% of the time" in told.out
    assert "try: an index on orders" in told.out


def test_nothing_is_padded_coloured_or_cut_in_a_file(perfloop: Any, shop_dsn: str) -> None:
    told = perfloop("analyze", shop_dsn)

    lines = (told.out + told.err).splitlines()
    assert [] == [line for line in lines if line != line.rstrip() or "\x1b" in line or "…" in line[:8]]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_lines_keep_to_the_terminal(perfloop: Any, shop_dsn: str, columns: int) -> None:
    told = perfloop("analyze", shop_dsn, COLUMNS=str(columns))

    prose = [line for line in told.out.splitlines()[1:] if "CREATE " not in line]
    assert max(len(line) for line in prose) <= columns


def test_json_alone_stands_on_standard_output(perfloop: Any, shop_dsn: str) -> None:
    told = perfloop("analyze", shop_dsn, "--json")

    assert "perfloop-analysis-1" == json.loads(told.out)["format"]
    assert "" == told.err


def test_the_page_is_written_where_it_was_asked_for(perfloop: Any, shop_dsn: str) -> None:
    told = perfloop("analyze", shop_dsn, "--html", "page.html")

    assert told.out.endswith("wrote page.html\n")
    assert perfloop.folder.joinpath("page.html").read_text().startswith("<!doctype html>")


def test_fail_on_tells_by_its_exit_code(perfloop: Any, shop_dsn: str) -> None:
    severities = {
        each["severity"] for each in json.loads(perfloop("analyze", shop_dsn, "--json").out)["findings"]
    }

    assert "high" in severities
    assert 1 == perfloop("analyze", shop_dsn, "--fail-on", "high").code
    assert 1 == perfloop("analyze", shop_dsn, "--fail-on", "low").code


def test_the_target_may_stand_in_the_environment(perfloop: Any, shop_dsn: str) -> None:
    assert 0 == perfloop("analyze", DATABASE_URL=shop_dsn).code


def test_a_reader_that_goes_away_is_no_fault(perfloop: Any, shop_dsn: str) -> None:
    program = Path(sys.executable).with_name("perfloop")
    pipe = f'"{program}" analyze "$DATABASE_URL" 2>errors | head -1; exit ${{PIPESTATUS[0]}}'

    ended = subprocess.run(
        ["/bin/bash", "-c", pipe],
        env={"DATABASE_URL": shop_dsn, "PATH": "/usr/bin:/bin"},
        cwd=perfloop.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    assert "Traceback" not in perfloop.folder.joinpath("errors").read_text()


@pytest.mark.parametrize("form", ["uri", "keywords"])
def test_a_password_is_told_nowhere(perfloop: Any, shop_dsn: str, form: str) -> None:
    parts = conninfo_to_dict(shop_dsn)
    place = f"/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    uri = f"postgresql://{parts['user']}:gehe%40im@{place}"
    dsn = uri if form == "uri" else f"{shop_dsn} password=gehe@im"

    told = perfloop("analyze", dsn, "--html", "page.html")

    assert 0 == told.code
    assert [] == [text for text in (told.out, told.err) if "gehe" in text]
    assert "gehe" not in perfloop.folder.joinpath("page.html").read_text()
