"""Which text a lab's session runs for a statement, as rewritings are tried, kept, left out and withdrawn."""

from __future__ import annotations

from perfloop.model.advice import AnalyzeTable, RewriteQuery
from perfloop.model.target import TableName
from perfloop.tune.lab.wordings import Wordings

NOT_IN, RANGE = (
    RewriteQuery(query_id=name, rule=name, before=name, after=name.upper(), label=name)
    for name in ("not-in", "range")
)
ANALYZE = AnalyzeTable(table=TableName(schema="public", name="orders"))


def wordings() -> Wordings:
    known = Wordings()
    known.learn(NOT_IN, {"a": "A"})
    known.learn(RANGE, {"b": "B"})
    return known


def test_what_is_only_known_is_in_no_session() -> None:
    assert {} == wordings().of_stack()


def test_a_change_under_trial_comes_on_top_of_what_is_kept() -> None:
    known = wordings()
    known.keep(NOT_IN)

    assert {"a": "A"} == known.of_stack()
    assert {"a": "A", "b": "B"} == known.of_stack(and_also=RANGE)
    assert {"a": "A"} == known.of_stack(and_also=ANALYZE)


def test_a_kept_change_can_be_left_out_and_withdrawn() -> None:
    known = wordings()
    known.keep(NOT_IN)
    known.keep(RANGE)

    assert {"b": "B"} == known.of_stack(without=NOT_IN)
    known.withdraw(RANGE)
    assert {"a": "A"} == known.of_stack()


def test_the_confirmation_takes_the_rewritings_among_its_changes() -> None:
    assert {"b": "B"} == wordings().of([ANALYZE, RANGE])
