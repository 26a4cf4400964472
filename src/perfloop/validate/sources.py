"""Says which column of which table a name in a parsed statement means.

Sub-queries, CTEs and correlation are followed outwards and through their select lists. Where that leads
nowhere (views, functions, `SELECT *` of a view), a column name that only one table has still decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot import exp

from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Column, Table
from perfloop.model.value import Value

_QUERIES = (exp.Select, exp.Update, exp.Delete, exp.Insert, exp.Merge, exp.SetOperation)
_DEEPEST = 20
"""Recursive CTEs refer to themselves."""


class Site(Value, frozen=True, kw_only=True):
    """A column of a table, and the name under which the statement knows the table."""

    table: Table
    column: Column
    alias: str


def folded(identifier: exp.Expr | None) -> str:
    """A name as the server stores it: lower case unless quoted."""
    if not isinstance(identifier, exp.Identifier):
        return ""
    name = str(identifier.this)
    return name if identifier.args.get("quoted") else name.lower()


class Catalogue:
    """The tables of a Snapshot by name, as an unqualified name finds them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._tables: dict[str, list[Table]] = {}
        for table in snapshot.tables:
            self._tables.setdefault(table.name.name, []).append(table)
        for named in self._tables.values():
            named.sort(key=lambda table: (table.name.schema != "public", table.name.schema))

    def table(self, node: exp.Table) -> Table | None:
        """The table that a name in FROM means; without a schema, public's comes first."""
        schema = folded(node.args.get("db"))
        found = self._tables.get(folded(node.this), [])
        return next((table for table in found if not schema or table.name.schema == schema), None)

    def only_site(self, name: str) -> Site | None:
        """The column of that name, if all tables that have one agree on its type."""
        sites = [
            Site(table=table, column=column, alias=table.name.name)
            for table in self.snapshot.tables
            if (column := table.column(name)) is not None
        ]
        return sites[0] if len({site.column.type_name for site in sites}) == 1 else None

    def resolve(self, column: exp.Column) -> Site | None:
        """The site of a column reference, or None."""
        name, alias = folded(column.this), folded(column.args.get("table"))
        return self._resolve(column, name, alias, 0) or self.only_site(name)

    def target(self, node: exp.Expr) -> Table | None:
        """The table that the nearest enclosing INSERT, UPDATE, DELETE or MERGE writes to."""
        written = node.find_ancestor(exp.Insert, exp.Update, exp.Delete, exp.Merge)
        while isinstance(written, exp.Update | exp.Insert) and isinstance(written.parent, exp.When):
            written = written.find_ancestor(exp.Merge)
        table = written.find(exp.Table) if written is not None else None
        return self.table(table) if table is not None else None

    def _resolve(self, node: exp.Expr, name: str, alias: str, depth: int) -> Site | None:
        query = node.find_ancestor(*_QUERIES)
        while query is not None and depth < _DEEPEST:
            for known_as, source in _sources(query):
                if alias and alias not in (
                    known_as,
                    _EXCLUDED if isinstance(query, exp.Insert) else known_as,
                ):
                    continue
                found = self._in_source(source, known_as, name, depth)
                if found is not None:
                    return found
            query = query.find_ancestor(*_QUERIES)
            depth += 1
        return None

    def _in_source(self, source: exp.Expr, known_as: str, name: str, depth: int) -> Site | None:
        if isinstance(source, exp.Table):
            table = self.table(source)
            cte = _cte(source) if not source.args.get("db") else None
            if cte is not None:
                return self._in_query(cte.this, name, _column_aliases(cte), depth + 1)
            column = table.column(name) if table is not None else None
            return Site(table=table, column=column, alias=known_as) if table and column else None
        if isinstance(source, exp.Subquery):
            return self._in_query(source.this, name, _column_aliases(source), depth + 1)
        return None

    def _in_query(self, query: exp.Expr, name: str, aliases: Sequence[str], depth: int) -> Site | None:
        if depth >= _DEEPEST:
            return None
        while isinstance(query, exp.SetOperation | exp.Subquery):
            query = query.this
        projections = query.selects if isinstance(query, exp.Select) else []
        for position, projection in enumerate(projections):
            known_as = aliases[position] if position < len(aliases) else folded_name(projection)
            inner = projection.this if isinstance(projection, exp.Alias) else projection
            if known_as == name and isinstance(inner, exp.Column):
                return self._resolve(inner, folded(inner.this), folded(inner.args.get("table")), depth + 1)
        if any(projection.find(exp.Star) for projection in projections):
            probe = next(iter(projections))
            return self._resolve(probe, name, "", depth + 1)
        return None


_EXCLUDED = "excluded"


def folded_name(projection: exp.Expr) -> str:
    """The name under which a select list's entry is known outside."""
    if isinstance(projection, exp.Alias):
        return folded(projection.args.get("alias"))
    return folded(projection.this) if isinstance(projection, exp.Column) else ""


def _sources(query: exp.Expr) -> Iterator[tuple[str, exp.Expr]]:
    """(alias, table or sub-query) of everything the query reads from or writes to, in the order it says."""
    if isinstance(query, exp.Insert):
        written = query.this.this if isinstance(query.this, exp.Schema) else query.this
        yield _alias(written), written
        return
    holders = [query.args.get("from_"), *query.args.get("joins", []), *query.args.get("laterals", [])]
    candidates = [
        query.this,
        query.args.get("using"),
        *(holder.this for holder in holders if holder is not None),
    ]
    for candidate in candidates:
        for source in candidate if isinstance(candidate, list) else [candidate]:
            yield from _flattened(source)


def _flattened(source: object) -> Iterator[tuple[str, exp.Expr]]:
    if not isinstance(source, exp.Table | exp.Subquery | exp.Paren | exp.Lateral):
        return
    if isinstance(source, exp.Lateral):
        inner = source.this
        if isinstance(inner, exp.Subquery):
            yield _alias(source), inner
        return
    yield _alias(source), source
    for join in source.args.get("joins", []) or []:
        yield from _flattened(join.this)
    if isinstance(source, exp.Subquery | exp.Paren) and isinstance(source.this, exp.Table | exp.Paren):
        yield from _flattened(source.this)


def _alias(source: exp.Expr) -> str:
    alias = source.args.get("alias")
    if isinstance(alias, exp.TableAlias) and alias.this is not None:
        return folded(alias.this)
    return folded(source.this) if isinstance(source, exp.Table) else ""


def _column_aliases(source: exp.Expr) -> list[str]:
    alias = source.args.get("alias")
    columns = alias.args.get("columns", []) if isinstance(alias, exp.TableAlias) else []
    return [folded(column) for column in columns or ()]


def _cte(table: exp.Table) -> exp.CTE | None:
    """The WITH query of that name that the table's place can see."""
    name = folded(table.this)
    around: exp.Expr | None = table
    while around is not None:
        with_ = around.args.get("with_")
        for cte in with_.expressions if isinstance(with_, exp.With) else []:
            if isinstance(cte, exp.CTE) and _alias(cte) == name:
                return cte
        around = around.parent
    return None
