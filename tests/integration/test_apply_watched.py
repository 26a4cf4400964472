"""After apply, live statements are compared with before, and what hurts is undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from perfloop.adapters.store import Journal
from perfloop.model.advice import AlterSetting, CreateIndex, DropIndex
from perfloop.model.outcome import ActState, AppliedChange, Study
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.apply import apply_study
from perfloop.tune.watch import observe, watch_study

ORDERS = TableName(schema="public", name="orders")
CUSTOMER = CreateIndex(table=ORDERS, name="orders_customer", keys=(IndexKey(text="customer"),))
DROP_URL = DropIndex(
    table=TableName(schema="public", name="feeds"),
    name="feeds_url",
    definition="CREATE INDEX feeds_url ON public.feeds USING btree (url)",
)
JIT = AlterSetting(name="jit", value="off")
WATCH_S = 600.0


class Service:
    """Calls the database whenever the watch sleeps, in place of a clock that runs."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._now_s = 0.0

    def clock(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        for number in range(40):
            self._connection.execute("SELECT id FROM feeds WHERE url = %s", [f"feed {number}"]).fetchall()


def applied_and_watched(
    target: Any, journal: Journal, study: Study, told: list[str]
) -> tuple[AppliedChange, ...]:
    with target.connect() as connection:
        service = Service(connection)
        before = observe(target.connect, watch_s=WATCH_S, sleep=service.sleep)
        apply_study(study, target.connect, journal, report=told.append)
        return watch_study(
            study,
            target.connect,
            journal,
            before=before,
            report=told.append,
            watch_s=WATCH_S,
            clock=service.clock,
            sleep=service.sleep,
        )


@pytest.fixture
def feeds(act_target: Any) -> None:
    with act_target.connect() as connection:
        connection.execute(
            "CREATE TABLE feeds AS SELECT g AS id, 'feed ' || g AS url FROM generate_series(1, 20000) g"
        )
        connection.execute("CREATE INDEX feeds_url ON feeds (url)")
        connection.execute("VACUUM ANALYZE feeds")


@pytest.mark.usefixtures("feeds")
def test_what_makes_statements_do_more_work_is_undone_and_the_rest_stays(
    act_target: Any, journal: Journal, study_of: Callable[..., Study]
) -> None:
    told: list[str] = []

    undone = applied_and_watched(act_target, journal, study_of(JIT, CUSTOMER, DROP_URL), told)

    assert [DROP_URL] == [act.change for act in undone]
    assert [ActState.APPLIED, ActState.APPLIED, ActState.UNDONE] == [act.state for act in journal.acts()]
    assert "undoing what it may come from" in told[-2]


@pytest.mark.usefixtures("feeds")
def test_a_watch_that_sees_nothing_says_so_and_undoes_nothing(
    act_target: Any, journal: Journal, study_of: Callable[..., Study]
) -> None:
    told: list[str] = []

    undone = applied_and_watched(act_target, journal, study_of(JIT, CUSTOMER), told)

    assert () == undone
    assert "watched for 10 minutes: no statement does more work than before" == told[-1]
