"""One plan with all that a rule may ask about it, and the form of such a rule.

A Smell is a rule over a single plan: it says at which nodes it fires. `analyze` joins what it says of all
plans into Findings, `explain` shows it at the nodes of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from perfloop.analyze.self_time import WeighedPlan, weigh
from perfloop.analyze.sites import Site, findings_of_sites
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Smell:
    """A pure function from one plan to the places where it fires; `name` is the Findings' `check`."""

    name: str
    purpose: str
    """One line for people: what it looks for."""
    find: Callable[[PlanReading], Iterator[Site]]


def read_plans(snapshot: Snapshot) -> tuple[PlanReading, ...]:
    """The readings of all plans of the Snapshot, in its order."""
    return tuple(
        PlanReading(
            snapshot=snapshot,
            query_id=each.query_id,
            instance=each.instance,
            plan=each.plan,
            weighed=weigh(each.plan),
        )
        for each in snapshot.plans
    )


def findings_of_smell(
    snapshot: Snapshot, smell: Smell, readings: tuple[PlanReading, ...]
) -> tuple[Finding, ...]:
    """What a Smell says of all plans, one Finding per location."""
    sites = (site for reading in readings for site in smell.find(reading))
    return findings_of_sites(snapshot, smell.name, sites)
