"""One plan with all that a rule may ask about it, and the form of such a rule.

A Smell is a rule over a single plan: it says at which nodes it fires. `analyze` joins what it says of all
plans into Findings, `explain` shows it at the nodes of one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from perfloop.analyze.self_time import WeighedPlan, weigh
from perfloop.analyze.sites import Site, findings_of_sites, label_of
from perfloop.model.advice import Finding
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value


class PlanReading(Value, frozen=True, kw_only=True):
    """A plan of one instance of a statement, weighed, with the Snapshot that it was made under."""

    snapshot: Snapshot
    query_id: str
    instance: str
    """The text with literals in place of `$n`."""
    plan: Plan
    weighed: WeighedPlan
    part: float = 1.0
    """Of the plan, in the time or cost of all plans of its statement."""

    @property
    def label(self) -> str:
        """How reports name the statement."""
        return label_of(self.snapshot, self.query_id)

    @property
    def nodes_ratio(self) -> float:
        """The part of the execution that its nodes took; triggers, which run after them, took the rest."""
        if not self.plan.execution_s:
            return 1.0
        return max(0.0, 1.0 - self.triggers_s / self.plan.execution_s)

    @property
    def triggers_s(self) -> float:
        """Seconds in triggers, over all their calls."""
        return sum(float(each.get("Time", 0.0)) for each in self.plan.fields.get("Triggers", ())) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Smell:
    """A pure function from one plan to the places where it fires; `name` is the Findings' `check`."""

    name: str
    purpose: str
    """One line for people: what it looks for."""
    find: Callable[[PlanReading], Iterator[Site]]


def positions_of(reading: PlanReading, *rules: Callable[[PlanReading], Iterator[Site]]) -> frozenset[int]:
    """The nodes at which these rules fire: what one of them explains, another need not explain again."""
    return frozenset(position for rule in rules for site in rule(reading) for position in site.positions)


def unless(
    rule: Callable[[PlanReading], Iterator[Site]], *others: Callable[[PlanReading], Iterator[Site]]
) -> Callable[[PlanReading], Iterator[Site]]:
    """The rule, silent at nodes where one of the others names the cause more closely."""

    def find(reading: PlanReading) -> Iterator[Site]:
        explained = positions_of(reading, *others)
        return (site for site in rule(reading) if explained.isdisjoint(site.positions))

    return find


def unless_below(
    rule: Callable[[PlanReading], Iterator[Site]], *others: Callable[[PlanReading], Iterator[Site]]
) -> Callable[[PlanReading], Iterator[Site]]:
    """The rule, silent where one of the others fires at its first node or at any below it."""

    def find(reading: PlanReading) -> Iterator[Site]:
        explained = positions_of(reading, *others)
        for site in rule(reading):
            top = reading.weighed.nodes[site.positions[0]]
            if explained.isdisjoint(range(top.position, top.end)):
                yield site

    return find


def read_plans(snapshot: Snapshot) -> tuple[PlanReading, ...]:
    """The readings of all plans of the Snapshot, in its order.

    A statement's time is the sum over its executions, and most of it is in those with dear values: an
    instance stands for as much of the time as it takes of that of all instances, or else of their cost.
    """
    weights: dict[str, list[tuple[float | None, float]]] = defaultdict(list)
    for each in snapshot.plans:
        weights[each.query_id].append((each.plan.execution_s, each.plan.root.total_cost))
    totals = {query_id: _total(group) for query_id, group in weights.items()}
    return tuple(
        PlanReading(
            snapshot=snapshot,
            query_id=each.query_id,
            instance=each.instance,
            plan=each.plan,
            weighed=weigh(each.plan),
            part=_part(each.plan, totals[each.query_id]),
        )
        for each in snapshot.plans
    )


def _total(group: list[tuple[float | None, float]]) -> tuple[float | None, float, int]:
    """Seconds of plans that were all timed, or else None; their cost; their number."""
    times = [each_s for each_s, _ in group if each_s is not None]
    return sum(times) if len(times) == len(group) else None, sum(cost for _, cost in group), len(group)


def _part(plan: Plan, total: tuple[float | None, float, int]) -> float:
    total_s, cost, count = total
    if total_s:
        return (plan.execution_s or 0.0) / total_s
    return plan.root.total_cost / cost if cost else 1 / count


def findings_of_smell(
    snapshot: Snapshot, smell: Smell, readings: tuple[PlanReading, ...]
) -> tuple[Finding, ...]:
    """What a Smell says of all plans, one Finding per location."""
    sites = (site for reading in readings for site in sites_of(smell, reading))
    return findings_of_sites(snapshot, smell.name, sites)


def sites_of(smell: Smell, reading: PlanReading) -> Iterator[Site]:
    """Where a Smell fires in one plan, with shares of the whole execution."""
    for site in smell.find(reading):
        yield replace(_of_execution(reading, site), part=reading.part)


def _of_execution(reading: PlanReading, site: Site) -> Site:
    """The site with its share of the whole execution, where nodes took only a part of it."""
    if not site.positions or reading.nodes_ratio == 1.0:
        return site
    return replace(site, plan_share=site.plan_share * reading.nodes_ratio)
