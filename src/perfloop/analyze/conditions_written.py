"""Conditions that no plain index serves, because of how they are written.

A function, arithmetic or a cast around a column hides it from its index, and an OR across columns has no
single index at all. The rules read the conditions of scans and joins that throw most rows away; a condition
that also compares a bare column with = is left to missing-index, which can do something about it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from perfloop.analyze.expressions import condition_text
from perfloop.analyze.filtered_scans import (
    Compared,
    FilteredScan,
    compared_sides,
    filtered_scans,
    without_free_cast,
)
from perfloop.analyze.missing_indexes import KEPT_RATIO, LARGE_TABLE_ROWS
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import Site, table_of
from perfloop.analyze.syntax import (
    aliases_of,
    alternatives,
    casts_column,
    columns_of,
    conjuncts,
    parse_condition,
    statement_tree,
)
from perfloop.model.advice import Evidence
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Column, Table
from perfloop.model.units import count_text

_JOIN_CONDITIONS = ("Hash Cond", "Merge Cond", "Join Filter")
_CONTENTS = (exp.Any, exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtract, exp.JSONBExtractScalar)
"""What is inside an array or a document is the matter of another kind of index."""
_DEPENDS_ON_ZONE = frozenset({"timestamp with time zone"})


def function_on_column(reading: PlanReading) -> Iterator[Site]:
    """A function, arithmetic or a written cast stands around the column that a scan filters on."""
    for scan in filtered_scans(reading):
        wrapped = _wrapped(scan)
        if (
            wrapped is not None
            and not _is_implicit(reading, wrapped)
            and not _has_index(reading, scan, wrapped)
        ):
            text = _text_of(wrapped.side)
            yield scan.site(
                wrapped.columns,
                title=(
                    f"{scan.table.name} is read whole, {count_text(scan.read)} rows, because it is asked for"
                    f" {condition_text(text, 60)}, not for {', '.join(wrapped.columns)}"
                ),
                would_try=_remedy(scan.table, wrapped, text),
            )


def implicit_cast(reading: PlanReading) -> Iterator[Site]:
    """The server converts the column, because what it is compared with has another type."""
    for scan in filtered_scans(reading):
        wrapped = _wrapped(scan)
        if wrapped is not None and _is_implicit(reading, wrapped):
            column, kind = _cast_of(wrapped, scan.table)
            yield scan.site(
                wrapped.columns,
                title=(
                    f"{scan.table.name} is read whole, because {column.name} ({column.type_name}) is compared"
                    f" with a {kind}: every row's value is converted first"
                ),
                would_try=(
                    f"nothing in the database: give the parameter the type of the column, {column.type_name}"
                ),
            )
    for each in reading.weighed.nodes:
        yield from _converted_join(reading, each)


def or_across_columns(reading: PlanReading) -> Iterator[Site]:
    """One OR over several columns or tables, of which no single index can find the rows."""
    for scan in filtered_scans(reading):
        columns = _columns_of_or(scan)
        if columns:
            named = " and ".join((", ".join(columns[:-1]), columns[-1]))
            yield scan.site(
                columns,
                title=(
                    f"{scan.table.name} is read whole, {count_text(scan.read)} rows, for an OR across {named}"
                ),
                would_try=(
                    f"an index for each side of the OR, on {named}, which one bitmap scan joins;"
                    " or a UNION ALL of the sides"
                ),
            )
    for each in reading.weighed.nodes:
        yield from _or_across_tables(reading, each)


def _wrapped(scan: FilteredScan) -> Compared | None:
    """The first side that hides its column; None where a bare column is compared with = as well."""
    sides = [
        compared
        for part in scan.parts
        for compared in compared_sides(part, scan.alias)
        if compared.side.find(*_CONTENTS) is None
    ]
    bare = [isinstance(without_free_cast(each.side, scan.table), exp.Column) for each in sides]
    if any(is_bare and each.is_equality for each, is_bare in zip(sides, bare, strict=True)):
        return None
    hidden = [each for each, is_bare in zip(sides, bare, strict=True) if not is_bare]
    return next((each for each in hidden if each.is_equality), hidden[0] if hidden else None)


def _is_implicit(reading: PlanReading, wrapped: Compared) -> bool:
    """Whether it is a cast of the bare column that the statement does not have."""
    if not isinstance(wrapped.side, exp.Cast) or not isinstance(wrapped.side.this.unnest(), exp.Column):
        return False
    tree = statement_tree(reading.snapshot, reading.query_id, reading.instance)
    return not casts_column(tree, wrapped.columns[0])


def _cast_of(wrapped: Compared, table: Table) -> tuple[Column, str]:
    column = table.column(wrapped.columns[0])
    assert column is not None
    return column, wrapped.side.args["to"].sql(dialect="postgres").lower().replace("decimal", "numeric")


def _has_index(reading: PlanReading, scan: FilteredScan, wrapped: Compared) -> bool:
    """Whether an index on the expression is there: then the planner had the choice and is believed."""
    wanted = _text_of(wrapped.side)
    return any(
        key.is_expression and _bare_text(key.text) == wanted
        for index in reading.snapshot.indexes_of(scan.table.name)
        if index.is_valid
        for key in index.keys
    )


def _bare_text(expression: str) -> str | None:
    tree = parse_condition(expression)
    return None if tree is None else _text_of(tree)


def _text_of(tree: exp.Expr) -> str:
    """An expression without the names of relations and what EXPLAIN adds: casts of texts, parentheses."""

    def strip(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            return exp.column(node.this)
        inner: exp.Expr = node
        if isinstance(node, exp.Cast) and node.to.this is exp.DType.TEXT:
            inner = node.this
        elif isinstance(node, exp.Paren) and isinstance(node.this, exp.Column):
            inner = exp.column(node.this.this)
        return inner

    return str(tree.copy().unnest().transform(strip).transform(strip).sql(dialect="postgres"))


def _remedy(table: Table, wrapped: Compared, text: str) -> str:
    columns = [table.column(name) for name in wrapped.columns]
    named = ", ".join(wrapped.columns)
    if any(column is not None and column.type_name in _DEPENDS_ON_ZONE for column in columns):
        return f"{named} compared bare, as with a range of times: what depends on the time zone has no index"
    return f"an index on the expression {text}; or {named} compared bare, as with a range"


def _columns_of_or(scan: FilteredScan) -> tuple[str, ...]:
    """The columns of an OR none of which is in all its sides; empty where an = outside of it narrows."""
    if any(side.is_equality for part in scan.parts for side in compared_sides(part, scan.alias)):
        return ()
    for part in scan.parts:
        arms = [set(columns_of(arm, scan.alias)) for arm in alternatives(part)]
        if len(arms) > 1 and all(arms) and not set.intersection(*arms):
            return tuple(sorted(set.union(*arms)))
    return ()


def _or_across_tables(reading: PlanReading, each: WeighedNode) -> Iterator[Site]:
    """An OR whose sides are about different tables, so that both are joined whole before it is looked at."""
    sides = reading.weighed.children(each)
    condition = str(each.node.fields.get("Join Filter") or "")
    joined = max((side.rows for side in sides), default=0.0)
    if not condition or joined < LARGE_TABLE_ROWS or each.rows > KEPT_RATIO * joined:
        return
    for part in conjuncts(parse_condition(condition)):
        arms = [aliases_of(arm) for arm in alternatives(part)]
        if len(arms) > 1 and all(len(arm) == 1 for arm in arms) and len(frozenset.union(*arms)) > 1:
            tables = _tables_named(reading, each, frozenset.union(*arms))
            yield Site(
                location=f"{' or '.join(tables)}: {reading.label}",
                query_id=reading.query_id,
                plan_share=reading.weighed.share_below(each),
                title=(
                    f"{' and '.join(tables)} are joined whole, {count_text(joined)} rows, for an OR over both"
                ),
                evidence=(Evidence(label="join filter", value=condition_text(condition)),),
                would_try="a UNION of the sides of the OR: each can then start from its own index",
                positions=(each.position,),
            )
            return


def _tables_named(reading: PlanReading, each: WeighedNode, aliases: frozenset[str]) -> tuple[str, ...]:
    found = {
        below.node.alias: str(table.name)
        for below in reading.weighed.below(each)
        if (table := table_of(reading.snapshot, below.node)) is not None
    }
    return tuple(sorted({found.get(alias, alias) for alias in aliases}))


def _converted_join(reading: PlanReading, each: WeighedNode) -> Iterator[Site]:
    """A join that keeps little of a scan, but converts the scan's column and so cannot look it up."""
    conditions = [str(each.node.fields[name]) for name in _JOIN_CONDITIONS if name in each.node.fields]
    for condition in conditions:
        for part in conjuncts(parse_condition(condition)):
            for below in reading.weighed.below(each)[1:]:
                column = _converted(reading.snapshot, below, part)
                if (
                    column is not None
                    and each.rows <= KEPT_RATIO * below.rows
                    and below.rows >= LARGE_TABLE_ROWS
                ):
                    yield _join_site(reading, each, below, column, condition)


def _converted(snapshot: Snapshot, below: WeighedNode, part: exp.Expr) -> Column | None:
    """The column of a whole scan that a join compares converted; None without one."""
    table = table_of(snapshot, below.node) if below.node.kind == "Seq Scan" else None
    if table is None or not isinstance(part, exp.EQ):
        return None
    for compared in compared_sides(part, below.node.alias):
        side = without_free_cast(compared.side, table)
        if isinstance(side, exp.Cast) and isinstance(side.this.unnest(), exp.Column):
            return table.column(compared.columns[0])
    return None


def _join_site(
    reading: PlanReading, join: WeighedNode, scan: WeighedNode, column: Column, condition: str
) -> Site:
    table = table_of(reading.snapshot, scan.node)
    assert table is not None
    return Site(
        location=f"{table.name}({column.name})",
        query_id=reading.query_id,
        plan_share=min(1.0, scan.share + join.share),
        title=(
            f"A join converts {column.name} ({column.type_name}) of {count_text(scan.rows)} rows"
            f" of {table.name}, because the other side has another type"
        ),
        evidence=(Evidence(label="join", value=condition_text(condition)),),
        would_try="one type for both columns, by a migration; until then an index on the converted column",
        positions=(scan.position, join.position),
    )
