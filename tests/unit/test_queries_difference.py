"""The difference of two readings of pg_stat_statements."""

from __future__ import annotations

from perfloop.adapters.statement_counters import StatementReading, statement_difference
from perfloop.model.snapshot import StatementCounters
from perfloop.model.workload import Statement, StatementKind


def counted(query_id: str, calls: int, total_s: float, rows: int = 0) -> StatementCounters:
    statement = Statement(query_id=query_id, text=f"select {query_id}", kind=StatementKind.READ)
    return StatementCounters(statement=statement, calls=calls, total_s=total_s, rows=rows)


def reading(*counters: StatementCounters, reset_at_s: float = 1.0, evictions: int = 0) -> StatementReading:
    return StatementReading(counters=counters, reset_at_s=reset_at_s, evictions=evictions, maximum=5000)


def test_what_was_counted_in_between_is_left():
    earlier = reading(counted("1", 10, 1.0, 5))
    later = reading(counted("1", 14, 3.0, 9))

    assert (counted("1", 4, 2.0, 4),) == statement_difference(earlier, later).counters


def test_a_statement_that_was_not_called_is_left_out():
    assert () == statement_difference(reading(counted("1", 3, 1.0)), reading(counted("1", 3, 1.0))).counters


def test_a_new_statement_counts_whole():
    assert (counted("2", 3, 1.0),) == statement_difference(reading(), reading(counted("2", 3, 1.0))).counters


def test_a_statement_whose_counters_went_down_counts_with_what_it_has():
    difference = statement_difference(reading(counted("1", 50, 9.0)), reading(counted("1", 2, 0.5)))

    assert (counted("1", 2, 0.5),) == difference.counters


def test_after_a_reset_the_later_counters_stand_alone_and_the_report_says_so():
    difference = statement_difference(
        reading(counted("1", 2, 1.0)), reading(counted("1", 5, 2.0), reset_at_s=7.0)
    )

    assert (counted("1", 5, 2.0),) == difference.counters
    assert ["its counters were reset between the two readings; only what came after is counted"] == [
        each.reason for each in difference.limitations
    ]


def test_evictions_are_told_with_the_setting_that_prevents_them():
    difference = statement_difference(reading(evictions=2), reading(evictions=5))

    (told,) = difference.limitations
    assert "made room 3 times" in told.reason
    assert "pg_stat_statements.max = 10000" in told.remedy
