"""Reads some values of a column where pg_stats has none: never analysed tables, JSON, arrays."""

from __future__ import annotations

from functools import cache
from typing import Any

import psycopg
from psycopg import errors, pq, sql

from perfloop.adapters.connection import unreachable_if_lost
from perfloop.adapters.probe import pinned
from perfloop.adapters.queries import load_blocks
from perfloop.model.target import TableName
from perfloop.validate.parameters import ParameterTypes, Sampler

_WITHOUT_SAMPLE = (
    errors.InsufficientPrivilege,
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.UndefinedColumn,
    errors.UndefinedTable,
)


def sampler(connection: psycopg.Connection[Any]) -> Sampler:
    """A Sampler over this session, which should be read-only. What the role may not read is empty.

    Each column is read once, however many statements ask for it.
    """

    @cache
    def sample(table: TableName, column: str) -> tuple[str, ...]:
        with unreachable_if_lost(connection):
            sampled = _read(connection, table, column, "sample_column")
            return sampled or _read(connection, table, column, "first_of_column")

    return sample


def _read(connection: psycopg.Connection[Any], table: TableName, column: str, block: str) -> tuple[str, ...]:
    blocks = load_blocks("perfloop.validate", "sampling.sql")
    table_name = sql.Identifier(table.schema, table.name)
    command = blocks[block].format(table=table_name, column=sql.Identifier(column))
    parameters = [table_name.as_string(connection)] if block == "sample_column" else None
    try:
        with pinned(connection) as cursor:
            cursor.execute(blocks["limit_time"])
            rows = cursor.execute(command, parameters).fetchall()
    except _WITHOUT_SAMPLE:
        return ()
    return tuple(row["value"] for row in rows)


def parameter_types(connection: psycopg.Connection[Any]) -> ParameterTypes:
    """What the server infers for the parameters of a text, by libpq's Parse and Describe: nothing is run."""

    def types(text: str) -> tuple[str, ...]:
        with unreachable_if_lost(connection):
            prepared = connection.pgconn.prepare(b"", text.encode(connection.info.encoding, "replace"))
            if prepared.status != pq.ExecStatus.COMMAND_OK:
                return ()
            described = connection.pgconn.describe_prepared(b"")
            oids = [described.param_type(position) for position in range(described.nparams)]
            block = load_blocks("perfloop.validate", "sampling.sql")["type_names"]
            with pinned(connection) as cursor:
                return tuple(row["name"] for row in cursor.execute(block, [oids]).fetchall())

    return types
