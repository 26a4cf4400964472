"""Reads the conditions that EXPLAIN VERBOSE prints: which columns are compared, and how.

The server has resolved every name, so a column is always `alias.column` here. Sub-plans and
parameters are replaced by a marker before parsing: they are values that are known when a row is
looked for, which is all that an index needs to know of them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfloop.errors import UnsupportedStatement
from perfloop.model.target import IndexKey
from perfloop.model.value import Value

DIALECT = "postgres"

_VALUE = "perfloop_value"
_SUB_PLANS = re.compile(
    r"\((?:alternatives: )?(?:rescan )?(?:hashed )?(?:SubPlan|InitPlan) \d+"
    r"(?: or (?:hashed )?SubPlan \d+)?\)(?:\.col\d+)?"
)
_EXISTS = re.compile(r"EXISTS\((?:hashed )?SubPlan \d+\)")
_PARAMETER = re.compile(r"(?<![\w$])\$\d+\b")
_NOT_INDEXABLE = re.compile(r"!~~\*?|!~\*?")
_PATTERN_PREFIX = re.compile(r"[^%_\\]")

_INVERTED = {
    exp.ILike: "ILIKE",
    exp.RegexpLike: "~",
    exp.RegexpILike: "~*",
    exp.ArrayContainsAll: "@>",
    exp.ArrayContainedBy: "<@",
    exp.ArrayOverlaps: "&&",
    exp.MatchAgainst: "@@",
    exp.JSONBContains: "?",
}
_RANGES = (exp.GT, exp.GTE, exp.LT, exp.LTE)
_TEXT_CASTS = frozenset({exp.DataType.Type.TEXT, exp.DataType.Type.VARCHAR, exp.DataType.Type.BPCHAR})


class Use(enum.Enum):
    """How a condition uses a column."""

    EQUAL = "equal"
    JOIN = "join"
    RANGE = "range"
    PREDICATE = "predicate"
    """A test of the row alone: IS NULL, IS NOT NULL, a boolean column."""


class Comparison(Value, frozen=True, kw_only=True):
    """One comparison of one column, or of an expression over columns, of one relation of a plan."""

    alias: str
    key: IndexKey
    use: Use
    text: str
    """The comparison without the alias, as a predicate could hold it."""
    columns: tuple[str, ...]
    """The columns inside, sorted."""
    alternative: bool = False
    """Whether it stands below an OR."""


class Conditions(Value, frozen=True, kw_only=True):
    """What one condition says, and which operators in it need another kind of index."""

    comparisons: tuple[Comparison, ...]
    unserved: tuple[str, ...] = ()


def read_conditions(text: str) -> Conditions:
    """Take one Filter, Index Cond, Hash Cond… apart. Raises UnsupportedStatement where it cannot."""
    tree = _parse(text)
    comparisons: list[Comparison] = []
    unserved: list[str] = []
    for leaf, alternative in _leaves(tree, alternative=False):
        comparisons.extend(_read_leaf(leaf, alternative))
        unserved.extend(_unserved(leaf))
    return Conditions(comparisons=tuple(comparisons), unserved=tuple(unserved))


def read_order(text: str) -> tuple[str, IndexKey] | None:
    """The alias and the plain column of one Sort Key with its direction, or None for anything else."""
    match = re.fullmatch(r"(.*?)( DESC)?(?: NULLS (FIRST|LAST))?", text, flags=re.DOTALL)
    if match is None or " COLLATE " in text or " USING " in text:
        return None
    found = _column(_parse(match[1]))
    if found is None:
        return None
    nulls_first = None if match[3] is None else match[3] == "FIRST"
    return found[0], IndexKey(text=found[1], descending=match[2] is not None, nulls_first=nulls_first)


def columns_in(text: str) -> tuple[tuple[str, str], ...]:
    """(alias, column) of every column in a condition or an output. Raises UnsupportedStatement."""
    return tuple((each.table, each.name) for each in _parse(text).find_all(exp.Column) if each.table)


def canonical(expression: str) -> str:
    """An index expression in the one form in which expressions are compared here.

    >>> canonical("lower((email)::text)") == canonical("LOWER(email::text)")
    True
    """
    try:
        return _bare(sqlglot.parse_one(expression, dialect=DIALECT))
    except SqlglotError:
        return expression


def _parse(text: str) -> exp.Expr:
    plain = _EXISTS.sub(_VALUE, text)
    plain = _SUB_PLANS.sub(_VALUE, plain)
    plain = _PARAMETER.sub(_VALUE, plain)
    plain = _NOT_INDEXABLE.sub("<>", plain)
    try:
        return sqlglot.parse_one(plain, dialect=DIALECT)
    except SqlglotError as error:
        raise UnsupportedStatement(f"the condition {text} was not understood") from error


def _leaves(tree: exp.Expr, *, alternative: bool) -> Iterator[tuple[exp.Expr, bool]]:
    inner = tree.unnest()
    if isinstance(inner, exp.And | exp.Or):
        below_or = alternative or isinstance(inner, exp.Or)
        for side in (inner.left, inner.right):
            yield from _leaves(side, alternative=below_or)
    else:
        yield inner, alternative


def _read_leaf(leaf: exp.Expr, alternative: bool) -> Iterator[Comparison]:
    if isinstance(leaf, exp.EQ):
        yield from _sides(leaf, Use.EQUAL, alternative)
    elif isinstance(leaf, _RANGES):
        yield from _sides(leaf, Use.RANGE, alternative)
    elif isinstance(leaf, exp.Like) and _has_prefix(leaf):
        yield from _compared(leaf, leaf.this, Use.RANGE, alternative, pattern=True)
    elif _is_predicate(leaf):
        column = leaf.find(exp.Column)
        if column is not None:
            yield from _compared(leaf, column, Use.PREDICATE, alternative)


def _is_predicate(leaf: exp.Expr) -> bool:
    inner = leaf.this.unnest() if isinstance(leaf, exp.Not) else leaf
    if isinstance(inner, exp.Is):
        return isinstance(inner.this.unnest(), exp.Column)
    return isinstance(inner, exp.Column)


def _sides(
    leaf: exp.EQ | exp.GT | exp.GTE | exp.LT | exp.LTE, use: Use, alternative: bool
) -> Iterator[Comparison]:
    left, right = leaf.left.unnest(), leaf.right.unnest()
    if _is_row(left):
        for each in left.expressions:
            yield from _compared(leaf, each, use, alternative)
        return
    left_aliases, right_aliases = _aliases(left), _aliases(right)
    if set(left_aliases) & set(right_aliases):
        return
    joined = Use.JOIN if use is Use.EQUAL else use
    yield from _compared(leaf, left, joined if right_aliases else use, alternative)
    yield from _compared(leaf, right, joined if left_aliases else use, alternative)


def _compared(
    leaf: exp.Expr, side: exp.Expr, use: Use, alternative: bool, *, pattern: bool = False
) -> Iterator[Comparison]:
    found = _column(side) or _expression(side)
    if found is None:
        return
    alias, text, is_expression = found
    key = IndexKey(
        text=text,
        is_expression=is_expression,
        operator_class="text_pattern_ops" if pattern else None,
    )
    columns = tuple(sorted({each.name for each in side.find_all(exp.Column)}))
    yield Comparison(
        alias=alias, key=key, use=use, text=_bare(leaf), columns=columns, alternative=alternative
    )


def _column(side: exp.Expr) -> tuple[str, str, bool] | None:
    """A plain column. varchar and bpchar are compared as text without conversion: such a cast is none."""
    inner = side.unnest()
    if isinstance(inner, exp.Cast) and inner.to.this in _TEXT_CASTS:
        inner = inner.this.unnest()
    if isinstance(inner, exp.Column) and inner.table:
        return inner.table, inner.name, False
    return None


def _expression(side: exp.Expr) -> tuple[str, str, bool] | None:
    """An expression over columns of one relation. Whether it is immutable, the server says when it builds."""
    aliases = _aliases(side)
    constant = not isinstance(side.unnest(), exp.Column | exp.Cast | exp.Any)
    if len(aliases) != 1 or not constant or side.find(exp.AggFunc) or _has_value(side):
        return None
    return aliases[0], _bare(side.unnest()), True


def _aliases(side: exp.Expr) -> tuple[str, ...]:
    return tuple(sorted({each.table for each in side.find_all(exp.Column) if each.table}))


def _has_value(side: exp.Expr) -> bool:
    return any(not each.table for each in side.find_all(exp.Column))


def _is_row(side: exp.Expr) -> bool:
    return isinstance(side, exp.Anonymous) and side.name.upper() == "ROW"


def _has_prefix(leaf: exp.Like) -> bool:
    pattern = leaf.expression.find(exp.Literal)
    return not leaf.args.get("negate") and pattern is not None and bool(_PATTERN_PREFIX.match(pattern.name))


def _unserved(leaf: exp.Expr) -> Iterator[str]:
    column = leaf.find(exp.Column)
    if column is None:
        return
    for kind, operator in _INVERTED.items():
        if isinstance(leaf, kind):
            yield f"{column.name} {operator} …"
    if isinstance(leaf, exp.Like) and not leaf.args.get("negate") and not _has_prefix(leaf):
        yield f"{column.name} LIKE '%…'"


def _bare(tree: exp.Expr) -> str:
    """The text without aliases and without the casts of text constants, which say nothing."""

    def strip(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            return exp.column(node.this)
        if isinstance(node, exp.Cast) and node.to.this in _TEXT_CASTS and isinstance(node.this, exp.Literal):
            return node.this
        if isinstance(node, exp.Paren) and isinstance(node.this, exp.Column):
            return exp.column(node.this.this)
        return node

    return tree.copy().transform(strip).sql(dialect=DIALECT)
