"""The index search: Extend, over the whole Workload.

Schlosser, Kossmann and Boissier, "Efficient Scalable Multi-Attribute Index Selection Using Recursive
Strategies", ICDE 2019: begin with nothing; in each step either add an index on one key or widen one
already chosen, whichever gains most for its space; stop when nothing gains enough. Each gain is
measured against what was chosen before, so that interactions count.

Chosen over DB2Advis, AutoAdmin, Drop and CoPhy because it was best or level at every budget in
Kossmann et al., PVLDB 13(11), 2020. Differences to the paper: keys compared for equality may also be
put before ranges and orders, orders are added whole, INCLUDE and partial forms are further ways to
widen, writes cost, and no statement may become dearer than a limit. Anytime: when the planner may not
be asked any more, steps go on with what is known, and then the search ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.errors import ChangeFailed, UnsupportedStatement
from perfloop.model.advice import CreateIndex
from perfloop.model.target import Index, TableName
from perfloop.model.value import Value
from perfloop.tune.advisor.candidates import Candidates, may_use
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.objective import (
    Considered,
    objective,
    relative_cost,
    weighted_mean,
    weighted_ratio,
    writing_ratio,
)
from perfloop.tune.weighing import Weighing

_FREE_BYTES = 1024 * 1024
"""Below this nobody saves space, and tiny indexes must not win by being tiny."""


class SearchPolicy(Value, frozen=True, kw_only=True):
    """The limits of a search."""

    storage_bytes: int | None = None
    """For all new indexes together; None for half of what the tables take."""
    min_gain_ratio: float = 0.004
    """What a step must take off the objective at least, as a part of it."""
    weighing: Weighing = Weighing.TIME
    """What the statements count by."""
    max_regression_ratio: float = 1.15
    """No statement's planner cost may come to this multiple of its cost before."""
    max_write_ratio: float = 3.0
    """Nor may what a statement writes; the trial allows no more WAL."""
    max_questions: int = 3500
    """How often the planner may be asked for a cost; a rehearsal asks up to 500 times beside that."""
    built_bytes: int | None = None
    """What real builds may take on the lab's disk, for time and space; None for eight times the tables."""
    max_keys: int = 4
    max_instances: int = 3
    """Per operation: the cheapest, the dearest, and one between."""


class Step(Value, frozen=True, kw_only=True):
    """One step of the search."""

    index: CreateIndex
    replaces: CreateIndex | None
    objective_before: float
    objective_after: float


class SearchResult(Value, frozen=True, kw_only=True):
    """What the search chose and how far it came."""

    chosen: tuple[CreateIndex, ...]
    ratios: tuple[float, ...]
    """Relative cost of each statement under the chosen indexes, in the order given."""
    steps: tuple[Step, ...]
    considered: int
    """Different indexes that were looked at."""
    refused: tuple[str, ...]
    """Why the server did not build some of them."""
    out_of_room: bool = False
    """Whether some were not looked at, because real builds had used up their room."""


class Extend:
    """One search; `run` does it. Ask `ratios` for the cost of any other set of indexes."""

    def __init__(
        self,
        statements: tuple[Considered, ...],
        candidates: Candidates,
        indexes: Mapping[TableName, tuple[Index, ...]],
        known: KnownCosts,
        *,
        table_bytes: int,
        policy: SearchPolicy,
    ) -> None:
        self._statements = statements
        self._shares = tuple(each.time_share for each in statements)
        self._candidates = candidates
        self._indexes = indexes
        self._known = known
        self._storage_bytes = policy.storage_bytes if policy.storage_bytes is not None else table_bytes // 2
        self._built_bytes = policy.built_bytes if policy.built_bytes is not None else 8 * table_bytes
        self._policy = policy
        self._looked_at: dict[CreateIndex, bool] = {}
        self._may_be_used: dict[tuple[str, str], bool] = {}
        self._refused: list[str] = []
        self._out_of_room = False

    def run(self) -> SearchResult:
        """Choose indexes until no step gains enough."""
        chosen: tuple[CreateIndex, ...] = ()
        ratios = tuple(1.0 for _ in self._statements)
        steps: list[Step] = []
        first = self._by_promise([each for each in self._candidates.first() if self.usable(each)])
        self._offer_all(first)
        while self._statements:
            step = self._best_step(chosen, ratios, first)
            if step is None:
                break
            chosen, ratios = step[1], step[2]
            steps.append(step[0])
        chosen, ratios = self._without_idle(chosen, ratios)
        return SearchResult(
            chosen=chosen,
            ratios=ratios,
            steps=tuple(steps),
            considered=len(self._looked_at),
            refused=self.refused,
            out_of_room=self._out_of_room,
        )

    def ratios(
        self, indexes: tuple[CreateIndex, ...], base: tuple[float, ...], touched: frozenset[TableName]
    ) -> tuple[float, ...] | None:
        """Relative costs under `indexes`, given the `base` of a set that differs on `touched` tables only.

        None where an answer is missing or a statement would break the limit.
        """
        found = list(base)
        for position, statement in enumerate(self._statements):
            if touched.isdisjoint(statement.tables):
                continue
            ratio = self.ratio(statement, indexes)
            if ratio is None:
                return None
            found[position] = ratio
        return tuple(found)

    def workload_ratio(self, indexes: tuple[CreateIndex, ...]) -> float | None:
        """The Workload's expected time under `indexes` over its time before; None where unknown."""
        base = tuple(1.0 for _ in self._statements)
        ratios = self.ratios(indexes, base, frozenset(index.table for index in indexes))
        return None if ratios is None else weighted_ratio(self._shares, ratios)

    def _best_step(
        self, chosen: tuple[CreateIndex, ...], ratios: tuple[float, ...], first: tuple[CreateIndex, ...]
    ) -> tuple[Step, tuple[CreateIndex, ...], tuple[float, ...]] | None:
        before = objective(self._shares, ratios)
        taken = sum(self._known.size_bytes(index) for index in chosen)
        best = None
        best_rate = 0.0
        for added, replaces in self._moves(chosen, first):
            kept = tuple(each for each in chosen if each != replaces)
            grown = self._known.size_bytes(added) - (self._known.size_bytes(replaces) if replaces else 0)
            if taken + grown > self._storage_bytes:
                continue
            indexes = tuple(sorted((*kept, added), key=lambda index: index.name))
            after = self.ratios(indexes, ratios, frozenset({added.table}))
            if after is None:
                continue
            reached = objective(self._shares, after)
            rate = (before - reached) / max(grown, _FREE_BYTES)
            if before - reached >= self._policy.min_gain_ratio * before and rate > best_rate:
                step = Step(index=added, replaces=replaces, objective_before=before, objective_after=reached)
                best, best_rate = (step, indexes, after), rate
        return best

    def _moves(
        self, chosen: tuple[CreateIndex, ...], first: tuple[CreateIndex, ...]
    ) -> Iterator[tuple[CreateIndex, CreateIndex | None]]:
        for index in first:
            if index not in chosen:
                yield index, None
        for index in chosen:
            for wider in self._candidates.wider(index):
                if wider not in chosen and self.usable(wider):
                    yield wider, index

    def ratio(self, statement: Considered, indexes: tuple[CreateIndex, ...]) -> float | None:
        """One statement's cost under `indexes` over its cost before; None as `ratios` gives it."""
        if writing_ratio(statement, self._indexes, indexes) > self._policy.max_write_ratio:
            return None
        relevant = self.relevant(statement, indexes)
        costs = []
        for instance, base in zip(statement.instances, statement.base_costs, strict=True):
            cost = self._cost(instance, base, relevant)
            if cost is None:
                return None
            costs.append(cost)
        planned = weighted_mean(tuple(costs), statement.weights)
        limit = self._policy.max_regression_ratio * weighted_mean(statement.base_costs, statement.weights)
        if planned >= limit > 0:
            return None
        return relative_cost(statement, tuple(costs), self._indexes, indexes)

    def relevant(self, statement: Considered, indexes: tuple[CreateIndex, ...]) -> tuple[CreateIndex, ...]:
        """Those of the indexes that the statement could use at all."""
        return tuple(index for index in indexes if self._may_use(statement, index))

    def _may_use(self, statement: Considered, index: CreateIndex) -> bool:
        question = statement.query_id, index.name
        if question not in self._may_be_used:
            self._may_be_used[question] = any(may_use(access, index) for access in statement.accesses)
        return self._may_be_used[question]

    def used(self, statement: Considered, indexes: tuple[CreateIndex, ...]) -> tuple[CreateIndex, ...]:
        """Those of the indexes that its plans use."""
        relevant = self.relevant(statement, indexes)
        answers = [self._known.cost(each, relevant) for each in statement.instances] if relevant else []
        names = {name for answer in answers if answer is not None for name in answer.used}
        return tuple(index for index in relevant if index.name in names)

    def weigh(self, indexes: tuple[CreateIndex, ...]) -> tuple[float, ...] | None:
        """The relative cost of each statement under the indexes; None where a limit is broken."""
        if not all(self.usable(index) for index in indexes):
            return None
        if sum(self._known.size_bytes(index) for index in indexes) > self._storage_bytes:
            return None
        ones = tuple(1.0 for _ in self._statements)
        return self.ratios(indexes, ones, frozenset(index.table for index in indexes))

    def worth(self, index: CreateIndex, chosen: tuple[CreateIndex, ...]) -> float:
        """What the index takes off the objective next to the others. A broken limit counts as reached."""
        rest = tuple(each for each in chosen if each != index)
        before, after = (
            objective(
                self._shares,
                tuple(
                    self.ratio(statement, some) or self._policy.max_regression_ratio
                    for statement in self._statements
                ),
            )
            for some in (rest, chosen)
        )
        return before - after

    @property
    def max_regression_ratio(self) -> float:
        """To what multiple of its cost before no statement may come."""
        return self._policy.max_regression_ratio

    def _cost(self, instance: str, base: float, relevant: tuple[CreateIndex, ...]) -> float | None:
        if not relevant:
            return base
        try:
            answer = self._known.cost(instance, relevant)
        except (ChangeFailed, UnsupportedStatement):
            return None
        return None if answer is None else answer.total_cost

    def usable(self, index: CreateIndex) -> bool:
        """Whether the server builds it; asked once. False when the room for builds is used up."""
        if index not in self._looked_at:
            if self._known.built_bytes() > self._built_bytes:
                self._out_of_room = True
                return False
            self._looked_at[index] = True
            try:
                self._known.size_bytes(index)
            except ChangeFailed as error:
                self.refuse(index, str(error))
        return self._looked_at[index]

    def refuse(self, index: CreateIndex, reason: str) -> None:
        """Choose the index no more: the server does not build it."""
        self._looked_at[index] = False
        self._refused.append(reason)

    @property
    def refused(self) -> tuple[str, ...]:
        """Why the server did not build some of those looked at."""
        return tuple(self._refused)

    def _by_promise(self, indexes: list[CreateIndex]) -> tuple[CreateIndex, ...]:
        """Those first that much time could use, so that a short budget is spent well."""

        def promise(index: CreateIndex) -> float:
            return sum(each.time_share for each in self._statements if self._may_use(each, index))

        return tuple(sorted(indexes, key=lambda index: (-promise(index), index.name)))

    def _offer_all(self, first: tuple[CreateIndex, ...]) -> None:
        """Offer each statement all at once: for what its plan leaves unused nobody has to ask again."""
        for statement in self._statements:
            self.ratio(statement, tuple(sorted(first, key=lambda index: index.name)))

    def _without_idle(
        self, chosen: tuple[CreateIndex, ...], ratios: tuple[float, ...]
    ) -> tuple[tuple[CreateIndex, ...], tuple[float, ...]]:
        """Leave out what later steps have made worth less than a step must gain."""
        for index in chosen:
            rest = tuple(each for each in chosen if each != index)
            without = self.ratios(rest, ratios, frozenset({index.table}))
            if without is None:
                continue
            lost = objective(self._shares, without) - objective(self._shares, ratios)
            if lost < self._policy.min_gain_ratio * objective(self._shares, without) / 2:
                return self._without_idle(rest, without)
        return chosen, ratios
