"""Reads the conditions that EXPLAIN VERBOSE prints: which columns are compared, and how.

The server has resolved every name, so a column is always `alias.column` here. Sub-plans and
parameters are replaced by a marker before parsing: they are values that are known when a row is
looked for, which is all that an index needs to know of them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import TokenType

from perfloop.analyze.syntax import VALUE, with_values
from perfloop.errors import UnsupportedStatement
from perfloop.model.target import IndexKey
from perfloop.model.value import Value

DIALECT = "postgres"

_NOT_INDEXABLE = re.compile(r"!~~\*?|!~\*?")
_SHOWN = 300
"""Characters of a condition that a message shows."""
_PATTERN_PREFIX = re.compile(r"[^%_\\]")
_ORDER = re.compile(r"(.*?)( DESC)?(?: NULLS (FIRST|LAST))?", re.DOTALL)

_PART_OPERATORS = {
    exp.Like: "LIKE",
    exp.ILike: "ILIKE",
    exp.RegexpLike: "~",
    exp.RegexpILike: "~*",
    exp.ArrayContainsAll: "@>",
    exp.ArrayContainedBy: "<@",
    exp.ArrayOverlaps: "&&",
    exp.MatchAgainst: "@@",
    exp.JSONBPathExists: "@?",
    exp.JSONBContainsTopKey: "?",
    exp.JSONBContainsAnyTopKeys: "?|",
    exp.JSONBContainsAllTopKeys: "?&",
}
_ELEMENT_OF = "= ANY (…) where @> ARRAY[…] could use one"
"""A value that is looked for among the elements of a column: no index serves that form."""
_RANGES = (exp.GT, exp.GTE, exp.LT, exp.LTE)
_TEXT_CASTS = frozenset({exp.DataType.Type.TEXT, exp.DataType.Type.VARCHAR, exp.DataType.Type.BPCHAR})

_WIDE_NUMBERS = frozenset({exp.DataType.Type.DECIMAL, exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT})


class Use(enum.Enum):
    """How a condition uses a column."""

    EQUAL = "equal"
    JOIN = "join"
    RANGE = "range"
    PREDICATE = "predicate"
    """A test of the row alone: IS NULL, IS NOT NULL, a boolean column."""
    PART = "part"
    """A search for what the value contains: a key of a document, an element, a word, a piece of a text."""


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
    operator: str = ""
    """Of a PART: as SQL writes it."""
    operand_type: str | None = None
    """Of a PART: the type that the server prints behind the constant it looks for, in lower case."""


class _PrintedParser(PostgresParser):
    FUNCTIONS: ClassVar = {
        name: build
        for name, build in PostgresParser.FUNCTIONS.items()
        if name in exp.FUNCTION_BY_NAME and issubclass(exp.FUNCTION_BY_NAME[name], exp.AggFunc)
    }
    FUNCTION_PARSERS: ClassVar = {
        name: parse for name, parse in PostgresParser.FUNCTION_PARSERS.items() if name != "DATE_PART"
    }


class Printed(Postgres):
    """Expressions as the server prints them: function names stay as they are.

    sqlglot knows many functions and writes them its own way (date_trunc('DAY', made)), which the
    planner would not recognise as the statement's. Aggregates have to be known, as none is a key.
    """

    Parser = _PrintedParser


class Conditions(Value, frozen=True, kw_only=True):
    """What one condition says, and what in it no index serves as it is written."""

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
    """The alias and the key of one Sort Key with its direction, or None for what no index could hold."""
    match = _ORDER.fullmatch(text)
    if match is None or " COLLATE " in text or " USING " in text:
        return None
    tree = _parse(match[1])
    found = _column(tree) or _expression(tree)
    if found is None:
        return None
    nulls_first = None if match[3] is None else match[3] == "FIRST"
    return found[0], IndexKey(
        text=found[1], is_expression=found[2], descending=match[2] is not None, nulls_first=nulls_first
    )


def columns_in(text: str) -> tuple[tuple[str, str], ...]:
    """(alias, column) of every column in a condition, order or output. Raises UnsupportedStatement.

    The alias is empty where the server prints none: in the output of a statement on one relation.
    """
    match = _ORDER.fullmatch(text)
    tree = _parse(match[1] if match else text)
    return tuple((each.table, each.name) for each in tree.find_all(exp.Column) if each.name != VALUE)


def canonical(expression: str) -> str:
    """An index expression in the one form in which expressions are compared here.

    >>> canonical("lower((email)::text)") == canonical("LOWER(email::text)")
    True
    """
    try:
        return _bare(_parse_one(expression), functions="lower")
    except (SqlglotError, RecursionError, UnsupportedStatement):
        return expression


def _parse(text: str) -> exp.Expr:
    try:
        return _parse_one(_NOT_INDEXABLE.sub("<>", with_values(text)))
    except (SqlglotError, RecursionError) as error:
        raise UnsupportedStatement(f"the condition {text[:_SHOWN]} was not understood") from error


def _parse_one(text: str) -> exp.Expr:
    """The tree of one expression. Of several, sqlglot would make a block, in quadratic time."""
    if ";" in text:
        kinds = {token.token_type for token in sqlglot.tokenize(text, dialect=Printed)}
        if TokenType.SEMICOLON in kinds:
            raise UnsupportedStatement(
                f"several statements stand where one condition should: {text[:_SHOWN]}"
            )
    return sqlglot.parse_one(text, dialect=Printed)


def _leaves(tree: exp.Expr, *, alternative: bool) -> Iterator[tuple[exp.Expr, bool]]:
    inner = tree.unnest()
    if isinstance(inner, exp.And | exp.Or):
        below_or = alternative or isinstance(inner, exp.Or)
        for side in (inner.left, inner.right):
            yield from _leaves(side, alternative=below_or)
    else:
        yield inner, alternative


def _read_leaf(leaf: exp.Expr, alternative: bool) -> Iterator[Comparison]:
    yield from _read_part(leaf, alternative)
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


def _read_part(leaf: exp.Expr, alternative: bool) -> Iterator[Comparison]:
    """A search inside a value that stands on the left of its operator."""
    operator = next((text for kind, text in _PART_OPERATORS.items() if type(leaf) is kind), None)
    if operator is None or leaf.args.get("negate"):
        return
    # sqlglot reads `words @@ query` as MySQL's MATCH (words) AGAINST (query).
    is_match = isinstance(leaf, exp.MatchAgainst)
    searched, wanted = (leaf.expressions[0], leaf.this) if is_match else (leaf.this, leaf.expression)
    if searched is None or wanted is None:  # as sqlglot leaves the sides of a bare `@@`
        return
    found = _column(searched) or _expression(searched)
    if found is None or _aliases(wanted):
        return
    yield Comparison(
        alias=found[0],
        key=IndexKey(text=found[1], is_expression=found[2]),
        use=Use.PART,
        text=_bare(leaf),
        columns=tuple(sorted({each.name for each in searched.find_all(exp.Column)})),
        alternative=alternative,
        operator=operator,
        operand_type=_operand_type(wanted),
    )


def _operand_type(side: exp.Expr) -> str | None:
    inner = side.unnest()
    return inner.to.sql(dialect=Printed).lower() if isinstance(inner, exp.Cast) else None


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
    is_other = isinstance(side.unnest(), exp.Column | exp.Any | exp.Not | exp.Is | exp.Connector)
    if len(aliases) != 1 or is_other or side.find(exp.AggFunc, exp.Window, exp.Any) or _has_value(side):
        return None
    if _is_widened(side.unnest()):
        return None
    return aliases[0], _bare(side.unnest()), True


def _is_widened(side: exp.Expr) -> bool:
    """A number that the server widened to compare it: the type of the other side is what is to mend."""
    return (
        isinstance(side, exp.Cast)
        and side.to.this in _WIDE_NUMBERS
        and isinstance(side.this.unnest(), exp.Column)
    )


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
    """`5 = ANY (tags)`: the same question as `tags @> ARRAY[5]`, but only the latter can use an index."""
    if isinstance(leaf, exp.EQ) and isinstance(leaf.right.unnest(), exp.Any):
        column = _column(leaf.right.unnest().this)
        if column is not None and not _aliases(leaf.left):
            yield f"{column[1]} {_ELEMENT_OF}"


def _bare(tree: exp.Expr, *, functions: str | bool = False) -> str:
    """The text without aliases and without the casts of text constants, which say nothing."""

    def strip(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            return exp.column(node.this)
        if isinstance(node, exp.Cast) and node.to.this in _TEXT_CASTS and isinstance(node.this, exp.Literal):
            return node.this
        if isinstance(node, exp.Paren) and isinstance(node.this, exp.Column):
            return exp.column(node.this.this)
        return node

    try:
        return tree.copy().transform(strip).sql(dialect=Printed, normalize_functions=functions)
    except RecursionError as error:
        raise UnsupportedStatement("a condition is nested too deeply to be read") from error
