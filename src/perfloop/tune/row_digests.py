"""Whether two statements yield the same rows, told by the server in constant memory.

Every row becomes text, in which floats are exact, a numeric keeps its scale, and NULL is not the empty
string. Sums of two 64-bit hashes over the rows make one digest of the multiset; with each row's place in the
hash they make one of the list. Columns must have the same names and types.

The list must be the same where the statement sorts by what it does not show. Where it shows its sort keys,
rows with equal keys may stand in any order, as the server may put them, and the keys' own order is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlglot import exp

from perfloop.adapters.queries import load_blocks
from perfloop.model.value import Value
from perfloop.tune.rewrites import texts


class RowDigest(Value, frozen=True, kw_only=True):
    """The rows of a statement, as far as two of them are compared."""

    columns: tuple[tuple[str, int, int], ...]
    """Name, type and type modifier."""
    rows: int
    as_multiset: tuple[int, int]
    as_list: int
    of_keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a statement sorts: not at all, by columns that it shows, or by more than it shows."""

    is_sorted: bool
    shown: tuple[int, ...] = ()
    """Where it shows its sort keys, from 1; empty also where it does not show one of them."""
    is_cut: bool = False
    """Whether LIMIT or OFFSET stands anywhere: which rows of a tie it leaves is the server's choice."""


def read_order(text: str) -> Order:
    """How the statement sorts; a text that cannot be read counts as sorted by what it does not show."""
    tree = texts.read(text)
    if tree is None:
        return Order(is_sorted=True)
    is_cut = tree.find(exp.Limit, exp.Offset, exp.Fetch) is not None
    order = tree.args.get("order")
    if order is None:
        return Order(is_sorted=False, is_cut=is_cut)
    names = [each.output_name for each in tree.selects]
    places = [_place(each.this, names, list(tree.selects)) for each in order.expressions]
    shown = tuple(each for each in places if each is not None)
    return Order(is_sorted=True, shown=shown if len(shown) == len(places) else (), is_cut=is_cut)


def digest(connection: psycopg.Connection, text: str, order: Order) -> RowDigest:
    """Run a statement and sum its rows up. Raises psycopg.Error where it fails."""
    statement = sql.SQL(text.rstrip().rstrip(";"))
    shape = connection.execute(_block("shape").format(statement=statement)).pgresult
    assert shape is not None
    columns = tuple(
        ((shape.fname(n) or b"").decode(), shape.ftype(n), shape.fmod(n)) for n in range(shape.nfields)
    )
    names = [sql.Identifier(f"c{n}") for n in range(1, len(columns) + 1)]
    keys = sql.SQL(", ").join(names[n - 1] for n in order.shown)
    filled = _block("digest").format(statement=statement, columns=sql.SQL(", ").join(names), keys=keys)
    row = connection.execute(filled).fetchone()
    assert row is not None
    count, one, two, listed, keyed = (int(each) for each in row)
    return RowDigest(columns=columns, rows=count, as_multiset=(one, two), as_list=listed, of_keys=keyed)


def difference(before: RowDigest, after: RowDigest, order: Order) -> str | None:
    """The first difference that counts, as a sentence; None where there is none."""
    if before.columns != after.columns:
        return _column_difference(before, after)
    if before.rows != after.rows:
        return f"it returns {after.rows:,} rows instead of {before.rows:,}"
    if before.as_multiset != after.as_multiset:
        return f"its {after.rows:,} rows are not the same"
    if not order.is_sorted or before.as_list == after.as_list:
        return None
    if not order.shown or before.of_keys != after.of_keys:
        return "its rows come in another order"
    return None


def loose_difference(before: RowDigest, after: RowDigest, order: Order) -> str | None:
    """The same where LIMIT may cut through a tie: the number of rows and the order of their keys count."""
    if not order.is_cut:
        return difference(before, after, order)
    if before.columns != after.columns:
        return _column_difference(before, after)
    if before.rows != after.rows:
        return f"it returns {after.rows:,} rows instead of {before.rows:,}"
    if order.shown and before.of_keys != after.of_keys:
        return "its sort keys are not the same"
    return None


def _column_difference(before: RowDigest, after: RowDigest) -> str:
    if [each[0] for each in before.columns] != [each[0] for each in after.columns]:
        names = (", ".join(each[0] for each in digest.columns) for digest in (after, before))
        return "its columns are named {} instead of {}".format(*names)
    changed = [old[0] for old, new in zip(before.columns, after.columns, strict=True) if old != new]
    return f"its column {changed[0]} has another type"


def _place(key: exp.Expr, names: list[str], projections: list[exp.Expr]) -> int | None:
    """Where the output shows a sort key, from 1; an ambiguous name is not shown."""
    if isinstance(key, exp.Literal) and not key.is_string:
        return int(key.this)
    same = [n for n, each in enumerate(projections, start=1) if each.unalias() == key]
    if len(same) == 1:
        return same[0]
    if isinstance(key, exp.Column) and not key.table and names.count(key.name) == 1:
        return names.index(key.name) + 1
    return None


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.tune", "rows.sql")[name]
