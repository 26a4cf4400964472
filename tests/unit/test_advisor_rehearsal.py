"""What the search makes of a rehearsal, over a planner and a lab whose answers are known."""

from __future__ import annotations

import pytest

from perfloop.errors import ChangeFailed
from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.model.target import Column, ColumnStatistics, IndexKey, Table, TableName
from perfloop.tune.advisor.accesses import Access
from perfloop.tune.advisor.candidates import Candidates
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.extend import Extend, SearchPolicy, SearchResult
from perfloop.tune.advisor.objective import Considered
from perfloop.tune.advisor.rehearsal import Rehearsed, choose_rehearsed
from perfloop.tune.advisor.what_if import PlannedCost, WhatIfStatistics

T = TableName(schema="public", name="t")
MEGABYTE = 1024 * 1024
Prices = dict[str, dict[str, float]]
"""Of each statement the cost under one index, by its column; "" for none."""


@pytest.fixture
def small_table() -> Table:
    statistics = ColumnStatistics(null_ratio=0.0, distinct=-1.0, width_bytes=8)
    return Table(
        name=T,
        rows=100_000,
        size_bytes=20 * MEGABYTE,
        columns=tuple(
            Column(name=each, type_name="bigint", not_null=True, statistics=statistics) for each in "abcdefg"
        ),
        live_rows=100_000,
        dead_rows=0,
        modified_since_analyze=0,
        analyzed_ago_s=1.0,
        sequential_scans=0,
        sequential_rows=0,
        index_scans=0,
        inserts=0,
        updates=0,
        hot_updates=0,
        deletes=0,
    )


class Planner:
    """A WhatIf that takes the cheapest index on offer."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def plan(self, instance: str) -> Plan:
        raise AssertionError("the search plans nothing here")

    def cost(self, instance: str, indexes: tuple[CreateIndex, ...]) -> PlannedCost:
        offered = {index.keys[0].text: index.name for index in indexes}
        prices = self._prices[instance].items()
        price, column = min((price, key) for key, price in prices if key in {"", *offered})
        return PlannedCost(total_cost=price, used=(offered[column],) if column else ())

    def size_bytes(self, index: CreateIndex) -> int:
        return 2 * MEGABYTE

    def statistics(self) -> WhatIfStatistics:
        return WhatIfStatistics()


class Stage:
    """A Rehearsal: real prices, real sizes and slowdowns, by the column of the index that is used."""

    def __init__(
        self,
        prices: Prices,
        *,
        slowdowns: dict[tuple[str, str], float] | None = None,
        sizes: dict[str, int] | None = None,
        refused: str = "",
    ) -> None:
        self._planner = Planner(prices)
        self._slowdowns = slowdowns or {}
        self._sizes = sizes or {}
        self._refused = refused
        self.rehearsed: list[tuple[str, tuple[str, ...]]] = []

    def size_bytes(self, index: CreateIndex) -> int:
        if index.keys[0].text in self._refused:
            raise ChangeFailed(f"{index.keys[0].text} is too wide")
        return self._sizes.get(index.keys[0].text, 2 * MEGABYTE)

    def rehearse(self, instance: str, indexes: tuple[CreateIndex, ...], *, known_s: float) -> Rehearsed:
        cost = self._planner.cost(instance, indexes)
        columns = tuple(index.keys[0].text for index in indexes)
        self.rehearsed.append((instance, columns))
        used = next((index.keys[0].text for index in indexes if index.name in cost.used), "")
        return Rehearsed(cost=cost, slowdown_ratio=self._slowdowns.get((instance, used), 1.0))


def considered(prices: Prices, *instances: str, time_share: float) -> Considered:
    columns = sorted({key for each in instances for key in prices[each] if key})
    return Considered(
        query_id=instances[0],
        label=instances[0],
        instances=instances,
        weights=tuple(1 for _ in instances),
        base_costs=tuple(prices[each][""] for each in instances),
        accesses=(Access(table=T, alias="t", equal=tuple(IndexKey(text=key) for key in columns)),),
        time_share=time_share,
    )


def choose(
    prices: Prices,
    stage: Stage,
    table: Table,
    *,
    storage_bytes: int = 40 * MEGABYTE,
    max_questions: int = 4000,
    together: tuple[str, ...] = (),
) -> SearchResult:
    """What is chosen for the statements of `prices`; those `together` are instances of one."""
    alone = [(name,) for name in prices if name not in together]
    groups = [*alone, *([together] if together else [])]
    statements = tuple(considered(prices, *each, time_share=1 / len(groups)) for each in groups)
    policy = SearchPolicy(storage_bytes=storage_bytes, max_keys=1, max_questions=max_questions)
    known = KnownCosts(Planner(prices), max_questions=policy.max_questions)
    candidates = Candidates((access for each in statements for access in each.accesses), {T: table}, ())
    search = Extend(statements, candidates, {}, known, table_bytes=table.size_bytes, policy=policy)
    return choose_rehearsed(search, known, statements, stage, {})


def columns(result: SearchResult) -> list[str]:
    return [index.keys[0].text for index in result.chosen]


def test_a_set_that_keeps_its_promise_is_rehearsed_once(small_table: Table) -> None:
    prices: Prices = {"q": {"": 100, "a": 20}}
    stage = Stage(prices)

    assert ["a"] == columns(choose(prices, stage, small_table))
    assert [("q", ("a",))] == stage.rehearsed


def test_an_index_that_makes_a_statement_slower_gives_way_to_the_next_best(
    small_table: Table,
) -> None:
    prices: Prices = {"q": {"": 100, "a": 20, "b": 40}, "r": {"": 100, "a": 90}}
    stage = Stage(prices, slowdowns={("r", "a"): 1.4})

    assert ["b"] == columns(choose(prices, stage, small_table))


def test_an_index_that_real_costs_show_to_be_worse_gives_way(small_table: Table) -> None:
    promised: Prices = {"q": {"": 100, "a": 20, "b": 40}}
    stage = Stage({"q": {"": 100, "a": 90, "b": 40}})

    assert ["b"] == columns(choose(promised, stage, small_table))


def test_real_sizes_are_held_to_the_budget(small_table: Table) -> None:
    prices: Prices = {"q": {"": 100, "a": 20, "b": 40}}
    stage = Stage(prices, sizes={"a": 9 * MEGABYTE})

    assert ["b"] == columns(choose(prices, stage, small_table, storage_bytes=8 * MEGABYTE))


def test_one_of_two_indexes_is_blamed_where_the_other_does_no_harm(small_table: Table) -> None:
    """`r` may use either; with `a` it is slow, with `b` it is not."""
    prices: Prices = {"q": {"": 100, "a": 20}, "r": {"": 100, "a": 50, "b": 60}}
    stage = Stage(prices, slowdowns={("r", "a"): 1.4})

    assert ["b"] == columns(choose(prices, stage, small_table))
    assert ("r", ("b",)) == stage.rehearsed[-1]


def test_where_every_index_makes_something_slower_there_is_none(small_table: Table) -> None:
    prices: Prices = {
        "q": {"": 100, **dict.fromkeys("abcdefg", 20.0)},
        "r": {"": 100, **dict.fromkeys("abcdefg", 90.0)},
    }
    stage = Stage(prices, slowdowns={("r", key): 1.4 for key in "abcdefg"})

    assert [] == columns(choose(prices, stage, small_table))


def test_the_expected_cost_is_the_real_one(small_table: Table) -> None:
    prices: Prices = {"q": {"": 100, "a": 20}}
    stage = Stage({"q": {"": 100, "a": 25}})

    assert (0.25,) == choose(prices, stage, small_table).ratios


def test_an_index_that_does_no_harm_outlives_all_that_do(small_table: Table) -> None:
    """Set after set makes `r` slower; `g` is in all of them and serves `q` alone."""
    prices: Prices = {"q": {"": 100, "g": 90}, "r": {"": 100, **dict.fromkeys("abcdef", 20.0)}}
    stage = Stage(prices, slowdowns={("r", key): 1.4 for key in "abcdef"})

    assert ["g"] == columns(choose(prices, stage, small_table))


def test_a_set_that_is_too_large_in_truth_loses_what_is_missed_least(small_table: Table) -> None:
    """The names' order is the other way round."""
    prices: Prices = {"q": {"": 100, "g": 10}, "r": {"": 100, "a": 80}}
    stage = Stage(prices, sizes={"a": 5 * MEGABYTE, "g": 5 * MEGABYTE})

    assert ["g"] == columns(choose(prices, stage, small_table, storage_bytes=6 * MEGABYTE))


def test_an_index_that_the_server_does_not_build_is_told_and_gives_way(small_table: Table) -> None:
    prices: Prices = {"q": {"": 100, "a": 20, "b": 40}, "r": {"": 100, "c": 20}}
    result = choose(prices, Stage(prices, refused="a"), small_table)

    assert ["b", "c"] == columns(result)
    assert ("a is too wide",) == result.refused


def test_what_was_seen_counts_though_the_planner_may_be_asked_no_more(small_table: Table) -> None:
    prices: Prices = {"q": {"": 100, "a": 20}, "r": {"": 100, "b": 20}}
    unasked = choose(prices, Stage(prices), small_table, max_questions=2)

    assert ["a", "b"] == columns(unasked)


def test_one_slow_instance_is_no_harm_where_the_statement_becomes_faster(small_table: Table) -> None:
    prices: Prices = {"dear": {"": 1000, "a": 20}, "cheap": {"": 10, "a": 9}}
    stage = Stage(prices, slowdowns={("cheap", "a"): 2.0})

    assert ["a"] == columns(choose(prices, stage, small_table, together=("dear", "cheap")))


def test_an_instance_counts_with_its_time_where_it_is_much_slower(small_table: Table) -> None:
    prices: Prices = {"dear": {"": 1000, "a": 200}, "cheap": {"": 10, "a": 9}}
    stage = Stage(prices, slowdowns={("cheap", "a"): 100.0})

    assert [] == columns(choose(prices, stage, small_table, together=("dear", "cheap")))
