"""Puts what the search chose to the test before it is proposed: indexes built for real, statements run once.

A hypothetical index is priced by a formula, and a planner's cost is no time. So the chosen set is built in
the lab. Where the planner then wants another plan, or a statement takes longer than it may, the search
learns it and chooses again, from what it knows; the planner is hardly asked anew. The best of the sets that
were rehearsed is proposed. What a statement gains is left to the trial: only a loss is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from perfloop.errors import ChangeFailed
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
    seconds: Mapping[str, float],
) -> SearchResult:
    """Search, rehearse, learn and search again; the best set that keeps every limit.

    What is left of the first set without the indexes that do harm is one of them, so that no other index
    is lost by a rehearsal but to a better set. `seconds` are what instances take, as far as known.
    """
    lesson = _Lesson(search, known, rehearsal, statements, seconds)
    chosen = _best(search, lesson)
    return msgspec.structs.replace(chosen, refused=search.refused)


def _best(search: Extend, lesson: _Lesson) -> SearchResult:
    best: SearchResult | None = None
    seen: set[tuple[CreateIndex, ...]] = set()
    first = result = search.run()
    while result.chosen not in seen and len(seen) < _MOST_SETS:
        seen.add(result.chosen)
        real = lesson.rehearse(result)
        if real is not None:
            best = lesson.better(best, real)
            if lesson.objective(real) <= _KEPT_PROMISE * lesson.objective(result):
                return best
        result = search.run()
    while True:
        first = lesson.without_offenders(first)
        if best is not None and lesson.better(best, first) is best:
            return best
        real = lesson.rehearse(first)
        if real is not None:
            return lesson.better(best, real)


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What rehearsals teach a search."""

    search: Extend
    known: KnownCosts
    rehearsal: Rehearsal
    statements: tuple[Considered, ...]
    seconds: Mapping[str, float]

    def objective(self, result: SearchResult) -> float:
        return objective(tuple(each.time_share for each in self.statements), result.ratios)

    def better(self, best: SearchResult | None, other: SearchResult) -> SearchResult:
        """The one of lower objective."""
        return other if best is None or self.objective(other) < self.objective(best) else best

    def rehearse(self, result: SearchResult) -> SearchResult | None:
        """Rehearse what was not seen yet; the set with its real ratios, or None where it breaks a limit."""
        for index in result.chosen:
            try:
                self.known.learn_size(index, self.rehearsal.size_bytes(index))
            except ChangeFailed as error:
                self.search.refuse(index, str(error))
                return None
        for statement in self.statements:
            relevant = self.search.relevant(statement, result.chosen)
            if relevant:
                self._learn(statement, relevant, result.chosen)
        ratios = self.search.weigh(result.chosen)
        return None if ratios is None else msgspec.structs.replace(result, ratios=ratios)

    def _learn(
        self, statement: Considered, relevant: tuple[CreateIndex, ...], chosen: tuple[CreateIndex, ...]
    ) -> None:
        """Rehearse a statement; if it becomes too slow, blame for each slow instance one index."""
        slow: list[tuple[_Call, tuple[CreateIndex, ...]]] = []
        for instance, base_cost in zip(statement.instances, statement.base_costs, strict=True):
            if self.known.has_learned(instance, relevant):
                continue
            known_s = self.seconds.get(instance, 0.0)
            call = _Call(instance=instance, base_cost=base_cost, known_s=known_s)
            slowdown, used = self._try(call, relevant)
            if slowdown >= self._limit:
                slow.append((call, used))
        if self.search.ratio(statement, chosen) is None:
            for call, used in slow:
                self._blame(call, used or relevant, relevant, chosen)

    def _blame(
        self,
        call: _Call,
        suspects: tuple[CreateIndex, ...],
        relevant: tuple[CreateIndex, ...],
        chosen: tuple[CreateIndex, ...],
    ) -> None:
        """Of those without which the call is as fast as it may be, blame the one that others miss least.

        Were only the set blamed, the search would come back with many a variant of it.
        """
        without = {
            each: self._try(call, tuple(other for other in relevant if other != each))[0]
            for each in (suspects if len(suspects) > 1 else ())
        }
        guilty = [each for each, slowdown in without.items() if slowdown < self._limit] or suspects
        self.known.blame(call.instance, self._least_missed(guilty, chosen))

    @property
    def _limit(self) -> float:
        return float(self.search.max_regression_ratio**_MARGIN)

    def _try(self, call: _Call, indexes: tuple[CreateIndex, ...]) -> tuple[float, tuple[CreateIndex, ...]]:
        """The call's slowdown with the indexes, and which of them it uses. Remembers the cost."""
        real = self.rehearsal.rehearse(call.instance, indexes, known_s=call.known_s)
        slowdown = 1.0 if real.slowdown_ratio is None else real.slowdown_ratio
        cost = real.cost.total_cost
        if slowdown >= self._limit:
            cost = max(cost, max(slowdown, self.search.max_regression_ratio) * call.base_cost)
        self.known.learn(call.instance, indexes, msgspec.structs.replace(real.cost, total_cost=cost))
        return slowdown, tuple(index for index in indexes if index.name in real.cost.used)

    def without_offenders(self, result: SearchResult) -> SearchResult:
        """What is left of a set without the fewest indexes that keep it from all limits; perhaps nothing."""
        chosen = tuple(each for each in result.chosen if self.search.usable(each))
        dropped: list[CreateIndex] = []
        while self.search.weigh(chosen) is None:
            dropped.append(self._least_missed(self._offenders(chosen), chosen))
            chosen = _without(chosen, dropped[-1])
        for index in reversed(dropped):
            wider = tuple(sorted((*chosen, index), key=lambda each: each.name))
            if self.search.weigh(wider) is not None:
                chosen = wider
        ratios = self.search.weigh(chosen)
        assert ratios is not None  # the empty set breaks no limit
        return msgspec.structs.replace(result, chosen=chosen, ratios=ratios)

    def _offenders(self, chosen: tuple[CreateIndex, ...]) -> tuple[CreateIndex, ...]:
        """Those that the first statement beyond its limit could do without; all, where they need space."""
        for statement in self.statements:
            if self.search.ratio(statement, chosen) is not None:
                continue
            near = tuple(index for index in chosen if index.table in statement.tables)
            used = self.search.used(statement, chosen) or near
            cures = [
                each for each in used if self.search.ratio(statement, _without(chosen, each)) is not None
            ]
            return tuple(cures) or used
        return chosen

    def _least_missed(self, indexes: Sequence[CreateIndex], chosen: tuple[CreateIndex, ...]) -> CreateIndex:
        return min(indexes, key=lambda index: (self.search.worth(index, chosen), index.name))


def _without(indexes: tuple[CreateIndex, ...], index: CreateIndex) -> tuple[CreateIndex, ...]:
    return tuple(each for each in indexes if each != index)
