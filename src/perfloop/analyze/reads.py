"""Blocks that a scan touches for the rows it finds, and the time for which it waits for them."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import Site, relation_text, rows_of, table_of
from perfloop.analyze.work import own_blocks, own_read_s
from perfloop.model.advice import Evidence
from perfloop.model.target import Column
from perfloop.model.units import count_text, seconds_text, share_text

LARGE_RANGE_ROWS = 1_000
"""Rows that one execution finds; of fewer, each may well lie in a block of its own."""
BLOCKS_PER_ROW = 0.9
"""A little below one: of rows in no order at all, a few happen to lie in the block read before."""
SCATTER_FACTOR = 4.0
"""Times the blocks that the same rows would take side by side; wide rows have few blocks to share."""
READ_RATIO = 0.5
"""Share of the time spent waiting for blocks from which reading is what a statement does."""
READ_SHARE = 0.10
"""Share of the plan's time that one node waits for blocks."""
_SCANS = ("Index Scan", "Bitmap Heap Scan")


def blocks_per_row(reading: PlanReading) -> Iterator[Site]:
    """Scans of many rows that touch about a block for each, for want of order; or more, for emptiness."""
    blocks = own_blocks(reading)
    for each in reading.weighed.nodes:
        if not each.has_run:
            continue
        touched, found = blocks[each.position], each.read_rows * each.executions
        if each.node.kind in _SCANS and each.read_rows >= LARGE_RANGE_ROWS:
            packed = found * _blocks_for_a_row(reading, each)
            if touched >= max(BLOCKS_PER_ROW * found, SCATTER_FACTOR * packed):
                yield _scattered(reading, each, touched=touched, found=found)
        elif each.node.kind == "Seq Scan" and touched >= LARGE_RANGE_ROWS and touched > found:
            yield _emptied(reading, each, touched=touched, found=found)


def _blocks_for_a_row(reading: PlanReading, each: WeighedNode) -> float:
    """How much of a block a row of the table takes; 0 where the table is not known."""
    table = table_of(reading.snapshot, each.node)
    rows = 0.0 if table is None else rows_of(table)
    blocks = 0.0 if table is None else table.size_bytes / reading.snapshot.fingerprint.block_bytes
    return blocks / rows if rows else 0.0


def _scattered(reading: PlanReading, each: WeighedNode, *, touched: float, found: float) -> Site:
    relation = relation_text(each.node)
    index = next((one.node.index for one in reading.weighed.below(each) if one.node.index is not None), None)
    column = _leading_column(reading, each, index)
    correlation = None if column is None or column.statistics is None else column.statistics.correlation
    order = () if correlation is None else (Evidence(label="correlation", value=f"{correlation:.2f}"),)
    return Site(
        location=f"{relation}: {index}",
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"{count_text(found)} rows of {relation} found by index {index} lie in almost as many"
            f" blocks: {count_text(touched)} are touched"
        ),
        evidence=(Evidence(label="blocks per row", value=f"{touched / found:.2g}"), *order),
        would_try=(
            "an index that holds every column the statement reads (INCLUDE), so that it need not visit the"
            f" table; or CLUSTER {relation} by {index}"
        ),
        positions=(each.position,),
    )


def _leading_column(reading: PlanReading, each: WeighedNode, index: str | None) -> Column | None:
    table = table_of(reading.snapshot, each.node)
    columns = next((one.columns for one in reading.snapshot.indexes if one.name == index), ())
    return table.column(columns[0]) if table is not None and columns else None


def _emptied(reading: PlanReading, each: WeighedNode, *, touched: float, found: float) -> Site:
    relation = relation_text(each.node)
    return Site(
        location=relation,
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"A sequential scan of {relation} reads {count_text(touched)} blocks that hold only"
            f" {count_text(found)} rows"
        ),
        evidence=(Evidence(label="executions", value=count_text(each.executions)),),
        would_try=f"vacuum {relation}; VACUUM FULL or pg_repack give back the blocks that are empty",
        positions=(each.position,),
    )


def cache_misses(reading: PlanReading) -> Iterator[Site]:
    """Where at least half of the time goes into waiting for blocks; needs track_io_timing."""
    waits = own_read_s(reading)
    total_s = reading.plan.execution_s or reading.weighed.nodes[0].node.total_s or 0.0
    if not total_s or sum(waits) < READ_RATIO * total_s:
        return
    for each in reading.weighed.nodes:
        wait_s = waits[each.position]
        if wait_s < READ_SHARE * total_s:
            continue
        relation = relation_text(each.node)
        yield Site(
            location=relation,
            query_id=reading.query_id,
            plan_share=min(1.0, wait_s / total_s),
            title=(
                f"{share_text(min(1.0, wait_s / total_s))} of the time is spent waiting for blocks"
                f" of {relation}"
            ),
            evidence=(
                Evidence(
                    label="blocks read",
                    value=count_text(float(each.node.fields.get("Shared Read Blocks", 0))),
                ),
                Evidence(label="waiting", value=seconds_text(wait_s)),
            ),
            would_try="larger shared_buffers, or an index that lets it read fewer blocks",
            positions=(each.position,),
        )
