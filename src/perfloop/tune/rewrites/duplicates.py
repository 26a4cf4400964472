"""DISTINCT and UNION that only remove duplicates of their own making, or none at all."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue, folded
from perfloop.tune.rewrites.clauses import (
    conjuncts,
    has_star,
    is_picky,
    is_plain,
    set_where,
    where_conjuncts,
)
from perfloop.tune.rewrites.names import Source, place, sources
from perfloop.tune.rewrites.rule import Rewritten, Rule


def distinct_join(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`SELECT DISTINCT a.… FROM a JOIN b …` as a's rows for which b has one.

    Only inner joins, whose tables but the first are named in no output and no ORDER BY. Where the output
    holds a key of a, its rows are distinct by themselves, and DISTINCT goes too.
    """
    found = False
    for select in reversed(list(tree.find_all(exp.Select))):
        if _is_inner_distinct(select) and _semi_join(select, catalogue):
            found = True
    return Rewritten(tree=tree) if found else None


def needless_distinct(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """DISTINCT over one table whose key is in the output: its rows are distinct by themselves."""
    found = False
    for select in tree.find_all(exp.Select):
        if not select.args.get("distinct") or is_picky(select) or not is_plain(select):
            continue
        there = sources(select, catalogue)
        if len(there) == 1 and _shows_key(select, there[0], catalogue):
            select.set("distinct", None)
            found = True
    return Rewritten(tree=tree) if found else None


def disjoint_union(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """UNION as UNION ALL, where two different literals keep its arms apart and a key each arm's own rows."""
    found = False
    for union in tree.find_all(exp.Union):
        arms = (union.this, union.expression)
        if not union.args.get("distinct") or not all(isinstance(arm, exp.Select) for arm in arms):
            continue
        if _are_apart(*arms) and all(_is_distinct(arm, catalogue) for arm in arms):
            union.set("distinct", False)
            found = True
    return Rewritten(tree=tree) if found else None


def _is_inner_distinct(select: exp.Select) -> bool:
    joins = select.args.get("joins") or ()
    if not select.args.get("distinct") or is_picky(select) or not joins or has_star(select):
        return False
    if not is_plain(_uncut(select)):
        return False
    return all(
        not join.side
        and join.kind in {"", "INNER"}
        and join.args.get("on") is not None
        and isinstance(join.this, exp.Table)
        for join in joins
    )


def _semi_join(select: exp.Select, catalogue: Catalogue) -> bool:
    there = sources(select, catalogue)
    if any(each.table is None for each in there):
        return False
    first = there[0]
    order = select.args.get("order")
    shown = [*select.expressions, *(order.expressions if order is not None else ())]
    if not all(_names_only(each, select, first, catalogue) for each in shown):
        return False
    outer, inner = _shared_out(select, first, catalogue)
    if outer is None or not inner:
        return False
    if _shows_key(select, first, catalogue):
        select.set("distinct", None)
    joins = select.args["joins"]
    asked = exp.Select(expressions=[exp.Literal.number(1)])
    asked.set("from_", exp.From(this=joins[0].this.copy()))
    asked.set("joins", [_bare(join) for join in joins[1:]])
    set_where(asked, [*inner])
    select.set("joins", None)
    set_where(select, [*outer, exp.Exists(this=asked)])
    return True


def _shared_out(
    select: exp.Select, first: Source, catalogue: Catalogue
) -> tuple[list[exp.Expr] | None, list[exp.Expr]]:
    """The conditions of the first table alone, and all others; None where a name is not certain."""
    outer: list[exp.Expr] = []
    inner: list[exp.Expr] = []
    joined = [each for join in select.args["joins"] for each in conjuncts(join.args["on"])]
    for condition in (*where_conjuncts(select), *joined):
        found = [place(column, catalogue) for column in condition.find_all(exp.Column)]
        if any(each is None for each in found) or condition.find(exp.Subquery) is not None:
            return None, []
        is_own = all(each is not None and each.source.name == first.name for each in found)
        (outer if is_own else inner).append(condition)
    return outer, inner


def _bare(join: exp.Join) -> exp.Join:
    """The same table without its condition, which stands in the WHERE clause."""
    return exp.Join(this=join.this.copy(), kind="CROSS")


def _names_only(shown: exp.Expr, select: exp.Select, first: Source, catalogue: Catalogue) -> bool:
    """Whether an output or a sort key names columns of the first table and nothing else, subqueries least."""
    if shown.find(exp.Subquery, exp.Star) is not None:
        return False
    outputs = {each.alias for each in select.expressions if each.alias}
    for column in shown.find_all(exp.Column):
        found = place(column, catalogue)
        if found is None and not column.table and column.name in outputs:
            continue
        if found is None or found.select is not select or found.source.name != first.name:
            return False
    return True


def _shows_key(select: exp.Select, source: Source, catalogue: Catalogue) -> bool:
    if source.table is None or source.is_filled:
        return False
    shown = [each.unalias() for each in select.expressions]
    columns = [
        each for each in shown if isinstance(each, exp.Column) and isinstance(each.this, exp.Identifier)
    ]
    placed = [(place(each, catalogue), each) for each in columns]
    names = {
        folded(column.this)
        for found, column in placed
        if found is not None and found.select is select and found.source.name == source.name
    }
    return catalogue.has_key(source.table, names)


def _is_distinct(select: exp.Select, catalogue: Catalogue) -> bool:
    there = sources(select, catalogue)
    return is_plain(select) and len(there) == 1 and _shows_key(select, there[0], catalogue)


def _are_apart(one: exp.Select, other: exp.Select) -> bool:
    """Whether some output column is one literal in one arm and another in the other."""
    if len(one.expressions) != len(other.expressions):
        return False
    pairs = ((a.unalias(), b.unalias()) for a, b in zip(one.expressions, other.expressions, strict=True))
    return any(
        isinstance(a, exp.Literal) and isinstance(b, exp.Literal) and a.is_string and b.is_string and a != b
        for a, b in pairs
    )


def _uncut(select: exp.Select) -> exp.Select:
    """The SELECT without what comes after DISTINCT."""
    bare = select.copy()
    for clause in ("limit", "offset", "with_"):
        bare.set(clause, None)
    return bare


DISTINCT_JOIN = Rule(
    name="distinct-join",
    reason="a join makes rows double and DISTINCT sorts them out again; EXISTS makes none",
    rewrite=distinct_join,
)
NEEDLESS_DISTINCT = Rule(
    name="needless-distinct",
    reason="the rows are distinct by a key, and are sorted or hashed all the same",
    rewrite=needless_distinct,
)
DISJOINT_UNION = Rule(
    name="disjoint-union",
    reason="the arms have no row in common, and UNION looks for duplicates all the same",
    rewrite=disjoint_union,
)
