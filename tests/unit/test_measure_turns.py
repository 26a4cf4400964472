"""How a pair's time is shared, and when a single run says enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.model.plan import Plan, read_plan
from perfloop.model.workload import Operation, Statement, StatementKind
from perfloop.tune.measure import MOST_EXECUTIONS, ROUNDS, pair_s, plan_turns, runaway_s
from perfloop.tune.samples import Count, Turn


def operation(query_id: str, share: float = 1.0, instances: int = 1) -> Operation:
    statement = Statement(query_id=query_id, text="SELECT 1", kind=StatementKind.READ)
    texts = tuple(f"SELECT {number}" for number in range(instances))
    return Operation(statement=statement, calls_share=share, instances=texts)


def plan(node: str = "Seq Scan") -> Plan:
    return read_plan({"Plan": {"Node Type": node, "Shared Hit Blocks": 100}})


def counted(cpu_s: float, node: str = "Seq Scan", instances: int = 1) -> Count:
    return Count(plans=(plan(node),) * instances, cpu_s=cpu_s, wall_s=cpu_s)


def turn(control: Count, treatment: Count, instances: int = 1) -> Turn:
    (only,) = plan_turns([operation("a", instances=instances)], {"a": control}, {"a": treatment})
    return only


def test_a_cheap_operation_runs_as_often_as_its_slice_allows() -> None:
    assert 250 == turn(counted(0.001), counted(0.001)).sets
    assert MOST_EXECUTIONS == turn(counted(0.00001), counted(0.00001)).sets


def test_every_pair_runs_every_instance() -> None:
    """Were the instances spread over the pairs, a change that hurts the dear one could win by the others."""
    one = turn(counted(0.3, instances=5), counted(0.3, instances=5), instances=5)

    assert 1 == one.sets
    assert 5 == len(one.operation.instances)


def test_weight_and_cost_share_the_time() -> None:
    """Neyman's allocation: time in proportion to weight times the root of the cost."""
    operations = [operation("often", 0.9), operation("rarely", 0.1)]
    counts = {"often": counted(0.001), "rarely": counted(0.001)}

    often, rarely = plan_turns(operations, counts, counts)

    assert pytest.approx(9, rel=0.05) == often.sets / rarely.sets


@given(sets=st.integers(1, 2000))
def test_rounds_share_the_sets_evenly_and_lose_none(sets: int) -> None:
    one = Turn(operation=operation("a"), sets=sets)

    shares = [one.sets_in_round(number, ROUNDS) for number in range(ROUNDS)]

    assert sets == sum(shares)
    assert max(shares) - min(shares) <= 1


def test_a_heavy_operation_that_changes_twofold_stands_by_its_single_run() -> None:
    one = turn(counted(10.0), counted(0.1, "Index Scan"))

    assert one.standing is not None
    assert (10.0, 0.1) == (one.standing[0].cpu_s, one.standing[1].cpu_s)


def test_a_heavy_operation_that_does_the_same_work_counts_as_unchanged() -> None:
    one = turn(counted(10.0), counted(11.0))

    assert one.standing is not None
    assert one.standing[0] == one.standing[1]


def test_a_heavy_operation_that_changes_a_little_is_timed() -> None:
    assert turn(counted(10.0), counted(8.0, "Index Scan")).standing is None


def test_what_is_heavy_counts_all_instances_together() -> None:
    one = turn(counted(0.5, instances=5), counted(0.1, "Index Scan", instances=5), instances=5)

    assert one.standing is not None


def test_a_pair_takes_what_its_counted_runs_took() -> None:
    counts = {"a": counted(0.5), "b": counted(10.0)}
    treatment = {"a": counted(0.25, "Index Scan"), "b": counted(1.0, "Index Scan")}
    turns = plan_turns([operation("a", 0.5), operation("b", 0.5)], counts, treatment)

    assert pytest.approx(0.75) == pair_s(turns, counts, treatment)


@pytest.mark.parametrize(("control_s", "limit_s"), [(0.001, 10.0), (0.3, 30.0), (2.0, 60.0), (36.0, 180.0)])
def test_a_treatment_is_given_far_longer_than_the_control_but_not_for_ever(
    control_s: float, limit_s: float
) -> None:
    assert pytest.approx(limit_s) == runaway_s(counted(control_s))
