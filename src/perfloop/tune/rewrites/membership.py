"""Conditions on the rows of a subquery: NOT IN, and counting where one row would do."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.clauses import is_picky, is_plain, qualified, set_where, shadowed, where_conjuncts
from perfloop.tune.rewrites.names import place
from perfloop.tune.rewrites.rule import Rewritten, Rule


def not_in(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`x NOT IN (SELECT y …)` as an anti-join.

    NOT IN is true where no y equals x and none is NULL; with x NULL it is true of no rows only. So x must be
    a NOT NULL column. Where y may be NULL, a second NOT EXISTS asks for that. Both are conditions that must
    hold by themselves, for which false and NULL are the same.
    """
    found = False
    for select in reversed(list(tree.find_all(exp.Select))):  # the innermost first
        conditions = where_conjuncts(select)
        changed = [_anti_join(each, catalogue) for each in conditions]
        if any(changed):
            set_where(
                select, [new for old, made in zip(conditions, changed, strict=True) for new in made or [old]]
            )
            found = True
    return Rewritten(tree=tree) if found else None


def _anti_join(condition: exp.Expr, catalogue: Catalogue) -> list[exp.Expr] | None:
    node = condition.unnest()
    member = node.this.unnest() if isinstance(node, exp.Not) else None
    if not isinstance(member, exp.In) or not isinstance(member.args.get("query"), exp.Subquery):
        return None
    inner = member.args["query"].unnest()
    tested = _tested(member.this.unnest(), catalogue)
    if tested is None or not is_plain(inner) or is_picky(inner) or len(inner.expressions) != 1:
        return None
    value = inner.expressions[0].unalias()
    listed = place(value, catalogue) if isinstance(value, exp.Column) else None
    if (
        listed is None
        or listed.select is not inner
        or shadowed(inner, {str(tested.table).lower()}, catalogue)
    ):
        return None
    matching = _none_of(inner, exp.EQ(this=tested.copy(), expression=value.copy()))
    if listed.is_not_null:
        return [matching]
    return [matching, _none_of(inner, exp.Is(this=value.copy(), expression=exp.Null()))]


def _tested(node: exp.Expr, catalogue: Catalogue) -> exp.Column | None:
    """The column left of NOT IN with the name of its table; None if it may be NULL."""
    found = place(node, catalogue) if isinstance(node, exp.Column) else None
    if found is None or not found.is_not_null or not isinstance(node, exp.Column):
        return None
    return qualified(node, found.source.node)


def _none_of(inner: exp.Select, condition: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Exists(this=_asked(inner, [*where_conjuncts(inner), condition])))


def _asked(inner: exp.Select, conditions: list[exp.Expr]) -> exp.Select:
    """The subquery for its rows alone: neither what it projects nor their order matters."""
    asked = inner.copy()
    for clause in ("order", "distinct"):
        asked.set(clause, None)
    asked.set("expressions", [exp.Literal.number(1)])
    set_where(asked, conditions)
    return asked


def counted_presence(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`(SELECT count(*) …) > 0` as EXISTS, which stops at the first row; `= 0` as NOT EXISTS."""
    found = False
    for comparison in list(tree.find_all(exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ, exp.NEQ)):
        made = _presence(comparison)
        if made is not None:
            comparison.replace(made)
            found = True
    return Rewritten(tree=tree) if found else None


_ABOVE: set[tuple[type[exp.Expr], str]] = {(exp.GT, "0"), (exp.GTE, "1"), (exp.NEQ, "0")}
_NONE: set[tuple[type[exp.Expr], str]] = {(exp.EQ, "0"), (exp.LT, "1"), (exp.LTE, "0")}
_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT,
    exp.LT: exp.GT,
    exp.GTE: exp.LTE,
    exp.LTE: exp.GTE,
}


def _presence(comparison: exp.Expr) -> exp.Expr | None:
    left, right = comparison.this, comparison.expression
    kind: type[exp.Expr] = type(comparison)
    if isinstance(left, exp.Literal):
        left, right, kind = right, left, _MIRRORED.get(kind, kind)
    if isinstance(comparison.parent, exp.Select):  # an output column, which would have another name
        return None
    if not isinstance(left, exp.Subquery) or not isinstance(right, exp.Literal) or right.is_string:
        return None
    inner = _counted(left.unnest())
    if inner is None:
        return None
    exists = exp.Exists(this=_asked(inner, where_conjuncts(inner)))
    if (kind, str(right.this)) in _ABOVE:
        return exists
    return exp.Not(this=exists) if (kind, str(right.this)) in _NONE else None


def _counted(inner: exp.Expr) -> exp.Select | None:
    """The subquery without its count; None if it does anything but count all rows."""
    if not isinstance(inner, exp.Select) or len(inner.expressions) != 1:
        return None
    count = inner.expressions[0].unalias()
    if not isinstance(count, exp.Count) or not isinstance(count.this, exp.Star | exp.Literal):
        return None
    if isinstance(count.parent, exp.Filter | exp.Window):
        return None
    bare = inner.copy()
    bare.set("expressions", [exp.Literal.number(1)])
    return bare if is_plain(bare) else None


NOT_IN = Rule(
    name="not-in",
    reason="NOT IN keeps the planner from an anti-join: the subquery's rows are searched for every row",
    rewrite=not_in,
)
COUNTED_PRESENCE = Rule(
    name="count-exists",
    reason="all rows are counted to know whether there is one; EXISTS stops at the first",
    rewrite=counted_presence,
)
