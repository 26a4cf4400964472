"""From Snapshot, Findings and Workload to ranked Proposals, and a sentence on every statement without one."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.advice import CreateIndex, Finding, Proposal
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value
from perfloop.model.workload import Workload
from perfloop.tune.advisor.costs import CostStatistics, KnownCosts
from perfloop.tune.advisor.explanations import explain_without_index
from perfloop.tune.advisor.extend import SearchPolicy, SearchResult
from perfloop.tune.advisor.fallbacks import fallback_proposals
from perfloop.tune.advisor.index_proposals import chosen_proposals, demanded_proposals
from perfloop.tune.advisor.index_search import IndexSearch, search_indexes
from perfloop.tune.advisor.objective import geometric_ratio, weighted_ratio
from perfloop.tune.advisor.rehearsal import Rehearsal
from perfloop.tune.advisor.seats import Group, seat
from perfloop.tune.advisor.settings_proposals import propose_settings
from perfloop.tune.advisor.table_proposals import propose_table_options
from perfloop.tune.advisor.upkeep_proposals import (
    propose_analyze,
    propose_drops,
    propose_statistics,
    superseded,
)
from perfloop.tune.advisor.what_if import WhatIf


class SearchStatistics(Value, frozen=True, kw_only=True):
    """How the index search went."""

    statements: int
    indexes_considered: int
    steps: int
    costs: CostStatistics
    weighted_ratio: float
    """Expected time of the Workload with all chosen indexes over its time before."""
    geometric_ratio: float
    """The same as a geometric mean in which every statement counts the same."""
    size_bytes: int
    """Of all chosen indexes."""


class Advice(Value, frozen=True, kw_only=True):
    """Proposals in the order of trying, and why nothing was proposed for the rest."""

    proposals: tuple[Proposal, ...]
    unexplained: tuple[str, ...]
    statistics: SearchStatistics


def propose(
    snapshot: Snapshot,
    findings: tuple[Finding, ...],
    workload: Workload,
    what_if: WhatIf,
    *,
    policy: SearchPolicy | None = None,
    rehearsal: Rehearsal | None = None,
    most_trials: int = 24,
) -> Advice:
    """Say what to try, and in which order: the planner's belief, indexes, settings, drops.

    The search's own choices of indexes come before second choices, and both before what only a
    Finding asks for. Where there are more proposals than trials, `seats` says which ones go.
    The same input gives the same output. Nothing is run but the planner of `what_if`, and in a
    `rehearsal` the statements whose plans the chosen indexes change.
    """
    policy = policy or SearchPolicy()
    found = search_indexes(snapshot, workload, what_if, policy, rehearsal=rehearsal)
    settings = propose_settings(snapshot, findings)
    drops, kept = propose_drops(snapshot, findings, found.reading.every_plan(), found.reading.statements)
    seated = seat(
        (
            *_beliefs(snapshot, findings, found),
            *_indexes(snapshot, findings, found),
            Group(proposals=settings.proposals),
            Group(proposals=propose_table_options(snapshot, findings, found.reading.statements)),
            Group(proposals=(*drops, *_new_drops(drops, superseded(snapshot, found.result.chosen)))),
        ),
        most=most_trials,
    )
    return Advice(
        proposals=seated.proposals,
        unexplained=(
            *found.reading.unreadable,
            *explain_without_index(found.reading.statements, found.result, snapshot),
            *found.result.refused,
            *settings.unexplained,
            *kept,
            *seated.cut,
            *_spent(found.known, found.result, policy),
        ),
        statistics=_statistics(found),
    )


def _beliefs(snapshot: Snapshot, findings: tuple[Finding, ...], found: IndexSearch) -> tuple[Group, ...]:
    """What the planner believes."""
    return (
        Group(proposals=propose_analyze(snapshot, findings)),
        Group(proposals=propose_statistics(snapshot, findings, found.reading.statements)),
    )


def _indexes(snapshot: Snapshot, findings: tuple[Finding, ...], found: IndexSearch) -> tuple[Group, ...]:
    search, known, result = found.extend, found.known, found.result
    statements = found.reading.statements
    chosen = chosen_proposals(search, result, statements, findings, known)
    second = fallback_proposals(search, found.candidates, result, statements, known)
    there = [each.change for each in (*chosen, *second) if isinstance(each.change, CreateIndex)]
    return (
        Group(proposals=chosen, is_chosen=True),
        Group(proposals=second, is_second=True),
        Group(proposals=demanded_proposals(snapshot, search, statements, findings, known, there)),
    )


def _new_drops(there: tuple[Proposal, ...], more: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
    changes = [each.change for each in there]
    return tuple(each for each in more if each.change not in changes)


def _spent(known: KnownCosts, result: SearchResult, policy: SearchPolicy) -> Iterator[str]:
    if result.out_of_room:
        yield (
            "not every index was looked at: real builds have taken the room they may take in the lab; "
            "install HypoPG there, or raise built_bytes"
        )
    if known.statistics().unanswered:
        yield (
            f"the index search ended early: the planner was asked {policy.max_questions} times, the limit; "
            "raise max_questions, or give a smaller workload"
        )


def _statistics(found: IndexSearch) -> SearchStatistics:
    statements, result = found.reading.statements, found.result
    return SearchStatistics(
        statements=len(statements),
        indexes_considered=result.considered,
        steps=len(result.steps),
        costs=found.known.statistics(),
        weighted_ratio=weighted_ratio(tuple(each.time_share for each in statements), result.ratios),
        geometric_ratio=geometric_ratio(result.ratios),
        size_bytes=found.size_bytes(),
    )
