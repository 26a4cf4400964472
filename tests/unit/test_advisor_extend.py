"""The search, its memory and its objective, over a planner whose costs are known."""

from __future__ import annotations

import pytest

from perfloop.errors import ChangeFailed, UnsupportedStatement
from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.model.target import Column, ColumnStatistics, Index, IndexKey, Table, TableName
from perfloop.tune.advisor.accesses import Access
from perfloop.tune.advisor.candidates import Candidates
from perfloop.tune.advisor.costs import KnownCosts
from perfloop.tune.advisor.extend import Extend, SearchPolicy, SearchResult
from perfloop.tune.advisor.index_proposals import chosen_proposals
from perfloop.tune.advisor.naming import new_index
from perfloop.tune.advisor.objective import Considered, geometric_ratio, objective, relative_cost
from perfloop.tune.advisor.what_if import PlannedCost, WhatIfStatistics
from perfloop.tune.advisor.writes import Write, maintenance_cost

T = TableName(schema="public", name="t")
MEGABYTE = 1024 * 1024
Prices = dict[str, dict[tuple[str, ...], float]]


def keys(columns: str) -> tuple[IndexKey, ...]:
    return tuple(IndexKey(text=each) for each in columns.split(","))


def index(columns: str) -> CreateIndex:
    return new_index(T, keys(columns))


class PricedPlanner:
    """A WhatIf that takes the cheapest offer: for each statement, the price under each set of indexes."""

    def __init__(self, prices: Prices, *, sizes: dict[str, int] | None = None, refused: str = "") -> None:
        self._prices = prices
        self._sizes = sizes or {}
        self._refused = refused
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def plan(self, instance: str) -> Plan:
        raise UnsupportedStatement(f"{instance} has a price and no plan")

    def cost(self, instance: str, indexes: tuple[CreateIndex, ...]) -> PlannedCost:
        offered = {_columns(each): each.name for each in indexes}
        self.asked.append((instance, tuple(sorted(offered))))
        price, needed = min(
            (price, needed)
            for needed, price in self._prices[instance].items()
            if all(each in offered for each in needed)
        )
        return PlannedCost(total_cost=price, used=tuple(sorted(offered[each] for each in needed)))

    def size_bytes(self, index: CreateIndex) -> int:
        if _columns(index) == self._refused:
            raise ChangeFailed(f"{index.title} is refused")
        return self._sizes.get(_columns(index), 2 * MEGABYTE)

    def statistics(self) -> WhatIfStatistics:
        return WhatIfStatistics(explains=len(self.asked))


def _columns(index: CreateIndex) -> str:
    return ",".join(key.text for key in index.keys)


def table() -> Table:
    statistics = ColumnStatistics(null_ratio=0.0, distinct=-1.0, width_bytes=8)
    return Table(
        name=T,
        rows=100_000,
        size_bytes=20 * MEGABYTE,
        columns=tuple(
            Column(name=each, type_name="bigint", not_null=True, statistics=statistics) for each in "abc"
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


def statement(
    name: str, columns: str, *, share: float, base: float = 100.0, writes: tuple[Write, ...] = ()
) -> Considered:
    access = Access(table=T, alias="t", equal=keys(columns) if columns else ())
    return Considered(
        query_id=name,
        label=name,
        instances=(name,),
        weights=(1,),
        base_costs=(base,),
        accesses=(access,),
        writes=writes,
        time_share=share,
    )


def extend(
    planner: PricedPlanner, *statements: Considered, policy: SearchPolicy | None = None
) -> tuple[Extend, KnownCosts]:
    policy = policy or SearchPolicy()
    known = KnownCosts(planner, max_questions=policy.max_questions)
    candidates = Candidates((access for each in statements for access in each.accesses), {T: table()}, ())
    searching = Extend(statements, candidates, {}, known, table_bytes=table().size_bytes, policy=policy)
    return searching, known


def search(
    planner: PricedPlanner, *statements: Considered, policy: SearchPolicy | None = None
) -> SearchResult:
    return extend(planner, *statements, policy=policy)[0].run()


def chosen(result: SearchResult) -> list[str]:
    return [_columns(each) for each in result.chosen]


def test_an_index_is_widened_when_the_next_key_pays() -> None:
    planner = PricedPlanner({"q": {(): 100, ("a",): 20, ("b",): 60, ("a,b",): 2}})

    assert ["a,b"] == chosen(search(planner, statement("q", "a,b", share=1.0)))


def test_two_indexes_that_do_the_same_work_are_not_both_chosen() -> None:
    planner = PricedPlanner({"q": {(): 100, ("a",): 10, ("b",): 10.1}})

    assert ["a"] == chosen(search(planner, statement("q", "a,b", share=1.0)))


def test_an_index_that_later_steps_make_idle_is_left_out() -> None:
    """`a` is the best first step; once `b` and `c` are there, no plan uses it."""
    prices: Prices = {"q": {(): 100, ("a",): 20, ("b",): 5}, "r": {(): 100, ("a",): 20, ("c",): 5}}
    planner = PricedPlanner(prices)
    result = search(planner, statement("q", "a,b", share=0.5), statement("r", "a,c", share=0.5))

    assert "a" == _columns(result.steps[0].index)
    assert ["b", "c"] == chosen(result)


def test_an_index_that_needs_another_is_tried_after_it() -> None:
    """`b` saves most, but only next to `a`."""
    planner = PricedPlanner({"q": {(): 100, ("a",): 80, ("a", "b"): 10}})
    statements = (statement("q", "a,b", share=1.0),)
    searching, known = extend(planner, *statements)
    proposals = chosen_proposals(searching, searching.run(), statements, (), known)

    assert ["create index on t (a)", "create index on t (b)"] == [each.change.title for each in proposals]


def test_the_budget_of_space_is_kept() -> None:
    planner = PricedPlanner(
        {"q": {(): 100, ("a",): 5}, "r": {(): 100, ("b",): 50}}, sizes={"a": 9 * MEGABYTE}
    )
    statements = statement("q", "a", share=0.5), statement("r", "b", share=0.5)

    assert ["b"] == chosen(search(planner, *statements, policy=SearchPolicy(storage_bytes=8 * MEGABYTE)))


def test_no_statement_may_become_much_dearer_than_before() -> None:
    prices: Prices = {"q": {(): 100, ("a",): 5}, "r": {("a",): 120, (): 120}}
    planner = PricedPlanner(prices)
    statements = statement("q", "a", share=0.99), statement("r", "a", share=0.01, base=100)

    assert [] == chosen(search(planner, *statements))


def test_a_giant_does_not_hide_what_others_gain() -> None:
    """Once the giant is served, a sum over time would see nothing in the other statement."""
    planner = PricedPlanner({"giant": {(): 100, ("a",): 0.1}, "other": {(): 100, ("b",): 10}})
    statements = statement("giant", "a", share=0.999), statement("other", "b", share=0.001)

    assert ["a", "b"] == chosen(search(planner, *statements))


def test_what_the_server_refuses_is_told_and_left_out() -> None:
    planner = PricedPlanner({"q": {(): 100, ("b",): 50}}, refused="a")
    result = search(planner, statement("q", "a,b", share=1.0))

    assert ["b"] == chosen(result)
    assert ("create index on t (a) is refused",) == result.refused


def test_the_planner_is_asked_no_more_often_than_allowed() -> None:
    planner = PricedPlanner({"q": {(): 100, ("a",): 20, ("b",): 60, ("a,b",): 2}})
    search(planner, statement("q", "a,b", share=1.0), policy=SearchPolicy(max_questions=2))

    assert 2 == len(planner.asked)


def test_a_statement_that_uses_nothing_of_all_is_asked_once() -> None:
    planner = PricedPlanner({"q": {(): 100}})
    search(planner, statement("q", "a,b,c", share=1.0))

    assert [("q", ("a", "b", "c"))] == planner.asked


def test_writes_count_against_an_index() -> None:
    planner = PricedPlanner({"q": {(): 100, ("a",): 60}, "w": {(): 1}})
    read = statement("q", "a", share=0.1)
    insert = statement("w", "", share=0.9, base=1, writes=(Write(table=T, operation="Insert", rows=1),))

    assert ["a"] == chosen(search(planner, read))
    assert [] == chosen(search(planner, read, insert))


def test_no_statement_may_write_more_than_the_limit_however_seldom_it_runs() -> None:
    """A row costs 2 and an entry 1: with two indexes it is twice what it was."""
    planner = PricedPlanner({"w": {(): 1}, **{each: {(): 100, (each,): 10} for each in "abc"}})
    reads = [statement(each, each, share=0.33) for each in "abc"]
    insert = statement("w", "", share=0.01, base=1, writes=(Write(table=T, operation="Insert", rows=1),))
    found = search(planner, *reads, insert, policy=SearchPolicy(max_write_ratio=2.0))

    assert 2 == len(found.chosen)


@pytest.mark.parametrize(
    ("operation", "changed", "expected"),
    [
        ("Insert", (), 4.0),
        ("Delete", (), 2.0),
        ("Update", ("b",), 2.0),
        ("Update", ("a",), 4.0),
        ("Update", None, 4.0),
    ],
)
def test_an_update_writes_entries_only_where_an_index_holds_what_changed(
    operation: str, changed: tuple[str, ...] | None, expected: float
) -> None:
    primary = Index(
        table=T, name="t_pkey", method="btree", keys=keys("id"), definition="", size_bytes=1, scans=1
    )
    write = Write(table=T, operation=operation, rows=1, changed=changed)

    assert expected == maintenance_cost(write, (primary,), (index("a"),))


def test_answers_are_derived_between_what_was_used_and_what_was_offered() -> None:
    planner = PricedPlanner({"q": {(): 100, ("a",): 20}})
    known = KnownCosts(planner, max_questions=10)
    known.cost("q", (index("a"), index("b"), index("c")))
    derived = [known.cost("q", offered) for offered in ((index("a"),), (index("a"), index("c")))]
    known.cost("q", (index("b"),))

    assert [20.0, 20.0] == [each.total_cost for each in derived if each]
    assert (2, 2) == (known.statistics().derived, known.statistics().asked)


def test_the_objective_of_the_workload_as_it_is_is_one() -> None:
    assert pytest.approx(1.0) == objective((0.9, 0.1), (1.0, 1.0))
    assert objective((0.9, 0.1), (1.0, 0.5)) < 1.0
    assert pytest.approx(0.5) == geometric_ratio((1.0, 0.25))


def test_a_relative_cost_weighs_instances_and_adds_writing() -> None:
    two = Considered(
        query_id="q",
        label="q",
        instances=("x", "y"),
        weights=(3, 1),
        base_costs=(10, 30),
        accesses=(),
        time_share=1.0,
    )
    write = statement("w", "", share=1.0, base=1, writes=(Write(table=T, operation="Insert", rows=1),))

    assert pytest.approx(45 / 60) == relative_cost(two, (5, 30), {}, ())
    assert pytest.approx(4 / 3) == relative_cost(write, (1,), {}, (index("a"),))


def test_what_is_learned_of_an_index_holds_for_its_like_and_for_no_other() -> None:
    planner = PricedPlanner({"q": {(): 100, ("a,b",): 20, ("a",): 30, ("b",): 40}})
    known = KnownCosts(planner, max_questions=10)
    both = index("a,b")
    known.learn("q", (both,), PlannedCost(total_cost=150, used=(both.name,)))
    included = new_index(T, keys("a"), included=("b",))
    costs = [known.cost("q", (each,)) for each in (both, included, index("b"))]

    assert [150.0, 150.0, 40.0] == [each.total_cost for each in costs if each]
