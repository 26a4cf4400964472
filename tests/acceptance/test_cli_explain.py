"""`perfloop explain` as its users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BY_CUSTOMER = "SELECT id FROM orders WHERE customer = 77;\n"


@pytest.fixture
def statement(perfloop: Any) -> Path:
    path = perfloop.folder / "by_customer.sql"
    path.write_text(BY_CUSTOMER)
    return path


def query_id(perfloop: Any, dsn: str) -> str:
    statements = json.loads(perfloop("analyze", dsn, "--json").out)["statements"]
    return str(next(each["query_id"] for each in statements if "customer = $1" in each["text"]))


def test_a_file_is_explained_with_what_is_wrong(perfloop: Any, shop_dsn: str, statement: Path) -> None:
    told = perfloop("explain", shop_dsn, statement)

    assert 0 == told.code
    assert "planned only, nothing was run" in told.out
    assert "Seq Scan on orders" in told.out
    assert "[missing-index]" in told.out


def test_a_query_id_may_begin_with_a_minus(perfloop: Any, shop_dsn: str) -> None:
    known = perfloop("explain", shop_dsn, query_id(perfloop, shop_dsn))
    unknown = perfloop("explain", shop_dsn, "-1234567890123")

    assert 0 == known.code
    assert "40 calls" in known.out
    assert 3 == unknown.code
    assert "no statement with the query id -1234567890123" in unknown.fault


def test_standard_input_is_explained(perfloop: Any, shop_dsn: str) -> None:
    program = Path(sys.executable).with_name("perfloop")

    ended = subprocess.run(
        [program, "explain", shop_dsn, "-"], input=BY_CUSTOMER, capture_output=True, text=True, check=False
    )

    assert (0, True) == (ended.returncode, "Seq Scan on orders" in ended.stdout)


@pytest.mark.parametrize("columns", [60, 140])
def test_lines_keep_to_the_terminal(perfloop: Any, shop_dsn: str, statement: Path, columns: int) -> None:
    told = perfloop("explain", shop_dsn, statement, "--analyze", COLUMNS=str(columns))

    assert max(len(line) for line in told.out.splitlines()) <= columns


def test_json_alone_stands_on_standard_output(perfloop: Any, shop_dsn: str, statement: Path) -> None:
    told = perfloop("explain", shop_dsn, statement, "--json", "--analyze")
    document = json.loads(told.out)

    assert ("perfloop-explanation-1", "") == (document["format"], told.err)
    assert document["statements"][0]["plans"][0]["execution_s"] > 0


def test_a_run_that_fails_shows_the_estimate_and_is_no_success(perfloop: Any, shop_dsn: str) -> None:
    perfloop.folder.joinpath("q.sql").write_text("SELECT customer / (id - id) FROM orders WHERE id < 9;")

    planned = perfloop("explain", shop_dsn, "q.sql")
    run = perfloop("explain", shop_dsn, "q.sql", "--analyze", "--yes")

    assert (0, 3) == (planned.code, run.code)
    assert "on orders" in run.out
    assert "could not be run" in run.fault
    assert "division by zero" in run.fault


def test_the_page_is_whole_and_takes_text_for_text(perfloop: Any, shop_dsn: str) -> None:
    perfloop.folder.joinpath("hostile.sql").write_text(
        "SELECT id FROM orders WHERE \"Order Note\" = '<img src=x onerror=alert(1)>';"
    )
    told = perfloop("explain", shop_dsn, "hostile.sql", "--html", "page.html")
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(perfloop.folder.joinpath("page.html").read_text())

    assert told.out.endswith("wrote page.html\n")
    assert {"main", "style"} <= set(tags)
    assert not {"img", "script", "link"} & set(tags)


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (["nothing.sql"], 3, "is no file, and no query id"),
        (["by_customer.sql", "--param", "x"], 2, "is no value for a parameter"),
        (["by_customer.sql", "--with-index", "nowhere (x)"], 3, "cannot be built"),
    ],
)
def test_what_cannot_be_done_is_told(
    perfloop: Any, shop_dsn: str, statement: Path, arguments: list[str], code: int, fact: str
) -> None:
    told = perfloop("explain", shop_dsn, *arguments)

    assert code == told.code
    assert fact in told.err


def test_an_index_is_measured_in_a_lab_that_is_gone_afterwards(
    perfloop: Any, shop_dsn: str, statement: Path
) -> None:
    told = perfloop("explain", shop_dsn, statement, "--with-index", "orders (customer)")

    assert 0 == told.code, told.err
    assert "with index orders (customer)" in told.out
    assert "→" in told.out
    assert [] == list(perfloop.servers.iterdir())


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("1='x'", 'cannot be planned with the values of --param: invalid input syntax for type integer: "x"'),
        ("2=5", "there is no $2 to give a value for: the parameters are $1"),
    ],
)
def test_a_value_that_cannot_stand_is_refused_not_replaced(
    perfloop: Any, shop_dsn: str, value: str, fault: str
) -> None:
    path = perfloop.folder / "asked.sql"
    path.write_text("SELECT id FROM orders WHERE customer = $1;\n")

    told = perfloop("explain", shop_dsn, path, "--param", value)

    assert 3 == told.code
    assert fault in told.fault
