"""Settings, statistics and drops, from a Snapshot and the Findings on it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from perfloop.model.advice import AnalyzeTable, DropIndex, Finding, Severity
from perfloop.model.plan import Plan, read_plan
from perfloop.model.snapshot import Activity, Host, Snapshot, StatementCounters
from perfloop.model.target import (
    Column,
    ColumnStatistics,
    ExtendedStatistics,
    Fingerprint,
    Index,
    IndexKey,
    Setting,
    Table,
    TableName,
)
from perfloop.model.workload import Statement, StatementKind
from perfloop.tune.advisor.accesses import Access
from perfloop.tune.advisor.index_size import estimated_size_bytes
from perfloop.tune.advisor.naming import new_index
from perfloop.tune.advisor.objective import Considered
from perfloop.tune.advisor.settings_proposals import propose_settings
from perfloop.tune.advisor.upkeep_proposals import (
    propose_analyze,
    propose_drops,
    propose_statistics,
    superseded,
)
from perfloop.tune.advisor.writes import Write

ORDERS = TableName(schema="public", name="orders")
GIGABYTE = 2**30


def column(name: str, type_name: str = "bigint", *, distinct: float = -1.0, width: int = 8) -> Column:
    statistics = ColumnStatistics(null_ratio=0.25, distinct=distinct, width_bytes=width)
    return Column(name=name, type_name=type_name, not_null=True, statistics=statistics)


def orders(*columns: Column, rows: float = 600_000) -> Table:
    return Table(
        name=ORDERS,
        rows=rows,
        size_bytes=10_000_000,
        columns=columns,
        live_rows=int(rows),
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


def setting(name: str, value: str, unit: str | None = None) -> Setting:
    return Setting(name=name, value=value, unit=unit, context="user", kind="integer")


def snapshot(
    *settings: Setting,
    indexes: tuple[Index, ...] = (),
    active: int = 2,
    memory_bytes: int = 8 * GIGABYTE,
    temp_blocks: int = 0,
    **fields: Any,
) -> Snapshot:
    statement = Statement(query_id="1", text="SELECT 1", kind=StatementKind.READ, name="report")
    return Snapshot(
        taken_at_s=0.0,
        database="shop",
        user="shop",
        fingerprint=Fingerprint(
            server_version=150018,
            server_text="PostgreSQL 15",
            block_bytes=8192,
            data_checksums=False,
            jit_available=True,
            wal_compressions=(),
            io_methods=(),
            extensions=(),
        ),
        settings=settings,
        tables=(orders(column("a"), column("b"), column("c")),),
        indexes=indexes,
        statements=(
            StatementCounters(statement=statement, calls=10, total_s=5.0, rows=10, temp_blocks=temp_blocks),
        ),
        activity=Activity(
            connections=5,
            active=active,
            idle_in_transaction=0,
            hit_blocks=999,
            read_blocks=1,
            temp_bytes=0,
            temp_files=0,
            database_bytes=GIGABYTE,
            counted_for_s=1e6,
        ),
        host=Host(
            cpus=2,
            memory_bytes=memory_bytes,
            available_bytes=memory_bytes,
            load_1m=0.1,
            busy_ratio=0.1,
            steal_ratio=0.0,
            runs_server=True,
        ),
        **fields,
    )


def finding(check: str, location: str, *query_ids: str) -> Finding:
    return Finding(
        check=check,
        severity=Severity.MEDIUM,
        title=f"{location} is slow",
        location=location,
        evidence=(),
        would_try="",
        query_ids=query_ids,
    )


def index(name: str, *columns: str, **fields: Any) -> Index:
    return Index(
        table=ORDERS,
        name=name,
        method="btree",
        keys=tuple(IndexKey(text=each) for each in columns),
        definition=f"CREATE INDEX {name}",
        size_bytes=1000,
        scans=0,
        **fields,
    )


def plan(**fields: Any) -> Plan:
    return read_plan({"Plan": fields})


SPILL = finding("sort-hash-spill", "report", "1")
WORK_MEM = setting("work_mem", "4096", "kB")


def test_work_mem_is_what_holds_the_spill_and_then_much_more() -> None:
    """2560 blocks in 10 calls are 1 MB written and read a call: 3 MB in memory, below twice what is there."""
    small = propose_settings(snapshot(WORK_MEM, temp_blocks=2560), (SPILL,))
    large = propose_settings(snapshot(WORK_MEM, temp_blocks=25_600), (SPILL,))

    assert ["set work_mem = 8MB (database)", "set work_mem = 64MB (database)"] == [
        each.change.title for each in small.proposals
    ]
    assert ["set work_mem = 32MB (database)", "set work_mem = 256MB (database)"] == [
        each.change.title for each in large.proposals
    ]
    assert (SPILL.identity,) == large.proposals[0].findings


def test_work_mem_is_tried_once_where_there_is_no_room_for_more() -> None:
    tight = snapshot(WORK_MEM, active=8, memory_bytes=GIGABYTE, temp_blocks=2560)

    assert ["set work_mem = 8MB (database)"] == [
        each.change.title for each in propose_settings(tight, (SPILL,)).proposals
    ]


def test_work_mem_of_all_sessions_stays_within_a_quarter_of_the_memory() -> None:
    busy = snapshot(WORK_MEM, active=30, memory_bytes=GIGABYTE, temp_blocks=25_600)
    advice = propose_settings(busy, (SPILL,))

    assert () == advice.proposals
    assert (
        "work_mem is not raised for the temporary files of report: 30 active sessions"
        in advice.unexplained[0]
    )


def test_jit_is_switched_off_only_where_it_was_found_to_cost() -> None:
    jit = setting("jit", "on")
    found = finding("jit-overhead", "jit_above_cost", "1")

    assert () == propose_settings(snapshot(jit), ()).proposals
    assert ["set jit = off (database)"] == [
        each.change.title for each in propose_settings(snapshot(jit), (found,)).proposals
    ]


@pytest.mark.parametrize(
    ("value", "database_bytes", "read_blocks", "expected"),
    [
        ("4", GIGABYTE, 500, 1),
        ("4", 100 * GIGABYTE, 1, 1),
        ("4", 100 * GIGABYTE, 500, 0),
        ("1.1", GIGABYTE, 1, 0),
        ("2", GIGABYTE, 1, 0),
    ],
    ids=["fits into memory", "read from memory", "read from disk", "lowered", "chosen by somebody"],
)
def test_random_blocks_become_cheaper_where_they_come_from_memory(
    value: str, database_bytes: int, read_blocks: int, expected: int
) -> None:
    known = snapshot(setting("random_page_cost", value))
    known = replace(
        known,
        activity=replace(
            known.activity, hit_blocks=999, read_blocks=read_blocks, database_bytes=database_bytes
        ),
    )
    titles = [each.change.title for each in propose_settings(known, ()).proposals]

    assert ["set random_page_cost = 1.1 (database)"] * expected == titles


@pytest.mark.parametrize(("database_bytes", "expected"), [(GIGABYTE // 8, 0), (GIGABYTE, 1)])
def test_the_size_of_the_cache_is_told_only_where_plans_depend_on_it(
    database_bytes: int, expected: int
) -> None:
    known = snapshot(setting("effective_cache_size", "32768", "8kB"))
    known = replace(known, activity=replace(known.activity, database_bytes=database_bytes))
    titles = [each.change.title for each in propose_settings(known, ()).proposals]

    assert ["set effective_cache_size = 6144MB (database)"] * expected == titles


def test_stale_statistics_are_collected_anew() -> None:
    (proposal,) = propose_analyze(snapshot(), [finding("stale-statistics", "orders")])

    assert AnalyzeTable(table=ORDERS) == proposal.change


def considered(*anded: str, share: float = 0.5) -> Considered:
    access = Access(table=ORDERS, alias="o", anded=anded)
    return Considered(
        query_id="1",
        label="report",
        instances=(),
        weights=(),
        base_costs=(),
        accesses=(access,),
        time_share=share,
    )


def test_columns_misjudged_together_get_statistics_before_those_suspected() -> None:
    proposals = propose_statistics(
        snapshot(), [finding("row-misestimate", "orders(a, b)", "1")], (considered("b", "c"),)
    )

    assert ["create statistics on orders (a, b)", "create statistics on orders (b, c)"] == [
        each.change.title for each in proposals
    ]
    assert [1, 0] == [len(each.findings) for each in proposals]


def test_columns_that_are_searched_for_their_parts_get_no_statistics() -> None:
    known = replace(snapshot(), tables=(orders(column("a"), column("b", "jsonb")),))

    assert () == propose_statistics(known, [finding("row-misestimate", "orders(a, b)", "1")], ())


def test_statistics_that_are_there_or_that_a_unique_index_gives_are_not_proposed() -> None:
    there = ExtendedStatistics(name="s", table=ORDERS, columns=("b", "a"), kinds=("mcv",))
    unique = index("u", "c", is_unique=True)
    known = snapshot(indexes=(unique,), extended_statistics=(there,))

    assert () == propose_statistics(known, [], (considered("a", "b"), considered("b", "c")))
    assert () == propose_statistics(snapshot(), [], (considered("a", "b", share=0.01),))


def test_an_index_that_a_plan_uses_is_not_dropped_for_its_counter() -> None:
    both = snapshot(indexes=(index("idle", "a"), index("busy", "b")))
    findings = [finding("unused-index", "orders: idle"), finding("unused-index", "orders: busy")]
    proposals, kept = propose_drops(both, findings, (plan(**{"Index Name": "busy"}),), (considered(),))

    assert [DropIndex(table=ORDERS, name="idle", definition="CREATE INDEX idle")] == [
        each.change for each in proposals
    ]
    assert -1000 == proposals[0].size_bytes
    assert ("busy is not dropped: its counter is 0, but a statement's plan uses it",) == kept


def test_an_index_on_an_expression_is_not_dropped_for_its_counter_which_tells_nothing_of_its_statistics() -> (
    None
):
    by_language = replace(index("idle", "a"), keys=(IndexKey(text="lower(a)", is_expression=True),))
    findings = [finding("unused-index", "orders: idle")]

    assert (
        (),
        ("idle is not dropped: the planner may use its statistics on lower(a), which no counter shows",),
    ) == propose_drops(snapshot(indexes=(by_language,)), findings, (), (considered(),))


def test_an_unused_index_of_a_table_that_the_workload_leaves_out_is_not_dropped() -> None:
    known = snapshot(indexes=(index("idle", "a"),))

    assert (
        (),
        ("idle is not dropped: no statement of the workload touches orders, so no trial can speak for it",),
    ) == propose_drops(known, [finding("unused-index", "orders: idle")], (), ())


def test_an_unused_index_that_no_write_pays_for_is_dropped_once_its_counter_has_seen_a_week() -> None:
    known = snapshot(indexes=(index("idle", "a"),))
    young = replace(known, activity=replace(known.activity, counted_for_s=None))
    findings = [finding("unused-index", "orders: idle")]
    writer = replace(considered(), writes=(Write(table=ORDERS, operation="Insert", rows=1.0),))

    assert ["drop index idle on orders"] == [
        each.change.title for each in propose_drops(known, findings, (), (considered(),))[0]
    ]
    assert (
        (),
        ("idle is not dropped: its counter is young, and no write of the workload to orders would gain",),
    ) == propose_drops(young, findings, (), (considered(),))
    assert 1 == len(propose_drops(young, findings, (), (writer,))[0])


def test_a_prefix_of_a_chosen_index_may_go_unless_it_has_duties() -> None:
    chosen = new_index(ORDERS, (IndexKey(text="a"), IndexKey(text="b")))
    plain = snapshot(indexes=(index("prefix", "a"), index("other", "b")))
    unique = snapshot(indexes=(index("prefix", "a", is_unique=True),))

    assert ["prefix"] == [
        each.change.name for each in superseded(plain, (chosen,)) if isinstance(each.change, DropIndex)
    ]
    assert () == superseded(unique, (chosen,))


def test_a_name_says_the_columns_and_is_never_too_long_or_taken() -> None:
    keys = (IndexKey(text="a"), IndexKey(text="b"))
    plain = new_index(ORDERS, keys)
    taken = new_index(ORDERS, keys, taken=frozenset({plain.name}))
    long = new_index(ORDERS, (IndexKey(text="ä" * 60),))

    assert "perfloop_orders_a_b_idx" == plain.name
    assert plain.name != taken.name
    assert 63 >= len(long.name.encode())
    assert plain.name != new_index(ORDERS, keys, predicate="c IS NULL").name


@pytest.mark.parametrize(
    ("kind", "distinct", "width", "measured_mb"),
    [
        ("bigint", -1.0, 8, 13.5),
        ("bigint", 1000.0, 8, 4.3),
        ("numeric(15,2)", 50.0, 5, 13.5),
        ("date", 2500.0, 4, 4.3),
    ],
)
def test_sizes_are_within_a_tenth_of_those_measured_on_600_000_rows(
    kind: str, distinct: float, width: int, measured_mb: float
) -> None:
    """lineitem of TPC-H at scale 0.1; equal keys share an entry unless their bytes may differ."""
    table = orders(column("k", kind, distinct=distinct, width=width))
    size = estimated_size_bytes(new_index(ORDERS, (IndexKey(text="k"),)), table)

    assert pytest.approx(measured_mb, rel=0.1) == size / 1e6


def test_a_partial_index_holds_the_rows_that_its_predicate_keeps() -> None:
    table = orders(column("k"), column("gone"))
    keys = (IndexKey(text="k"),)
    whole = estimated_size_bytes(new_index(ORDERS, keys), table)
    part = estimated_size_bytes(new_index(ORDERS, keys, predicate="gone IS NULL"), table)

    assert pytest.approx(0.25, rel=0.01) == part / whole
