"""What a statement asks for: more columns, an exacter count, another order, a longer list than it needs.

These are matters of the service's own statement; no change of the database does away with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

from perfloop.analyze.expressions import unquoted
from perfloop.analyze.missing_indexes import KEPT_RATIO, LARGE_TABLE_ROWS
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode
from perfloop.analyze.sites import Site, rows_of, rows_per_call, table_of
from perfloop.analyze.syntax import longest_list, statement_tree
from perfloop.model.advice import Evidence
from perfloop.model.target import Column, Table
from perfloop.model.units import bytes_text, count_text

WIDE_BYTES = 1_000
WIDE_ROWS = 1_000
LISTED_COLUMNS = 5
"""A table of fewer columns that are all listed by name is most likely needed whole."""
SORTED_ROWS = 1_000
LISTED_VALUES = 1_000

_RANDOM = re.compile(r"\b(?:random|gen_random_uuid|uuid_generate_v4|uuidv4)\(")
_COUNTS_ALL = frozenset({"count(*)"})


def wide_rows(reading: PlanReading) -> Iterator[Site]:
    """Many rows with all columns of a table: SELECT *, or the list that an object mapper writes."""
    root = reading.weighed.nodes[0]
    width = float(root.node.fields.get("Plan Width", 0))
    rows = _returned_rows(reading, root)
    if width < WIDE_BYTES or rows < WIDE_ROWS:
        return
    for each in reading.weighed.nodes:
        table = table_of(reading.snapshot, each.node)
        if table is not None and _is_returned_whole(reading, root, each, table):
            yield Site(
                location=reading.label,
                query_id=reading.query_id,
                plan_share=each.share,
                title=(
                    f"{reading.label} returns every column of {table.name}:"
                    f" {count_text(rows)} rows of {bytes_text(width)}"
                ),
                evidence=(
                    Evidence(label="per call", value=f"about {bytes_text(width * rows)}"),
                    Evidence(label="widest columns", value=_widest(table)),
                ),
                would_try=(
                    "nothing in the database: name the columns that are needed, or ask for fewer rows;"
                    " a few columns can also come from a covering index"
                ),
                positions=(each.position,),
            )
            return


def _returned_rows(reading: PlanReading, root: WeighedNode) -> float:
    """Rows per call as counted; as executed or planned where nothing was counted."""
    counted = rows_per_call(reading.snapshot, reading.query_id)
    return root.rows if counted is None else counted


def _is_returned_whole(reading: PlanReading, root: WeighedNode, each: WeighedNode, table: Table) -> bool:
    outputs = {unquoted(str(text).rpartition(".")[2]) for text in root.node.fields.get("Output", ())}
    names = {column.name for column in table.columns}
    if len(names) < 2 or not names <= outputs:
        return False
    return len(names) >= LISTED_COLUMNS or _has_star(reading)


def _has_star(reading: PlanReading) -> bool:
    tree = statement_tree(reading.snapshot, reading.query_id, reading.instance)
    return isinstance(tree, exp.Select) and any(each.is_star for each in tree.expressions)


def _widest(table: Table) -> str:
    def width(column: Column) -> int:
        return column.statistics.width_bytes if column.statistics is not None else 0

    widest = sorted(table.columns, key=width, reverse=True)[:3]
    return ", ".join(f"{column.name} ({bytes_text(width(column))})" for column in widest if width(column))


def exact_count(reading: PlanReading) -> Iterator[Site]:
    """A count(*) of very many rows and nothing else: every one of them is visited."""
    root = reading.weighed.nodes[0]
    is_count = root.node.kind == "Aggregate" and "Group Key" not in root.node.fields
    if not is_count or set(map(str, root.node.fields.get("Output", ()))) != _COUNTS_ALL:
        return
    counted = next(
        (each for each in reading.weighed.nodes[1:] if each.node.kind not in GATHERING | {"Aggregate"}), root
    )
    table = table_of(reading.snapshot, counted.node)
    if counted.rows < LARGE_TABLE_ROWS or (table is not None and counted.rows <= KEPT_RATIO * rows_of(table)):
        return
    what = "rows" if table is None else f"rows of {table.name}"
    yield Site(
        location=reading.label,
        query_id=reading.query_id,
        plan_share=reading.weighed.share_below(root),
        title=f"{reading.label} visits {count_text(counted.rows)} {what} only to count them",
        evidence=(Evidence(label="rows counted", value=count_text(counted.rows)),),
        would_try=(
            "nothing in the database: a count that is kept for a while, or kept up with each write;"
            " pg_class.reltuples where an estimate does; whether there is a next page where that is asked"
        ),
        positions=(root.position, counted.position),
    )


def random_order(reading: PlanReading) -> Iterator[Site]:
    """Rows in random order: each gets its number, and all are sorted, for whatever few are wanted."""
    for each in reading.weighed.nodes:
        keys = [str(key) for key in each.node.fields.get("Sort Key", ())]
        child = next(iter(reading.weighed.children(each)), None)
        is_random = any(_RANDOM.search(key) for key in keys)
        if is_random and child is not None and child.rows >= SORTED_ROWS:
            yield Site(
                location=reading.label,
                query_id=reading.query_id,
                plan_share=reading.weighed.share_below(each),
                title=f"{reading.label} sorts {count_text(child.rows)} rows by {', '.join(keys)}",
                evidence=(Evidence(label="rows sorted", value=count_text(child.rows)),),
                would_try=(
                    "nothing in the database: draw keys at random and look them up, or TABLESAMPLE,"
                    " which reads a few blocks only"
                ),
                positions=(each.position,),
            )


def long_value_list(reading: PlanReading) -> Iterator[Site]:
    """A list of a thousand values or more, written out one by one: each is parsed and planned every time."""
    length = longest_list(reading.instance) if len(reading.instance) > 2 * LISTED_VALUES else 0
    if length < LISTED_VALUES:
        return
    holder = max(reading.weighed.nodes, key=lambda each: _text_length(each))
    above = reading.weighed.parent(holder) or holder
    yield Site(
        location=reading.label,
        query_id=reading.query_id,
        plan_share=reading.weighed.share_below(above),
        title=f"{reading.label} has a list of {count_text(length)} values in its text",
        evidence=(
            Evidence(label="values", value=count_text(length)),
            Evidence(label="length of the text", value=bytes_text(len(reading.instance))),
        ),
        would_try=(
            "nothing in the database: pass the values as one array, = ANY($1), which also keeps the statement"
            " one statement whatever their number; or join unnest($1)"
        ),
        positions=(holder.position,),
    )


def _text_length(each: WeighedNode) -> int:
    """The node that holds a long list is the one with the longest condition, or scans the values."""
    if each.node.kind == "Values Scan":
        return int(each.node.planned_rows) * 2
    texts = (each.node.fields.get(name, "") for name in ("Filter", "Index Cond", "Recheck Cond"))
    return max(len(str(text)) for text in texts)
