"""Partitioned tables as the search sees them: as large as their partitions together.

A statement reads partitions; an index is made on the table that they are parts of.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perfloop.model.target import Table, TableName


def by_name(tables: Iterable[Table]) -> dict[TableName, Table]:
    """The tables by name, each partitioned one with the size and rows of all its partitions."""
    named = {table.name: table for table in tables}
    sizes: dict[TableName, int] = {}
    rows: dict[TableName, float] = {}
    for table in named.values():
        root = table.partition_of
        if root is not None and not table.is_partitioned:
            sizes[root] = sizes.get(root, 0) + table.size_bytes
            rows[root] = rows.get(root, 0.0) + max(0.0, table.rows)
    for root in sizes.keys() & named.keys():
        named[root] = msgspec.structs.replace(named[root], size_bytes=sizes[root], rows=rows[root])
    return named
