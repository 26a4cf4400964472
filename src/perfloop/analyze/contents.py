"""Scans for what is inside a value, where an index on the contents is missing.

A whole scan for contents is told by missing-index, with the GIN index as its remedy. The rules here see what
that one does not: patterns, and index scans that read far more than their filter on contents keeps.
"""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.expressions import condition_text
from perfloop.analyze.filtered_scans import filtered_scans
from perfloop.analyze.inverted import (
    Contents,
    contents_of,
    contents_remedy,
    gin_index_of,
    pattern_of,
    trigram_remedy,
)
from perfloop.analyze.missing_indexes import KEPT_RATIO
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import Site, table_of
from perfloop.model.advice import Evidence
from perfloop.model.target import Table
from perfloop.model.units import count_text, share_text

READ_ROWS = 1_000
"""Rows that an index scan reads before its filter is worth an index of its own."""


def leading_wildcard(reading: PlanReading) -> Iterator[Site]:
    """A whole scan for a LIKE that starts with a wildcard, or an ILIKE: no b-tree serves either."""
    for scan in filtered_scans(reading):
        pattern = pattern_of(scan.condition, scan.alias)
        if pattern is None or gin_index_of(reading.snapshot, scan.table, pattern.column) is not None:
            continue
        word = "ILIKE" if pattern.is_ilike else "LIKE"
        yield scan.site(
            (pattern.column,),
            title=(
                f"{scan.table.name} is read whole, {count_text(scan.read)} rows,"
                f" for {pattern.column} {word} '{condition_text(pattern.pattern, 40)}'"
            ),
            would_try=trigram_remedy(scan.table, pattern),
        )


def filter_without_gin(reading: PlanReading) -> Iterator[Site]:
    """An index finds many rows, and a filter on a document or an array throws most of them away."""
    for each in reading.weighed.nodes:
        table = table_of(reading.snapshot, each.node)
        if table is None or each.node.kind not in ("Bitmap Heap Scan", "Index Scan"):
            continue
        read = _rows_found(reading, each)
        if read < READ_ROWS or each.rows > KEPT_RATIO * read:
            continue
        condition = str(each.node.fields.get("Filter") or "")
        for contents in contents_of(condition, table, each.node.alias)[:1]:
            if gin_index_of(reading.snapshot, table, contents.column) is None:
                yield _site(reading, each, table, contents, read)


def _rows_found(reading: PlanReading, each: WeighedNode) -> float:
    """Rows that the index found: measured, or expected of the bitmap; 0 where it is not known."""
    if each.is_measured:
        return each.rows + each.removed_rows
    return min((child.rows for child in reading.weighed.children(each)), default=0.0)


def _site(reading: PlanReading, each: WeighedNode, table: Table, contents: Contents, read: float) -> Site:
    condition = str(each.node.fields["Filter"])
    return Site(
        location=f"{table.name}({contents.column})",
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"An index finds {count_text(read)} rows of {table.name}, of which a filter on what is in"
            f" {contents.column} keeps {count_text(each.rows)}"
        ),
        evidence=(
            Evidence(label="filter", value=condition_text(condition)),
            Evidence(label="rows kept", value=f"{share_text(each.rows / read)} of {count_text(read)}"),
        ),
        would_try=contents_remedy(table, contents),
        positions=(each.position,),
    )
