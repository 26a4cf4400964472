"""The parts of a SELECT that several rules look at or put together."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.names import sources

_BEYOND_ROWS = ("group", "having", "windows", "qualify", "limit", "offset", "fetch", "with_")


def conjuncts(condition: exp.Expr | None) -> list[exp.Expr]:
    """The conditions that must all be true; NULL counts as false for each."""
    if condition is None:
        return []
    node = condition.unnest()
    if isinstance(node, exp.And):
        return [*conjuncts(node.left), *conjuncts(node.right)]
    return [condition]


def where_conjuncts(select: exp.Select) -> list[exp.Expr]:
    """Those of the WHERE clause."""
    where = select.args.get("where")
    return conjuncts(where.this if where is not None else None)


def set_where(select: exp.Select, conditions: list[exp.Expr]) -> None:
    """Put these in the place of the WHERE clause; without any, there is none."""
    select.set("where", exp.Where(this=all_of(conditions)) if conditions else None)


def all_of(conditions: list[exp.Expr]) -> exp.Expr:
    """The conjunction of at least one condition."""
    bare = [exp.Paren(this=each.copy()) if isinstance(each, exp.Or) else each.copy() for each in conditions]
    whole = bare[0]
    for each in bare[1:]:
        whole = exp.And(this=whole, expression=each)
    return whole


def is_plain(select: exp.Expr) -> bool:
    """Whether a SELECT yields a row for each row of its FROM and WHERE, and names what it reads."""
    return (
        isinstance(select, exp.Select)
        and select.args.get("from_") is not None
        and not any(select.args.get(clause) for clause in _BEYOND_ROWS)
        and not has_aggregates(select)
    )


def is_condition(node: exp.Expr) -> bool:
    """Whether the node only decides which rows pass, so that NULL does for it what false does."""
    above = node.parent
    while isinstance(above, exp.And | exp.Or | exp.Paren):
        above = above.parent
    return isinstance(above, exp.Where | exp.Join)


def is_constant(value: exp.Expr, *kinds: exp.DType) -> bool:
    """Whether it is a literal or a parameter, bare or as one of these types: the same for every row."""
    if isinstance(value, exp.Cast):
        return isinstance(value.this, exp.Literal | exp.Parameter) and value.to.this in kinds
    return isinstance(value, exp.Literal | exp.Parameter)


def cast_to(value: exp.Expr, kind: str) -> exp.Expr:
    """The value as that type; one that has it already stays as it is."""
    return exp.cast(value.copy(), kind, dialect="postgres")


def is_picky(select: exp.Select) -> bool:
    """Whether DISTINCT ON picks one row of several, by their order."""
    distinct = select.args.get("distinct")
    return distinct is not None and distinct.args.get("on") is not None


def has_aggregates(select: exp.Select) -> bool:
    """Whether it aggregates or has windows of its own; those of its subqueries do not count."""
    parts = [*select.expressions, select.args.get("having"), select.args.get("order")]
    return any(
        found.find_ancestor(exp.Select) is select
        for part in parts
        if part is not None
        for found in part.find_all(exp.AggFunc, exp.Window)
    )


def has_star(select: exp.Select) -> bool:
    """Whether it projects a star: more columns than its text names."""
    return any(isinstance(each, exp.Star) or each.is_star for each in select.expressions)


def is_joined_by_comma(select: exp.Select) -> bool:
    """Whether its FROM lists tables, so that a further JOIN would bind to the last of them only."""
    return any(
        not (
            join.side or join.kind or join.args.get("on") or join.args.get("using") or join.args.get("method")
        )
        for join in select.args.get("joins") or ()
    )


def fresh_name(tree: exp.Expr, stem: str) -> exp.Identifier:
    """A name that nothing in the statement has yet."""
    taken = {str(each.this).lower() for each in tree.root().find_all(exp.Identifier)}
    number = 0
    name = stem
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return exp.to_identifier(name)


def shadowed(inner: exp.Select, names: set[str], catalogue: Catalogue) -> bool:
    """Whether any SELECT of `inner` gives one of these names to an entry of its own FROM."""
    return any(
        source.name in names for select in inner.find_all(exp.Select) for source in sources(select, catalogue)
    )


def qualified(column: exp.Column, source: exp.Expr) -> exp.Column:
    """The column with the name of its source before it, as any subquery may name it."""
    alias = source.args.get("alias")
    name = alias.this if isinstance(alias, exp.TableAlias) and alias.this is not None else source.this
    return exp.Column(this=column.this.copy(), table=name.copy())
