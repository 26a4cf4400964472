"""Turns what the search chose, and what it did not choose though a Finding asks for it, into Proposals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from perfloop.model.advice import CreateIndex, Finding, Proposal, Risk
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import IndexKey
from perfloop.tune.advisor.accesses import Access, can_be_key
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.extend import Extend, SearchResult
from perfloop.tune.advisor.naming import covers, new_index
from perfloop.tune.advisor.objective import Considered
from perfloop.tune.advisor.upkeep_proposals import place_columns

_SCAN_CHECKS = ("missing-index", "function-on-column")
_INDEX_CHECKS = (*_SCAN_CHECKS, "foreign-key-without-index")
"""Checks whose Findings ask for an index."""
_ANSWERED_CHECKS = (*_INDEX_CHECKS, "leading-wildcard", "filter-without-gin", "or-across-columns")
"""Checks whose Findings an index may answer."""
_NAMED_STATEMENTS = 3
GAIN_RATIO = 0.98
"""A statement gains by the search when its expected cost is below this."""


def chosen_proposals(
    search: Extend,
    result: SearchResult,
    statements: tuple[Considered, ...],
    findings: tuple[Finding, ...],
    known: KnownCosts,
) -> tuple[Proposal, ...]:
    """The chosen indexes in the order of the search.

    There each one gained next to those before it, so that a trial finds in place what an index needs:
    tried before the other, the one of two that only helps next to it would change no plan.
    What an index saves is the better of two figures: alone, and as the last one to be added.
    """
    places = _places(result)
    proposals = []
    for index in sorted(result.chosen, key=lambda each: (places.get(each, len(places)), each.name)):
        ratio = _expected_ratio(search, result.chosen, index)
        proposals.append(
            Proposal(
                change=index,
                reason=_reason(search, result, statements, index),
                findings=tuple(each.identity for each in findings if _asks_for(each, index)),
                expected_ratio=ratio,
                size_bytes=known.size_bytes(index),
                risk=Risk.MEDIUM,
            )
        )
    return tuple(proposals)


def _places(result: SearchResult) -> dict[CreateIndex, int]:
    """At which step the search took each index, or the narrower one that it was widened from."""
    places: dict[CreateIndex, int] = {}
    for number, step in enumerate(result.steps):
        before = places.get(step.replaces) if step.replaces is not None else None
        places[step.index] = number if before is None else before
    return places


def demanded_proposals(
    snapshot: Snapshot,
    search: Extend,
    statements: tuple[Considered, ...],
    findings: tuple[Finding, ...],
    known: KnownCosts,
    proposed: Iterable[CreateIndex],
) -> tuple[Proposal, ...]:
    """Indexes that a Finding asks for and that are not `proposed` yet: the trial decides on them."""
    there = list(proposed)
    proposals = []
    for finding in findings:
        index = _demanded(snapshot, statements, finding)
        if index is None or any(_answers(each, index, finding) for each in there) or not search.usable(index):
            continue
        there.append(index)
        proposals.append(
            Proposal(
                change=index,
                reason=f"{finding.title}; the search expects little of it",
                findings=(finding.identity,),
                expected_ratio=search.workload_ratio((index,)),
                size_bytes=known.size_bytes(index),
                risk=Risk.MEDIUM,
            )
        )
    return tuple(sorted(proposals, key=lambda each: (each.expected_ratio or 1.0, each.change.title)))


def _expected_ratio(search: Extend, chosen: tuple[CreateIndex, ...], index: CreateIndex) -> float | None:
    alone = search.workload_ratio((index,))
    whole = search.workload_ratio(chosen)
    without = search.workload_ratio(tuple(each for each in chosen if each != index))
    last = whole / without if whole is not None and without else None
    return min((each for each in (alone, last) if each is not None), default=None)


def _reason(
    search: Extend, result: SearchResult, statements: tuple[Considered, ...], index: CreateIndex
) -> str:
    """The statements that gain most: by the index alone, or else by adding it to the other chosen ones."""
    ones = tuple(1.0 for _ in statements)
    alone = search.ratios((index,), ones, frozenset({index.table})) or ones
    words = _gains(statements, alone)
    if words:
        return f"alone it should bring the planner's cost of {words}"
    rest = tuple(each for each in result.chosen if each != index)
    without = search.ratios(rest, result.ratios, frozenset({index.table})) or result.ratios
    added = tuple(ratio / before for ratio, before in zip(result.ratios, without, strict=True))
    words = _gains(statements, added)
    return f"next to the other indexes it should bring the planner's cost of {words or 'many a little down'}"


def _gains(statements: tuple[Considered, ...], ratios: tuple[float, ...]) -> str:
    gains = sorted(
        (ratio, statement.label)
        for statement, ratio in zip(statements, ratios, strict=True)
        if ratio < GAIN_RATIO
    )
    named = ", ".join(f"{label} to {max(ratio, 0.001):.1%}" for ratio, label in gains[:_NAMED_STATEMENTS])
    more = f" and {len(gains) - _NAMED_STATEMENTS} more down" if len(gains) > _NAMED_STATEMENTS else ""
    return named + more


def _asks_for(finding: Finding, index: CreateIndex) -> bool:
    if finding.check not in _ANSWERED_CHECKS:
        return False
    place = place_columns(finding.location)
    if place is None:
        return finding.location == str(index.table)
    keys = [key.text for key in index.keys]
    return place[0] == str(index.table) and (keys[0] in place[1] or set(place[1]) <= set(keys))


def _demanded(snapshot: Snapshot, statements: tuple[Considered, ...], finding: Finding) -> CreateIndex | None:
    place = place_columns(finding.location) if finding.check in _INDEX_CHECKS else None
    table = next((each for each in snapshot.tables if place and str(each.name) == place[0]), None)
    if place is None or table is None or table.is_partitioned:
        return None
    accesses = [
        access
        for statement in statements
        if not finding.query_ids or statement.query_id in finding.query_ids
        for access in statement.accesses
        if access.table == table.name
    ]
    keys = _keys(tuple(name for name in place[1] if can_be_key(table, name)), accesses, finding)
    if not keys or any(covers(each, keys) for each in snapshot.indexes_of(table.name)):
        return None
    return new_index(table.name, keys, taken=frozenset(each.name for each in snapshot.indexes))


def _keys(columns: tuple[str, ...], accesses: list[Access], finding: Finding) -> tuple[IndexKey, ...]:
    """The columns in the order in which an index can use them: a wanted order, else equality before range.

    A missing index has those keys only that its statements compare or sort by: not what holds for
    every row wanted (gone IS NULL), nor what a b-tree cannot search; and lower(name) where name is
    never compared bare. The server itself compares the columns of a foreign key.
    """
    plain = tuple(IndexKey(text=name) for name in columns)
    if finding.check not in _SCAN_CHECKS or not accesses:
        return plain
    attributes = tuple(dict.fromkeys(key for access in accesses for key in access.attributes))
    used = {key.text for key in attributes} & set(columns)
    for keys in _wanted(accesses):
        if used and {key.text for key in keys} == used:
            return keys
    return tuple(key for key in plain if key.text in used) or tuple(
        key
        for key in attributes
        if key.is_expression and not set(columns).isdisjoint(re.findall(r"\w+", key.text))
    )


def _wanted(accesses: Iterable[Access]) -> Iterator[tuple[IndexKey, ...]]:
    for access in accesses:
        yield from access.orders
        yield access.attributes
        yield (*access.matched, *access.ranged)
        yield access.matched


def _answers(chosen: CreateIndex, index: CreateIndex, finding: Finding) -> bool:
    """Whether the chosen index does what the demanded one is for.

    To begin with the same keys is enough; to have them anywhere is, where the search weighed the
    statements that the finding is about.
    """
    if chosen.table != index.table:
        return False
    if chosen.keys[: len(index.keys)] == index.keys:
        return True
    held = {key.text for key in chosen.keys}
    return finding.check in _SCAN_CHECKS and {key.text for key in index.keys} <= held
