"""Odd lines in logs: what can be used is used, what cannot is counted, nothing stops."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from perfloop.errors import InvalidInput
from perfloop.validate.executions import executions
from perfloop.validate.given_source import files_below, logs_of
from perfloop.validate.log_prefix import LinePrefix
from perfloop.validate.log_records import Damage, stderr_records
from perfloop.validate.logged import spread
from perfloop.validate.normaliser import normalised, shape_key
from perfloop.validate.server_log import LogOptions, LogReading, read_logs

LOGS = Path(__file__).parent / "data" / "logs"
STORED = sorted(LOGS.iterdir())
HEAD = "2026-01-01 00:00:00.000 UTC [7] me@shop "


def read(path: Path, **options: str) -> LogReading:
    return read_logs([path], LogOptions(**options))


def counted(text: str) -> list[tuple[str, int, float | None]]:
    records = stderr_records(text.splitlines(), LinePrefix(), Damage())
    return [(each.text, each.calls, each.duration_s) for each in executions(records)]


@pytest.mark.parametrize("path", STORED, ids=[path.name for path in STORED])
def test_every_format_of_a_server_gives_the_same_statements(path: Path) -> None:
    reading = read(path, database="postgres")

    assert () == reading.notes
    assert 16 == sum(each.calls for each in reading.statements)
    assert 8 == next(each.calls for each in reading.statements if "between" in each.statement.text)


@pytest.mark.parametrize("path", STORED, ids=[path.name for path in STORED])
def test_a_log_that_is_cut_anywhere_gives_what_came_before(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    calls = []
    for part in range(1, 8):
        cut = tmp_path / "cut"
        cut.write_bytes(content[: len(content) * part // 8])
        calls.append(sum(each.calls for each in read(cut).statements))

    assert sorted(calls) == calls
    assert calls[-1] > 0


def test_bytes_of_other_encodings_and_line_ends_change_nothing(tmp_path: Path) -> None:
    content = (LOGS / "pg18_json.log").read_text(encoding="utf-8")
    samples = {each.samples for each in read(LOGS / "pg18_json.log").statements}
    for encoded in (
        content.encode("latin-1"),
        content.encode("utf-16"),
        b"\xef\xbb\xbf" + content.encode(),
        content.replace("\n", "\r\n").encode(),
        gzip.compress(content.encode()),
    ):
        tmp_path.joinpath("log").write_bytes(encoded)

        assert samples == {each.samples for each in read(tmp_path / "log").statements}


def test_a_packed_log_that_is_cut_says_so_and_gives_its_beginning(tmp_path: Path) -> None:
    packed = gzip.compress((LOGS / "pg18_json.log").read_bytes() * 20)
    tmp_path.joinpath("log.gz").write_bytes(packed[:-50])
    reading = read(tmp_path / "log.gz")

    assert reading.statements
    assert ["it is cut or damaged as a gzip file"] == [
        each.reason.partition(":")[0] for each in reading.notes
    ]


def test_a_duration_that_comes_alone_belongs_to_the_statement_before() -> None:
    log = f"{HEAD}LOG:  statement: SELECT 1\n{HEAD}LOG:  duration: 2.000 ms\n"

    assert [("SELECT 1", 1, 0.002)] == counted(log)


def test_parse_and_bind_are_no_calls() -> None:
    log = (
        f"{HEAD}LOG:  duration: 1.0 ms  parse <unnamed>: SELECT $1\n"
        f"{HEAD}LOG:  duration: 1.0 ms  bind <unnamed>: SELECT $1\n"
        f"{HEAD}LOG:  duration: 3.0 ms  execute <unnamed>: SELECT $1\n"
        f"{HEAD}DETAIL:  parameters: $1 = '1'\n"
    )

    assert [("SELECT $1", 1, 0.003)] == counted(log)


def test_an_explained_statement_did_not_run() -> None:
    assert [] == counted(f"{HEAD}LOG:  duration: 2.0 ms  statement: EXPLAIN SELECT 1\n")


def test_a_value_that_was_cut_is_no_parameter(tmp_path: Path) -> None:
    line = f"{HEAD}LOG:  duration: 2.0 ms  execute a: SELECT * FROM t WHERE x = $1\n"
    tmp_path.joinpath("log").write_text(f"{line}{HEAD}DETAIL:  Parameters: $1 = 'abc...'\n")
    (statement,) = read(tmp_path / "log").statements

    assert (1, ()) == (statement.calls, statement.samples)


def test_statements_of_one_text_share_its_time(tmp_path: Path) -> None:
    line = f"{HEAD}LOG:  duration: 4.0 ms  statement: SELECT a FROM t; SELECT b FROM t;\n"
    tmp_path.joinpath("log").write_text(line)

    assert [0.002, 0.002] == [each.total_s for each in read(tmp_path / "log").statements]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("%m [%p] %q%u@%d %Q ", "2026-01-01 00:00:00.000 UTC [7] me@shop -12 LOG:  hello"),
        ("%t:%r:%u@%d:[%p]:", "2026-01-01 00:00:00 UTC:10.0.0.1(5):me@shop:[7]:LOG:  hello"),
        (
            "%t [%p]: [%l-1] user=%u,db=%d,app=%a ",
            "2026-01-01 00:00:00 UTC [7]: [3-1] user=me,db=shop,app=x LOG:  hello",
        ),
    ],
)  # fmt: skip
def test_a_prefix_is_read_as_set_and_by_its_looks(setting: str, line: str) -> None:
    for prefix in (LinePrefix(setting), LinePrefix()):
        head = prefix.read(line)

        assert head is not None
        assert ("7", "shop", "LOG", "hello") == (head.session, head.database, head.severity, head.text)


def test_a_prefix_that_fits_no_line_is_refused_with_the_line() -> None:
    with pytest.raises(InvalidInput, match="no line of the log begins as '%t %c '"):
        read(LOGS / "pg18_json.log", line_prefix="%t %c ")


def test_texts_that_differ_in_constants_are_one_shape() -> None:
    one = "SELECT a FROM t WHERE b = 'x''y' AND c IN (1, 2, 3) /* id=1 */ LIMIT 5"
    other = "SELECT a FROM t\nWHERE b = $1 AND c IN ($2 /*, ... */)  LIMIT $3"

    assert shape_key(one) == shape_key(other)
    assert "SELECT a FROM t WHERE b = $1 AND c IN ($2 /*, ... */) /* id=1 */ LIMIT $3" == normalised(one)


def test_a_loop_of_links_ends_and_closed_doors_are_told(tmp_path: Path) -> None:
    tmp_path.joinpath("loop").symlink_to(tmp_path)
    tmp_path.joinpath("gone.log").symlink_to(tmp_path / "nowhere")
    tmp_path.joinpath("a.log").write_text(f"{HEAD}LOG:  duration: 2.0 ms  statement: SELECT 1\n")
    tmp_path.joinpath("noise").write_bytes(bytes(range(256)))

    assert ((tmp_path / "a.log", tmp_path / "noise"), ()) == files_below(tmp_path)
    found, notes = logs_of(tmp_path)
    assert (tmp_path / "a.log",) == found
    assert ["it has no line that a PostgreSQL server writes"] == [each.reason for each in notes]


def test_few_samples_of_many_reach_from_the_fastest_to_the_slowest() -> None:
    assert ("1", "4", "7") == spread(("1", "2", "3", "4", "5", "6", "7"), 3)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("%-10p|", "77        |LOG:  x"),
        ("%10p %d ", "        77 shop LOG:  x"),
        ("%-6p %10d ", "77           shop LOG:  x"),
        ("[%p] %-5p %d ", "[77] 77    shop LOG:  x"),
        ("%p %q%p@%d ", "77 77@shop LOG:  x"),
    ],
)
def test_padding_and_repetition_in_a_prefix_are_read(setting: str, line: str) -> None:
    head = LinePrefix(setting).read(line)

    assert head is not None
    assert ("77", "x") == (head.session, head.text)


def test_a_prefix_of_repeated_escapes_is_read_in_linear_time() -> None:
    head = LinePrefix("%-10p%10l" * 12).read(" " * 20_000 + "77" * 5_000)

    assert head is None


def test_a_prefix_of_too_many_escapes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="more than 24 escapes"):
        LinePrefix("%-10p" * 6_000)
