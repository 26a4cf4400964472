"""CTEs that are computed apart, so that no condition of the rest reaches into them."""

from __future__ import annotations

from sqlglot import exp

from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.rule import Rewritten, Rule


def inlined_cte(tree: exp.Query, catalogue: Catalogue) -> Rewritten | None:
    """A materialised CTE as a part of what asks it: NOT MATERIALIZED.

    It has no volatile function (that is asked of the server), it is not recursive and it writes nothing, so
    that computed twice it gives the same rows; one with LIMIT could give others, and is left alone.
    """
    del catalogue  # the text alone decides
    found = False
    for clause in tree.find_all(exp.With):
        if clause.args.get("recursive"):
            continue
        for cte in clause.expressions:
            if _is_fence(cte, tree):
                cte.set("materialized", False)
                found = True
    return Rewritten(tree=tree) if found else None


def _is_fence(cte: exp.Expr, tree: exp.Query) -> bool:
    """Materialised because it says so, or because it is asked more than once."""
    if cte.args.get("materialized") is False or cte.this.find(exp.Limit, exp.Fetch, exp.Offset) is not None:
        return False
    name = cte.alias.lower()
    asked = sum(each.name.lower() == name and not each.db for each in tree.find_all(exp.Table))
    return bool(cte.args.get("materialized")) or asked > 1


INLINED_CTE = Rule(
    name="inlined-cte",
    reason="the CTE is computed as a whole, whatever the rest needs of it",
    rewrite=inlined_cte,
)
