"""Functions on a column of moments, as ranges of the column itself, which an index on it can serve."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.clauses import cast_to, is_condition, is_constant
from perfloop.tune.rewrites.names import place
from perfloop.tune.rewrites.rule import Rewritten, Rule

_PLAIN = "timestamp without time zone"
_ZONED = "timestamp with time zone"
_UNITS = {
    "hour": "hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "quarter": "3 months",
    "year": "year",
}
_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ,
    exp.GT: exp.LT,
    exp.LT: exp.GT,
    exp.GTE: exp.LTE,
    exp.LTE: exp.GTE,
}
_Found = tuple[exp.Expr, list[str]]


def date_range(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`date(c) = d`, `c::date >= d`, `date_trunc('month', c) = m`, `extract(year FROM c) = y` as ranges of c.

    A moment without time zone lies on the day d exactly where it is at or after d and before the next day.
    With a time zone that holds for sessions in UTC only: elsewhere a clock set back at midnight gives a day
    two pieces. Infinite days have no next one, which is said where a parameter could be one.
    """
    assumes: list[str] = []
    found = False
    for node in list(tree.find_all(exp.Between, *_MIRRORED)):
        made = _range(node, catalogue) if is_condition(node) else None
        if made is None:
            continue
        condition, assumed = made
        is_in_or = isinstance(node.parent, exp.Or) and isinstance(condition, exp.And)
        node.replace(exp.Paren(this=condition) if is_in_or else condition)
        assumes += assumed
        found = True
    return Rewritten(tree=tree, assumes=tuple(dict.fromkeys(assumes))) if found else None


def _range(node: exp.Expr, catalogue: Catalogue) -> _Found | None:
    if isinstance(node, exp.Between):
        low = _compared(node.this.unnest(), node.args["low"].unnest(), exp.GTE, catalogue)
        high = _compared(node.this.unnest(), node.args["high"].unnest(), exp.LTE, catalogue)
        if low is None or high is None or node.args.get("symmetric"):
            return None
        return exp.And(this=low[0], expression=high[0]), low[1] + high[1]
    kind = type(node)
    sides = ((node.this, node.expression, kind), (node.expression, node.this, _MIRRORED[kind]))
    made = (_compared(one.unnest(), other.unnest(), compared, catalogue) for one, other, compared in sides)
    return next((each for each in made if each is not None), None)


def _compared(
    function: exp.Expr, value: exp.Expr, kind: type[exp.Expr], catalogue: Catalogue
) -> _Found | None:
    if isinstance(function, exp.Date) and not function.expressions:
        return _day(function.this, value, kind, catalogue)
    if isinstance(function, exp.Cast) and function.to.is_type(exp.DType.DATE):
        return _day(function.this, value, kind, catalogue)
    if isinstance(function, exp.TimestampTrunc) and kind is exp.EQ and not function.args.get("zone"):
        return _truncated(function, value, catalogue)
    if isinstance(function, exp.Extract) and kind is exp.EQ:
        return _year(function, value, catalogue)
    return None


def _day(column: exp.Expr, value: exp.Expr, kind: type[exp.Expr], catalogue: Catalogue) -> _Found | None:
    zone = _assumed_zone(column, catalogue, (_PLAIN, _ZONED))
    if zone is None or not is_constant(value, exp.DType.DATE):
        return None
    day = cast_to(value, "date")
    after = exp.Add(this=day.copy(), expression=exp.Literal.number(1))
    finite = [] if isinstance(value, exp.Literal) else [f"{value.sql('postgres')} is a finite day"]
    if kind is exp.GTE:
        return exp.GTE(this=column.copy(), expression=day), zone
    if kind is exp.LT:
        return exp.LT(this=column.copy(), expression=day), zone
    if kind is exp.GT:
        return exp.GTE(this=column.copy(), expression=after), zone + finite
    below = exp.LT(this=column.copy(), expression=after)
    if kind is exp.LTE:
        return below, zone + finite
    return exp.And(this=exp.GTE(this=column.copy(), expression=day), expression=below), zone + finite


def _truncated(function: exp.TimestampTrunc, value: exp.Expr, catalogue: Catalogue) -> _Found | None:
    """A value that is no beginning of its unit equals no truncated moment, so that it is asked for that."""
    column, unit = function.this, function.unit
    length = _UNITS.get(str(unit.this).lower()) if unit is not None else None
    zone = _assumed_zone(column, catalogue, (_PLAIN, _ZONED))
    is_plain = _type(column, catalogue) == _PLAIN
    own = exp.DType.TIMESTAMP if is_plain else exp.DType.TIMESTAMPTZ
    if zone is None or length is None or not is_constant(value, exp.DType.DATE, own):
        return None
    moment = cast_to(value, "timestamp" if is_plain else "timestamptz")
    interval = exp.Interval(this=exp.Literal.string(length if length[0].isdigit() else f"1 {length}"))
    begins = function.copy()
    begins.set("this", moment.copy())
    whole: exp.Expr = exp.And(
        this=exp.GTE(this=column.copy(), expression=moment.copy()),
        expression=exp.LT(this=column.copy(), expression=exp.Add(this=moment.copy(), expression=interval)),
    )
    if isinstance(value, exp.Literal):
        return exp.And(this=whole, expression=exp.EQ(this=moment, expression=begins)), zone
    told = [f"{value.sql('postgres')} is a finite moment"]
    return exp.And(this=whole, expression=exp.EQ(this=moment, expression=begins)), zone + told


def _year(function: exp.Extract, value: exp.Expr, catalogue: Catalogue) -> _Found | None:
    column = function.expression
    zone = _assumed_zone(column, catalogue, (_PLAIN, _ZONED, "date"))
    if zone is None or str(function.this).lower() != "year":
        return None
    if isinstance(value, exp.Literal) and (value.is_string or not 1 <= _whole(value) <= 9999):
        return None
    if not is_constant(value):
        return None
    year = value.copy() if isinstance(value, exp.Literal) else cast_to(value, "int")
    following = exp.Add(this=year.copy(), expression=exp.Literal.number(1))
    told = (
        [] if isinstance(value, exp.Literal) else [f"{value.sql('postgres')} is a whole year from 1 to 9999"]
    )
    condition = exp.And(
        this=exp.GTE(this=column.copy(), expression=_first_day(year)),
        expression=exp.LT(this=column.copy(), expression=_first_day(following)),
    )
    return condition, zone + told


def _first_day(year: exp.Expr) -> exp.Expr:
    one = exp.Literal.number(1)
    return exp.Anonymous(this="MAKE_DATE", expressions=[year, one, one.copy()])


def _whole(literal: exp.Literal) -> int:
    """The literal as a whole number, 0 if it is none."""
    return int(literal.this) if str(literal.this).isdigit() else 0


def _type(column: exp.Expr, catalogue: Catalogue) -> str | None:
    found = place(column, catalogue) if isinstance(column, exp.Column) else None
    return None if found is None else found.type_name


def _assumed_zone(column: exp.Expr, catalogue: Catalogue, types: tuple[str, ...]) -> list[str] | None:
    """What has to hold of the session's time zone; None where the column is of none of the types."""
    kind = _type(column, catalogue)
    if kind not in types:
        return None
    if kind != _ZONED:
        return []
    return ["sessions have TimeZone UTC, as the database has it"] if catalogue.is_utc else None


DATE_RANGE = Rule(
    name="date-range",
    reason="a function of the column hides it from its index and its statistics; a range does not",
    rewrite=date_range,
)
