"""Places in plans, and the share of the service's time that they take.

A Site is one such place. Sites at the same location become one Finding, whose time is the
sum over the statements of (the statement's share of all execution time) x (the place's share
of the statement's plans, of which a dear instance is the larger part).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.plan import PlanNode
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Table, TableName
from perfloop.model.units import share_text
from perfloop.model.value import Value

HIGH_TIME_SHARE = 0.10
"""pev2, pgAdmin and explain.depesz start to colour a node at 10 % of the time."""
MEDIUM_TIME_SHARE = 0.02
LOW_TIME_SHARE = 0.005
"""Below this a finding would be noise: removing it whole could not be measured."""


class Site(Value, frozen=True, kw_only=True):
    """One place in one plan where a Check fired."""

    location: str
    query_id: str
    plan_share: float
    """Of the time, or the cost, of that plan; in [0, 1]."""
    title: str
    evidence: tuple[Evidence, ...]
    would_try: str
    part: float = 1.0
    """Of the plan, in the time or cost of all plans of its statement."""
    positions: tuple[int, ...] = ()
    """The nodes it is about, in the order of PlanNode.walk(); empty where it is about the whole plan."""


def statement_shares(snapshot: Snapshot) -> dict[str, float]:
    """Share of all execution time by query_id; empty where no statement was counted."""
    total_s = snapshot.total_s()
    shares: dict[str, float] = defaultdict(float)
    for each in snapshot.statements if total_s > 0 else ():
        shares[each.statement.query_id] += each.total_s / total_s
    return dict(shares)


def time_share_of(snapshot: Snapshot, query_ids: Iterable[str]) -> float | None:
    """Share of all execution time that these statements take; None where none of them was counted."""
    shares = statement_shares(snapshot)
    known = [shares[query_id] for query_id in set(query_ids) if query_id in shares]
    return min(1.0, sum(known)) if known else None


def severity_of_time(share: float) -> Severity | None:
    """How much a share of the time matters; None where it is too small to speak of."""
    if share >= HIGH_TIME_SHARE:
        return Severity.HIGH
    if share >= MEDIUM_TIME_SHARE:
        return Severity.MEDIUM
    return Severity.LOW if share >= LOW_TIME_SHARE else None


def findings_of_sites(snapshot: Snapshot, check: str, sites: Iterable[Site]) -> tuple[Finding, ...]:
    """One Finding per location, with the words of its heaviest Site."""
    by_location: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        by_location[site.location].append(site)
    found = (_finding(snapshot, check, tuple(group)) for group in by_location.values())
    return tuple(each for each in found if each is not None)


def _finding(snapshot: Snapshot, check: str, sites: tuple[Site, ...]) -> Finding | None:
    shares = statement_shares(snapshot)
    by_query = _plan_shares(sites)
    known = {query_id: shares[query_id] * part for query_id, part in by_query.items() if query_id in shares}
    time_share = min(1.0, sum(known.values())) if known else None
    severity = _severity(time_share, max(by_query.values()))
    if severity is None:
        return None
    query_ids = tuple(sorted(by_query, key=lambda query_id: (-known.get(query_id, 0.0), query_id)))
    words = max(sites, key=lambda site: (known.get(site.query_id, 0.0), site.plan_share, site.query_id))
    return Finding(
        check=check,
        severity=severity,
        title=words.title,
        location=words.location,
        evidence=(*words.evidence, _share_evidence(time_share, max(by_query.values()), len(query_ids))),
        would_try=words.would_try,
        query_ids=query_ids,
        time_share=time_share,
    )


def _severity(time_share: float | None, plan_share: float) -> Severity | None:
    """Without counters nobody knows how often a statement runs, so nothing is HIGH then."""
    if time_share is not None:
        return severity_of_time(time_share)
    if plan_share >= HIGH_TIME_SHARE:
        return Severity.MEDIUM
    return Severity.LOW if plan_share >= MEDIUM_TIME_SHARE else None


def _share_evidence(time_share: float | None, plan_share: float, statements: int) -> Evidence:
    many = "1 statement" if statements == 1 else f"{statements} statements"
    if time_share is None:
        return Evidence(label="share of the plan", value=f"{share_text(plan_share)} in {many}, calls unknown")
    return Evidence(label="concerns", value=many)


def _plan_shares(sites: Iterable[Site]) -> dict[str, float]:
    """The share of a statement's plans together, by query_id; in those without the Site it takes nothing."""
    shares: dict[str, float] = defaultdict(float)
    for site in sites:
        shares[site.query_id] += site.plan_share * site.part
    return {query_id: min(1.0, share) for query_id, share in shares.items()}


def rows_per_call(snapshot: Snapshot, query_id: str) -> float | None:
    """Rows that a call of the statement returned on average; None where none was counted."""
    counted = (each for each in snapshot.statements if each.statement.query_id == query_id)
    return next((each.rows / each.calls for each in counted if each.calls), None)


def label_of(snapshot: Snapshot, query_id: str) -> str:
    """How reports name the statement."""
    labels = (each.statement.label for each in snapshot.statements if each.statement.query_id == query_id)
    return next(labels, f"query {query_id}")


def table_of(snapshot: Snapshot, node: PlanNode) -> Table | None:
    """The table that a node scans; None where it scans none that the Snapshot knows."""
    if node.relation is None:
        return None
    return snapshot.table(TableName(schema=node.schema or "public", name=node.relation))


def relation_text(node: PlanNode) -> str:
    """What a node reads: its table or index as reports name it, or else its kind."""
    if node.relation is not None:
        return str(TableName(schema=node.schema or "public", name=node.relation))
    return node.index or node.kind


def place_text(relation: object, columns: Iterable[str]) -> str:
    """A location: the table, with the columns in parentheses where there are some."""
    named = ", ".join(columns)
    return f"{relation}({named})" if named else str(relation)


def statements_on(snapshot: Snapshot, name: TableName) -> tuple[str, ...]:
    """The statements whose plans touch the table, sorted."""
    pair = (name.schema, name.name)
    return tuple(sorted({each.query_id for each in snapshot.plans if pair in each.plan.relations}))


def rows_of(table: Table) -> float:
    """The better known number of rows: the planner's figure, or the live counter where that is above."""
    return max(table.rows, float(table.live_rows), 0.0)
