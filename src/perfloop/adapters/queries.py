"""The named blocks of perfloop's .sql files, as psycopg composes them."""

from __future__ import annotations

from functools import cache

from psycopg import sql

from perfloop.adapters.blocks import read_blocks


@cache
def load_blocks(package: str, file_name: str) -> dict[str, sql.SQL]:
    """The blocks of a .sql file next to the modules of `package`, by name, with the mark set."""
    return {name: sql.SQL(block) for name, block in read_blocks(package, file_name).items()}


def query(name: str) -> sql.SQL:
    """The block of that name in adapters/queries.sql; `{placeholders}` are filled with `.format()`."""
    return load_blocks("perfloop.adapters", "queries.sql")[name]
