"""Literals in place of `$n` come from the statistics of the column that the parameter is about."""

from __future__ import annotations

import re
import subprocess
import sys
from random import Random

import msgspec
import pytest

from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import Activity, Host, Snapshot
from perfloop.model.target import (
    Column,
    ColumnStatistics,
    Fingerprint,
    ForeignKey,
    Index,
    IndexKey,
    Table,
    TableName,
)
from perfloop.validate.parameters import draw_instances

ORDERS = TableName(schema="public", name="orders")
USERS = TableName(schema="public", name="users")
DAYS = tuple(f"2026-01-{day:02}" for day in range(1, 32))


def a_column(
    name: str, type_name: str, *, common: dict[str, float] | None = None, histogram: tuple[str, ...] = ()
) -> Column:
    common = common or {}
    statistics = ColumnStatistics(
        null_ratio=0.0,
        distinct=-1.0,
        width_bytes=8,
        common_values=tuple(common),
        common_ratios=tuple(common.values()),
        histogram=histogram,
    )
    known = statistics if common or histogram else None
    return Column(name=name, type_name=type_name, not_null=True, statistics=known)


def a_table(name: TableName, *columns: Column) -> Table:
    return Table(
        name=name,
        rows=1000.0,
        size_bytes=8192,
        columns=columns,
        live_rows=1000,
        dead_rows=0,
        modified_since_analyze=0,
        analyzed_ago_s=1.0,
        sequential_scans=0,
        sequential_rows=0,
        index_scans=0,
        inserts=0,
        updates=0,
        hot_updates=0,
        deletes=0,
    )


def an_index(table: TableName, *keys: str, unique: bool = True, valid: bool = True) -> Index:
    return Index(
        table=table,
        name="_".join(keys),
        method="btree",
        keys=tuple(IndexKey(text=key) for key in keys),
        is_unique=unique,
        is_valid=valid,
        definition="CREATE INDEX …",
        size_bytes=8192,
        scans=0,
    )


IDS = tuple(str(number) for number in range(1, 1001, 10))
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
    tables=(
        a_table(
            USERS,
            a_column("id", "bigint", histogram=IDS),
            a_column("email", "text", histogram=("a'b@x", "zed_@x")),
        ),
        a_table(
            ORDERS,
            a_column("id", "bigint", histogram=IDS),
            a_column("user_id", "bigint"),
            a_column("status", "text", common={"paid": 0.9, "open": 0.1}),
            a_column("day", "date", histogram=DAYS),
            a_column("total", "numeric(12,2)", histogram=("1.50", "9.99", "100.00")),
            a_column("tags", "text[]"),
            a_column("doc", "jsonb", histogram=('{"kind": "a", "ref": 1}', '{"kind": "a", "ref": 2}')),
        ),
    ),
    indexes=(an_index(ORDERS, "id"), an_index(ORDERS, "total", valid=False), an_index(USERS, "lower(email)")),
    foreign_keys=(
        ForeignKey(
            name="fk", table=ORDERS, columns=("user_id",), referenced=USERS, referenced_columns=("id",)
        ),
    ),
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


def drawn(text: str, *, count: int = 5, seed: int = 1, **options: object) -> tuple[str, ...]:
    return draw_instances(text, SNAPSHOT, rng=Random(seed), count=count, **options)  # type: ignore[arg-type]  # as given


def captured(text: str, pattern: str, *, count: int = 5) -> list[tuple[str, ...]]:
    found = [re.search(pattern, instance) for instance in drawn(text, count=count)]
    assert all(found)
    return [match.groups() for match in found if match is not None]


def test_a_statement_without_parameters_is_its_own_instance() -> None:
    assert ("SELECT '$1'",) == drawn("SELECT '$1'")


def test_common_values_come_as_often_as_they_stand_in_the_table() -> None:
    values = captured("SELECT * FROM orders WHERE status = $1 AND id = $2", r"status = '(\w+)'", count=20)

    assert 18 == sum(value == ("paid",) for value in values)


def test_values_are_rows_of_the_table_and_quoted() -> None:
    values = captured("SELECT * FROM users u WHERE u.email = $1", r"email = '(.*)'$")

    assert {("a''b@x",), ("zed_@x",)} == set(values)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM orders WHERE day BETWEEN $1 AND $2",
        "SELECT * FROM orders o WHERE o.day >= $1 AND o.status = 'x' AND o.day < $2",
        "SELECT * FROM (SELECT day AS d FROM orders) s WHERE s.d > $1 AND $2 > s.d",
        "WITH s AS (SELECT o.day AS d FROM orders o) SELECT * FROM s WHERE d > $1 AND d <= $2",
    ],
)
def test_bounds_of_a_range_are_in_order_and_recent(text: str) -> None:
    days = [re.findall(r"'(2026-01-\d\d)'", instance) for instance in drawn(text)]

    assert all(low < high for low, high in days)
    assert max(high for _, high in days) >= "2026-01-24"


def test_an_interval_added_to_a_bound_starts_at_the_other_bound() -> None:
    text = "SELECT * FROM orders WHERE day >= date $1 AND day < date $2 + interval $3"
    bounds = captured(text, r">= date '(.+?)' AND day < date '(.+?)' \+ interval '\d")

    assert all(low == high for low, high in bounds)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("SELECT * FROM users WHERE email LIKE $1", r"LIKE '%?(a''b@|zed\\_)%'"),
        ("SELECT * FROM users WHERE email LIKE ANY($1)", r"""ANY\('\{("%?(a''b@|zed\\\\_)%",?)+\}'\)"""),
        ("SELECT * FROM users WHERE email LIKE '%' || $1 || '%'", r"'%' \|\| '(a''b@|zed_)' \|\| '%'"),
        ("SELECT * FROM users WHERE email LIKE concat('%', $1, '%')", r"'%', '(a''b@|zed_)', '%'"),
        ("SELECT * FROM users WHERE email LIKE $1 ESCAPE $2", r"%' ESCAPE '\\'$"),
        ("SELECT * FROM users WHERE $1 LIKE email", r"WHERE '(a''b@x|zed_@x)' LIKE"),
        ("SELECT * FROM orders WHERE doc ->> 'ref' LIKE $1", r"LIKE '%?[12]%'$"),
        ("SELECT * FROM unknown WHERE word ILIKE $1", r"ILIKE '%\w+%'$"),
        ("SELECT * FROM users WHERE lower(email) = $1", r"= '(a''b@x|zed_@x)'"),
        ("SELECT * FROM orders WHERE id = ANY($1)", r"""ANY\('\{("\d+",?)+\}'\)"""),
        ("SELECT * FROM orders WHERE id IN ($1 /*, ... */)", r"IN \((\d+, )+\d+ /\*"),
        ("SELECT * FROM orders WHERE doc @> $1", r"""@> '(\{"ref": [12]\}|\{"kind": "a"\})'"""),
        ("SELECT * FROM orders WHERE doc ->> $1 = $2", r"->> 'ref' = '([12])'"),
        ("SELECT * FROM orders LIMIT $1 OFFSET $2", r"LIMIT 20 OFFSET (0|20|100)$"),
        ("SELECT * FROM orders WHERE (day, id) < ($1, $2)", r"\('2026-01-\d\d', \d+\)$"),
        ("UPDATE orders SET total = total + $1 WHERE id = $2", r"total \+ 1 WHERE id = \d+$"),
        ("SELECT extract($1 FROM day) FROM orders", r"extract\('year' FROM"),
        ("SELECT * FROM orders WHERE total > $1 + $2", r"total > \d+\.\d\d \+ 1$"),
        ("SELECT * FROM orders WHERE day = $1::date", r"'2026-01-\d\d'::date$"),
        (
            "SELECT 1 FROM orders o WHERE EXISTS (SELECT FROM users WHERE id = o.user_id AND email = $1)",
            "@x'",
        ),
        (
            "MERGE INTO orders o USING users u ON u.id = o.id WHEN MATCHED THEN UPDATE SET status = $1",
            "'(paid|open)'",
        ),
    ],
)
def test_a_parameter_becomes_what_its_place_asks_for(text: str, pattern: str) -> None:
    assert all(re.search(pattern, instance) for instance in drawn(text)), drawn(text)


def test_patterns_are_by_turns_infixes_and_prefixes() -> None:
    patterns = captured("SELECT * FROM orders WHERE id::text LIKE $1", r"LIKE '(%?)\d+%'")

    assert [("%",), ("",), ("%",), ("",), ("%",)] == patterns


@pytest.mark.parametrize(
    "key",
    [IndexKey(text="note", operator_class="text_pattern_ops"), IndexKey(text="note", collation="C")],
    ids=["operator class", "collation"],
)
def test_patterns_are_prefixes_where_an_index_was_made_for_them(key: IndexKey) -> None:
    table = a_table(ORDERS, a_column("note", "text", common={"alphabet": 0.5, "betamax": 0.5}))
    index = msgspec.structs.replace(SNAPSHOT.indexes[0], table=ORDERS, method="btree", keys=(key,))
    snapshot = msgspec.structs.replace(SNAPSHOT, tables=(table,), indexes=(index,))
    found = draw_instances("SELECT * FROM orders WHERE note LIKE $1", snapshot, rng=Random(3))

    assert {"'alph%'", "'beta%'"} == {each.rpartition(" ")[2] for each in found}


def test_members_of_one_list_differ() -> None:
    lists = captured("SELECT * FROM orders WHERE id IN ($1, $2, $3)", r"IN \((\d+), (\d+), (\d+)\)")

    assert all(len(set(members)) == 3 for members in lists)


def test_an_insert_meets_no_unique_row_and_misses_no_referenced_one() -> None:
    text = "INSERT INTO orders (id, user_id, status, total) VALUES ($1, $2, $3, $4)"
    rows = captured(text, r"VALUES \('?(\d+)'?, (\d+), '(paid|open)', '(1.50|9.99|100.00)'\)")

    assert all(int(row[0]) > 1000 and row[1] in IDS for row in rows)


def test_an_upsert_meets_a_row_in_some_instances_and_none_in_others() -> None:
    text = "INSERT INTO orders (id, status) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"
    ids = [int(row[0]) for row in captured(text, r"VALUES \('?(\d+)'?,")]

    assert {True, False} == {each > 1000 for each in ids}


def test_a_column_without_statistics_is_sampled() -> None:
    asked = []

    def sample(table: TableName, column: str) -> tuple[str, ...]:
        asked.append((table, column))
        return ("{red,blue}",)

    instances = drawn("SELECT * FROM orders WHERE tags @> $1 AND tags && $2", sample=sample)

    assert [(ORDERS, "tags")] == asked
    assert "SELECT * FROM orders WHERE tags @> '{red}' AND tags && '{red}'" in instances


def test_the_server_tells_types_that_the_text_does_not() -> None:
    def types(text: str) -> tuple[str, ...]:
        return {"SELECT f($1, $2)": ("boolean", "uuid")}[text]

    assert (
        "SELECT f('true', '00000000-0000-4000-8000-000000000000')"
        == drawn("SELECT f($1, $2)", types=types)[0]
    )


def test_no_parameter_is_ever_null() -> None:
    text = "INSERT INTO orders VALUES ($1, $2, $3, $4, $5, $6, $7)"

    assert not any("null" in instance.lower() for instance in drawn(text))


def test_a_type_without_plausible_values_is_refused_with_its_name() -> None:
    with pytest.raises(UnsupportedStatement, match="no plausible value of type polygon"):
        drawn("SELECT $1::polygon FROM orders")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT * FROM orders WHERE $1 = 'open", "does not end"),
        ("SELECT (((( $1", "cannot be found"),
        ("FROBNICATE $1", "cannot be found"),
        ("SELECT " + "(" * 3000 + "$1" + ")" * 3000, "nested too deeply"),
        ("SELECT $1 " + "x" * 1_000_000, "1,000,010 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedStatement, match=reason):
        drawn(text)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_the_same_seed_draws_the_same_under_any_hash_seed(hash_seed: str) -> None:
    text = "SELECT * FROM orders WHERE id = $1 AND status = $2 AND day BETWEEN $3 AND $4 AND doc @> $5"
    script = (
        f"import importlib.util as u; s = u.spec_from_file_location('t', {__file__!r});"
        f"m = u.module_from_spec(s); s.loader.exec_module(m); print(m.drawn({text!r}, seed=3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"{drawn(text, seed=3)}\n" == done.stdout
