"""Small made-up tables on which a statement and its rewriting must agree: real data may be too kind.

Rows can be the same only because no value happens to be NULL, or no row happens twice. So the tables of a
statement get temporary copies under their own names, with the NOT NULL columns and unique keys of the
originals and nothing else in common: few values, so that joins and conditions meet them often, NULL wherever
it is allowed, duplicates wherever no key forbids them, and in some rounds no rows at all. The values are
taken from the statement's own literals, with their neighbours, and from the real columns.

A transaction that is rolled back holds all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from random import Random

import psycopg
from psycopg import sql
from sqlglot import exp

from perfloop.adapters.queries import load_blocks
from perfloop.model.target import Column, Table, TableName
from perfloop.tune.rewrites import texts
from perfloop.tune.rewrites.catalogue import Catalogue

_ROWS = 14
"""So few that every pair of rows meets in a join, and enough for groups and ties."""
_FILLED_ROUNDS = 6
_LITERALLY = 4
"""A statement's own text is drawn so much more often than any other: conditions ask for it."""
_NULL_SHARE = 0.25
_NUMBERS = ("0", "1", "2", "3")
_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}")
_LATE = ("00:00:00", "00:00:00.000001", "12:00:00", "23:59:59.999999")
_FIXED = {
    "boolean": ("true", "false"),
    "text": ("", "a", "b"),
    "uuid": ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"),
    "double precision": ("0", "-0", "NaN", "1.5"),
    "real": ("0", "-0", "NaN", "1.5"),
    "numeric": ("0", "1", "1.0", "1.00", "2"),
}


def tables_of(tree: exp.Query, catalogue: Catalogue) -> tuple[Table, ...]:
    """The tables that a statement names, each once."""
    found = (catalogue.table(each) for each in tree.find_all(exp.Table))
    return tuple(dict.fromkeys(each for each in found if each is not None and not each.is_partitioned))


def without_schemas(text: str, catalogue: Catalogue) -> str | None:
    """The text with its tables' bare names, so that it finds the copies; None if it cannot be read."""
    tree = texts.read(text)
    if tree is None:
        return None
    for each in tree.find_all(exp.Table):
        if catalogue.table(each) is not None:
            each.set("db", None)
    return texts.write(tree)


@contextmanager
def varied(
    connection: psycopg.Connection, tables: Sequence[Table], worded: Sequence[str], rng: Random
) -> Iterator[Iterator[None]]:
    """An iterator over rounds: with each step the tables of the transaction hold other made-up rows.

    Their values come from the literals of the texts, the original and the rewritten one, among others.

    Raises:
        psycopg.Error: a copy cannot be made.
    """
    with connection.transaction(force_rollback=True):
        literals = _literals(worded)
        domains = {
            table.name: [_domain(connection, table, column, literals) for column in table.columns]
            for table in tables
        }
        for table in tables:
            names = {"name": _temporary(table), "table": _original(table)}
            connection.execute(_block("varied_table").format(**names))
        yield _rounds(connection, tables, domains, rng)


def _rounds(
    connection: psycopg.Connection,
    tables: Sequence[Table],
    domains: Mapping[TableName, list[tuple[str | None, ...]]],
    rng: Random,
) -> Iterator[None]:
    """All empty; all filled, anew a few times; each of them empty beside the others."""
    yield
    for lacking in (*[None] * _FILLED_ROUNDS, *tables):
        for table in tables:
            connection.execute(_block("empty_table").format(name=sql.Identifier(table.name.name)))
            for _ in range(0 if table is lacking else _ROWS):
                _insert(connection, table, domains[table.name], rng)
        yield


def _insert(
    connection: psycopg.Connection, table: Table, domains: list[tuple[str | None, ...]], rng: Random
) -> None:
    """One row; what the server refuses, as a value out of its type's range, is one row less."""
    usable = [each for each in zip(table.columns, domains, strict=True) if each[1]]
    values = [
        sql.SQL("{}::{}").format(sql.Literal(_drawn(column, domain, rng)), sql.SQL(column.type_name))
        for column, domain in usable
    ]
    filled = _block("varied_insert").format(
        name=sql.Identifier(table.name.name),
        columns=sql.SQL(", ").join(sql.Identifier(column.name) for column, _ in usable),
        values=sql.SQL(", ").join(values),
    )
    try:
        with connection.transaction():
            connection.execute(filled)
    except (psycopg.DataError, psycopg.IntegrityError):
        return


def _drawn(column: Column, domain: tuple[str | None, ...], rng: Random) -> str | None:
    if not column.not_null and rng.random() < _NULL_SHARE:
        return None
    return rng.choice(domain)


def _domain(
    connection: psycopg.Connection, table: Table, column: Column, literals: tuple[list[str], list[str]]
) -> tuple[str | None, ...]:
    """Few values for a column: fixed ones of its type, the statement's literals, some real ones."""
    kind = column.type_name.partition("(")[0].strip()
    numbers, words = literals
    if kind in {"smallint", "integer", "bigint"}:
        near = (str(int(n) + step) for n in numbers if n.isdigit() for step in (-1, 0, 1))
        return (*_NUMBERS, *near)
    if kind.startswith(("timestamp", "date")):
        found = tuple(_moments(words, is_date=kind == "date"))
    elif kind in {"text", "character varying", "character", "name"}:
        found = (*_FIXED["text"], *words * _LITERALLY)
    else:
        found = _FIXED.get(kind, ())
        found += tuple(n for n in numbers if kind in {"numeric", "real", "double precision"})
    names = {"column": sql.Identifier(column.name), "table": _original(table)}
    real = connection.execute(_block("real_values").format(**names)).fetchall()
    return (*found, *(str(value) for (value,) in real))


def _literals(worded: Sequence[str]) -> tuple[list[str], list[str]]:
    """The numbers and the strings of the texts, each once."""
    trees = [tree for tree in map(texts.read, worded) if tree is not None]
    found = [each for tree in trees for each in tree.find_all(exp.Literal)]
    numbers = dict.fromkeys(str(each.this) for each in found if not each.is_string)
    return list(numbers), list(dict.fromkeys(str(each.this) for each in found if each.is_string))


def _moments(words: Sequence[str], *, is_date: bool) -> Iterator[str]:
    """The literals, and their days and the next ones from morning to midnight."""
    for word in words:
        day = _DAY.match(word)
        if day is None:
            continue
        if not is_date:
            yield word
        for each in _days(day[0]):
            yield from (each,) if is_date else (f"{each} {moment}" for moment in _LATE)


def _days(text: str) -> Iterator[str]:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return
    yield from (day.isoformat(), (day + timedelta(days=1)).isoformat())


def _temporary(table: Table) -> sql.Identifier:
    return sql.Identifier(table.name.name)


def _original(table: Table) -> sql.Identifier:
    return sql.Identifier(table.name.schema, table.name.name)


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.tune", "rows.sql")[name]
