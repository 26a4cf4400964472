"""Which tests of a row may become the predicate of a partial index, and how many rows they hold for.

The planner uses a partial index only where it can prove, from the statement alone, that every row wanted
satisfies the predicate. It can where the statement's own text says so: `deleted_at IS NULL`, `active`,
`status = 'pending'`. A parameter is no such proof. Under a generic plan `status = $1` is unknown when the
plan is made, so that the index is of no use then; and a service may call the same statement with another
status tomorrow. That all draws of the parameter happen to agree says nothing, so the plan of a drawn
instance is never enough: the text must hold the constant itself. pg_stat_statements writes `$n` for
constants too; what comes from it has no predicate but tests for NULL and bare booleans.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfloop.model.target import Column, Table
from perfloop.model.value import Value
from perfloop.tune.advisor.conditions import DIALECT, Comparison, Use

FEW_VALUES = 100
"""A column with more different values is none that tells one kind of rows from another."""
MOST_ROWS = 0.5
"""Of the table's, that a predicate may hold for: it would spare less than it forbids."""

_PREDICATES = (exp.Predicate, exp.Between, exp.In, exp.NullSafeEQ, exp.NullSafeNEQ)
_NULL_TESTS = ((" IS NULL", True), (" IS NOT NULL", False))
_EQUAL = re.compile(r"(?P<column>.+?) = (?P<value>'(?:[^']|'')*'|[-\d.]+|CAST\('(?:[^']|'')*' AS [^()]+\))")
_CASTED = re.compile(r"CAST\(\(?(\w+)\)? AS \w+\)")
_LITERAL = re.compile(r"'((?:[^']|'')*)'|([-\d.]+)")


class Written(Value, frozen=True, kw_only=True):
    """What a statement's own text says of its columns, by their bare names."""

    constants: frozenset[tuple[str, str]] = frozenset()
    """(column, constant) of each comparison for equality."""
    bound: frozenset[str] = frozenset()
    """Columns that anywhere stand against a parameter."""
    is_read: bool = False
    """Whether the text was understood; otherwise nothing may be concluded from it."""


def read_written(text: str, instances: tuple[str, ...]) -> Written:
    """What the text says, and every instance of it. `$n`, `%s`, `%(name)s`, `:name` are parameters."""
    written = _read(text)
    others = [_read(instance).constants for instance in instances if instance != text]
    return Written(
        constants=written.constants.intersection(*others), bound=written.bound, is_read=written.is_read
    )


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> Written:
    plain = re.sub(r"%\(\w+\)s|%s", "$1", text)
    try:
        trees = [tree for tree in sqlglot.parse(plain, dialect=DIALECT) if tree is not None]
    except (SqlglotError, RecursionError):
        return Written()
    constants: set[tuple[str, str]] = set()
    bound: set[str] = set()
    for node, mentioned in _mentions(trees):
        if isinstance(node, _PREDICATES) and mentioned.has_parameter:
            bound |= mentioned.columns
        elif isinstance(node, exp.EQ) and mentioned.literal is not None:
            constants |= {(name, mentioned.literal) for name in mentioned.columns}
    return Written(constants=frozenset(constants), bound=frozenset(bound), is_read=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mentioned:
    """What a node and all below it name."""

    columns: frozenset[str]
    literal: str | None
    """The first one."""
    has_parameter: bool


def _mentions(trees: Iterable[exp.Expr]) -> Iterator[tuple[exp.Expr, _Mentioned]]:
    """Every node with what it names, each looked at once: conditions may be nested thousands deep."""
    for tree in trees:
        known: dict[int, _Mentioned] = {}
        for node in reversed(list(tree.bfs())):
            below = [known[id(child)] for child in node.iter_expressions()]
            own = {node.name} if isinstance(node, exp.Column) else set()
            literals = (each.literal for each in below if each.literal is not None)
            known[id(node)] = _Mentioned(
                columns=frozenset(own.union(*(each.columns for each in below))),
                literal=node.name if isinstance(node, exp.Literal) else next(literals, None),
                has_parameter=isinstance(node, exp.Parameter | exp.Placeholder)
                or any(each.has_parameter for each in below),
            )
            yield node, known[id(node)]


def may_be_predicate(comparison: Comparison, written: Written, table: Table) -> bool:
    """Whether the statement's text proves the comparison in every call."""
    if comparison.alternative or not written.is_read or written.bound.intersection(comparison.columns):
        return False
    if comparison.use is Use.PREDICATE:
        return True
    found = _equality(comparison.text)
    if comparison.use is not Use.EQUAL or comparison.key.is_expression or found is None:
        return False
    share = held_share(comparison.text, table)
    return (comparison.key.text, found[1]) in written.constants and share is not None and share <= MOST_ROWS


def held_share(predicate: str, table: Table) -> float | None:
    """The share of the table's rows that the predicate holds for, in [0, 1]; None where nobody knows.

    Known are tests for NULL, booleans, and equality on a column of few values.
    """
    for ending, is_null in _NULL_TESTS:
        column = table.column(predicate.removesuffix(ending).strip('"'))
        if predicate.endswith(ending) and column is not None and column.statistics is not None:
            nulls = column.statistics.null_ratio
            return nulls if is_null else 1 - nulls
    is_negated = predicate.startswith("NOT ")
    column = table.column(predicate.removeprefix("NOT ").strip('"'))
    if column is not None and column.type_name == "boolean":
        return _value_share(column, table, "f" if is_negated else "t")
    found = _equality(predicate)
    column = table.column(found[0]) if found else None
    return _value_share(column, table, found[1]) if found and column else None


def _equality(predicate: str) -> tuple[str, str] | None:
    """(column, constant) of `column = constant`."""
    match = _EQUAL.fullmatch(predicate)
    if match is None:
        return None
    casted = _CASTED.fullmatch(match["column"])
    literal = _LITERAL.search(match["value"])
    if literal is None:
        return None
    value = literal[2] if literal[1] is None else literal[1].replace("''", "'")
    return (casted[1] if casted else match["column"].strip('"')), value


def _value_share(column: Column, table: Table, value: str) -> float | None:
    statistics = column.statistics
    if statistics is None or statistics.distinct_count(table.rows) > FEW_VALUES:
        return None
    pad = " " if column.type_name.startswith("character(") else ""
    values = (each.rstrip(pad) if pad else each for each in statistics.common_values)
    common = dict(zip(values, statistics.common_ratios, strict=False))
    if value in common:
        return common[value]
    others = max(1.0, statistics.distinct_count(table.rows) - len(common))
    return max(0.0, 1 - statistics.null_ratio - sum(common.values())) / others
