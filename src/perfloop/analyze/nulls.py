"""What a condition says of a row whose columns are NULL, as those of an outer join without a partner.

Values are literals, NULL, or unknown; conditions are true, false, NULL or unknown. Only what is certain is
said: an unknown function of NULL is unknown.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from sqlglot import exp


class Unknown(enum.Enum):
    """A value that is not known."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
_Result = str | bool | None | Unknown
"""None is NULL."""


def is_false_for_nulls(condition: exp.Expr, nullable: frozenset[str]) -> bool:
    """Whether a row is certainly thrown away when all columns of the `nullable` relations are NULL."""
    return _value(condition, nullable) in (False, None)


def _value(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    inner = node.unnest()
    if isinstance(inner, exp.Column):
        return None if inner.table in nullable else UNKNOWN
    if isinstance(inner, exp.Literal):
        return str(inner.this)
    if isinstance(inner, exp.Boolean):
        return bool(inner.this)
    if isinstance(inner, exp.Null):
        return None
    for kind, read in _READERS:
        if isinstance(inner, kind):
            return read(inner, nullable)
    return UNKNOWN


def _cast(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    """A constant is printed in its type's own form; when two are equal, a user's type decides for itself."""
    value = _value(node.this, nullable)
    is_foreign = node.args["to"].this is exp.DType.USERDEFINED
    return UNKNOWN if is_foreign and value is not None else value


def _coalesce(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    values = (_value(each, nullable) for each in (node.this, *node.expressions))
    return next((value for value in values if value is not None), None)


def _is(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    value = _value(node.this, nullable)
    if value is UNKNOWN or not isinstance(node.expression, exp.Null):
        return UNKNOWN
    return (value is None) is not bool(node.args.get("negate"))


def _not(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    value = _value(node.this, nullable)
    return not value if isinstance(value, bool) else None if value is None else UNKNOWN


def _and(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    return _combined(node, nullable, decisive=False)


def _or(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    return _combined(node, nullable, decisive=True)


def _combined(node: exp.Expr, nullable: frozenset[str], *, decisive: bool) -> _Result:
    assert isinstance(node, exp.And | exp.Or)
    values = [_value(side, nullable) for side in (node.left, node.right)]
    if decisive in values:
        return decisive
    if UNKNOWN in values:
        return UNKNOWN
    return None if None in values else not decisive


def _compared(node: exp.Expr, nullable: frozenset[str]) -> _Result:
    assert isinstance(node, exp.Binary)
    left, right = _value(node.left, nullable), _value(node.right, nullable)
    if left is None or right is None:
        return None
    if not isinstance(left, str) or not isinstance(right, str):
        return UNKNOWN
    is_equal = _number(left) == _number(right)
    return is_equal if isinstance(node, exp.EQ) else not is_equal


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


_READERS: tuple[tuple[type[exp.Expr], Callable[[exp.Expr, frozenset[str]], _Result]], ...] = (
    (exp.Cast, _cast),
    (exp.Coalesce, _coalesce),
    (exp.Is, _is),
    (exp.Not, _not),
    (exp.And, _and),
    (exp.Or, _or),
    (exp.EQ, _compared),
    (exp.NEQ, _compared),
)
