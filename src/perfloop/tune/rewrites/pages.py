"""Pages far from the beginning: the skipped rows need not be whole."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue, folded
from perfloop.tune.rewrites.clauses import fresh_name, is_plain, qualified
from perfloop.tune.rewrites.names import place, sources
from perfloop.tune.rewrites.rule import Rewritten, Rule


def deferred_page(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """`SELECT … FROM t … ORDER BY k LIMIT n OFFSET m` as the page's keys first, and their rows then.

    The keys alone may come from an index without a look at the table. ORDER BY must hold a key of t: only
    then is it settled which rows the page has, and in which order. What grows with m stays; only asking for
    the rows after the last one seen ends that, and for that the service must remember it.
    """
    if not isinstance(tree, exp.Select) or not tree.args.get("offset") or not tree.args.get("limit"):
        return None
    there = sources(tree, catalogue)
    order = tree.args.get("order")
    if len(there) != 1 or there[0].table is None or order is None or tree.args.get("distinct"):
        return None
    if not is_plain(_whole(tree)):
        return None
    sorted_by = [each.this for each in order.expressions]
    placed = [place(each, catalogue) for each in sorted_by]
    if any(each is None for each in placed) or not _outputs_are_own(tree, sorted_by):
        return None
    table = there[0].table
    names = {each.column.name for each in placed if each is not None}
    key = next((columns for columns in catalogue.keys(table) if names.issuperset(columns)), None)
    if key is None:
        return None
    return Rewritten(tree=_page(tree, [_own(each, there[0].node, key) for each in sorted_by]))


def _page(tree: exp.Select, keys: list[exp.Expr | None]) -> exp.Select:
    shown = [each for each in keys if each is not None]
    source = tree.args["from_"].this
    page = tree.copy()
    page.set("expressions", [each.copy() for each in shown])
    name = fresh_name(tree, "perfloop_page")
    matches = [
        exp.EQ(this=exp.column(each.this.copy(), table=name.copy()), expression=each.copy()) for each in shown
    ]
    whole = tree.copy()
    for clause in ("limit", "offset", "where"):
        whole.set(clause, None)
    whole.set("from_", exp.From(this=exp.Subquery(this=page, alias=exp.TableAlias(this=name))))
    whole.set("joins", [exp.Join(this=source.copy(), on=exp.and_(*matches))])
    for clause in ("expressions", "order"):
        _qualify(whole, clause, source)
    return whole


def _qualify(select: exp.Select, clause: str, source: exp.Expr) -> None:
    """Name the table before its columns: the page has columns of the same names."""
    parts = select.args[clause]
    for part in parts if isinstance(parts, list) else [parts]:
        for column in list(part.find_all(exp.Column)):
            if not column.table:
                column.set("table", qualified(column, source).args["table"])


def _own(column: exp.Expr, source: exp.Expr, key: tuple[str, ...]) -> exp.Expr | None:
    """The sort key as a qualified column, if it is a part of the table's key."""
    if not isinstance(column, exp.Column) or folded(column.this) not in key:
        return None
    return qualified(column, source)


def _outputs_are_own(tree: exp.Select, sorted_by: list[exp.Expr]) -> bool:
    """Whether no output takes the name of a sort key for something else, and nothing is shown by a star."""
    names = {each.name for each in sorted_by}
    return not any(
        each.is_star or (each.alias in names and each.unalias().name != each.alias) or each.find(exp.Subquery)
        for each in tree.expressions
    )


def _whole(tree: exp.Select) -> exp.Select:
    bare = tree.copy()
    for clause in ("limit", "offset"):
        bare.set(clause, None)
    return bare


DEFERRED_PAGE = Rule(
    name="deferred-page",
    reason="the rows before the page are read whole, only to be skipped",
    rewrite=deferred_page,
)
