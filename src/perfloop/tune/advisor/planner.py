"""Asks a lab's planner for plans; both kinds of WhatIf stand on it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from perfloop.adapters.connection import first_line, unreachable_if_lost
from perfloop.adapters.queries import load_blocks
from perfloop.errors import ChangeFailed, UnsupportedStatement
from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan, read_plan


def block(name: str) -> sql.SQL:
    """The block of that name in what_if.sql."""
    return load_blocks("perfloop.tune.advisor", "what_if.sql")[name]


def explain(connection: psycopg.Connection[Any], instance: str) -> Plan:
    """The plan of the instance, which is not run. Raises UnsupportedStatement with the server's reason."""
    text = sql.SQL(instance.strip().rstrip(";"))
    try:
        # The extended protocol takes one statement only, so that nothing behind a semicolon is run.
        with unreachable_if_lost(connection):
            row = connection.execute(block("explain").format(statement=text), binary=True).fetchone()
    except psycopg.Error as error:
        if connection.broken:
            raise
        raise UnsupportedStatement(f"the server cannot plan it: {first_line(error)}") from error
    return read_plan(row[0] if row else None)


def refused(index: CreateIndex, error: psycopg.Error) -> ChangeFailed:
    """The error for an index that the server does not build; it leaves nothing behind."""
    return ChangeFailed(f"{index.title} is refused by the server: {first_line(error)}; nothing was built")
