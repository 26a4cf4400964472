"""What was committed in a database, as every source of changes tells it, and the names of tables in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from perfloop.errors import InvalidInput
from perfloop.model.value import Value

RowTexts: TypeAlias = Mapping[str, str | None]
"""Watched columns of one row by name, each as PostgreSQL writes it in text; None is NULL."""

PUBLIC: Final = "public"


class TableChange(Value, frozen=True, kw_only=True):
    """What was committed in one table."""

    table: str | None
    """As `table_name` writes it; None means that any watched table may have changed."""

    rows: tuple[RowTexts, ...] | None
    """Old and new values of the rows; None means that it is not known which rows changed."""


ANY_TABLE: Final = TableChange(table=None, rows=None)
"""Told where changes may have been missed."""


class WatchedTable(Value, frozen=True, kw_only=True):
    """A table and the columns whose values are told when its rows change; none means its primary key."""

    table: str
    columns: tuple[str, ...] = ()


def table_name(schema: str, relation: str) -> str:
    """The name that tags and mappings use: without the schema where that is public."""
    return relation if schema == PUBLIC else f"{schema}.{relation}"


def split_name(table: str) -> tuple[str, str]:
    """Schema and relation of a name as `table_name` writes it; upper case counts.

    Raises:
        InvalidInput: It is empty or has more than one dot.
    """
    schema, _, relation = table.rpartition(".")
    if not relation or "." in schema or table.startswith("."):
        raise InvalidInput(f"{table!r} is no table's name; write it as orders or sales.orders")
    return schema or PUBLIC, relation


def read_watched(text: str) -> WatchedTable:
    """Read `orders`, `orders:id` or `sales.orders:id,customer_id`.

    Raises:
        InvalidInput: The name or a column is empty, or a column comes twice.
    """
    table, colon, listed = text.partition(":")
    columns = tuple(column.strip() for column in listed.split(",")) if colon else ()
    if not all(columns) or len(set(columns)) < len(columns):
        raise InvalidInput(f"{text!r} cannot be read; write it as orders:id or sales.orders:id,customer_id")
    return WatchedTable(table=table_name(*split_name(table.strip())), columns=columns)
