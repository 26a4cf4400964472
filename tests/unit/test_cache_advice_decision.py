"""Whether a statement is worth keeping: what is proposed, and the reason where nothing is."""

from __future__ import annotations

from typing import Any

import pytest

from perfloop.cache.advice import DrawnKeys
from perfloop.model.target import Column, Table, TableName
from perfloop.tune.cache_advice_decision import Change, Question, answer, setup_of, together
from perfloop.tune.cache_advice_keys import StatementKeys
from perfloop.tune.cache_advice_values import KeysFrom, StatementAdvice, Until
from perfloop.validate.sources import Site

ORDERS = TableName(schema="public", name="orders")
ITEMS = TableName(schema="sales", name="items")
HOW: dict[str, Any] = {"capacity": 1_000, "seed": 1, "requests": 8_000}


def site_of(name: TableName, column: str) -> Site:
    table = Table(
        name=name,
        rows=1_000,
        size_bytes=0,
        columns=(),
        live_rows=1_000,
        dead_rows=0,
        modified_since_analyze=0,
        analyzed_ago_s=None,
        sequential_scans=0,
        sequential_rows=0,
        index_scans=0,
        inserts=0,
        updates=0,
        hot_updates=0,
        deletes=0,
    )
    return Site(table=table, column=Column(name=column, type_name="int", not_null=True), alias=name.name)


def question(
    *,
    calls_per_s: float = 50.0,
    different: int = 100,
    changes_per_s: float = 0.0,
    table: TableName = ORDERS,
    by_row: bool = False,
    time_share: float = 0.5,
) -> Question:
    advice = StatementAdvice(
        query_id="7",
        label="`SELECT …`",
        text="SELECT …",
        calls_per_s=calls_per_s,
        mean_s=0.002,
        time_share=time_share,
        rows_per_call=1.0,
        reason="",
    )
    keys = StatementKeys(
        origin=KeysFrom.STATISTICS,
        keys=DrawnKeys(others=different),
        equal=(site_of(table, "customer_id"),) if by_row else (),
        names=("customer_id",),
    )
    change = Change(table=table, rows_per_s=changes_per_s, statements_per_s=changes_per_s)
    return Question(advice=advice, keys=keys, changes=(change,))


def test_what_is_rarely_written_to_is_kept_until_its_tables_change() -> None:
    actual = answer(question(changes_per_s=0.01), **HOW)

    assert actual.chosen is not None
    assert Until.TABLES_CHANGE is actual.chosen.until
    assert "queries.fetch_all(connection, STATEMENT, (customer_id,), ttl_s=3600)" == actual.code
    assert "100 different parameters by pg_stats; writes to its tables come every 100 s" == actual.reason
    assert actual.saved_s_per_s == pytest.approx(50 * 0.002 * actual.chosen.hit_ratio)


def test_what_is_often_written_to_elsewhere_is_kept_until_its_own_rows_change() -> None:
    actual = answer(question(changes_per_s=5.0, by_row=True), **HOW)

    assert actual.chosen is not None
    assert Until.ROWS_CHANGE is actual.chosen.until
    assert actual.code is not None
    assert actual.code.endswith('tags=(*tags.row_tags("orders", customer_id=customer_id),))')


def test_writes_all_the_time_are_the_reason_against_it() -> None:
    actual = answer(question(changes_per_s=5.0), **HOW)

    assert not actual.is_proposed
    assert actual.reason.startswith("writes to its tables come every 200 ms: by tags of its tables ")
    assert "old" in actual.reason


def test_parameters_that_never_come_again_are_the_reason_against_it() -> None:
    actual = answer(question(different=5_000_000), **HOW)

    assert not actual.is_proposed
    assert actual.reason.startswith("nearly every parameter is new: 5,000,000 different ones by pg_stats")


def test_hits_that_spare_next_to_nothing_are_the_reason_against_it() -> None:
    actual = answer(question(time_share=0.005, changes_per_s=1.0, by_row=True), **HOW)

    assert not actual.is_proposed
    assert actual.reason.startswith("it would spare 0.")


def test_those_that_share_a_cache_are_simulated_in_it() -> None:
    questions = [question(different=900), question(different=900, table=ITEMS)]
    alone = [(each, answer(each, **HOW)) for each in questions]
    shared = together(alone, **HOW)

    for (_, before), after in zip(alone, shared, strict=True):
        assert before.chosen is not None
        assert after.chosen is not None
        assert after.chosen.hit_ratio < before.chosen.hit_ratio - 0.1
    assert sum(each.chosen.entries for each in shared if each.chosen) <= HOW["capacity"]


def test_the_setup_watches_each_table_once_with_the_columns_of_its_tags() -> None:
    questions = [question(changes_per_s=5.0, by_row=True), question(table=ITEMS, changes_per_s=0.01)]
    answered = [(each, answer(each, **HOW)) for each in questions]

    assert (
        "perfloop cache outbox install DSN --table orders:customer_id --table sales.items",
        "tags = TagMap({'orders': ('orders:customer_id={customer_id}', 'table:orders')})",
    ) == setup_of(answered)
