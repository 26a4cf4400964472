"""Self times on plans that PostgreSQL 15 and 18 printed; the figures were worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfloop.analyze.self_time import WeighedPlan, weigh
from perfloop.model.plan import Plan, read_plan

PLANS = Path(__file__).parent / "data" / "plans"


def plan(name: str) -> Plan:
    return read_plan(json.loads((PLANS / f"{name}.json").read_text()))


def self_ms(weighed: WeighedPlan) -> list[tuple[str, float]]:
    return [(each.node.kind, round(1000 * (each.self_s or 0.0), 3)) for each in weighed.nodes]


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.json")), ids=lambda path: path.stem)
def test_the_shares_of_every_stored_plan_sum_to_one(path: Path) -> None:
    shares = [each.share for each in weigh(plan(path.stem)).nodes]

    assert all(share >= 0 for share in shares)
    assert pytest.approx(1.0) == sum(shares)


@pytest.mark.parametrize("path", sorted(PLANS.glob("*_analyze_*.json")), ids=lambda path: path.stem)
def test_the_self_times_of_every_executed_plan_sum_to_its_total(path: Path) -> None:
    weighed = weigh(plan(path.stem))
    total_s = weighed.nodes[0].node.total_s

    rounding_s = 0.5e-6 * sum(each.node.loops for each in weighed.nodes)

    assert pytest.approx(total_s, rel=0.01, abs=rounding_s) == sum(
        each.self_s or 0.0 for each in weighed.nodes
    )


def test_a_cte_is_paid_by_the_scan_that_reads_it_first() -> None:
    weighed = weigh(plan("cte_twice_analyze_15"))

    expected = [
        ("Limit", 0.006),
        ("Aggregate", 5.554),
        ("Seq Scan", 3.031),
        ("Nested Loop", 162.913),  # 317.449 - 8.536 - 2000 x 0.073, although the CTE is drawn above it
        ("CTE Scan", 0.0),  # 8.536 is all the CTE's own 8.585
        ("CTE Scan", 146.0),
    ]
    assert expected == self_ms(weighed)


@pytest.mark.parametrize("version", [15, 18])
def test_an_initplan_is_paid_by_the_node_that_mentions_its_result(version: int) -> None:
    """As $0 on PostgreSQL 15, as (InitPlan 1) on 18."""
    weighed = weigh(plan(f"initplan_analyze_{version}"))
    outer, initplan, inner, scan = weighed.nodes
    totals = [1000 * (each.node.total_s or 0.0) for each in weighed.nodes]

    assert pytest.approx(totals[3] - totals[1], abs=0.001) == 1000 * (scan.self_s or 0.0)
    assert pytest.approx(totals[0] - totals[3], abs=0.001) == 1000 * (outer.self_s or 0.0)
    assert pytest.approx(totals[1] - totals[2], abs=0.001) == 1000 * (initplan.self_s or 0.0)
    assert pytest.approx(totals[2], abs=0.001) == 1000 * (inner.self_s or 0.0)


def test_an_initplan_that_workers_read_is_paid_by_their_gather() -> None:
    """PostgreSQL 18 does not say where it was evaluated; only a worker's filter mentions it."""
    weighed = weigh(plan("parallel_initplan_analyze_18"))
    gather = weighed.nodes[5]
    clock_ms = 1000 * (gather.node.total_s or 0.0)
    initplan_ms = 1000 * (weighed.nodes[1].node.total_s or 0.0)
    below_ms = 1000 * (weighed.nodes[6].node.total_s or 0.0) / 3

    assert "Gather" == gather.node.kind
    assert pytest.approx(clock_ms - initplan_ms - below_ms, abs=0.01) == 1000 * (gather.self_s or 0.0)


def test_what_a_materialize_keeps_is_read_once() -> None:
    scan = {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Total Cost": 10.0, "Plan Rows": 20}
    kept = {"Node Type": "Materialize", "Parent Relationship": "Inner", "Total Cost": 10.1, "Plan Rows": 20}
    outer = {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Total Cost": 90.0, "Plan Rows": 5000}
    join = {
        "Node Type": "Nested Loop",
        "Total Cost": 900.0,
        "Plan Rows": 9,
        "Plans": [outer, {**kept, "Plans": [scan]}],
    }

    assert [1, 1, 5000, 1] == [each.executions for each in weigh(read_plan({"Plan": join})).nodes]


def test_a_subplan_is_paid_by_its_parent_once_per_loop() -> None:
    weighed = weigh(plan("subplan_analyze_15"))

    assert ("Index Only Scan", 0.026) == self_ms(weighed)[0]  # 26.966 - 20 x 1.347
    assert 20 == weighed.nodes[1].executions


def test_parallel_processes_count_as_one_clock() -> None:
    gather, sort, aggregate, scan = weigh(plan("parallel_aggregate_analyze_15")).nodes[1:]

    assert pytest.approx(16.354 - 8.086) == 1000 * (gather.self_s or 0.0)
    assert pytest.approx(2.39) == 1000 * (scan.self_s or 0.0)  # not 3 x 2.39
    assert [1.0, 1.0, 1.0] == [sort.executions, aggregate.executions, scan.executions]
    assert 60_000 == scan.rows


def test_parallel_estimates_are_of_all_processes() -> None:
    scan = weigh(plan("parallel_aggregate_plain_15")).nodes[-1]

    assert pytest.approx(60_000) == scan.planned_rows  # printed as 25,000 per process


def test_an_estimated_inner_side_runs_once_per_outer_row() -> None:
    weighed = weigh(plan("nested_loop_inner_plain_15"))
    inner = weighed.nodes[3]

    assert ("Seq Scan", 2000) == (inner.node.kind, inner.executions)
    assert inner.share > 0.99


def test_a_limit_hands_down_only_its_own_cost() -> None:
    document = {
        "Node Type": "Limit",
        "Total Cost": 1.0,
        "Plan Rows": 10,
        "Plans": [{"Node Type": "Seq Scan", "Total Cost": 1000.0, "Plan Rows": 10_000}],
    }
    weighed = weigh(read_plan({"Plan": document}))

    assert [0.0, 1.0] == [each.share for each in weighed.nodes]


def test_a_writing_cte_that_nobody_reads_is_not_taken_from_anybody() -> None:
    cte = {
        "Node Type": "ModifyTable",
        "Parent Relationship": "InitPlan",
        "Subplan Name": "CTE gone",
        "Actual Total Time": 5.0,
        "Actual Rows": 0,
        "Actual Loops": 1,
    }
    result = {"Node Type": "Result", "Actual Total Time": 1.0, "Actual Rows": 1, "Actual Loops": 1}
    weighed = weigh(read_plan({"Plan": {**result, "Plans": [cte]}}))

    assert [("Result", 1.0), ("ModifyTable", 5.0)] == self_ms(weighed)
