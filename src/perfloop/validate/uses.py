"""Says what each `$n` of a statement is compared with, assigned to, or stands for.

Every `$n` is replaced by a string constant that names it before sqlglot parses the text: a string may
stand wherever pg_stat_statements found a constant, as in `interval $1`, where the grammar has no place for
a parameter.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
import sqlglot
from sqlglot import exp

from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import Value
from perfloop.validate.sources import Catalogue, Site, folded
from perfloop.validate.tokens import parameter_numbers, with_parameters

LONGEST_TEXT = 200_000
"""Characters; a longer statement is a batch of rows that says nothing more than a short one."""

_LARGEST_TARGET = 300
"""Nodes; a larger expression tells nothing of a parameter, and many of them would take minutes."""
_MARK = re.compile(r"@p(\d+)@", re.IGNORECASE)
_TIME_FUNCTIONS = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_TRANSPARENT = (
    *(exp.Paren, exp.Neg, exp.Lower, exp.Upper, exp.Trim, exp.Coalesce, exp.Array, exp.Collate),
    *(exp.JSONPath, exp.Tuple, exp.Any, exp.All, exp.Values, exp.Alias),
)
_KEYED = (
    exp.JSONExtract,
    exp.JSONExtractScalar,
    exp.JSONBExtract,
    exp.JSONBExtractScalar,
    exp.JSONBContainsTopKey,
)
_PATHS = (exp.JSONBExtract, exp.JSONBExtractScalar)
_CONTAINING = (exp.ArrayContainsAll, exp.ArrayContainedBy, exp.ArrayOverlaps, exp.JSONBContains)
_CONNECTING = (exp.Connector, exp.DPipe, exp.Dot, exp.Is, exp.Kwarg, exp.PropertyEQ, exp.Slice)
_REGULAR = (exp.RegexpLike, exp.RegexpILike)
_PATTERNS = (exp.Like, exp.ILike, exp.SimilarTo, exp.RegexpLike, exp.RegexpILike)


class Role(enum.Enum):
    """What a parameter is for."""

    EQUAL = "equal"
    ELEMENT = "element"
    ELEMENTS = "elements"
    LOW = "low"
    HIGH = "high"
    PATTERN = "pattern"
    FRAGMENT = "fragment"
    CONTAINED = "contained"
    KEY = "key"
    JSON_VALUE = "json value"
    WORDS = "words"
    CONFIGURATION = "configuration"
    INSERTED = "inserted"
    ASSIGNED = "assigned"
    LIMIT = "limit"
    OFFSET = "offset"
    INTERVAL = "interval"
    UNIT = "unit"
    SHIFT = "shift"
    VALUE = "value"


class Use(Value, frozen=True, kw_only=True):
    """One `$n`: its role, the column it is about, and the type it is cast to, as far as they are known."""

    number: int
    role: Role
    site: Site | None = None
    target: str = ""
    """The compared expression as text, by which two bounds of one range find each other."""
    type_name: str | None = None
    key: str | None = None
    """The key or part that the compared expression takes out of the column: of JSON, or of a time."""
    shifted: bool = False
    """Whether something is added to the parameter before it is compared."""
    ignores_case: bool = False
    is_pattern: bool = False
    """Whether the whole of it stands on the right of LIKE, whatever its role says of the left side."""
    many: bool = False
    """Whether it stands for a longer list: PostgreSQL 18 counts all lengths of IN as one statement."""
    upserts: bool = False
    """Whether an INSERT of it may meet a row that is there."""


_RANK = {role: rank for rank, role in enumerate(Role)}


def read_uses(text: str, snapshot: Snapshot) -> tuple[Use, ...]:
    """One Use per `$n`, by number.

    Raises UnsupportedStatement where the text is too long, unbalanced, or no SQL that sqlglot knows.
    """
    if len(text) > LONGEST_TEXT:
        raise UnsupportedStatement(
            f"its text has {len(text):,} characters; more than {LONGEST_TEXT:,} are not read"
        )
    numbers = parameter_numbers(text)
    tree = _parsed(with_parameters(text, {number: f"'@p{number}@'" for number in numbers}))
    catalogue = Catalogue(snapshot)
    uses: dict[int, list[Use]] = {number: [Use(number=number, role=Role.VALUE)] for number in numbers}
    for number, node in _marked(tree):
        uses[number].append(_use(number, node, catalogue))
    return tuple(min(found, key=_telling) for found in uses.values())


def _telling(use: Use) -> tuple[int, bool, bool]:
    """Orders the uses of one parameter: what says most about its value comes first."""
    return _RANK[use.role], use.site is None, use.type_name is None


def _parsed(text: str) -> exp.Expr:
    try:
        tree = sqlglot.parse_one(text, read="postgres")
    except RecursionError as error:
        raise UnsupportedStatement("it is nested too deeply to be parsed") from error
    except Exception as error:
        # A foreign parser may trip over any text in any way, and no text may stop a run.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        named = _MARK.sub(r"$\1", reason)
        raise UnsupportedStatement(f"its parameters cannot be found: {named}") from error
    if isinstance(tree, exp.Command):
        raise UnsupportedStatement(
            "its parameters cannot be found: sqlglot does not know this kind of statement"
        )
    return tree


def _marked(tree: exp.Expr) -> Iterator[tuple[int, exp.Expr]]:
    for node in tree.walk():
        for argument in node.args.values():
            found = _MARK.fullmatch(argument) if isinstance(argument, str) else None
            if found is not None:
                yield int(found[1]), node


def _use(number: int, node: exp.Expr, catalogue: Catalogue) -> Use:
    """Climb from the parameter until something says what it is for."""
    use = Use(number=number, role=Role.VALUE, many=any("..." in each for each in node.comments or []))
    child = node
    while child.parent is not None:
        parent = child.parent
        found = _at(parent, child, use, catalogue)
        if found is not None and found.role is not Role.VALUE:
            return found
        if found is None:
            return use
        use, child = found, parent
    return use


def _at(parent: exp.Expr, child: exp.Expr, use: Use, catalogue: Catalogue) -> Use | None:
    """What the parent adds: a role that ends the climb, more knowledge to climb on with, or None to stop."""
    for step in (_fixed_role, _comparison, _written, _operand):
        found = step(parent, child, use, catalogue)
        if found is not None:
            return found
    if isinstance(parent, _TRANSPARENT) or _is_quantified(parent):
        return use
    return None


def _fixed_role(parent: exp.Expr, child: exp.Expr, use: Use, catalogue: Catalogue) -> Use | None:
    del catalogue
    if isinstance(parent, exp.Limit | exp.Fetch):
        return _with(use, role=Role.LIMIT)
    if isinstance(parent, exp.Offset):
        return _with(use, role=Role.OFFSET)
    if isinstance(parent, exp.Interval):
        return _with(use, role=Role.INTERVAL, type_name="interval")
    if isinstance(parent, exp.Extract) and child.arg_key == "this":
        return _with(use, role=Role.UNIT, key="year")
    if isinstance(parent, exp.Escape) and child.arg_key == "expression":
        return _with(use, role=Role.UNIT, key="\\")
    if child.arg_key == "zone":
        return _with(use, role=Role.UNIT, key="UTC")
    return _with(use, role=Role.UNIT) if child.arg_key == "unit" else None


def _comparison(parent: exp.Expr, child: exp.Expr, use: Use, catalogue: Catalogue) -> Use | None:
    other = _member(_other_side(parent, child), child)
    role = None if other is None else _compared_role(parent, child, use)
    if role is None:
        return None
    if isinstance(parent, exp.EQ) and parent.arg_key == "expressions" and child.arg_key == "expression":
        return _written_column(use, Role.ASSIGNED, other, catalogue)
    is_pattern = role is not Role.FRAGMENT and isinstance(parent, _PATTERNS) and child is not parent.this
    return _about(_with(use, role=role, is_pattern=is_pattern), other, catalogue)


def _compared_role(parent: exp.Expr, child: exp.Expr, use: Use) -> Role | None:
    is_left = child.arg_key == "this"
    if isinstance(parent, exp.Between):
        return {"low": Role.LOW, "high": Role.HIGH}.get(child.arg_key or "", Role.EQUAL)
    if isinstance(parent, exp.GT | exp.GTE):
        return Role.HIGH if is_left else Role.LOW
    if isinstance(parent, exp.LT | exp.LTE):
        return Role.LOW if is_left else Role.HIGH
    if isinstance(parent, _PATTERNS) and not is_left:
        is_array = _is_quantified(child) and child.find(exp.Array) is None
        whole = Role.ELEMENTS if is_array else Role.PATTERN
        return Role.FRAGMENT if use.shifted or isinstance(parent, _REGULAR) else whole
    if isinstance(parent, _CONTAINING):
        return Role.CONTAINED
    if _is_quantified(child):
        return Role.ELEMENTS
    is_listed = isinstance(parent, exp.Binary) and not isinstance(
        parent, (*_ARITHMETIC, *_KEYED, *_CONNECTING)
    )
    return Role.EQUAL if is_listed or isinstance(parent, exp.In) else None


def _is_quantified(node: exp.Expr) -> bool:
    """Whether it is the ANY, ALL or SOME of an array; sqlglot takes the latter two for functions."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower() in ("all", "some")
    return isinstance(node, exp.Any | exp.All)


def _other_side(parent: exp.Expr, child: exp.Expr) -> Any:
    if isinstance(parent, exp.Between | exp.In):
        return parent.this if child is not parent.this else parent.args.get("low")
    if isinstance(parent, (exp.Binary, *_PATTERNS, *_CONTAINING)):
        return parent.expression if child is parent.this else parent.this
    return None


def _member(other: Any, child: exp.Expr) -> Any:
    """The member of a row that the parameter's place in the other row belongs to."""
    position = child.meta.get("position")
    if isinstance(other, exp.Tuple) and isinstance(position, int) and position < len(other.expressions):
        return other.expressions[position]
    return other


def _written(parent: exp.Expr, child: exp.Expr, use: Use, catalogue: Catalogue) -> Use | None:
    """The target column of VALUES, or of the select list of an INSERT, by its position."""
    if isinstance(parent, exp.Tuple) and child.index is not None:
        parent.meta["position"] = child.index
    in_values = isinstance(parent, exp.Tuple) and isinstance(parent.parent, exp.Values | exp.Insert)
    in_select = isinstance(parent, exp.Select) and child.arg_key == "expressions"
    if not (in_values or in_select):
        return None
    insert = (
        (parent.parent.parent if isinstance(parent.parent, exp.Values) else parent.parent)
        if parent.parent
        else None
    )
    table = catalogue.target(parent) if isinstance(insert, exp.Insert) else None
    if table is None or not isinstance(insert, exp.Insert) or child.index is None:
        return None
    listed = insert.this.expressions if isinstance(insert.this, exp.Schema | exp.Tuple) else []
    names = [folded(each) for each in listed] or [column.name for column in table.columns]
    column = table.column(names[child.index]) if child.index < len(names) else None
    if column is None:
        return None
    site = Site(table=table, column=column, alias=table.name.name)
    return _with(use, role=Role.INSERTED, site=site, upserts=insert.args.get("conflict") is not None)


def _written_column(use: Use, role: Role, node: exp.Expr, catalogue: Catalogue) -> Use:
    table = catalogue.target(node)
    column = table.column(folded(node.this)) if table is not None and isinstance(node, exp.Column) else None
    site = Site(table=table, column=column, alias=table.name.name) if table and column else None
    return _with(use, role=role, site=site)


def _operand(parent: exp.Expr, child: exp.Expr, use: Use, catalogue: Catalogue) -> Use | None:
    if isinstance(parent, exp.Cast):
        type_name = parent.to.sql(dialect="postgres").lower()
        member_type = type_name.removesuffix("[]") if isinstance(child, exp.Array) else type_name
        return use if use.type_name else _with(use, type_name=member_type)
    if isinstance(parent, _KEYED) and child.arg_key == "expression":
        told = _about(_with(use, role=Role.KEY), parent.this, catalogue)
        return _with(told, key="path" if isinstance(parent, _PATHS) else None)
    if isinstance(parent, exp.Coalesce):
        return _about(_with(use, role=Role.EQUAL), parent, catalogue)
    if isinstance(parent, exp.Substring) and child.arg_key in ("start", "length"):
        return _with(use, type_name="integer")
    if isinstance(parent, exp.DPipe | exp.Concat):
        return _with(use, shifted=True)
    if isinstance(parent, _ARITHMETIC):
        return _summand(parent, child, use, catalogue)
    if isinstance(parent, exp.Anonymous) and str(parent.this).lower().endswith(("tsvector", "tsquery")):
        return _text_search(parent, child, use, catalogue)
    return None


def _summand(parent: exp.Expr, child: exp.Expr, use: Use, catalogue: Catalogue) -> Use:
    other = parent.expression if child is parent.this else parent.this
    if other.find(exp.Column) is not None:
        return _about(_with(use, role=Role.SHIFT), other, catalogue)
    if other.find(*_TIME_FUNCTIONS) is not None:
        return _with(use, role=Role.INTERVAL)
    if child is parent.this or not any(True for _ in _marked(other)):
        return _with(use, shifted=True)
    return _with(use, role=Role.SHIFT)


def _text_search(parent: exp.Anonymous, child: exp.Expr, use: Use, catalogue: Catalogue) -> Use:
    is_first_of_two = child.index == 0 and len(parent.expressions) > 1
    role = Role.CONFIGURATION if is_first_of_two else Role.WORDS
    matched = parent.find_ancestor(exp.MatchAgainst) or parent
    return _about(_with(use, role=role), matched, catalogue)


def _about(use: Use, target: exp.Expr, catalogue: Catalogue) -> Use:
    """Add what the compared expression tells: its column, its type, the part it takes out."""
    if next(islice(target.walk(), _LARGEST_TARGET, None), None) is not None:
        return use
    columns = [target] if isinstance(target, exp.Column) else list(target.find_all(exp.Column))
    sites = [site for column in columns if (site := catalogue.resolve(column)) is not None]
    key, role, type_name = None, use.role, use.type_name
    taken = target.find(exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtractScalar, exp.Extract)
    if isinstance(taken, exp.Extract):
        key = taken.this.name.lower()
    elif taken is not None and role in (Role.EQUAL, Role.LOW, Role.HIGH, Role.PATTERN):
        key, role = taken.expression.sql(dialect="postgres").strip("'"), Role.JSON_VALUE
    if _is_quantified(target) and role is Role.EQUAL:
        role = Role.ELEMENT
    counted = target.find(exp.Count) is not None or isinstance(target, exp.Length)
    outer = target.find(exp.Cast)
    if type_name is None and outer is not None:
        type_name = outer.to.sql(dialect="postgres").lower()
    return _with(
        use,
        role=role,
        site=None if counted or not sites else sites[0],
        target=target.sql(dialect="postgres"),
        type_name="bigint" if counted else type_name,
        key=key,
        ignores_case=target.find(exp.Lower) is not None,
    )


def _with(use: Use, **changes: object) -> Use:
    return msgspec.structs.replace(use, **changes)
