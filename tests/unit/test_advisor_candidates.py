"""From plans, as EXPLAIN VERBOSE prints them, to the indexes worth a look."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from msgspec.structs import replace

from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan, read_plan
from perfloop.model.target import Column, ColumnStatistics, ForeignKey, Index, IndexKey, Table, TableName
from perfloop.tune.advisor.accesses import read_accesses
from perfloop.tune.advisor.candidates import Candidates, may_use
from perfloop.tune.advisor.naming import new_index
from perfloop.tune.advisor.predicates import Written

ORDERS = TableName(schema="public", name="orders")
CUSTOMERS = TableName(schema="public", name="customers")


def table(name: TableName, *columns: str, size_bytes: int = 10_000_000) -> Table:
    statistics = ColumnStatistics(null_ratio=0.0, distinct=-0.5, width_bytes=8)
    return Table(
        name=name,
        rows=100_000,
        size_bytes=size_bytes,
        columns=tuple(
            Column(name=each, type_name="bigint", not_null=True, statistics=statistics) for each in columns
        ),
        live_rows=100_000,
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


TABLES = {
    ORDERS: table(ORDERS, "id", "customer_id", "status", "total", "made", "gone"),
    CUSTOMERS: table(CUSTOMERS, "id", "region"),
}


def scan(alias: str = "o", relation: str = "orders", **fields: Any) -> dict[str, Any]:
    return {
        "Node Type": "Seq Scan",
        "Schema": "public",
        "Relation Name": relation,
        "Alias": alias,
        "Parent Relationship": "Outer",
        **fields,
    }


def above(kind: str, *children: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Plans": list(children), **fields}


def plan(node: dict[str, Any]) -> Plan:
    return read_plan([{"Plan": node}])


def candidates(node: dict[str, Any], *indexes: Index, keys: tuple[ForeignKey, ...] = ()) -> Candidates:
    return Candidates(read_accesses(plan(node), TABLES, Written(is_read=True)), TABLES, indexes, keys)


def titles(found: tuple[Any, ...]) -> list[str]:
    return [each.title.removeprefix("create index on ") for each in found]


def existing(*columns: str, **fields: Any) -> Index:
    return Index(
        table=ORDERS,
        name="there",
        method="btree",
        keys=tuple(IndexKey(text=each) for each in columns),
        definition="",
        size_bytes=1,
        scans=1,
        **fields,
    )


def test_a_plan_without_schemas_is_refused_because_its_columns_are_ambiguous() -> None:
    node = {"Node Type": "Seq Scan", "Relation Name": "orders", "Alias": "o", "Filter": "(total = 5)"}

    with pytest.raises(UnsupportedStatement, match="VERBOSE"):
        read_accesses(plan(node), TABLES)


@pytest.mark.parametrize("type_name", ["jsonb", "tsvector", "text[]"])
def test_what_is_searched_for_its_parts_is_no_key(type_name: str) -> None:
    statistics = ColumnStatistics(null_ratio=0.0, distinct=-0.5, width_bytes=8)
    parts = Column(name="parts", type_name=type_name, not_null=True, statistics=statistics)
    tables = {ORDERS: replace(TABLES[ORDERS], columns=(*TABLES[ORDERS].columns, parts))}
    node = above("Sort", scan(Filter="((o.parts = 'x') AND (o.total = 5))"), **{"Sort Key": ["o.parts"]})
    (access,) = read_accesses(plan(node), tables)

    assert ["total"] == [key.text for key in access.attributes]
    assert ("parts = …",) == access.unserved


def test_every_alias_of_a_table_is_an_access_of_its_own() -> None:
    node = above(
        "Hash Join",
        scan("a", Filter="(a.total = 5)"),
        scan("b", Filter="(b.status = 1)"),
        **{"Hash Cond": "(a.customer_id = b.customer_id)"},
    )
    accesses = read_accesses(plan(node), TABLES)

    assert [("a", ("total",), ("customer_id",)), ("b", ("status",), ("customer_id",))] == [
        (
            each.alias,
            tuple(key.text for key in each.equal),
            tuple(key.text for key in each.joined),
        )
        for each in accesses
    ]


def test_columns_below_a_join_count_only_where_something_takes_them() -> None:
    """A scan below another node may list all columns, because projecting would cost more."""
    node = above(
        "Aggregate",
        scan(Output=["o.id", "o.total", "o.made"], Filter="(o.status = 1)"),
        Output=["sum(o.total)"],
    )
    (access,) = read_accesses(plan(node), TABLES)

    assert ("status", "total") == access.needed


def test_columns_compared_with_constants_together_are_told() -> None:
    (access,) = read_accesses(
        plan(scan(Filter="((o.status = 1) AND (o.total = 5) AND (o.made > 7))")), TABLES
    )

    assert ("status", "total") == access.anded


def test_each_key_is_a_first_candidate_and_what_is_there_is_none() -> None:
    node = scan(Filter="((o.status = 1) AND (o.made > 5) AND (o.customer_id = 2))")

    assert ["orders (customer_id)", "orders (made)"] == titles(candidates(node, existing("status")).first())


def test_an_invalid_or_partial_index_does_not_stand_in_the_way() -> None:
    node = scan(Filter="(o.status = 1)")
    there = [existing("status", is_valid=False), existing("status", predicate="(gone IS NULL)")]

    assert ["orders (status)"] == titles(candidates(node, *there).first())


def test_the_order_of_a_limit_stands_behind_the_equal_keys() -> None:
    sort = above("Sort", scan(Filter="(o.customer_id = 5)"), **{"Sort Key": ["o.made DESC", "o.id DESC"]})
    found = titles(candidates(above("Limit", sort)).first())

    assert "orders (customer_id, made, id)" in found


def test_mixed_directions_stay_and_a_common_one_is_read_backwards() -> None:
    mixed = above("Sort", scan(), **{"Sort Key": ["o.total DESC", "o.made"]})
    common = above("Sort", scan(), **{"Sort Key": ["o.total DESC", "o.made DESC"]})

    assert "orders (total desc, made)" in titles(candidates(mixed).first())
    assert "orders (total, made)" in titles(candidates(common).first())


def test_a_foreign_key_without_an_index_is_a_candidate() -> None:
    key = ForeignKey(
        name="fk",
        table=ORDERS,
        columns=("customer_id",),
        referenced=CUSTOMERS,
        referenced_columns=("id",),
    )
    node = scan(Filter="(o.status = 1)")

    assert "orders (customer_id)" in titles(candidates(node, keys=(key,)).first())


def test_tables_of_two_pages_get_no_index() -> None:
    small = {ORDERS: table(ORDERS, "status", size_bytes=8192)}
    accesses = read_accesses(plan(scan(Filter="(o.status = 1)")), small)

    assert () == Candidates(accesses, small, ()).first()


def test_an_equal_key_may_be_put_before_a_range() -> None:
    node = scan(Filter="((o.status = 1) AND (o.made > 5))", Output=["o.*"])
    wider = candidates(node).wider(new_index(ORDERS, (IndexKey(text="made"),)))

    assert {"orders (made, status)", "orders (status, made)"} <= set(titles(wider))


def test_an_equal_key_may_be_put_before_an_order() -> None:
    sort = above("Sort", scan(Filter="(o.customer_id = 5)"), **{"Sort Key": ["o.made"]})
    wider = candidates(above("Limit", sort)).wider(new_index(ORDERS, (IndexKey(text="made"),)))

    assert "orders (customer_id, made)" in titles(wider)


def test_a_condition_is_read_the_same_under_any_hash_seed() -> None:
    """Sets of strings are walked in another order in every process."""
    script = (
        "import sys\n"
        "from perfloop.tune.advisor.conditions import read_conditions\n"
        "print(read_conditions(sys.argv[1]))\n"
    )
    condition = "((o.a = 1) AND ((o.b = 2) OR (o.c > 3)) AND (ROW(o.d, o.e) < ROW(1, 2)) AND (o.f = c.g))"
    told = {
        subprocess.run(
            [sys.executable, "-c", script, condition],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2")
    }

    assert 1 == len(told)


def test_the_rest_of_what_a_statement_needs_may_be_included() -> None:
    node = above("Aggregate", scan(Filter="(o.status = 1)"), Output=["sum(o.total)"])
    wider = candidates(node).wider(new_index(ORDERS, (IndexKey(text="status"),)))

    assert ["orders (status) include (total)"] == titles(wider)


def test_a_predicate_is_offered_only_when_every_use_has_it() -> None:
    live = scan("a", Filter="((a.status = 1) AND (a.gone IS NULL))")
    also_live = scan("b", Filter="((b.status = 2) AND (b.gone IS NULL))")
    dead = scan("c", Filter="(c.status = 3)")
    status = new_index(ORDERS, (IndexKey(text="status"),))
    partial = "orders (status) where gone IS NULL"

    assert partial in titles(candidates(above("Append", live, also_live)).wider(status))
    assert partial not in titles(candidates(above("Append", live, dead)).wider(status))


def test_an_index_matters_only_to_who_can_enter_or_cover_it() -> None:
    (access,) = read_accesses(
        plan(above("Aggregate", scan(Filter="(o.status = 1)"), Output=["sum(o.total)"])), TABLES
    )
    keys = {name: IndexKey(text=name) for name in ("status", "total", "made")}

    assert may_use(access, new_index(ORDERS, (keys["status"], keys["made"])))
    assert may_use(access, new_index(ORDERS, (keys["total"],), included=("status",)))
    assert not may_use(access, new_index(ORDERS, (keys["made"],)))
    assert not may_use(access, new_index(ORDERS, (keys["status"],), predicate="gone IS NULL"))
