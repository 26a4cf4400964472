"""Indexes of partitioned tables, built on a target without blocking its writes.

The server builds none of them concurrently. So the parent's index comes first, on the parent ONLY and
therefore invalid; then each partition's, concurrently; and each is attached. With the last one the parent's
becomes valid. A cut at any step leaves the parent's index behind, invalid, which is how the rest is found:
what is not attached is dropped by its name, which follows from the parent's; then the parent's with all that
is attached. That last step locks the table for a moment, as every DROP INDEX of such a table does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import load_blocks
from perfloop.model.advice import CreateIndex
from perfloop.model.target import TableName
from perfloop.tune.statements import Statement, analyze_after, build_only, build_statements

_NAME_BYTES = 63


def is_partitioned(connection: psycopg.Connection[Any], table: TableName) -> bool:
    """Whether the table is the parent of partitions."""
    return bool(read_rows(connection, _block("is_partitioned"), [table.schema, table.name]))


def build_steps(connection: psycopg.Connection[Any], change: CreateIndex) -> Iterator[Statement]:
    """The statements, each to be run before the next is asked for; all stand outside a transaction.

    A partition that comes meanwhile gets its index from the server, since the parent's is there first.
    """
    yield from _family(connection, change, change)
    yield from analyze_after(change)


def _family(
    connection: psycopg.Connection[Any], change: CreateIndex, parent: CreateIndex
) -> Iterator[Statement]:
    yield build_only(parent)
    place = [parent.table.schema, parent.table.name, parent.name]
    for row in read_rows(connection, _block("partitions_without"), place):
        part = part_of(change, TableName(schema=row["schema"], name=row["name"]))
        if row["is_partitioned"]:
            yield from _family(connection, change, part)
        else:
            yield build_statements(part, concurrently=True)[-1]
        yield sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(_name(parent), _name(part))


def removal_steps(connection: psycopg.Connection[Any], change: CreateIndex) -> Iterator[Statement]:
    """The statements that take away the index, or what a cut build has left of it."""
    place = [change.table.schema, change.table.name]
    for row in read_rows(connection, _block("partitions_below"), place):
        part = part_of(change, TableName(schema=row["schema"], name=row["name"]))
        for loose in read_rows(connection, _block("loose_index"), [part.table.schema, part.name]):
            word = sql.SQL("" if loose["is_partitioned"] else "CONCURRENTLY ")
            yield sql.SQL("DROP INDEX {}IF EXISTS {}").format(word, _name(part))
    yield sql.SQL("DROP INDEX IF EXISTS {}").format(_name(change))


def part_of(change: CreateIndex, partition: TableName) -> CreateIndex:
    """The same index of one partition, under a name that follows from both."""
    text = f"{change.name} {partition.schema} {partition.name}"
    digest = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    room = _NAME_BYTES - len(digest) - 1
    stem = change.name.encode()[:room].decode(errors="ignore")
    return msgspec.structs.replace(change, table=partition, name=f"{stem}_{digest}")


def _name(index: CreateIndex) -> sql.Identifier:
    return sql.Identifier(index.table.schema, index.name)


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.tune", "partitioned.sql")[name]
