"""Folders of SQL and pgbench scripts become workloads; what cannot be used is listed with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.snapshot import Activity, Host, Snapshot, StatementCounters
from perfloop.model.target import Fingerprint
from perfloop.model.workload import Statement, StatementKind, Workload
from perfloop.validate.workload import read_workload

TPCB = r"""
\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
END;
"""
SNAPSHOT = Snapshot(
    taken_at_s=0.0,
    database="shop",
    user="shop",
    fingerprint=Fingerprint(
        server_version=150000,
        server_text="",
        block_bytes=8192,
        data_checksums=False,
        jit_available=False,
        wal_compressions=(),
        io_methods=(),
        extensions=(),
    ),
    settings=(),
    tables=(),
    indexes=(),
    activity=Activity(
        connections=1,
        active=1,
        idle_in_transaction=0,
        hit_blocks=0,
        read_blocks=0,
        temp_bytes=0,
        temp_files=0,
        database_bytes=0,
        counted_for_s=None,
    ),
    host=Host(cpus=1, memory_bytes=1, available_bytes=1, load_1m=0.0, busy_ratio=0.0, steal_ratio=0.0),
)


def plans(text: str) -> Plan:
    """A server that has every table but `missing`."""
    if "missing" in text:
        raise UnsupportedStatement('relation "missing" does not exist')
    schema = "pg_catalog" if "pg_class" in text else "public"
    return Plan(root=PlanNode(kind="Seq Scan", fields={"Schema": schema, "Relation Name": "t"}))


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Workload]:
    """Writes the files given by name and reads the folder."""

    def write_and_read(files: dict[str, str | bytes], source: str = "") -> Workload:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return read_workload(str(tmp_path / source), SNAPSHOT, plans, seed=1)

    return write_and_read


def shares(workload: Workload) -> dict[str, float]:
    return {each.statement.label: round(each.calls_share, 4) for each in workload.operations}


def reasons(workload: Workload) -> dict[str, str]:
    return {each.statement.label: each.reason for each in workload.skipped}


def test_weights_and_names_come_from_comments(read: Callable[..., Workload]) -> None:
    workload = read(
        {
            "a.sql": "-- weight: 6\nSELECT 1 FROM t;",
            "deep/b.sql": "SELECT 2 FROM t;\n-- weight: 2\n-- name: second\nSELECT 3 FROM t",
            "c.txt": "SELECT 4 FROM t",
        }
    )

    assert {"a": 0.6667, "b:1": 0.1111, "second": 0.2222} == shares(workload)
    assert ("SELECT 1 FROM t",) == workload.operations[0].instances


def test_the_same_statement_in_two_files_is_one_operation(read: Callable[..., Workload]) -> None:
    workload = read({"a.sql": "SELECT 1\nFROM t", "b.sql": "-- weight: 2\nSELECT 1 FROM t;"})

    assert {"a": 1.0} == shares(workload)


def test_what_cannot_be_used_is_listed_with_its_reason(read: Callable[..., Workload]) -> None:
    workload = read(
        {
            "good.sql": "SELECT 1 FROM t",
            "latin.sql": "SELECT 'caf\xe9'".encode("latin-1"),
            "open.sql": "SELECT 'open",
            "copy.sql": "COPY t FROM stdin",
            "psql.sql": "SELECT * FROM t WHERE a = :id",
            "gone.sql": "SELECT * FROM missing",
            "zero.sql": "-- weight: none\nSELECT 5 FROM t",
            "system.sql": "SELECT relname FROM pg_class",
            "empty.sql": "-- nothing yet\n;",
        }
    )

    assert {"good": 1.0} == shares(workload)
    assert {
        "latin": "latin.sql is not UTF-8 at byte 12; convert it",
        "open": "a string that starts at character 8 does not end",
        "copy": "COPY is not tried: only SELECT, INSERT, UPDATE, DELETE, MERGE and VALUES are",
        "psql": r"the variable :id has no value; add \set id above it",
        "gone": 'relation "missing" does not exist',
        "zero": "its weight is 'none'; write a number above 0, as in -- weight: 3",
        "system": "it reads only the system catalogue, which perfloop does not tune",
    } == reasons(workload)


def test_a_folder_without_sql_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has no \.sql files"):
        read_workload(str(tmp_path), SNAPSHOT, plans, seed=1)
    with pytest.raises(InvalidInput, match="there is no file or folder"):
        read_workload(str(tmp_path / "none"), SNAPSHOT, plans, seed=1)


def test_a_pgbench_script_gives_an_operation_per_command(read: Callable[..., Workload]) -> None:
    workload = read({"tpcb.sql": TPCB}, source="tpcb.sql@3")
    update, select = workload.operations
    updated, selected = (
        [re.search(r"WHERE aid = (\d+)$", text) for text in each.instances] for each in (update, select)
    )

    assert {"tpcb:1": 0.5, "tpcb:2": 0.5} == shares(workload)
    assert "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2" == update.statement.text
    assert (StatementKind.WRITE, StatementKind.READ) == (update.statement.kind, select.statement.kind)
    assert 5 == len(update.instances)
    assert [one and one[1] for one in updated] == [one and one[1] for one in selected]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("\\if :x\nSELECT 1 FROM t;\n\\endif", r"\if is not supported"),
        ("SELECT 1 FROM t \\gset", r"\gset is not supported"),
        ("\\set x hash(1)\nSELECT 1 FROM t;", "does not know"),
    ],
)
def test_scripts_with_other_meta_commands_are_listed(
    read: Callable[..., Workload], script: str, reason: str
) -> None:
    workload = read({"script.pgbench": script, "one.sql": "SELECT 1 FROM t"})

    assert ["one"] == [each.statement.name for each in workload.operations]
    assert reason in reasons(workload)["script"]


def test_colons_that_are_no_variables_stay(read: Callable[..., Workload]) -> None:
    script = "\\set n 2\nSELECT a[1:2], ':n', b::text, $$:n$$ FROM t WHERE c = :n;"

    assert ("SELECT a[1:2], ':n', b::text, $$:n$$ FROM t WHERE c = 2",) == (
        read({"script.sql": script}).operations[0].instances
    )


def counted(name: str, kind: StatementKind, *, calls: int, total_s: float) -> StatementCounters:
    text = f"SELECT {name} FROM t" if kind is StatementKind.READ else f"UPDATE t SET a = {name}"
    statement = Statement(query_id=name, text=text, kind=kind)
    return StatementCounters(statement=statement, calls=calls, total_s=total_s, rows=calls)


def test_the_dearest_and_the_common_are_taken_and_the_rest_listed() -> None:
    read, write = StatementKind.READ, StatementKind.WRITE
    snapshot = msgspec.structs.replace(
        SNAPSHOT,
        statements=(
            counted("1", read, calls=100, total_s=90.0),
            counted("2", read, calls=10, total_s=9.5),
            counted("3", read, calls=5, total_s=0.3),
            counted("4", write, calls=5, total_s=0.1),
            counted("5", read, calls=880, total_s=0.1),
        ),
    )
    workload = read_workload(None, snapshot, plans, seed=1)

    assert {"1": 0.1005, "2": 0.0101, "4": 0.005, "5": 0.8844} == {
        each.statement.query_id: round(each.calls_share, 4) for each in workload.operations
    }
    assert ["not among the statements that make 99% of the time, and rarely called: 0.30% of the time"] == [
        each.reason for each in workload.skipped
    ]


def test_nothing_counted_makes_an_empty_workload() -> None:
    assert ((), ()) == (
        (workload := read_workload(None, SNAPSHOT, plans, seed=1)).operations,
        workload.skipped,
    )
