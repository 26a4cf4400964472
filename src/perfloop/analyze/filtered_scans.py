"""Sequential scans of large tables that keep few rows of many: where a condition is worth reading."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from perfloop.analyze.expressions import condition_text
from perfloop.analyze.missing_indexes import KEPT_RATIO, LARGE_TABLE_ROWS, REPEATED_SCANS, part_read
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import GATHERING, WeighedNode
from perfloop.analyze.sites import Site, rows_of, rows_per_call, table_of
from perfloop.analyze.syntax import aliases_of, columns_of, conjuncts, parse_condition
from perfloop.model.advice import Evidence
from perfloop.model.target import Column, Table
from perfloop.model.units import count_text, share_text
from perfloop.model.value import Value

_RETURNS_ALL = GATHERING | {"Sort", "Incremental Sort"}
"""Kinds that return every row of the scan below them."""
_COMPARISONS = (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE)


class FilteredScan(Value, frozen=True, kw_only=True):
    """One such scan, with the conditions that must all hold for a row to be kept."""

    query_id: str
    each: WeighedNode
    table: Table
    condition: str
    parts: tuple[exp.Expr, ...]
    read: float
    kept: float

    @property
    def alias(self) -> str | None:
        return self.each.node.alias

    def site(self, columns: tuple[str, ...], *, title: str, would_try: str) -> Site:
        """A Site at this scan, about these columns."""
        repeated = self.each.executions >= REPEATED_SCANS
        kept = f"{share_text(self.kept / max(1.0, self.read))} of {count_text(self.read)}"
        scans = Evidence(label="scans per execution", value=count_text(self.each.executions))
        return Site(
            location=f"{self.table.name}({', '.join(columns)})",
            query_id=self.query_id,
            plan_share=self.each.share,
            title=title,
            evidence=(
                Evidence(label="filter", value=condition_text(self.condition)),
                Evidence(label="rows kept", value=kept),
                *((scans,) if repeated else ()),
            ),
            would_try=would_try,
            positions=(self.each.position,),
        )


class Compared(Value, frozen=True, kw_only=True):
    """One side of a comparison, with columns of the scan's table and of no other relation."""

    side: exp.Expr
    """Without parentheses around it."""
    columns: tuple[str, ...]
    is_equality: bool

    @property
    def column(self) -> str | None:
        """The column's name, where the side is a column and nothing more."""
        return str(self.side.name) if isinstance(self.side, exp.Column) else None


def filtered_scans(reading: PlanReading) -> Iterator[FilteredScan]:
    """The scans of a plan whose condition is worth reading and was understood."""
    for each in reading.weighed.nodes:
        table = table_of(reading.snapshot, each.node) if each.node.kind == "Seq Scan" else None
        scan = None if table is None else _read(reading, each, table)
        if scan is not None:
            yield scan


def _read(reading: PlanReading, each: WeighedNode, table: Table) -> FilteredScan | None:
    condition = str(each.node.fields.get("Filter", ""))
    part = part_read(reading.weighed, each)
    read = each.rows + each.removed_rows if each.is_measured else rows_of(table) * part
    counted = None if each.is_measured else _counted_rows(reading, each)
    kept = each.rows * part if counted is None else counted
    is_discarding = read >= LARGE_TABLE_ROWS and kept <= KEPT_RATIO * read
    if not condition or not (is_discarding or each.executions >= REPEATED_SCANS):
        return None
    return FilteredScan(
        query_id=reading.query_id,
        each=each,
        table=table,
        condition=condition,
        parts=tuple(conjuncts(parse_condition(condition))),
        read=read,
        kept=kept,
    )


def _counted_rows(reading: PlanReading, each: WeighedNode) -> float | None:
    """Rows that a call returned on average, where they are the scan's: the planner only guesses."""
    if any(above.node.kind not in _RETURNS_ALL for above in reading.weighed.ancestors(each)):
        return None
    return rows_per_call(reading.snapshot, reading.query_id)


def compared_sides(part: exp.Expr, alias: str | None) -> Iterator[Compared]:
    """The sides of a comparison that an index could serve; none of a side that both sides are about."""
    if not isinstance(part, _COMPARISONS):
        return
    left, right = part.left.unnest(), part.right.unnest()
    for side, other in ((left, right), (right, left)):
        if aliases_of(side) == {alias} and alias not in aliases_of(other):
            columns = columns_of(side, alias)
            yield Compared(side=side, columns=columns, is_equality=isinstance(part, exp.EQ))


def without_free_cast(side: exp.Expr, table: Table) -> exp.Expr:
    """The side without a cast to text that changes nothing, as that of a varchar, a domain or a text."""
    if not isinstance(side, exp.Cast) or side.to.this not in (exp.DType.TEXT, exp.DType.VARCHAR):
        return side
    inner = side.this.unnest()
    column = table.column(inner.name) if isinstance(inner, exp.Column) else None
    return inner if column is None or not is_converted_to_text(column) else side


def is_converted_to_text(column: Column) -> bool:
    """Whether a value of the column has to be written out to become text; types not listed may be domains."""
    return column.type_name.partition("(")[0].strip() in _NOT_TEXT


_NOT_TEXT = frozenset(
    {
        "bigint",
        "boolean",
        "character",
        "citext",
        "date",
        "double precision",
        "inet",
        "integer",
        "json",
        "jsonb",
        "numeric",
        "real",
        "smallint",
        "timestamp with time zone",
        "timestamp without time zone",
        "uuid",
    }
)
