"""The service's own statements in the words of a study's kept rewritings, as people would bring them in.

pg_stat_statements writes `$n` for constants too, so that a rewriting's parameters are matched with what
stands in their places in the service's text.
"""

from __future__ import annotations

from collections.abc import Mapping

from examples.feedshop.mix import operations
from sqlglot import exp

from perfloop.model.advice import RewriteQuery
from perfloop.model.outcome import Study
from perfloop.tune.rewrites import texts


def rewritten_calls(study: Study) -> dict[str, str]:
    """The new text of each operation that has one, by name."""
    kept = [trial.proposal.change for trial in study.kept()]
    found = {}
    for change in kept:
        if isinstance(change, RewriteQuery):
            for operation in operations():
                text = service_text(operation.sql, change)
                if text is not None:
                    found[operation.name] = text
    return found


def service_text(own: str, change: RewriteQuery) -> str | None:
    """The statement in the new words, with its own constants; None where the change is about another one."""
    before, after, tree = texts.read(change.before), texts.read(change.after), texts.read(own)
    if before is None or after is None or tree is None:
        return None
    values: dict[str, exp.Expr] = {}
    if not _match(before, tree, values):
        return None
    return texts.write(_filled(after, values))


def _match(pattern: object, node: object, values: dict[str, exp.Expr]) -> bool:
    """Whether both are the same but for parameters of the pattern, which are written down."""
    if isinstance(pattern, exp.Parameter) and isinstance(node, exp.Expr):
        return values.setdefault(pattern.name, node) == node
    if isinstance(pattern, list) and isinstance(node, list):
        return len(pattern) == len(node) and all(
            _match(one, other, values) for one, other in zip(pattern, node, strict=True)
        )
    if not isinstance(pattern, exp.Expr) or not isinstance(node, exp.Expr):
        return pattern == node or not (pattern or node)
    names = {*pattern.args, *node.args}
    return type(pattern) is type(node) and all(
        _match(pattern.args.get(name), node.args.get(name), values) for name in names
    )


def _filled(tree: exp.Expr, values: Mapping[str, exp.Expr]) -> exp.Expr:
    def value(node: exp.Expr) -> exp.Expr:
        return values[node.name].copy() if isinstance(node, exp.Parameter) else node

    return tree.transform(value)
