"""Remembers what the planner said, so that it is asked as seldom as possible."""

from __future__ import annotations

import math

import msgspec

from perfloop.model.advice import CreateIndex
from perfloop.model.target import IndexKey
from perfloop.model.value import Value
from perfloop.tune.advisor.what_if import PlannedCost, WhatIf


class CostStatistics(Value, frozen=True, kw_only=True):
    """How the questions of a search were answered."""

    requests: int
    remembered: int
    """Answered because the very same set had been asked."""
    derived: int
    """Answered from another set: see `KnownCosts`."""
    asked: int
    """What the planner had to be asked."""
    unanswered: int
    """Not answered, because the budget was spent."""


_Kind = tuple[str, ...]
"""Table, method, predicate and columns of an index."""


class _Known:
    """All answers for one instance, by the names of the indexes."""

    __slots__ = ("blamed", "exact", "learned", "sets")

    def __init__(self) -> None:
        self.blamed: set[_Kind] = set()
        self.learned: dict[frozenset[_Kind], float] = {}
        self.exact: dict[frozenset[str], PlannedCost] = {}
        self.sets: list[tuple[frozenset[str], frozenset[str], PlannedCost]] = []


class KnownCosts:
    """A WhatIf with a memory and a budget of questions.

    Two answers are free. The same set again; and any set between what a plan used and what it was
    offered: taking away what an optimal plan does not use leaves it optimal (the atomic
    configurations of Papadomanolakis, Dash and Ailamaki, VLDB 2007, INUM). The second assumes that
    the planner takes the cheapest plan it sees, which PostgreSQL does up to ties of 1 %; with more
    than a dozen relations the genetic search breaks the assumption, and answers are only close.
    """

    def __init__(self, what_if: WhatIf, *, max_questions: int) -> None:
        self._what_if = what_if
        self._max_questions = max_questions
        self._known: dict[str, _Known] = {}
        self._kinds: dict[str, _Kind] = {}
        self._requests = self._remembered = self._derived = self._asked = self._unanswered = 0
        self._sizes: dict[CreateIndex, int] = {}

    def cost(self, instance: str, indexes: tuple[CreateIndex, ...]) -> PlannedCost | None:
        """The cost with these indexes, which should be only those that could matter; None when spent.

        Raises what `WhatIf.cost` raises.
        """
        self._requests += 1
        known = self._known.setdefault(instance, _Known())
        for index in indexes:
            if index.name not in self._kinds:
                self._kinds[index.name] = _kind(index)
        names = frozenset(index.name for index in indexes)
        exact = known.exact.get(names)
        if exact is not None:
            self._remembered += 1
            return self._corrected(known, exact)
        answer = self._derive(known, names) or self._ask(known, instance, names, indexes)
        if answer is None:
            return None
        known.exact[names] = answer
        return self._corrected(known, answer)

    def learn(self, instance: str, indexes: tuple[CreateIndex, ...], real: PlannedCost) -> None:
        """Let what was seen with real indexes stand for every set under which a plan uses the like.

        Indexes of the same columns in the same order are alike, whether the last ones are keys or
        included: else the search would try what was seen to be bad once more in another form. Where the
        planner may not be asked any more, what was seen is the answer.
        """
        answer = self.cost(instance, indexes)
        known = self._known[instance]
        if answer is None:
            known.exact[frozenset(index.name for index in indexes)] = real
        for used in (real.used, *([answer.used] if answer is not None else [])):
            if used:
                known.learned[self._alike(used)] = real.total_cost

    def has_learned(self, instance: str, indexes: tuple[CreateIndex, ...]) -> bool:
        """Whether it was seen how the instance does under the plan that it has with these."""
        answer = self.cost(instance, indexes)
        return answer is not None and self._alike(answer.used) in self._known[instance].learned

    def blame(self, instance: str, index: CreateIndex) -> None:
        """Let no plan of the instance use the like of this index, unless one was seen to do well."""
        self._known[instance].blamed.add(self._kinds[index.name])

    def learn_size(self, index: CreateIndex, size_bytes: int) -> None:
        """Let the real size of a built index take the place of the estimate."""
        self._sizes[index] = size_bytes

    def size_bytes(self, index: CreateIndex) -> int:
        """The size of the index, asked once."""
        if index not in self._sizes:
            self._sizes[index] = self._what_if.size_bytes(index)
        return self._sizes[index]

    def built_bytes(self) -> int:
        """What the indexes that were built for answers take on the lab's disk."""
        return self._what_if.statistics().built_bytes

    def statistics(self) -> CostStatistics:
        """How the questions so far were answered."""
        return CostStatistics(
            requests=self._requests,
            remembered=self._remembered,
            derived=self._derived,
            asked=self._asked,
            unanswered=self._unanswered,
        )

    def _corrected(self, known: _Known, answer: PlannedCost) -> PlannedCost:
        if not known.learned:
            return answer
        used = self._alike(answer.used)
        cost = known.learned.get(used, answer.total_cost if known.blamed.isdisjoint(used) else math.inf)
        return msgspec.structs.replace(answer, total_cost=cost)

    def _alike(self, names: tuple[str, ...]) -> frozenset[_Kind]:
        return frozenset(self._kinds[name] for name in names)

    def _derive(self, known: _Known, names: frozenset[str]) -> PlannedCost | None:
        for offered, used, answer in known.sets:
            if used <= names <= offered:
                self._derived += 1
                return answer
        return None

    def _ask(
        self, known: _Known, instance: str, names: frozenset[str], indexes: tuple[CreateIndex, ...]
    ) -> PlannedCost | None:
        if self._asked >= self._max_questions:
            self._unanswered += 1
            return None
        self._asked += 1
        answer = self._what_if.cost(instance, indexes)
        known.sets.append((names, frozenset(answer.used), answer))
        return answer


def _kind(index: CreateIndex) -> _Kind:
    columns = (*(repr(key) for key in index.keys), *(repr(IndexKey(text=each)) for each in index.included))
    return str(index.table), index.method, index.predicate or "", *columns
