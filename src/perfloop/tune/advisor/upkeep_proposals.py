"""What the planner should know anew, and which indexes to do without; from Findings and the Snapshot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from perfloop.analyze.index_upkeep import is_young
from perfloop.model.advice import (
    AnalyzeTable,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    Finding,
    Proposal,
    Risk,
)
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, TableName
from perfloop.tune.advisor.accesses import has_parts
from perfloop.tune.advisor.naming import covers, unique_name
from perfloop.tune.advisor.objective import Considered

_HEAVY_SHARE = 0.05
"""Of the Workload's time: what a statement takes before its filters are worth statistics on a suspicion."""
_MOST_SUSPECTED = 3
_MOST_COLUMNS = 8
"""PostgreSQL's limit for one statistics object."""
_COLUMNS = re.compile(r"^(?P<table>.+?)\((?P<columns>[^()]+)\)$")
_DROP_CHECKS = {
    "invalid-index": "no query can use it",
    "duplicate-index": "another index does its work",
    "unused-index": "no query has used it",
}


def propose_analyze(snapshot: Snapshot, findings: Iterable[Finding]) -> tuple[Proposal, ...]:
    """ANALYZE for tables whose statistics are missing or stale."""
    tables = {str(table.name): table.name for table in snapshot.tables}
    return tuple(
        Proposal(
            change=AnalyzeTable(table=tables[each.location]), reason=each.title, findings=(each.identity,)
        )
        for each in findings
        if each.check == "stale-statistics" and each.location in tables
    )


def propose_statistics(
    snapshot: Snapshot, findings: Iterable[Finding], statements: tuple[Considered, ...]
) -> tuple[Proposal, ...]:
    """Extended statistics for columns that were misjudged together, then for those that may be."""
    there = {(each.table, frozenset(each.columns)) for each in snapshot.extended_statistics}
    taken = frozenset(each.name for each in snapshot.extended_statistics)
    proposals = []
    for table, columns, reason, finding in (*_misjudged(snapshot, findings), *_suspected(statements)):
        wanted = (table, frozenset(columns))
        if wanted in there or _is_unique(snapshot, table, columns):
            continue
        there.add(wanted)
        name = unique_name((table.name, *columns), "stats", repr((str(table), columns)), taken)
        proposals.append(
            Proposal(
                change=CreateStatistics(table=table, name=name, columns=columns),
                reason=reason,
                findings=finding,
            )
        )
    proved = [each for each in proposals if each.findings]
    return (*proved, *[each for each in proposals if not each.findings][:_MOST_SUSPECTED])


def propose_drops(
    snapshot: Snapshot,
    findings: Iterable[Finding],
    plans: tuple[Plan, ...],
    statements: Iterable[Considered],
) -> tuple[tuple[Proposal, ...], tuple[str, ...]]:
    """Indexes to drop, and sentences on those that are called unused but stay."""
    by_place = {f"{index.table}: {index.name}": index for index in snapshot.indexes}
    used = {node.index for plan in plans for node in plan.root.walk()}
    asked = tuple(statements)
    proposals: dict[str, Proposal] = {}
    kept = []
    for finding in findings:
        index = by_place.get(finding.location)
        if index is None or finding.check not in _DROP_CHECKS or index.name in proposals:
            continue
        why = _why_it_stays(snapshot, index, used, asked) if finding.check == "unused-index" else None
        if why:
            kept.append(f"{index.name} is not dropped: {why}")
            continue
        proposals[index.name] = drop(index, finding.title, (finding.identity,))
    return tuple(proposals.values()), tuple(kept)


def _why_it_stays(
    snapshot: Snapshot, index: Index, used: AbstractSet[str | None], statements: tuple[Considered, ...]
) -> str | None:
    """What a counter of scans does not know; None where a trial can tell."""
    if index.name in used:
        return "its counter is 0, but a statement's plan uses it"
    expressions = ", ".join(key.text for key in index.keys if key.is_expression)
    if expressions:
        return f"the planner may use its statistics on {expressions}, which no counter shows"
    if all(index.table not in each.tables for each in statements):
        return f"no statement of the workload touches {index.table}, so no trial can speak for it"
    is_written = any(write.table == index.table for each in statements for write in each.writes)
    if not is_written and is_young(snapshot.activity.counted_for_s):
        return f"its counter is young, and no write of the workload to {index.table} would gain"
    return None


def superseded(snapshot: Snapshot, chosen: Iterable[CreateIndex]) -> tuple[Proposal, ...]:
    """Indexes that are a true prefix of a chosen one; to be tried after it."""
    found = {}
    for new in chosen:
        for index in snapshot.indexes_of(new.table):
            is_shorter = new.predicate is None and len(index.keys) < len(new.keys)
            if is_shorter and _is_plain(index) and covers(index, new.keys[: len(index.keys)]):
                found[index.name] = drop(index, f"{new.name} begins with the same keys", ())
    return tuple(found[name] for name in sorted(found))


def drop(index: Index, reason: str, findings: tuple[str, ...]) -> Proposal:
    """The Proposal to drop that index."""
    return Proposal(
        change=DropIndex(
            table=index.table, name=index.name, definition=index.definition, was_valid=index.is_valid
        ),
        reason=reason,
        findings=findings,
        size_bytes=-index.size_bytes,
        risk=Risk.HIGH if index.is_valid else Risk.MEDIUM,
    )


def place_columns(location: str) -> tuple[str, tuple[str, ...]] | None:
    """The table and the columns of a Finding's location.

    >>> place_columns("orders(customer_id, created_at desc)")
    ('orders', ('customer_id', 'created_at'))
    """
    match = _COLUMNS.match(location)
    if match is None:
        return None
    columns = tuple(each.strip().removesuffix(" desc") for each in match["columns"].split(","))
    return match["table"], columns


def _is_plain(index: Index) -> bool:
    return index.is_valid and not (
        index.is_unique
        or index.is_primary
        or index.backs_constraint
        or index.is_replica_identity
        or index.included
    )


def _misjudged(
    snapshot: Snapshot, findings: Iterable[Finding]
) -> Iterator[tuple[TableName, tuple[str, ...], str, tuple[str, ...]]]:
    tables = {str(table.name): table for table in snapshot.tables}
    for each in findings:
        place = place_columns(each.location) if each.check == "row-misestimate" else None
        if place is None or place[0] not in tables:
            continue
        table = tables[place[0]]
        columns = tuple(name for name in place[1] if (column := table.column(name)) and not has_parts(column))
        if len(columns) >= 2:
            yield table.name, columns[:_MOST_COLUMNS], each.title, (each.identity,)


def _suspected(
    statements: tuple[Considered, ...],
) -> Iterator[tuple[TableName, tuple[str, ...], str, tuple[str, ...]]]:
    """Columns compared with constants together, in statements that take much of the time."""
    for statement in sorted(statements, key=lambda each: (-each.time_share, each.label)):
        if statement.time_share < _HEAVY_SHARE:
            return
        for access in statement.accesses:
            if access.anded:
                columns = access.anded[:_MOST_COLUMNS]
                reason = f"{statement.label} filters {access.table} by {', '.join(columns)} together"
                yield access.table, columns, reason, ()


def _is_unique(snapshot: Snapshot, table: TableName, columns: tuple[str, ...]) -> bool:
    """Whether a unique index tells the planner already that at most one row has these values."""
    return any(index.is_unique and set(index.columns) <= set(columns) for index in snapshot.indexes_of(table))
