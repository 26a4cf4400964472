"""Partitions, and servers elsewhere, that are read although nothing in them is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perfloop.analyze.conditions_written import function_on_column, implicit_cast
from perfloop.analyze.expressions import columns_in, condition_text
from perfloop.analyze.missing_indexes import LARGE_TABLE_ROWS
from perfloop.analyze.reading import PlanReading, positions_of
from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import Site, place_text, relation_text, table_of
from perfloop.model.advice import Evidence
from perfloop.model.units import count_text, share_text

READ_PARTITIONS = 4
EMPTY_RATIO = 0.5
"""Share of the partitions read in which nothing was found."""
DISCARDED_RATIO = 0.90
DISCARDED_ROWS = 1_000
_APPENDS = ("Append", "Merge Append")
_PART_ALIAS = re.compile(r"(?P<parent>.+)_\d+")
"""How the planner names the partitions of one table, which has the alias without the number."""


def partitions_unpruned(reading: PlanReading) -> Iterator[Site]:
    """More than half of the partitions are read in vain: the condition does not say which to skip."""
    for each in reading.weighed.nodes:
        if each.node.kind not in _APPENDS or not each.has_run:
            continue
        scans = _partition_scans(reading, each)
        empty = [one for one in scans if one.rows == 0]
        if len(scans) < READ_PARTITIONS or len(empty) <= EMPTY_RATIO * len(scans):
            continue
        if not any(_lacks_an_index(reading, one) for one in empty):
            yield _unpruned(reading, each, scans, empty)


def _partition_scans(reading: PlanReading, append: WeighedNode) -> list[WeighedNode]:
    """The scans of an Append over the partitions of one table that ran; none for a UNION."""
    members = [one for one in reading.weighed.children(append) if one.relationship == "Member"]
    scans = [
        next((one for one in reading.weighed.below(member) if one.node.relation is not None), member)
        for member in members
    ]
    parents = {match["parent"] if (match := _alias_match(one)) else None for one in scans}
    relations = {one.node.relation for one in scans}
    is_one_table = len(parents) == 1 and None not in parents and len(relations) == len(scans)
    return [one for one in scans if one.has_run] if is_one_table else []


def _alias_match(each: WeighedNode) -> re.Match[str] | None:
    return _PART_ALIAS.fullmatch(each.node.alias or "")


def _lacks_an_index(reading: PlanReading, scan: WeighedNode) -> bool:
    """Whether it is a large scan by a bare column, which an index serves and the key may have no part in."""
    if scan.node.kind != "Seq Scan" or scan.read_rows < LARGE_TABLE_ROWS or "Filter" not in scan.node.fields:
        return False
    return scan.position not in positions_of(reading, function_on_column, implicit_cast)


def _unpruned(
    reading: PlanReading, append: WeighedNode, scans: list[WeighedNode], empty: list[WeighedNode]
) -> Site:
    match = _alias_match(empty[0])
    parent = match["parent"] if match else relation_text(empty[0].node)
    conditions = (
        str(empty[0].node.fields[name]) for name in ("Index Cond", "Filter") if name in empty[0].node.fields
    )
    return Site(
        location=f"{parent}: partitions",
        query_id=reading.query_id,
        plan_share=min(1.0, sum(one.share for one in empty)),
        title=f"{len(scans)} partitions of {parent} are read, and {len(empty)} hold nothing that is wanted",
        evidence=(
            Evidence(label="condition", value=condition_text(" AND ".join(conditions)) or "none"),
            Evidence(
                label="skipped when it ran",
                value=count_text(float(append.node.fields.get("Subplans Removed", 0))),
            ),
        ),
        would_try="a condition on the partition key itself, without a function or cast around it",
        positions=(append.position, *(one.position for one in scans)),
    )


def foreign_scan_discard(reading: PlanReading) -> Iterator[Site]:
    """Rows fetched from another server, or a file, that a filter on this side throws away."""
    for each in reading.weighed.nodes:
        removed = each.removed_rows * each.executions
        if each.node.kind != "Foreign Scan" or not each.has_run or removed < DISCARDED_ROWS:
            continue
        if removed >= DISCARDED_RATIO * each.read_rows * each.executions:
            yield _fetched(reading, each)


def _fetched(reading: PlanReading, each: WeighedNode) -> Site:
    relation = relation_text(each.node)
    remote = each.node.fields.get("Remote SQL")
    condition = str(each.node.fields.get("Filter", ""))
    table = table_of(reading.snapshot, each.node)
    columns = () if table is None else columns_in(condition, table, each.node.alias)
    return Site(
        location=place_text(relation, columns),
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"{count_text(each.read_rows * each.executions)} rows of {relation} are fetched from outside,"
            f" of which a filter here throws {share_text(each.removed_rows / each.read_rows)} away"
        ),
        evidence=(
            Evidence(label="filter", value=condition_text(condition)),
            *((Evidence(label="remote statement", value=condition_text(str(remote))),) if remote else ()),
        ),
        would_try=(
            "a condition that the other server can evaluate: built-in operators and functions, without casts"
            if remote
            else "a table filled from it, with an index"
        ),
        positions=(each.position,),
    )
