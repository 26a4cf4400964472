"""Scans that use an index and yet do too much: only an executed plan shows what they threw away."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.expressions import columns_in, condition_text
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode, WeighedPlan
from perfloop.analyze.sites import Site, place_text, relation_text, table_of
from perfloop.analyze.work import process_fields
from perfloop.model.advice import Evidence
from perfloop.model.units import count_text, share_text

JUDGED_ROWS = 1_000
"""Rows over all executions below which nothing that happens to them costs much."""
DISCARDED_RATIO = 0.5
"""Of the rows that an index finds: above this its next column should have been the filter's."""
DISCARDED_PER_ROW = 100
"""Rows thrown away for each row that a LIMIT lets through."""
HEAP_FETCH_RATIO = 0.10
"""Share of an index-only scan's rows that had to be looked up in the table all the same."""
INDEX_SCANS = ("Index Scan", "Index Only Scan", "Bitmap Heap Scan")
_HANDS_ON_IN_ORDER = GATHERING | {"Result", "Subquery Scan", "LockRows", "ProjectSet", "Nested Loop"}
"""Kinds between a scan and its LIMIT that keep the order of the (outer) scan."""


def index_scan_discard(reading: PlanReading) -> Iterator[Site]:
    """An index finds rows of which a filter throws away half or more."""
    for each in reading.weighed.nodes:
        removed = each.removed_rows * each.executions
        if each.node.kind not in INDEX_SCANS or not each.has_run or removed < JUDGED_ROWS:
            continue
        if removed >= DISCARDED_RATIO * each.read_rows * each.executions:
            yield _discard(reading, each)


def _discard(reading: PlanReading, each: WeighedNode) -> Site:
    relation, index = relation_text(each.node), _index_text(reading, each)
    filtered = _columns(reading, each, "Filter")
    removed = share_text(each.removed_rows / each.read_rows)
    named = ", ".join(filtered)
    return Site(
        location=place_text(relation, filtered),
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"Index {index} finds {count_text(each.read_rows)} rows of {relation},"
            f" of which a filter{f' on {named}' if named else ''} throws {removed} away"
        ),
        evidence=(
            Evidence(label="filter", value=condition_text(str(each.node.fields.get("Filter", "")))),
            Evidence(label="executions", value=count_text(each.executions)),
        ),
        would_try=f"an index on {relation} with {named or 'what is filtered'} besides the columns of {index}",
        positions=(each.position,),
    )


def wrong_index_for_limit(reading: PlanReading) -> Iterator[Site]:
    """An index walked for its order alone, past a hundred rows or more for each that a LIMIT needs."""
    for limit in reading.weighed.nodes:
        each = _ordered_scan(reading.weighed, limit) if limit.node.kind == "Limit" else None
        if each is None or "Index Cond" in each.node.fields or not each.has_run:
            continue
        removed = each.removed_rows * each.executions
        wanted = max(1.0, limit.rows * limit.executions)
        if removed >= max(JUDGED_ROWS, DISCARDED_PER_ROW * wanted):
            yield _walked(reading, each, removed=removed, wanted=wanted)


def _ordered_scan(plan: WeighedPlan, each: WeighedNode) -> WeighedNode | None:
    below = plan.child(each, "Outer") or plan.child(each, "Subquery")
    if below is None or below.node.kind in ("Index Scan", "Index Only Scan"):
        return below
    return _ordered_scan(plan, below) if below.node.kind in _HANDS_ON_IN_ORDER else None


def _walked(reading: PlanReading, each: WeighedNode, *, removed: float, wanted: float) -> Site:
    relation = relation_text(each.node)
    filtered = _columns(reading, each, "Filter")
    keys = next((one.columns for one in reading.snapshot.indexes if one.name == each.node.index), ())
    return Site(
        location=place_text(relation, filtered),
        query_id=reading.query_id,
        plan_share=each.share,
        title=(
            f"Index {each.node.index} is walked for its order: {count_text(removed)} rows of {relation}"
            f" are thrown away to find {count_text(wanted)}"
        ),
        evidence=(
            Evidence(label="filter", value=condition_text(str(each.node.fields.get("Filter", "")))),
            Evidence(label="rows for the LIMIT", value=count_text(wanted)),
        ),
        would_try=f"an index on {relation} over {', '.join(dict.fromkeys((*filtered, *keys)))}, so ordered",
        positions=(each.position,),
    )


def index_recheck(reading: PlanReading) -> Iterator[Site]:
    """Rows thrown away because the bitmap, or the index, could only say where they may be."""
    for each in reading.weighed.nodes:
        removed = each.removed_by("Index Recheck")
        if not each.has_run or removed * each.executions < JUDGED_ROWS:
            continue
        lossy, exact = _blocks(each, "Lossy Heap Blocks"), _blocks(each, "Exact Heap Blocks")
        if lossy:
            yield _rechecked(
                reading,
                each,
                why=f"work_mem is too small for a bitmap of rows: {count_text(lossy)} of"
                f" {count_text(lossy + exact)} blocks are known only as a whole",
                would_try="a larger work_mem; or an index that finds fewer rows",
            )
        elif removed >= DISCARDED_RATIO * each.read_rows:
            yield _rechecked(
                reading,
                each,
                why="its index can only say which rows may match",
                would_try="an index whose operator class keeps what is searched for, or a longer pattern",
            )


def _blocks(each: WeighedNode, name: str) -> int:
    return sum(int(part.get(name, 0)) for part in process_fields(each.node))


def _rechecked(reading: PlanReading, each: WeighedNode, *, why: str, would_try: str) -> Site:
    relation = relation_text(each.node)
    removed = each.removed_by("Index Recheck")
    return Site(
        location=place_text(relation, _columns(reading, each, "Recheck Cond", "Index Cond")),
        query_id=reading.query_id,
        plan_share=each.share,
        title=f"{share_text(removed / each.read_rows)} of the rows found in {relation} are read for nothing",
        evidence=(
            Evidence(label="why", value=why),
            Evidence(label="rows thrown away", value=count_text(removed * each.executions)),
        ),
        would_try=would_try,
        positions=(each.position,),
    )


def heap_fetches(reading: PlanReading) -> Iterator[Site]:
    """An index-only scan that looks rows up in the table, because no vacuum has marked its pages."""
    for each in reading.weighed.nodes:
        fetches = float(each.node.fields.get("Heap Fetches", 0))
        found = max(each.read_rows * each.executions, fetches)
        if fetches < JUDGED_ROWS or fetches < HEAP_FETCH_RATIO * found:
            continue
        relation = relation_text(each.node)
        yield Site(
            location=relation,
            query_id=reading.query_id,
            plan_share=each.share,
            title=(
                f"An index-only scan of {relation} looks {share_text(fetches / found)} of its rows up"
                " in the table"
            ),
            evidence=(
                Evidence(label="index", value=str(each.node.index)),
                Evidence(label="heap fetches", value=f"{count_text(fetches)} of {count_text(found)} rows"),
            ),
            would_try=f"vacuum {relation}, and more often: a lower autovacuum_vacuum_insert_scale_factor",
            positions=(each.position,),
        )


def bitmap_and(reading: PlanReading) -> Iterator[Site]:
    """Two or more indexes read and intersected, where one index over all columns would find the rows."""
    for each in reading.weighed.nodes:
        if each.node.kind != "BitmapAnd":
            continue
        plan = reading.weighed
        heap = next((one for one in plan.ancestors(each) if one.node.kind == "Bitmap Heap Scan"), None)
        parts = [one for one in plan.below(each) if one.node.index is not None]
        entries = sum(one.rows * one.executions for one in parts)
        if heap is None or entries < JUDGED_ROWS:
            continue
        columns = _columns(reading, heap, "Recheck Cond")
        relation = relation_text(heap.node)
        yield Site(
            location=place_text(relation, columns),
            query_id=reading.query_id,
            plan_share=plan.share_below(heap),
            title=(
                f"{count_text(entries)} entries of {len(parts)} indexes of {relation} are intersected"
                f" to find {count_text(heap.read_rows * heap.executions)} rows"
            ),
            evidence=(Evidence(label="indexes", value=", ".join(str(one.node.index) for one in parts)),),
            would_try=f"one index on {relation} over {', '.join(columns) or 'all these columns'}",
            positions=(heap.position, each.position),
        )


def _columns(reading: PlanReading, each: WeighedNode, *conditions: str) -> tuple[str, ...]:
    table = table_of(reading.snapshot, each.node)
    text = " AND ".join(str(each.node.fields[name]) for name in conditions if name in each.node.fields)
    return () if table is None else columns_in(text, table, each.node.alias)


def _index_text(reading: PlanReading, each: WeighedNode) -> str:
    """The scan's index; a Bitmap Heap Scan has its own below it."""
    names = (one.node.index for one in reading.weighed.below(each) if one.node.index is not None)
    return " and ".join(dict.fromkeys(names))
