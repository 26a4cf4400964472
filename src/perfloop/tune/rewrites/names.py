"""Which column of which table a name in a statement means, by the rules of SQL; None where it is not certain.

A name that cannot be resolved (of a view, a CTE, a derived table, a function) has no table here, and every
precondition on it fails: the rule that asks then does not fire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from perfloop.model.target import Column, Table
from perfloop.tune.rewrites.catalogue import Catalogue, folded


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One entry of a FROM: its name, its table where it is one, and whether a join may fill it with NULLs."""

    name: str
    node: exp.Expr
    table: Table | None
    is_filled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a column's name means."""

    select: exp.Select
    source: Source
    table: Table
    column: Column

    @property
    def is_not_null(self) -> bool:
        return self.column.not_null and not self.source.is_filled

    @property
    def type_name(self) -> str:
        """The type as format_type() writes it, without length or precision."""
        name, _, rest = self.column.type_name.partition("(")
        return name.strip() + rest.partition(")")[2]


def sources(select: exp.Select, catalogue: Catalogue) -> tuple[Source, ...]:
    """The entries of a SELECT's FROM, in order."""
    first = select.args.get("from_")
    if first is None:
        return ()
    found = [_source(first.this, catalogue, is_filled=False)]
    for join in select.args.get("joins") or ():
        fills_left = join.side in {"RIGHT", "FULL"}
        if fills_left:
            found = [_filled(each) for each in found]
        found.append(_source(join.this, catalogue, is_filled=join.side in {"LEFT", "FULL"}))
    return tuple(found)


def place(column: exp.Expr, catalogue: Catalogue) -> Place | None:
    """What a column means: of the innermost SELECT around it that has such a name. None for all else."""
    if not isinstance(column, exp.Column):
        return None
    select = _select_of(column)
    while select is not None:
        there = sources(select, catalogue)
        named = [each for each in there if _may_have(each, column)]
        if named:
            return _place(column, select, named)
        if any(each.table is None for each in there) and not column.table:
            return None
        select = _select_of(select)
    return None


def columns_within(node: exp.Expr) -> Iterator[exp.Column]:
    """All columns named in an expression, those of its subqueries too."""
    yield from node.find_all(exp.Column)


def reaches_out(node: exp.Expr, select: exp.Select, catalogue: Catalogue) -> bool | None:
    """Whether the expression, which stands in `select`, names columns of a SELECT around that one.

    None where a name is not certain.
    """
    found = [place(column, catalogue) for column in columns_within(node)]
    if any(each is None for each in found):
        return None
    return any(each is not None and not _is_within(each.select, select) for each in found)


def own_name(source: exp.Expr) -> str:
    """The name under which the rest of a SELECT knows an entry of its FROM."""
    alias = source.args.get("alias")
    name = alias.this if isinstance(alias, exp.TableAlias) and alias.this is not None else source.this
    return folded(name) if isinstance(name, exp.Identifier) else ""


def _is_within(inner: exp.Select, outer: exp.Select) -> bool:
    node: exp.Expr | None = inner
    while node is not None and node is not outer:
        node = node.parent
    return node is outer


def _place(column: exp.Column, select: exp.Select, named: list[Source]) -> Place | None:
    source = named[0]
    if len(named) != 1 or source.table is None or not isinstance(column.this, exp.Identifier):
        return None
    found = source.table.column(folded(column.this))
    if found is None:
        return None
    return Place(select=select, source=source, table=source.table, column=found)


def _may_have(source: Source, column: exp.Column) -> bool:
    qualifier = column.args.get("table")
    if isinstance(qualifier, exp.Identifier):
        return folded(qualifier) == source.name
    if source.table is None or not isinstance(column.this, exp.Identifier):
        return False
    return source.table.column(folded(column.this)) is not None


def _select_of(node: exp.Expr) -> exp.Select | None:
    return node.find_ancestor(exp.Select)


def _source(node: exp.Expr, catalogue: Catalogue, *, is_filled: bool) -> Source:
    is_table = isinstance(node, exp.Table) and not _is_cte(node) and not _renames(node)
    table = catalogue.table(node) if isinstance(node, exp.Table) and is_table else None
    return Source(name=own_name(node), node=node, table=table, is_filled=is_filled)


def _filled(source: Source) -> Source:
    return Source(name=source.name, node=source.node, table=source.table, is_filled=True)


def _renames(table: exp.Table) -> bool:
    alias = table.args.get("alias")
    return isinstance(alias, exp.TableAlias) and bool(alias.args.get("columns"))


def _is_cte(table: exp.Table) -> bool:
    """Whether a WITH around the table defines its name."""
    if table.args.get("db") is not None or not isinstance(table.this, exp.Identifier):
        return False
    name = folded(table.this)
    node = table.parent
    while node is not None:
        clause = node.args.get("with_")
        if clause is not None and any(_defines(cte, name) for cte in clause.expressions):
            return True
        node = node.parent
    return False


def _defines(cte: exp.Expr, name: str) -> bool:
    alias = cte.args.get("alias")
    return (
        isinstance(alias, exp.TableAlias)
        and isinstance(alias.this, exp.Identifier)
        and folded(alias.this) == name
    )
