"""Which statements a watch calls hurt, and which changes it blames."""

from __future__ import annotations

from perfloop.model.advice import AlterSetting, Change, CreateIndex
from perfloop.model.outcome import ActState, AppliedChange
from perfloop.model.snapshot import StatementCounters
from perfloop.model.target import IndexKey, TableName
from perfloop.model.workload import Statement, StatementKind
from perfloop.tune.watch import WatchPolicy, Worsening, suspects, worsenings

POLICY = WatchPolicy()


def counted(
    query_id: str = "1", *, calls: int = 100, mean_s: float = 0.010, blocks: int = 50, temp_blocks: int = 0
) -> StatementCounters:
    return StatementCounters(
        statement=Statement(query_id=query_id, text=f"select {query_id}", kind=StatementKind.READ),
        calls=calls,
        total_s=calls * mean_s,
        rows=calls,
        hit_blocks=calls * blocks,
        temp_blocks=calls * temp_blocks,
    )


def confirmed(before: StatementCounters, *after: StatementCounters) -> list[bool]:
    return [each.is_confirmed for each in worsenings((before,), after, POLICY)]


def test_time_and_work_that_grew_together_hurt() -> None:
    assert [True] == confirmed(counted(), counted(mean_s=0.014, blocks=70))
    assert [True] == confirmed(counted(), counted(mean_s=0.014, temp_blocks=10))


def test_time_alone_is_unclear() -> None:
    assert [False] == confirmed(counted(), counted(mean_s=0.100))


def test_work_alone_does_not_count() -> None:
    assert [] == confirmed(counted(), counted(blocks=500))


def test_an_index_level_more_on_a_tiny_statement_is_no_work_to_speak_of() -> None:
    assert [False] == confirmed(counted(blocks=3), counted(mean_s=0.014, blocks=4))


def test_too_few_calls_in_either_window_are_not_judged() -> None:
    assert [] == confirmed(counted(calls=5), counted(mean_s=1.0, blocks=500))
    assert [] == confirmed(counted(), counted(calls=5, mean_s=1.0, blocks=500))


def test_a_loss_that_nobody_feels_is_left() -> None:
    assert [] == confirmed(
        counted(), counted(mean_s=0.02, blocks=500), counted("2", calls=10_000, mean_s=1.0)
    )


def test_a_statement_that_is_new_or_ran_in_no_time_is_not_judged() -> None:
    assert [] == confirmed(counted("2"), counted(mean_s=1.0, blocks=500))
    assert [] == confirmed(counted(mean_s=0.0), counted(mean_s=1.0, blocks=500))


def test_what_lost_most_comes_first() -> None:
    before = (counted("1"), counted("2"))
    after = (counted("1", mean_s=0.02, blocks=90), counted("2", mean_s=0.05, blocks=90))

    assert ["2", "1"] == [each.query_id for each in worsenings(before, after, POLICY)]


def act(act_id: int, change: Change) -> AppliedChange:
    return AppliedChange(act_id=act_id, study_id="s", change=change, state=ActState.APPLIED, at_s=0.0)


def index_on(table: str) -> CreateIndex:
    name = TableName(schema="public", name=table)
    return CreateIndex(table=name, name=f"{table}_i", keys=(IndexKey(text="a"),))


def blamed(text: str, *acts: AppliedChange) -> list[int]:
    worsening = Worsening(query_id="1", text=text, time_ratio=2, work_ratio=2, is_confirmed=True)
    return [each.act_id for each in suspects(worsening, acts)]


def test_changes_on_a_table_that_the_statement_names_are_blamed_first() -> None:
    acts = (
        act(1, index_on("orders")),
        act(2, index_on("items")),
        act(3, AlterSetting(name="jit", value="off")),
    )

    assert [1] == blamed('INSERT INTO "Orders" VALUES ($1)', *acts)
    assert [3] == blamed("SELECT * FROM orders_archive", *acts)


def test_without_a_setting_all_are_blamed() -> None:
    assert [1, 2] == blamed("SELECT * FROM a_view", act(1, index_on("orders")), act(2, index_on("items")))
