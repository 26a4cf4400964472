"""Second choices, over a planner whose costs are known."""

from __future__ import annotations

from perfloop.errors import UnsupportedStatement
from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.model.target import Column, ColumnStatistics, IndexKey, Table, TableName
from perfloop.tune.advisor.accesses import Access
from perfloop.tune.advisor.candidates import Candidates
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.extend import Extend, SearchPolicy
from perfloop.tune.advisor.fallbacks import fallback_proposals
from perfloop.tune.advisor.objective import Considered
from perfloop.tune.advisor.what_if import PlannedCost, WhatIfStatistics
from perfloop.tune.advisor.writes import Write

POSTS = TableName(schema="public", name="posts")
MEGABYTE = 1024 * 1024
Prices = dict[str, dict[str, float]]


class PricedIndexes:
    """A WhatIf in which each statement uses the one cheapest index; without one it costs 100."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def plan(self, instance: str) -> Plan:
        raise UnsupportedStatement(f"{instance} has a price and no plan")

    def cost(self, instance: str, indexes: tuple[CreateIndex, ...]) -> PlannedCost:
        prices = self._prices[instance]
        priced = [(prices[_columns(each)], each.name) for each in indexes if _columns(each) in prices]
        price, name = min(priced, default=(100.0, ""))
        return PlannedCost(total_cost=price, used=(name,) if name else ())

    def size_bytes(self, index: CreateIndex) -> int:
        return 2 * MEGABYTE

    def statistics(self) -> WhatIfStatistics:
        return WhatIfStatistics()


def _columns(index: CreateIndex) -> str:
    return ",".join(key.text for key in index.keys)


def posts() -> Table:
    statistics = ColumnStatistics(null_ratio=0.0, distinct=-1.0, width_bytes=8)
    columns = ("feed", "made", "tag")
    return Table(
        name=POSTS,
        rows=100_000,
        size_bytes=20 * MEGABYTE,
        columns=tuple(
            Column(name=each, type_name="bigint", not_null=True, statistics=statistics) for each in columns
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


def statement(name: str, share: float, *, writes: tuple[Write, ...] = (), **access: object) -> Considered:
    return Considered(
        query_id=name,
        label=name,
        instances=(name,),
        weights=(1,),
        base_costs=(100.0,),
        accesses=(Access(table=POSTS, alias="p", **access),),  # type: ignore[arg-type]  # as each test gives it
        writes=writes,
        time_share=share,
    )


def keys(columns: str) -> tuple[IndexKey, ...]:
    return tuple(IndexKey(text=each) for each in columns.split(","))


TIMELINE = {"equal": keys("feed"), "orders": (keys("made"),), "limited": True}
ARCHIVE = {"ranged": keys("made")}


def proposed(prices: Prices, *statements: Considered, room: int = 1) -> tuple[list[str], list[str]]:
    """The columns of what the search chooses, with room for so many indexes, and of the second choices."""
    known = KnownCosts(PricedIndexes(prices), max_questions=1000)
    accesses = (access for each in statements for access in each.accesses)
    candidates = Candidates(accesses, {POSTS: posts()}, ())
    policy = SearchPolicy(storage_bytes=room * 2 * MEGABYTE)
    search = Extend(statements, candidates, {}, known, table_bytes=100 * MEGABYTE, policy=policy)
    result = search.run()
    fallbacks = fallback_proposals(search, candidates, result, statements, known)
    changes = [each.change for each in fallbacks if isinstance(each.change, CreateIndex)]
    return [_columns(each) for each in result.chosen], [_columns(each) for each in changes]


def test_a_statement_names_the_index_that_is_best_for_it_alone() -> None:
    """The search is content with one index for both; if that is reverted, the timeline has its own."""
    prices = {"timeline": {"made": 3.0, "feed,made": 1.0, "feed": 40.0}, "archive": {"made": 10.0}}
    chosen, second = proposed(
        prices, statement("timeline", 0.5, **TIMELINE), statement("archive", 0.5, **ARCHIVE)
    )

    assert ["made"] == chosen
    assert ["feed,made"] == second


def test_the_next_best_begins_with_another_key() -> None:
    prices = {"timeline": {"feed,made": 1.0, "feed": 2.0, "made": 20.0}}
    chosen, second = proposed(prices, statement("timeline", 1.0, **TIMELINE))

    assert ["feed"] == [each.split(",")[0] for each in chosen]
    assert ["made"] == [each for each in second if not each.startswith("feed")]


def test_a_further_key_has_to_pay() -> None:
    access = {"equal": keys("feed,tag")}
    paying = {"tags": {"feed": 50.0, "tag": 90.0, "feed,tag": 1.0}, "other": {}}
    idle = {"tags": {"feed": 50.0, "tag": 90.0, "feed,tag": 49.0}, "other": {}}
    statements = (statement("tags", 0.04, **access), statement("other", 0.96))

    assert ["feed,tag"] == proposed(paying, *statements, room=0)[1]
    assert ["feed"] == [each for each in proposed(idle, *statements, room=0)[1] if each.startswith("feed")]


def test_statements_that_hardly_take_time_get_no_second_choice() -> None:
    prices = {"rare": {"feed": 1.0}, "other": {}}
    rare = statement("rare", 0.004, equal=keys("feed"))

    assert [] == proposed(prices, rare, statement("other", 0.996))[1]


def test_what_slows_another_statement_or_the_whole_is_no_second_choice() -> None:
    slower = {"read": {"feed": 50.0}, "other": {"feed": 130.0}}
    read = statement("read", 0.02, equal=keys("feed"))
    update = Write(table=POSTS, operation="Update", rows=1000.0, changed=("feed",))

    assert [] == proposed(slower, read, statement("other", 0.98, equal=keys("feed")))[1]
    assert [] == proposed({"read": {"feed": 50.0}, "w": {}}, read, statement("w", 0.98, writes=(update,)))[1]
