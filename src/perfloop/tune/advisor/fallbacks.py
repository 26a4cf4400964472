"""Second choices: the indexes that are best for one statement by itself.

The search weighs the whole Workload with the planner's figures. When a trial reverts what it chose,
because some other statement became slower in truth, the statement that it was for would be left with
nothing. So each one that matters names its best index and the next best with another first key. They
are tried after the search's choices: where one of those was kept already, a second choice changes no
plan or too little, and its trial reverts it, mostly without timing anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.model.advice import CreateIndex, Proposal, Risk
from perfloop.model.value import Value
from perfloop.tune.advisor.candidates import Candidates
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.extend import Extend, SearchResult
from perfloop.tune.advisor.objective import Considered, weighted_ratio

RELEVANT_SHARE = 0.01
"""Of the time that the search's choices should leave over: statements below get no second choice."""
_WORTH_SHARE = 0.005
"""Of the same time: what an index has to save of it; the trial would not keep less."""
_MOST_KEYS = 3
_TRIED_LEADERS = 4
_PER_STATEMENT = 2
_WIDENING_RATIO = 0.95
"""One more key has to bring the cost to this multiple of the cost without it, or below."""


class _Choice(Value, frozen=True, kw_only=True):
    """An index with the cost of one statement under it over its cost before."""

    index: CreateIndex
    ratio: float


def fallback_proposals(
    search: Extend,
    candidates: Candidates,
    result: SearchResult,
    statements: tuple[Considered, ...],
    known: KnownCosts,
) -> tuple[Proposal, ...]:
    """Indexes that the search did not choose, those first that save most of the time left over.

    Those that a chosen one begins with come last. One that should make the whole Workload dearer, or
    another statement dearer than the search's limit, is left out.
    """
    left = weighted_ratio(tuple(each.time_share for each in statements), result.ratios)
    worth: dict[CreateIndex, tuple[float, Proposal]] = {}
    for statement in statements:
        share = min(1.0, statement.time_share / left)
        if share < RELEVANT_SHARE:
            continue
        for choice in _choices(search, candidates.of(statement.accesses, max_keys=_MOST_KEYS), statement):
            saved = share * (1 - choice.ratio)
            if choice.index in result.chosen or saved < _WORTH_SHARE:
                continue
            proposal = _proposal(search, known, statement, choice)
            if proposal is not None and saved > worth.get(choice.index, (0.0, None))[0]:
                worth[choice.index] = saved, proposal
    ordered = sorted(worth, key=lambda index: (_begins(index, result.chosen), -worth[index][0], index.name))
    return tuple(worth[index][1] for index in ordered)


def _begins(index: CreateIndex, chosen: tuple[CreateIndex, ...]) -> bool:
    """Whether a chosen one does the same and more: of use if that one is too large or too dear to write."""
    return any(
        each.table == index.table and each.keys[: len(index.keys)] == index.keys and each.predicate is None
        for each in chosen
    )


def _choices(search: Extend, candidates: Candidates, statement: Considered) -> tuple[_Choice, ...]:
    """The best indexes for the statement: each begins with another key and has not the same columns."""
    leaders = _ranked(search, statement, candidates.first())[:_TRIED_LEADERS]
    wide = [_widened(search, candidates, statement, each) for each in leaders]
    best: dict[frozenset[str], _Choice] = {}
    for each in sorted(wide, key=lambda each: _order(statement, each)):
        best.setdefault(frozenset(key.text for key in each.index.keys), each)
    return tuple(best.values())[:_PER_STATEMENT]


def _ranked(search: Extend, statement: Considered, indexes: tuple[CreateIndex, ...]) -> list[_Choice]:
    """The best index for each first key, the best first."""
    best: dict[object, _Choice] = {}
    for choice in sorted(_priced(search, statement, indexes), key=lambda each: _order(statement, each)):
        best.setdefault((choice.index.table, choice.index.keys[0].text), choice)
    return list(best.values())


def _widened(search: Extend, candidates: Candidates, statement: Considered, choice: _Choice) -> _Choice:
    """The index with further keys behind its own, as long as each of them pays."""
    while len(choice.index.keys) < _MOST_KEYS:
        first = choice.index.keys[0]
        plain = tuple(
            each
            for each in candidates.wider(choice.index)
            if each.keys[0] == first and not each.included and each.predicate is None
        )
        wider = min(
            _priced(search, statement, plain), key=lambda each: _order(statement, each), default=choice
        )
        if wider.ratio > _WIDENING_RATIO * choice.ratio:
            return choice
        choice = wider
    return choice


def _priced(search: Extend, statement: Considered, indexes: tuple[CreateIndex, ...]) -> Iterator[_Choice]:
    for index in indexes:
        ratio = search.ratio(statement, (index,)) if search.usable(index) else None
        if ratio is not None:
            yield _Choice(index=index, ratio=ratio)


def _order(statement: Considered, choice: _Choice) -> tuple[float, bool, str]:
    """Cheapest first; of those that cost the same, one that begins with an equality serves more calls."""
    leader = choice.index.keys[0].text
    matched = {
        key.text
        for access in statement.accesses
        if access.table == choice.index.table
        for key in access.matched
    }
    return round(choice.ratio, 2), leader not in matched, choice.index.name


def _proposal(search: Extend, known: KnownCosts, statement: Considered, choice: _Choice) -> Proposal | None:
    ratio = search.workload_ratio((choice.index,))
    if ratio is None or ratio >= 1:
        return None
    return Proposal(
        change=choice.index,
        reason=(
            f"of use if nothing better was kept for {statement.label}:"
            f" alone it should bring the planner's cost of it to {max(choice.ratio, 0.001):.1%}"
        ),
        expected_ratio=ratio,
        size_bytes=known.size_bytes(choice.index),
        risk=Risk.MEDIUM,
    )
