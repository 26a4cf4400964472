"""What statements count by."""

from __future__ import annotations

import pytest

from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.weighing import Weighing, weighed


def operation(name: str, *, share: float) -> Operation:
    statement = Statement(query_id=name, text=name, kind=StatementKind.READ, name=name)
    return Operation(statement=statement, calls_share=share, instances=(name,))


WORKLOAD = Workload(origin="test", operations=(operation("slow", share=0.1), operation("fast", share=0.9)))
SECONDS = {"slow": 8.0, "fast": 0.002, "no longer there": 1.0}


def test_weighed_equally_the_same_time_is_spent_in_every_statement() -> None:
    found = weighed(WORKLOAD, SECONDS, Weighing.EQUAL).operations
    spent = [each.calls_share * SECONDS[each.statement.query_id] for each in found]

    assert pytest.approx(spent[0]) == spent[1]
    assert pytest.approx(1.0) == sum(each.calls_share for each in found)


def test_weighed_by_time_the_workload_stays_as_it_is() -> None:
    assert WORKLOAD is weighed(WORKLOAD, SECONDS, Weighing.TIME)


def test_a_statement_that_takes_no_time_at_all_still_has_a_weight() -> None:
    found = weighed(WORKLOAD, {"slow": 1.0, "fast": 0.0}, Weighing.EQUAL)

    assert all(0 < each.calls_share <= 1 for each in found.operations)
