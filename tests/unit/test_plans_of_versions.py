"""Plans of every version from 14 to 18: they parse, their shares add up, and what they show is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from perfloop.analyze.reading import findings_of_smell, read_plans
from perfloop.analyze.self_time import weigh
from perfloop.analyze.smells import SMELLS
from perfloop.model.plan import Plan, read_plan
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.value import from_json

DATA = Path(__file__).parent / "data"
VERSIONS = (14, 15, 16, 17, 18)
PLANS = {
    version: json.loads((DATA / "plans" / "versions" / f"{version}.json").read_text()) for version in VERSIONS
}
NAMES = sorted(PLANS[14])
SHOP = from_json((DATA / "plans" / "versions" / "shop.json").read_text(), Snapshot)
SHOW_NOTHING = {"never-executed", "parallel-append"}

EACH_PLAN = pytest.mark.parametrize(
    ("version", "name"), [(version, name) for version in VERSIONS for name in NAMES]
)


def plan(version: int, name: str) -> Plan:
    return read_plan(PLANS[version][name])


def found(version: int, name: str) -> set[str]:
    """The names of the rules that find something worth its share of the plan."""
    planned = StatementPlan(query_id="1", instance=name, plan=plan(version, name))
    snapshot = replace(SHOP, plans=(planned,))
    readings = read_plans(snapshot)
    return {each.check for smell in SMELLS for each in findings_of_smell(snapshot, smell, readings)}


def test_every_version_shows_the_same_statements() -> None:
    assert {tuple(NAMES)} == {tuple(sorted(plans)) for plans in PLANS.values()}


@EACH_PLAN
def test_the_shares_of_a_plan_sum_to_one(version: int, name: str) -> None:
    shares = [each.share for each in weigh(plan(version, name)).nodes]

    assert all(share >= 0 for share in shares)
    assert pytest.approx(1.0) == sum(shares)


@EACH_PLAN
def test_the_self_times_of_a_plan_sum_to_its_total(version: int, name: str) -> None:
    """A total per loop is printed in microseconds, which is what rounding can add for each loop."""
    weighed = weigh(plan(version, name))
    rounding_s = 0.5e-6 * sum(each.node.loops for each in weighed.nodes)

    assert pytest.approx(weighed.nodes[0].node.total_s, rel=0.01, abs=rounding_s) == sum(
        each.self_s or 0.0 for each in weighed.nodes
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in SHOW_NOTHING])
def test_the_smell_that_a_plan_shows_is_found(version: int, name: str) -> None:
    smells = found(version, name)

    assert name in smells


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_that_never_ran_has_no_share_and_no_smell(version: int) -> None:
    weighed = weigh(plan(version, "never-executed"))
    idle = [each for each in weighed.nodes if each.node.loops == 0]

    assert idle
    assert {0.0} == {each.share for each in idle}
    assert not any(each.has_run for each in idle)
    assert set() == found(version, "never-executed")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_parts_of_a_parallel_append_count_their_processes_once(version: int) -> None:
    weighed = weigh(plan(version, "parallel-append"))
    gather = next(each for each in weighed.nodes if each.node.kind == "Gather")
    scans = [each for each in weighed.below(gather) if each.node.relation is not None]

    assert 48_000 == pytest.approx(sum(each.rows * each.executions for each in scans), abs=3)
    assert sum(each.self_s or 0.0 for each in scans) <= gather.node.total_s  # type: ignore[operator]  # it was timed
