"""From a workload to rewritings worth trying: which rules fire on which statements, text by text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfloop.model.advice import Proposal, RewriteQuery, Risk
from perfloop.model.workload import Operation, StatementKind
from perfloop.tune.rewrites import texts
from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.rule import Rewritten, Rule

LEAST_SHARE = 0.005
"""Of the workload's time: a statement below cannot gain what a trial would keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewriting:
    """A proposal, and what it makes of the instances' texts, which hold parameters and are never stored."""

    proposal: Proposal
    change: RewriteQuery
    wording: Mapping[str, str]


def propose_rewrites(
    operations: Sequence[Operation],
    time_shares: Mapping[str, float],
    catalogue: Catalogue,
    rules: Sequence[Rule],
) -> tuple[Rewriting, ...]:
    """Rewritings of reading statements, those first whose statements take the most time.

    Where several rules fire on one statement, all together come first, and then each alone.
    `time_shares` are of the whole workload's time, by query_id.
    """
    reading = [
        each
        for each in operations
        if each.statement.kind is StatementKind.READ
        and time_shares.get(each.statement.query_id, 0.0) >= LEAST_SHARE
    ]
    reading.sort(key=lambda each: (-time_shares[each.statement.query_id], each.statement.query_id))
    return tuple(found for each in reading for found in _of(each, catalogue, rules))


def _of(operation: Operation, catalogue: Catalogue, rules: Sequence[Rule]) -> Iterator[Rewriting]:
    alone = [
        found for rule in rules for found in [_rewriting(operation, catalogue, [rule])] if found is not None
    ]
    if len(alone) > 1:
        fired = [rule for rule in rules if any(each.change.rule == rule.name for each in alone)]
        together = _rewriting(operation, catalogue, fired)
        if together is not None:
            yield together
    yield from alone


def _rewriting(operation: Operation, catalogue: Catalogue, rules: Sequence[Rule]) -> Rewriting | None:
    statement = operation.statement
    whole = _rewritten(statement.text, catalogue, rules)
    wording = {text: _rewritten(text, catalogue, rules) for text in operation.instances}
    before = texts.read(statement.text)
    if whole is None or before is None or any(each is None for each in wording.values()):
        return None
    change = RewriteQuery(
        query_id=statement.query_id,
        rule="+".join(rule.name for rule in rules),
        before=texts.write(before),
        after=texts.write(whole.tree),
        label=statement.label,
        assumes=whole.assumes,
    )
    proposal = Proposal(change=change, reason="; ".join(rule.reason for rule in rules), risk=Risk.LOW)
    return Rewriting(
        proposal=proposal,
        change=change,
        wording={text: texts.write(each.tree) for text, each in wording.items() if each is not None},
    )


def _rewritten(text: str, catalogue: Catalogue, rules: Sequence[Rule]) -> Rewritten | None:
    """What the rules make of a text, one after the other; None if any of them does not fire."""
    tree = texts.read(text)
    assumes: tuple[str, ...] = ()
    for rule in rules:
        made = rule.rewrite(tree.copy(), catalogue) if tree is not None else None
        if made is None:
            return None
        tree = made.tree
        assumes += made.assumes
    return None if tree is None else Rewritten(tree=tree, assumes=tuple(dict.fromkeys(assumes)))
