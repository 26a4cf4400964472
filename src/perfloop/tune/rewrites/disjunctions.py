"""OR over what no one index can serve, as one query for each side."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.clauses import is_plain, set_where, where_conjuncts
from perfloop.tune.rewrites.names import place
from perfloop.tune.rewrites.rule import Rewritten, Rule


def or_across(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`WHERE a OR b` as the rows with a, and then those with b of which a is not true.

    Every row comes up in exactly one arm, as often as before. Only where a and b are about different tables
    or one holds a subquery: of one table's columns the planner combines indexes by itself. A statement that
    sorts, limits, groups or removes duplicates is left alone.
    """
    if not isinstance(tree, exp.Select) or not is_plain(tree):
        return None
    if tree.args.get("order") or tree.args.get("distinct"):
        return None
    conditions = where_conjuncts(tree)
    for number, condition in enumerate(conditions):
        node = condition.unnest()
        if not isinstance(node, exp.Or) or not _is_across(node, catalogue):
            continue
        rest = [*conditions[:number], *conditions[number + 1 :]]
        first, second = tree.copy(), tree.copy()
        not_first = exp.Not(
            this=exp.Is(this=exp.Paren(this=node.left.copy()), expression=exp.Boolean(this=True))
        )
        set_where(first, [*rest, node.left.unnest()])
        set_where(second, [*rest, node.right.unnest(), not_first])
        return Rewritten(tree=exp.Union(this=first, expression=second, distinct=False))
    return None


def _is_across(node: exp.Or, catalogue: Catalogue) -> bool:
    """Whether the sides ask different things; not the third of three, whose arms would grow too many."""
    if isinstance(node.left.unnest(), exp.Or) or isinstance(node.right.unnest(), exp.Or):
        return False
    if any(side.find(exp.Subquery, exp.Exists) is not None for side in (node.left, node.right)):
        return True
    sides = [
        {_source(column, catalogue) for column in side.find_all(exp.Column)}
        for side in (node.left, node.right)
    ]
    return None not in sides[0] | sides[1] and sides[0].isdisjoint(sides[1])


def _source(column: exp.Column, catalogue: Catalogue) -> str | None:
    found = place(column, catalogue)
    return None if found is None else found.source.name


OR_ACROSS = Rule(
    name="or-across",
    reason="no index serves both sides of the OR at once; each side by itself may have one",
    rewrite=or_across,
)
