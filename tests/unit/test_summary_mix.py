"""Sums over a mix of operations, and what makes two counted runs differ."""

from __future__ import annotations

import pytest

from perfloop.model.plan import Plan, read_plan
from perfloop.model.workload import Operation, Statement, StatementKind
from perfloop.tune.samples import Block, Count, Pair, joined
from perfloop.tune.summary import (
    counted_cpu_s,
    counts_differ,
    host_of,
    may_gain,
    plans_differ,
    weighted_s,
    work_of_mix,
)


def plan(
    node: str = "Seq Scan", *, hits: int = 0, reads: int = 0, wal: int = 0, triggers_ms: float = 0.0
) -> Plan:
    counters = {"Shared Hit Blocks": hits, "Shared Read Blocks": reads, "WAL Bytes": wal}
    top = {"Node Type": node, "Relation Name": "orders", **counters}
    return read_plan([{"Plan": top, "Triggers": [{"Trigger Name": "t", "Time": triggers_ms, "Calls": 1}]}])


def operation(query_id: str, share: float, kind: StatementKind = StatementKind.READ) -> Operation:
    statement = Statement(query_id=query_id, text="SELECT 1", kind=kind)
    return Operation(statement=statement, calls_share=share, instances=("SELECT 1",))


def counted(*plans: Plan, cpu_s: float = 0.0) -> Count:
    return Count(plans=plans, cpu_s=cpu_s, wall_s=cpu_s)


SCAN = counted(plan(hits=1000))
WRITE = operation("w", 1.0, StatementKind.WRITE)


def test_a_sum_weighs_each_operation_by_its_calls() -> None:
    mix = [operation("often", 0.9), operation("rarely", 0.1)]
    blocks = {
        "often": Block(executions=2, cpu_s=0.002, wall_s=0.004),
        "rarely": Block(executions=1, cpu_s=0.1, wall_s=0.2),
    }

    assert pytest.approx(0.9 * 0.001 + 0.1 * 0.1) == weighted_s(blocks, mix, lambda each: each.cpu_per_call_s)


def test_a_counted_sum_weighs_the_same_way() -> None:
    mix = [operation("often", 0.9), operation("rarely", 0.1)]
    counts = {"often": counted(cpu_s=0.001), "rarely": counted(cpu_s=0.1)}

    assert pytest.approx(0.0109) == counted_cpu_s(mix, counts)


def test_work_is_the_mean_of_the_instances() -> None:
    counts = {"a": counted(plan(hits=10), plan(reads=30))}

    assert 10.0 == work_of_mix([operation("a", 0.5)], counts).blocks


def test_blocks_of_one_operation_join_to_one() -> None:
    first = Block(executions=2, cpu_s=0.1, wall_s=0.2, latencies_s=(0.05, 0.15))
    second = Block(executions=1, cpu_s=0.3, wall_s=0.4, latencies_s=(0.4,))

    whole = joined([first, second])

    assert Block(executions=3, cpu_s=0.4, wall_s=0.6000000000000001, latencies_s=(0.05, 0.15, 0.4)) == whole


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        pytest.param(counted(plan(hits=1000)), False, id="the same"),
        pytest.param(counted(plan(hits=1015)), False, id="within the tolerance"),
        pytest.param(counted(plan(hits=900)), True, id="fewer blocks"),
        pytest.param(counted(plan("Index Scan", hits=1000)), True, id="another plan"),
        pytest.param(counted(plan(hits=1000, wal=100)), False, id="little WAL"),
        pytest.param(counted(plan(hits=1000, wal=9000)), True, id="much WAL"),
        pytest.param(counted(plan(triggers_ms=0.1, hits=1000)), False, id="noise"),
        pytest.param(counted(plan(triggers_ms=5.0, hits=1000)), True, id="triggers"),
        pytest.param(Count(error="out of memory"), True, id="an error"),
    ],
)
def test_counted_runs_differ_by_plan_work_triggers_or_outcome(other: Count, differs: bool) -> None:
    assert differs is counts_differ(SCAN, other)


def test_the_order_of_instances_tells_plans_apart() -> None:
    one, other = plan("Seq Scan"), plan("Index Scan")

    assert plans_differ(counted(one, other), counted(other, one))


@pytest.mark.parametrize(
    ("treatment", "gains"),
    [
        pytest.param(counted(plan(hits=1200)), False, id="only more to maintain"),
        pytest.param(counted(plan(hits=500)), True, id="less work"),
        pytest.param(counted(plan("Index Scan", hits=1200)), True, id="another plan"),
        pytest.param(counted(plan(triggers_ms=9.0, hits=1200)), True, id="triggers"),
    ],
)
def test_a_write_may_gain_where_it_does_something_else_or_less(treatment: Count, gains: bool) -> None:
    assert gains is may_gain(WRITE, SCAN, treatment)


def test_a_read_may_always_gain() -> None:
    assert may_gain(operation("r", 1.0), SCAN, SCAN)


@pytest.mark.parametrize(
    ("neighbour_ratio", "steal_ratio", "crowded"), [(0.1, 0.0, False), (0.3, 0.0, True), (0.0, 0.03, True)]
)
def test_a_host_is_crowded_by_neighbours_or_by_the_hypervisor(
    neighbour_ratio: float, steal_ratio: float, crowded: bool
) -> None:
    pair = Pair(control={}, treatment={}, neighbour_ratio=neighbour_ratio, steal_ratio=steal_ratio)

    assert crowded is host_of([pair, pair]).crowded
