"""Correlated subqueries that aggregate, as one grouped join."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.clauses import (
    all_of,
    fresh_name,
    has_aggregates,
    has_star,
    is_joined_by_comma,
    qualified,
    set_where,
    where_conjuncts,
)
from perfloop.tune.rewrites.names import Place, place, reaches_out
from perfloop.tune.rewrites.rule import Rewritten, Rule

_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_EXACT_SUMS = _INTEGERS | {"numeric"}
_ONE_WRITING = _INTEGERS | {
    "text",
    "character varying",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
}
"""Types of which equal values look equal: numeric is none, since 1.0 equals 1.00."""
_BEYOND = ("group", "having", "windows", "limit", "offset", "fetch", "with_", "distinct", "order", "joins")


def grouped_subquery(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`(SELECT agg(e) FROM t WHERE t.k = o.k AND …)` as a LEFT JOIN on t grouped by k.

    There is at most one group for a row of o, because k and o.k are of one type, so that the join adds no
    row. Where there is no group the aggregate is over nothing: NULL as the join fills in, and 0 for a count.
    The aggregate must be exact in any order of its rows, so that no sum is of floats. What is computed for
    groups that no row asks for cannot fail: the subquery has only comparisons of columns and values.
    """
    found = False
    for subquery in [each for each in tree.find_all(exp.Subquery) if isinstance(each.this, exp.Select)]:
        outer = subquery.find_ancestor(exp.Select)
        if outer is None or not _may_join(outer, subquery):
            continue
        made = _grouped(subquery.this, outer, catalogue)
        if made is None:
            continue
        join, value = made
        if subquery.parent is outer:
            value = exp.alias_(value, _output_name(subquery.this.expressions[0]))
        subquery.replace(value)
        outer.append("joins", join)
        found = True
    return Rewritten(tree=tree) if found else None


def _output_name(aggregate: exp.Expr) -> str:
    """The name that the server gives to an output column that is a subquery."""
    return aggregate.alias or type(aggregate).__name__.lower()


def _may_join(outer: exp.Select, subquery: exp.Subquery) -> bool:
    """Whether one more LEFT JOIN changes nothing else, and the subquery stands where its value is read."""
    if outer.args.get("from_") is None or outer.args.get("group") or has_aggregates(outer) or has_star(outer):
        return False
    if is_joined_by_comma(outer) or outer.args.get("distinct"):
        return False
    node: exp.Expr = subquery
    while node.parent is not None and node.parent is not outer:
        node = node.parent
        if isinstance(node, exp.Join | exp.From):
            return False
    return isinstance(node, exp.Where) or node in outer.expressions


def _grouped(inner: exp.Select, outer: exp.Select, catalogue: Catalogue) -> tuple[exp.Join, exp.Expr] | None:
    aggregate = inner.expressions[0].unalias() if len(inner.expressions) == 1 else None
    if aggregate is None or any(inner.args.get(clause) for clause in _BEYOND):
        return None
    if not _is_exact(aggregate, inner, catalogue):
        return None
    split = _split(inner, outer, catalogue)
    if split is None:
        return None
    local, pairs = split
    name = fresh_name(outer, "perfloop_grouped")
    group = inner.copy()
    keys = [exp.alias_(own.copy(), f"key_{n}") for n, (own, _) in enumerate(pairs, start=1)]
    group.set("expressions", [*keys, exp.alias_(aggregate.copy(), "value")])
    group.set("group", exp.Group(expressions=[own.copy() for own, _ in pairs]))
    set_where(group, local)
    matches: list[exp.Expr] = [
        exp.EQ(this=exp.column(f"key_{n}", table=name.copy()), expression=other.copy())
        for n, (_, other) in enumerate(pairs, start=1)
    ]
    source = exp.Subquery(this=group, alias=exp.TableAlias(this=name.copy()))
    value: exp.Expr = exp.column("value", table=name.copy())
    if isinstance(aggregate, exp.Count):
        value = exp.Coalesce(this=value, expressions=[exp.Literal.number(0)])
    return exp.Join(this=source, side="LEFT", on=all_of(matches)), value


def _is_exact(aggregate: exp.Expr, inner: exp.Select, catalogue: Catalogue) -> bool:
    """Whether the aggregate gives one value to the last digit, in whatever order the rows come."""
    if not isinstance(aggregate, exp.Count | exp.Sum | exp.Avg | exp.Min | exp.Max):
        return False
    if isinstance(aggregate, exp.Count) and isinstance(aggregate.this, exp.Star | exp.Literal):
        return True
    found = place(aggregate.this, catalogue) if isinstance(aggregate.this, exp.Column) else None
    if found is None or found.select is not inner:
        return False
    if isinstance(aggregate, exp.Count):
        return True
    return found.type_name in (_ONE_WRITING if isinstance(aggregate, exp.Min | exp.Max) else _EXACT_SUMS)


def _split(
    inner: exp.Select, outer: exp.Select, catalogue: Catalogue
) -> tuple[list[exp.Expr], list[tuple[exp.Column, exp.Column]]] | None:
    """The subquery's own conditions, and its equalities with the outer row as (own, other)."""
    local: list[exp.Expr] = []
    pairs = []
    for condition in where_conjuncts(inner):
        if condition.find(exp.Subquery) is not None:
            return None
        outside = reaches_out(condition, inner, catalogue)
        if outside is None:
            return None
        if not outside:
            if not _cannot_fail(condition):
                return None
            local.append(condition)
            continue
        pair = _pair(condition.unnest(), inner, outer, catalogue)
        if pair is None:
            return None
        pairs.append(pair)
    return (local, pairs) if pairs else None


def _cannot_fail(condition: exp.Expr) -> bool:
    """Whether it only compares columns and values: no cast, no function, no arithmetic."""
    harmless = (
        exp.Column,
        exp.Identifier,
        exp.Literal,
        exp.Parameter,
        exp.Null,
        exp.Boolean,
        exp.Paren,
        exp.Predicate,
        exp.Connector,
        exp.Not,
        exp.Neg,
    )
    return all(isinstance(node, harmless) for node in condition.walk())


def _pair(
    condition: exp.Expr, inner: exp.Select, outer: exp.Select, catalogue: Catalogue
) -> tuple[exp.Column, exp.Column] | None:
    if not isinstance(condition, exp.EQ):
        return None
    for one, other in ((condition.this, condition.expression), (condition.expression, condition.this)):
        if not isinstance(one, exp.Column) or not isinstance(other, exp.Column):
            return None
        own, theirs = place(one, catalogue), place(other, catalogue)
        if own is None or theirs is None or own.select is not inner or theirs.select is not outer:
            continue
        if _is_one_type(own, theirs):
            return one, qualified(other, theirs.source.node)
    return None


def _is_one_type(own: Place, other: Place) -> bool:
    return own.type_name == other.type_name or {own.type_name, other.type_name} <= _INTEGERS


GROUPED_SUBQUERY = Rule(
    name="grouped-subquery",
    reason="the subquery aggregates anew for every row; grouped once and joined, it reads its table once",
    rewrite=grouped_subquery,
)
