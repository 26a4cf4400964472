"""Puts what the search chose to the test before it is proposed: indexes built for real, statements run once.

A hypothetical index is priced by a formula, and a planner's cost is no time. So the chosen set is built in
the lab. Where the planner then wants another plan, or a statement takes longer than it may, the search
learns it and chooses again, from what it knows; the planner is hardly asked anew. The best of the sets that
were rehearsed is proposed. What a statement gains is left to the trial: only a loss is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from perfloop.model.advice import CreateIndex
from perfloop.model.value import Value
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.extend import Extend, SearchResult
from perfloop.tune.advisor.objective import Considered, objective
from perfloop.tune.advisor.what_if import PlannedCost

_MOST_SETS = 6
_MARGIN = 2 / 3
"""Of the slowdown that is allowed, as much may be seen in the lab: a busy host makes random access dearer."""
_KEPT_PROMISE = 1.03
"""The search is not sent back for an objective that is off by less than this."""


class Rehearsed(Value, frozen=True, kw_only=True):
    """How one instance does under real indexes."""

    cost: PlannedCost
    slowdown_ratio: float | None = None
    """Its time over the time without them; None where it was not run, 1 where the plan is the same."""


class Rehearsal(Protocol):
    """A lab in which indexes are built and statements are run. Never a target."""

    def size_bytes(self, index: CreateIndex) -> int:
        """What the built index takes on disk. Raises ChangeFailed when the server refuses it."""
        ...

    def rehearse(self, instance: str, indexes: tuple[CreateIndex, ...], *, known_s: float) -> Rehearsed:
        """Plan the instance under exactly these indexes, built, and run it if its plan is another.

        `known_s` is about what it takes without them, in seconds. Nothing that it writes stays.
        """
        ...


class _Call(Value, frozen=True, kw_only=True):
    """One instance, and what it costs and takes without new indexes."""

    instance: str
    base_cost: float
    known_s: float


def choose_rehearsed(
    search: Extend,
    known: KnownCosts,
    statements: tuple[Considered, ...],
    rehearsal: Rehearsal,
    seconds: dict[str, float],
) -> SearchResult:
    """Search, rehearse, learn and search again; the best set that keeps every limit.

    `seconds` are what a call of each statement takes, by query id, as far as known.
    """
    best: SearchResult | None = None
    seen: set[tuple[CreateIndex, ...]] = set()
    result = rehearsed = search.run()
    while result.chosen not in seen and len(seen) < _MOST_SETS:
        seen.add(result.chosen)
        rehearsed = result
        promised = _objective(statements, result)
        _rehearse(_Lesson(search, known, rehearsal), statements, result.chosen, seconds)
        real = search.weigh(result.chosen)
        if real is not None:
            result = msgspec.structs.replace(result, ratios=real)
            if best is None or _objective(statements, result) < _objective(statements, best):
                best = result
            if _objective(statements, result) <= _KEPT_PROMISE * promised:
                break
        result = search.run()
    return best if best is not None else _without_offenders(search, statements, rehearsed)


def _rehearse(
    lesson: _Lesson,
    statements: tuple[Considered, ...],
    chosen: tuple[CreateIndex, ...],
    seconds: dict[str, float],
) -> None:
    for index in chosen:
        lesson.known.learn_size(index, lesson.rehearsal.size_bytes(index))
    for statement in statements:
        relevant = lesson.search.relevant(statement, chosen)
        known_s = seconds.get(statement.query_id, 0.0)
        for instance, base_cost in zip(statement.instances, statement.base_costs, strict=True):
            if relevant and not lesson.known.has_learned(instance, relevant):
                call = _Call(instance=instance, base_cost=base_cost, known_s=known_s)
                lesson.take(call, relevant, chosen)


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What a rehearsal teaches a search."""

    search: Extend
    known: KnownCosts
    rehearsal: Rehearsal

    def take(self, call: _Call, relevant: tuple[CreateIndex, ...], chosen: tuple[CreateIndex, ...]) -> None:
        """Rehearse the call; where it is too slow, blame one index that it uses.

        Of those without which it is as fast as it may be, that is the one that the others miss least. Were
        only the set blamed, the search would come back with many a variant of it.
        """
        slowdown, used = self._try(call, relevant)
        if slowdown < self._limit:
            return
        without = {
            each: self._try(call, tuple(other for other in relevant if other != each))[0]
            for each in (used if len(used) > 1 else ())
        }
        suspects = [each for each, ratio in without.items() if ratio < self._limit] or used
        blamed = min(suspects, key=lambda index: (self.search.worth(index, chosen), index.name))
        self.known.blame(call.instance, blamed)

    @property
    def _limit(self) -> float:
        return float(self.search.max_regression_ratio**_MARGIN)

    def _try(self, call: _Call, indexes: tuple[CreateIndex, ...]) -> tuple[float, tuple[CreateIndex, ...]]:
        """The call's slowdown with the indexes, and which of them it uses. Remembers the cost."""
        real = self.rehearsal.rehearse(call.instance, indexes, known_s=call.known_s)
        slowdown = 1.0 if real.slowdown_ratio is None else real.slowdown_ratio
        cost = real.cost.total_cost
        if slowdown >= self._limit:
            cost = max(cost, self.search.max_regression_ratio * call.base_cost)
        self.known.learn(call.instance, indexes, msgspec.structs.replace(real.cost, total_cost=cost))
        return slowdown, tuple(index for index in indexes if index.name in real.cost.used)


def _objective(statements: tuple[Considered, ...], result: SearchResult) -> float:
    return objective(tuple(each.time_share for each in statements), result.ratios)


def _without_offenders(
    search: Extend, statements: tuple[Considered, ...], result: SearchResult
) -> SearchResult:
    """What is left of a set without the indexes that offending statements use; perhaps nothing."""
    chosen = result.chosen
    ratios = search.weigh(chosen)
    while ratios is None:
        offending = set(_offending(search, statements, chosen))
        chosen = tuple(each for each in chosen if each not in offending) if offending else chosen[:-1]
        ratios = search.weigh(chosen)
    return msgspec.structs.replace(result, chosen=chosen, ratios=ratios)


def _offending(
    search: Extend, statements: tuple[Considered, ...], chosen: tuple[CreateIndex, ...]
) -> Iterator[CreateIndex]:
    for statement in statements:
        if search.ratio(statement, chosen) is None:
            yield from search.used(statement, chosen)
