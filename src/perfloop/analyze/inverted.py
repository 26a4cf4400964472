"""Conditions on what is inside a value: documents, arrays, texts. No b-tree serves them; GIN serves most.

Pure text: `contents_of` says which column a condition looks into, by which operator, and what would serve it.
"""

from __future__ import annotations

import re

from sqlglot import exp

from perfloop.analyze.syntax import conjuncts, parse_condition
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Table
from perfloop.model.value import Value

TRIGRAM = 3
"""pg_trgm looks for three letters or digits in a row."""
_TRIGRAM = re.compile(r"[^\W_]{3}")
_CONTAINMENT = {
    exp.ArrayContainsAll: "@>",
    exp.ArrayContainedBy: "<@",
    exp.ArrayOverlaps: "&&",
    exp.JSONBContainsTopKey: "?",
    exp.JSONBContains: "?",
    exp.JSONBContainsAnyTopKeys: "?|",
    exp.JSONBContainsAllTopKeys: "?&",
    exp.JSONBPathExists: "@?",
    exp.MatchAgainst: "@@",
}
_ACCESS = (exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtract, exp.JSONBExtractScalar)


class Contents(Value, frozen=True, kw_only=True):
    """A condition on what is inside a column's value."""

    column: str
    operator: str
    """As in SQL; "= ANY" for an element of an array, "->>" for a key of a document."""
    text: str
    """What is compared, without the table's name."""


class Pattern(Value, frozen=True, kw_only=True):
    """A LIKE or ILIKE that no b-tree serves."""

    column: str
    pattern: str
    is_ilike: bool

    @property
    def has_trigram(self) -> bool:
        """Whether three characters in a row are given, without which a trigram index reads everything."""
        return _TRIGRAM.search(self.pattern.replace("\\", "")) is not None


def contents_of(condition: str, table: Table, alias: str | None) -> tuple[Contents, ...]:
    """The conditions of a filter that look into values of the table's columns."""
    found = (_contents(part, table, alias) for part in conjuncts(parse_condition(condition)))
    return tuple(each for each in found if each is not None)


def pattern_of(condition: str, alias: str | None) -> Pattern | None:
    """The first LIKE with a wildcard at its beginning, or ILIKE, of a filter."""
    for part in conjuncts(parse_condition(condition)):
        if not isinstance(part, exp.Like | exp.ILike) or part.args.get("negate"):
            continue
        column, literal = part.this.find(exp.Column), part.expression.find(exp.Literal)
        if column is None or literal is None or column.table != alias:
            continue
        is_ilike = isinstance(part, exp.ILike)
        if is_ilike or str(literal.this).startswith(("%", "_")):
            return Pattern(column=column.name, pattern=str(literal.this), is_ilike=is_ilike)
    return None


def inverted_remedy(snapshot: Snapshot, table: Table, condition: str, alias: str | None) -> str | None:
    """What would serve the first condition of a filter on contents; None where there is none."""
    pattern = pattern_of(condition, alias)
    if pattern is not None:
        return trigram_remedy(table, pattern)
    contents = contents_of(condition, table, alias)
    if not contents:
        return None
    existing = gin_index_of(snapshot, table, contents[0].column)
    return contents_remedy(table, contents[0]) if existing is None else None


def trigram_remedy(table: Table, pattern: Pattern) -> str:
    """What would serve a pattern."""
    if not pattern.has_trigram:
        return "nothing in the database: no index finds fewer than three letters or digits in a row"
    return f"a trigram index (pg_trgm, GIN) on {table.name} ({pattern.column})"


def contents_remedy(table: Table, contents: Contents) -> str:
    """What would serve a condition on contents."""
    column = table.column(contents.column)
    kind = "" if column is None else column.type_name
    is_document = kind == "jsonb"
    on = f"on {table.name} ({contents.column})"
    if contents.operator == "= ANY":
        return (
            f"{contents.column} @> ARRAY[…] in place of = ANY, which GIN cannot serve, and a GIN index {on}"
        )
    if contents.operator == "->>":
        document = ", or @> and a GIN index on the document" if is_document else ""
        return f"an index on the expression {contents.text}{document}"
    if contents.operator in ("@>", "@@", "@?") and is_document:
        return f"a GIN index with jsonb_path_ops {on}"
    if contents.operator == "@@" and kind != "tsvector":
        return f"a GIN index on the expression {contents.text}"
    return f"a GiST index {on}" if "range" in kind else f"a GIN index {on}"


def gin_index_of(snapshot: Snapshot, table: Table, column: str) -> str | None:
    """The name of a GIN or GiST index over the column, in any form."""
    return next(
        (
            index.name
            for index in snapshot.indexes_of(table.name)
            if index.is_valid and index.method in ("gin", "gist")
            if any(re.search(rf"\b{re.escape(column)}\b", key.text) for key in index.keys)
        ),
        None,
    )


def _contents(part: exp.Expr, table: Table, alias: str | None) -> Contents | None:
    operator = next((text for kind, text in _CONTAINMENT.items() if type(part) is kind), None)
    side = _searched(part) if operator is not None else _side(part)
    column = None if side is None else side.find(exp.Column)
    if side is None or column is None or column.table != alias or table.column(column.name) is None:
        return None
    if operator is None:
        operator = "= ANY" if isinstance(side, exp.Any) else "->>"
    return Contents(column=column.name, operator=operator, text=_without_table(side))


def _searched(part: exp.Expr) -> exp.Expr | None:
    """What is searched in: of `@@` the text, which stands first in SQL and second in the tree."""
    found = part.expressions[0] if isinstance(part, exp.MatchAgainst) and part.expressions else part.this
    return found if isinstance(found, exp.Expr) else None


def _side(part: exp.Expr) -> exp.Expr | None:
    """The side of an equality that is an element of an array column, or a key of a document."""
    if not isinstance(part, exp.EQ):
        return None
    left, right = part.left.unnest(), part.right.unnest()
    if isinstance(right, exp.Any) and isinstance(right.this.unnest(), exp.Column):
        return right
    return next((side for side in (left, right) if side.find(*_ACCESS) and side.find(exp.Column)), None)


def _without_table(side: exp.Expr) -> str:
    def strip(node: exp.Expr) -> exp.Expr:
        return exp.column(node.this) if isinstance(node, exp.Column) else node

    return str(side.copy().transform(strip).sql(dialect="postgres"))
