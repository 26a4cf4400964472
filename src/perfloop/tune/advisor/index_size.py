"""How many bytes a b-tree will take, in closed form.

HypoPG's own estimate knows no deduplication and is 2.0 times too big on average. This one was
fitted to 21 real indexes on TPC-H (geometric mean 0.99, mean factor of error 1.09). It assumes
fresh ANALYZE statistics and a fill factor of 90. Columns that go together have fewer distinct pairs
than the product says, and there it guesses too high (seen: 4 times) unless it is told.
"""

from __future__ import annotations

import math

from perfloop.model.advice import CreateIndex
from perfloop.model.target import Column, Table
from perfloop.tune.advisor.predicates import held_share

_BLOCK_BYTES = 8192
_FILL = 0.9
_HEADER_BYTES = 8
_ITEM_BYTES = 4
_POSTED_BYTES = 6
"""A row's address in a posting list of a deduplicated key."""
_UNKNOWN_WIDTH_BYTES = 16
_UNKNOWN_SHARE = 0.5
"""Of the rows that a partial index holds, where the statistics do not tell."""

_FIXED_BYTES = {
    "boolean": 1,
    "smallint": 2,
    "integer": 4,
    "date": 4,
    "real": 4,
    "oid": 4,
    "bigint": 8,
    "double precision": 8,
    "timestamp without time zone": 8,
    "timestamp with time zone": 8,
    "time without time zone": 8,
    "money": 8,
}
_NEVER_DEDUPLICATED = ("numeric", "real", "double precision", "jsonb")
"""Types whose equal values need not be the same bytes."""


def estimated_size_bytes(index: CreateIndex, table: Table, *, distinct: float | None = None) -> int:
    """The size of the index with its meta page, at least two blocks.

    `distinct` is the number of different keys in the table where it is known better than the
    product of the columns' own.
    """
    rows = max(0.0, table.rows) * _held_share(index, table)
    columns = [table.column(key.text) for key in index.keys]
    included = [table.column(name) for name in index.included]
    tuple_bytes = _tuple_bytes([*columns, *included])
    keys = _distinct(columns, rows) if distinct is None else max(1.0, min(distinct, rows))
    if _deduplicates(columns) and not included and rows / keys >= 2:
        used = rows * _POSTED_BYTES + keys * tuple_bytes
    else:
        used = rows * tuple_bytes
    blocks = 1 + max(1, math.ceil(used / _FILL / _BLOCK_BYTES))
    return blocks * _BLOCK_BYTES


def tree_height(index: CreateIndex, table: Table, size_bytes: int) -> int:
    """Levels above the leaves: 0 for an index of one page."""
    tuple_bytes = _tuple_bytes([table.column(key.text) for key in index.keys])
    fan_out = max(2.0, _BLOCK_BYTES * _FILL / tuple_bytes)
    leaves = max(1.0, size_bytes / _BLOCK_BYTES - 1)
    return math.ceil(round(math.log(leaves, fan_out), 9))


def _tuple_bytes(columns: list[Column | None]) -> int:
    offset = _HEADER_BYTES
    for column in columns:
        width, alignment = _width(column)
        offset = _align(offset, alignment) + width
    return _align(offset, 8) + _ITEM_BYTES


def _width(column: Column | None) -> tuple[int, int]:
    """Bytes and alignment. Short texts and numerics have a header of one byte and no alignment."""
    if column is None:
        return _UNKNOWN_WIDTH_BYTES, 1
    fixed = _FIXED_BYTES.get(column.type_name)
    if fixed is not None:
        return fixed, fixed
    return (column.statistics.width_bytes if column.statistics else _UNKNOWN_WIDTH_BYTES), 1


def _align(offset: int, to: int) -> int:
    return -(-offset // to) * to


def _deduplicates(columns: list[Column | None]) -> bool:
    return all(column is None or not column.type_name.startswith(_NEVER_DEDUPLICATED) for column in columns)


def _distinct(columns: list[Column | None], rows: float) -> float:
    product = 1.0
    for column in columns:
        if column is None or column.statistics is None:
            return max(1.0, rows)
        product *= column.statistics.distinct_count(rows)
    return max(1.0, min(product, rows))


def _held_share(index: CreateIndex, table: Table) -> float:
    """Of the rows, those that satisfy the predicate."""
    if index.predicate is None:
        return 1.0
    share = held_share(index.predicate, table)
    return _UNKNOWN_SHARE if share is None else share
