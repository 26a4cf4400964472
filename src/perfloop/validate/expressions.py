r"""Evaluates the expressions of pgbench's `\set`: numbers, arithmetic, and its random functions."""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from random import Random
from statistics import NormalDist

from perfloop.errors import UnsupportedStatement

Number = int | float

_VARIABLE = re.compile(r":(\w+)")
_NAMED = "variable_"
_LONGEST = 2000
_PLAIN: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "double": float,
    "exp": math.exp,
    "greatest": max,
    "int": int,
    "least": min,
    "ln": math.log,
    "mod": lambda left, right: int(math.fmod(left, right)),
    "pi": lambda: math.pi,
    "pow": math.pow,
    "power": math.pow,
    "sqrt": math.sqrt,
}
_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: (
        int(left / right) if isinstance(left, int) and isinstance(right, int) else left / right
    ),
    ast.Mod: lambda left, right: int(math.fmod(left, right)),
}


def evaluate(expression: str, variables: Mapping[str, Number], rng: Random) -> Number:
    """The value of a pgbench expression. Raises UnsupportedStatement for what is not understood."""
    if len(expression) > _LONGEST:
        raise UnsupportedStatement(rf"\set … is not understood: it has more than {_LONGEST} characters")
    prepared = _VARIABLE.sub(rf"{_NAMED}\1", expression.strip())
    try:
        with warnings.catch_warnings():
            # Python warns of 1or 2, which it then takes.
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(prepared, mode="eval")
        return _value(tree.body, variables, rng)
    except UnsupportedStatement:
        raise
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise UnsupportedStatement(rf"\set … {expression.strip()} is not understood") from error


def _value(node: ast.expr, variables: Mapping[str, Number], rng: Random) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name) if name.startswith(_NAMED):
            return _variable(name.removeprefix(_NAMED), variables)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, variables, rng)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_value(left, variables, rng), _value(right, variables, rng))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name.lower(), [_value(each, variables, rng) for each in arguments], rng)
    raise UnsupportedStatement(rf"\set uses {ast.unparse(node)}, which perfloop does not know")


def _variable(name: str, variables: Mapping[str, Number]) -> Number:
    if name not in variables:
        raise UnsupportedStatement(rf"the variable :{name} has no value; add \set {name} above its first use")
    return variables[name]


def _call(name: str, arguments: list[Number], rng: Random) -> Number:
    if name in _PLAIN:
        return _PLAIN[name](*arguments)
    if name not in _DRAWS:
        raise UnsupportedStatement(rf"\set uses {name}(), which perfloop does not know")
    low, high, *shape = arguments
    return _DRAWS[name](rng, int(low), int(high), *shape)


def _uniform(rng: Random, low: int, high: int) -> int:
    return rng.randint(low, high)


def _exponential(rng: Random, low: int, high: int, shape: float) -> int:
    """Truncated exponential: `low` is drawn most."""
    cut = math.exp(-shape)
    place = -math.log(cut + (1.0 - cut) * (1.0 - rng.random())) / shape
    return low + min(int((high - low + 1) * place), high - low)


def _gaussian(rng: Random, low: int, high: int, shape: float) -> int:
    """Truncated normal: the middle of the range is drawn most, its ends lie at `shape` deviations."""
    normal = NormalDist()
    edge = normal.cdf(-shape)
    place = (normal.inv_cdf(edge + (1.0 - 2.0 * edge) * rng.random()) / shape + 1.0) / 2.0
    return low + min(max(int((high - low + 1) * place), 0), high - low)


def _zipfian(rng: Random, low: int, high: int, shape: float) -> int:
    """Zipf's law by inversion of its continuous form, which is close for all ranks but the first few."""
    count = high - low + 1
    if math.isclose(shape, 1.0):
        return low + min(int(math.pow(count + 1.0, rng.random())) - 1, count - 1)
    span = math.pow(count + 1.0, 1.0 - shape) - 1.0
    rank = math.pow(1.0 + rng.random() * span, 1.0 / (1.0 - shape))
    return low + min(int(rank) - 1, count - 1)


_DRAWS: Mapping[str, Callable[..., int]] = {
    "random": _uniform,
    "random_exponential": _exponential,
    "random_gaussian": _gaussian,
    "random_zipfian": _zipfian,
}
