"""Casts and arithmetic on a column in a comparison, moved to the side that is the same for every row."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.clauses import cast_to, is_condition, is_constant
from perfloop.tune.rewrites.names import place
from perfloop.tune.rewrites.rule import Rewritten, Rule

_INTEGERS = ("smallint", "integer", "bigint")
_WIDER = {"INT": 1, "BIGINT": 2}
_WHOLE = "^(0|-?[1-9][0-9]{0,17})$"
_MOST_DIGITS = 18
_UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_MIRRORED: dict[type[exp.Expr], type[exp.Binary]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.GT: exp.LT,
    exp.LT: exp.GT,
    exp.GTE: exp.LTE,
    exp.LTE: exp.GTE,
}
_Found = tuple[exp.Expr, list[str]]
_Move = Callable[[exp.Expr, exp.Expr, type[exp.Expr], Catalogue], _Found | None]
"""Takes the column's side, the other one and the comparison as seen from the column."""


def cast_column(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`id::text = v` as `id = v::bigint`, and `id::bigint = v` as `id = v::bigint`.

    A text equals a number's text only if it is that number as the server writes it, which a CASE asks before
    it casts: no text makes the cast fail, and none that is written otherwise (as '007') is found.
    A wider integer compares with a narrower one by itself, as if that were cast.
    """
    return _each(tree, catalogue, _without_cast)


def column_arithmetic(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`c + k > v` as `c > v - k`, for integers.

    The new side is computed as bigint, so that it overflows for no integer that the old one could be compared
    with; the old sum could fail with "out of range", which the new text does not.
    """
    return _each(tree, catalogue, _without_arithmetic)


def _each(tree: exp.Query, catalogue: Catalogue, move: _Move) -> Rewritten | None:
    assumes: list[str] = []
    found = False
    for node in [each for each in tree.find_all(*_MIRRORED) if is_condition(each)]:
        kind = type(node)
        sides = ((node.this, node.expression, kind), (node.expression, node.this, _MIRRORED[kind]))
        for one, other, compared in sides:
            made = move(one.unnest(), other.unnest(), compared, catalogue)
            if made is not None:
                node.replace(made[0])
                assumes += made[1]
                found = True
                break
    return Rewritten(tree=tree, assumes=tuple(dict.fromkeys(assumes))) if found else None


def _without_cast(
    side: exp.Expr, value: exp.Expr, kind: type[exp.Expr], catalogue: Catalogue
) -> _Found | None:
    found = place(side.this, catalogue) if isinstance(side, exp.Cast) else None
    if found is None or not isinstance(side, exp.Cast):
        return None
    target = side.to.this.value
    column = side.this.copy()
    if found.type_name in _INTEGERS[:2] and _WIDER.get(target, 0) > _INTEGERS.index(found.type_name):
        if not is_constant(value, side.to.this) or (isinstance(value, exp.Literal) and not _is_number(value)):
            return None
        return kind(this=column, expression=cast_to(value, target)), _integers(value)
    if kind is not exp.EQ or target != "TEXT" or not is_constant(value, exp.DType.TEXT):
        return None
    if found.type_name in _INTEGERS:
        is_short = found.type_name != "bigint" or isinstance(value, exp.Literal)
        if isinstance(value, exp.Literal) and len(str(value.this)) > _MOST_DIGITS:
            return None
        short = [] if is_short else [f"{value.sql('postgres')} has at most {_MOST_DIGITS} digits"]
        return exp.EQ(this=column, expression=_if_written(value, _WHOLE, "bigint")), short
    if found.type_name == "uuid":
        return exp.EQ(this=column, expression=_if_written(value, _UUID, "uuid")), []
    return None


def _if_written(value: exp.Expr, pattern: str, kind: str) -> exp.Expr:
    """The value cast, where it is written so; NULL, which equals nothing, where it is not."""
    text = cast_to(value, "text")
    is_so = exp.RegexpLike(this=text, expression=exp.Literal.string(pattern))
    return exp.Case(ifs=[exp.If(this=is_so, true=cast_to(text, kind))])


def _without_arithmetic(
    side: exp.Expr, value: exp.Expr, kind: type[exp.Expr], catalogue: Catalogue
) -> _Found | None:
    if not isinstance(side, exp.Add | exp.Sub) or not _is_number(value):
        return None
    column, step = side.this.unnest(), side.expression.unnest()
    if isinstance(side, exp.Add) and isinstance(step, exp.Column):
        column, step = step, column
    found = place(column, catalogue) if isinstance(column, exp.Column) else None
    if found is None or found.type_name not in _INTEGERS[:2] or not _is_number(step):
        return None
    moved = exp.Sub if isinstance(side, exp.Add) else exp.Add
    other = moved(this=cast_to(value, "bigint"), expression=cast_to(step, "bigint"))
    return kind(this=column.copy(), expression=other), _integers(step, value)


def _integers(*values: exp.Expr) -> list[str]:
    """What is to be known of parameters whose type the new text settles."""
    return [f"{each.sql('postgres')} is an integer" for each in values if isinstance(each, exp.Parameter)]


def _is_number(value: exp.Expr) -> bool:
    return isinstance(value, exp.Parameter) or (
        isinstance(value, exp.Literal) and not value.is_string and str(value.this).isdigit()
    )


CAST_COLUMN = Rule(
    name="cast-column",
    reason="the column is cast to the value's type for every row, so that no index on it serves",
    rewrite=cast_column,
)
COLUMN_ARITHMETIC = Rule(
    name="column-arithmetic",
    reason="the column is computed with for every row, so that no index on it serves",
    rewrite=column_arithmetic,
)
