"""Checks that read the catalogue and the counters: planted in, and absent from, a healthy snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from perfloop.analyze.foreign_keys import foreign_keys_without_index
from perfloop.analyze.index_upkeep import duplicate_indexes, invalid_indexes, unused_indexes
from perfloop.analyze.planner_statistics import stale_statistics
from perfloop.analyze.vacuum import vacuum_lag
from perfloop.model.advice import Finding, Severity
from perfloop.model.plan import read_plan
from perfloop.model.snapshot import Limitation, Snapshot, StatementCounters, StatementPlan
from perfloop.model.target import ForeignKey, Index, IndexKey, Table, TableName
from perfloop.model.value import from_json
from perfloop.model.workload import Statement, StatementKind

QUIET = from_json((Path(__file__).parent / "data" / "snapshot.json").read_text(), Snapshot)
"""A healthy target with customers (2,000 rows), orders (60,000) and tags (20,000)."""
ORDERS = TableName(schema="public", name="orders")
CUSTOMERS = TableName(schema="public", name="customers")
MIB = 1024**2
MONTH_S = 30 * 86_400.0


def keys(*names: str) -> tuple[IndexKey, ...]:
    """As "status" or "status desc"."""
    return tuple(IndexKey(text=name.split()[0], descending=name.endswith(" desc")) for name in names)


def index(name: str, *columns: str, scans: int = 5, size_bytes: int = MIB, **more: object) -> Index:
    made = Index(
        table=ORDERS,
        name=name,
        method="btree",
        keys=keys(*columns),
        definition=f"CREATE INDEX {name} ON public.orders",
        size_bytes=size_bytes,
        scans=scans,
    )
    return replace(made, **more)


def with_indexes(*indexes: Index, counted_for_s: float | None = MONTH_S) -> Snapshot:
    activity = replace(QUIET.activity, counted_for_s=counted_for_s)
    return replace(QUIET, indexes=(*QUIET.indexes, *indexes), activity=activity)


def with_table(name: str, **figures: object) -> Snapshot:
    def changed(table: Table) -> Table:
        return replace(table, **figures) if table.name.name == name else table

    return replace(QUIET, tables=tuple(changed(table) for table in QUIET.tables))


def only(findings: tuple[Finding, ...]) -> Finding:
    assert 1 == len(findings), findings
    return findings[0]


def names(findings: tuple[Finding, ...]) -> list[str]:
    return sorted(each.location.removeprefix("orders: ") for each in findings)


def test_an_index_without_scans_is_unused() -> None:
    finding = only(unused_indexes(with_indexes(index("by_status", "status", scans=0, size_bytes=200 * MIB))))

    expected = "No query has used index by_status on orders for 30 days, as long as the counters run"
    assert expected == finding.title
    assert (Severity.MEDIUM, 200 * MIB) == (finding.severity, finding.space_bytes)


def test_a_standby_cannot_say_that_an_index_is_unused() -> None:
    primary = with_indexes(index("by_status", "status", scans=0))
    standby = replace(primary, health=replace(primary.health, is_standby=True))

    assert 1 == len(unused_indexes(primary))
    assert () == unused_indexes(standby)


@pytest.mark.parametrize("counted_for_s", [None, 3600.0])
def test_young_counters_make_an_unused_index_a_small_matter(counted_for_s: float | None) -> None:
    unused = index("by_status", "status", scans=0, size_bytes=200 * MIB)
    finding = only(unused_indexes(with_indexes(unused, counted_for_s=counted_for_s)))

    assert Severity.LOW is finding.severity
    assert finding.would_try.endswith("the counters are young: look again after a full week")


@pytest.mark.parametrize(
    "duty", ["is_unique", "is_primary", "backs_constraint", "is_replica_identity", "is_attached"]
)
def test_an_index_with_a_duty_is_never_unused(duty: str) -> None:
    assert () == unused_indexes(with_indexes(index("by_status", "status", scans=0, **{duty: True})))


def test_the_only_index_of_a_foreign_key_is_not_unused() -> None:
    snapshot = with_indexes(index("by_customer", "customer_id", scans=0))
    key = ForeignKey(
        name="k",
        table=ORDERS,
        columns=("customer_id",),
        referenced=CUSTOMERS,
        referenced_columns=("id",),
    )

    assert ["by_customer"] == names(unused_indexes(snapshot))
    assert () == unused_indexes(replace(snapshot, foreign_keys=(key,)))


def test_an_index_that_is_scanned_is_not_unused() -> None:
    assert () == unused_indexes(with_indexes(index("by_status", "status", scans=1)))


def test_an_unused_index_that_another_makes_redundant_is_named_once() -> None:
    snapshot = with_indexes(index("a", "status", scans=0), index("b", "status", scans=9))

    assert ["a"] == names(duplicate_indexes(snapshot))
    assert () == unused_indexes(snapshot)


def test_of_equal_indexes_the_less_used_is_redundant() -> None:
    snapshot = with_indexes(index("a", "status", scans=1), index("b", "status", scans=9))

    assert ["a"] == names(duplicate_indexes(snapshot))


def test_of_equal_indexes_the_one_with_a_constraint_stays() -> None:
    constraint = index("z", "status", scans=0, is_unique=True, backs_constraint=True)
    snapshot = with_indexes(constraint, index("a", "status", is_unique=True), index("b", "status"))

    assert ["a", "b"] == names(duplicate_indexes(snapshot))


@pytest.mark.parametrize(
    "wide",
    [
        index("wide", "status", "created_at"),
        index("wide", "status", "created_at desc"),
        index("wide", "status desc", "created_at"),  # read backwards, it gives status in order
    ],
    ids=str,
)
def test_a_prefix_of_a_wider_index_is_redundant(wide: Index) -> None:
    finding = only(duplicate_indexes(with_indexes(index("narrow", "status"), wide)))

    assert "Index narrow on orders is a prefix of wide" == finding.title


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (index("narrow", "status", is_unique=True), index("wide", "status", "created_at")),
        (index("narrow", "status"), index("wide", "created_at", "status")),
        (index("narrow", "status", "created_at desc"), index("wide", "status", "created_at", "amount")),
        (index("narrow", "status"), index("wide", "status", "amount", predicate="(amount > 0)")),
        (index("narrow", "status", predicate="(amount > 0)"), index("wide", "status", "amount")),
        (index("narrow", "status", method="hash"), index("wide", "status", "amount")),
        (index("narrow", "status", included=("amount",)), index("wide", "status", "created_at")),
        (index("narrow", "status"), index("wide", "status", "amount", is_valid=False)),
        (
            index("narrow", keys=(IndexKey(text="status", operator_class="text_pattern_ops"),)),
            index("wide", "status", "amount"),
        ),
        (
            index("narrow", keys=(IndexKey(text="status", collation="C"),)),
            index("wide", "status", "amount"),
        ),
        (
            index("narrow", keys=(IndexKey(text="status", nulls_first=True),)),
            index("wide", "status", "amount"),
        ),
    ],
    ids=lambda each: each.name,
)
def test_an_index_that_does_what_no_wider_one_does_is_not_redundant(narrow: Index, wide: Index) -> None:
    assert () == duplicate_indexes(with_indexes(narrow, wide))


def test_the_index_that_stays_is_not_redundant_itself() -> None:
    chain = (index("a", "status"), index("b", "status", "amount"), index("c", "status", "amount", "id"))
    titles = [each.title for each in duplicate_indexes(with_indexes(*chain))]

    expected = ["Index a on orders is a prefix of c", "Index b on orders is a prefix of c"]
    assert expected == titles


def test_an_included_column_covers_an_included_column() -> None:
    snapshot = with_indexes(
        index("narrow", "status", included=("amount",)), index("wide", "status", included=("amount", "id"))
    )

    assert ["narrow"] == names(duplicate_indexes(snapshot))


@pytest.mark.parametrize(("size_bytes", "severity"), [(MIB, Severity.MEDIUM), (300 * MIB, Severity.HIGH)])
def test_an_invalid_index_is_found(size_bytes: int, severity: Severity) -> None:
    broken = index("by_status", "status", scans=0, size_bytes=size_bytes, is_valid=False)

    assert severity is only(invalid_indexes(with_indexes(broken))).severity
    assert () == unused_indexes(with_indexes(broken))


def test_valid_indexes_and_the_parts_of_a_partitioned_one_are_not_invalid() -> None:
    part = index("part", "status", is_valid=False, is_attached=True)

    assert () == invalid_indexes(with_indexes(index("by_status", "status"), part))


CUSTOMER_KEY = ForeignKey(
    name="orders_customer",
    table=ORDERS,
    columns=("customer_id", "status"),
    referenced=CUSTOMERS,
    referenced_columns=("id", "region"),
)


@pytest.mark.parametrize(("deletes", "severity"), [(0, Severity.LOW), (7, Severity.MEDIUM)])
def test_a_foreign_key_without_an_index_is_found(deletes: int, severity: Severity) -> None:
    snapshot = replace(with_table("customers", deletes=deletes), foreign_keys=(CUSTOMER_KEY,))
    finding = only(foreign_keys_without_index(snapshot))

    assert ("orders(customer_id, status)", severity) == (finding.location, finding.severity)


@pytest.mark.parametrize(("removed", "severity"), [(2_000, Severity.HIGH), (20, Severity.MEDIUM)])
def test_a_foreign_key_takes_the_time_of_the_scans_that_its_deletes_make(
    removed: int, severity: Severity
) -> None:
    """2,000 scans of 60,000 rows at ten million a second are 12 of the 100 seconds."""
    statement = Statement(query_id="7", text="delete from customers", kind=StatementKind.WRITE)
    fields = {"Node Type": "ModifyTable", "Operation": "Delete", "Relation Name": "customers"}
    plan = read_plan({"Plan": {**fields, "Schema": "public"}})
    snapshot = replace(
        with_table("customers", deletes=removed),
        foreign_keys=(CUSTOMER_KEY,),
        statements=(StatementCounters(statement=statement, calls=removed, total_s=100.0, rows=removed),),
        plans=(StatementPlan(query_id="7", instance="delete", plan=plan),),
    )
    finding = only(foreign_keys_without_index(snapshot))

    assert (severity, ("7",)) == (finding.severity, finding.query_ids)
    assert pytest.approx(removed * 60_000 / 10_000_000 / 100) == finding.time_share


@pytest.mark.parametrize(
    ("cover", "found"),
    [
        (index("i", "customer_id", "status"), 0),
        (index("i", "status", "customer_id", "amount"), 0),
        (index("i", "status", "customer_id", predicate="(customer_id IS NOT NULL)"), 0),
        (index("i", "customer_id"), 1),
        (index("i", "customer_id", "amount", "status"), 1),
        (index("i", "customer_id", "status", is_valid=False), 1),
        (index("i", "customer_id", "status", predicate="(amount > 0)"), 1),
        (index("i", "customer_id", "status", method="gin"), 1),
    ],
)
def test_an_index_supports_a_foreign_key_if_it_leads_with_its_columns(cover: Index, found: int) -> None:
    snapshot = replace(with_indexes(cover), foreign_keys=(CUSTOMER_KEY,))

    assert found == len(foreign_keys_without_index(snapshot))


def test_a_foreign_key_of_a_small_table_needs_no_index() -> None:
    small = replace(with_table("orders", rows=500.0, live_rows=500), foreign_keys=(CUSTOMER_KEY,))

    assert () == foreign_keys_without_index(small)


def never_analysed(**figures: object) -> Snapshot:
    columns = tuple(replace(each, statistics=None) for each in QUIET.tables[1].columns)
    return with_table("orders", analyzed_ago_s=None, columns=columns, **figures)


def test_a_table_never_analysed_is_found() -> None:
    finding = only(stale_statistics(never_analysed(rows=-1.0)))

    assert ("orders", Severity.HIGH, "analyze orders") == (
        finding.location,
        finding.severity,
        finding.would_try,
    )


def test_an_empty_table_needs_no_statistics() -> None:
    assert () == stale_statistics(never_analysed(rows=-1.0, live_rows=0, size_bytes=0))


def test_a_lost_counter_does_not_make_a_table_never_analysed() -> None:
    assert () == stale_statistics(with_table("orders", analyzed_ago_s=None))


def test_statistics_that_the_role_may_not_see_are_not_missing() -> None:
    hidden = Limitation(subject="pg_stats", reason="hidden", remedy="grant")

    assert () == stale_statistics(replace(never_analysed(), limitations=(hidden,)))


@pytest.mark.parametrize(("modified", "found"), [(6_050, 0), (6_051, 1)])
def test_a_table_changed_by_more_than_a_tenth_has_stale_statistics(modified: int, found: int) -> None:
    changed = with_table("orders", modified_since_analyze=modified, analyzed_ago_s=3600.0)

    assert found == len(stale_statistics(changed))


@pytest.mark.parametrize(
    ("analyzed_ago_s", "options", "found"),
    [(119.0, (), 0), (121.0, (), 1), (119.0, ("autovacuum_enabled=false",), 1)],
)
def test_changes_that_autovacuum_has_yet_to_see_are_no_stale_statistics(
    analyzed_ago_s: float, options: tuple[str, ...], found: int
) -> None:
    """It wakes up once a minute, and has passed nothing over before it did so twice."""
    changed = with_table(
        "orders", modified_since_analyze=30_000, analyzed_ago_s=analyzed_ago_s, options=options
    )

    assert found == len(stale_statistics(changed))


@pytest.mark.parametrize("option", ["", "insert_"])
def test_vacuum_comes_by_oftener_by_the_scale_factor_of_what_it_missed(option: str) -> None:
    figures = {"insert_": {"inserts_since_vacuum": 200_000, "vacuumed_ago_s": None}}
    lagging = with_table("orders", **figures.get(option, {"dead_rows": 50_000}))
    finding = only(vacuum_lag(lagging))

    assert f"SET (autovacuum_vacuum_{option}scale_factor = 0.02)" in finding.would_try


def test_storage_parameters_of_autovacuum_are_shown_beside_stale_statistics() -> None:
    snapshot = with_table(
        "orders", modified_since_analyze=30_000, options=("fillfactor=90", "autovacuum_enabled=false")
    )
    finding = only(stale_statistics(snapshot))

    assert "autovacuum_enabled=false" in [each.value for each in finding.evidence]
