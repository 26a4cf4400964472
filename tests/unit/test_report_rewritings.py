"""A kept rewriting on every page: what to change by hand, what it assumes, and what its rows were held to."""

from __future__ import annotations

import json

import msgspec
import pytest

from perfloop.cli.verdicts import show_changes, show_study
from perfloop.model.advice import Proposal, RewriteQuery
from perfloop.model.outcome import LabKind, SameRows, Study, StudyState, TrialRecord, Verdict
from perfloop.model.target import Fingerprint
from perfloop.tune.report.study import apply_sql, study_html, study_json, study_markdown, undo_sql

CHANGE = RewriteQuery(
    query_id="77",
    rule="date-range",
    before="SELECT\n  id\nFROM orders\nWHERE\n  DATE(placed) = $1 AND note <> '</pre><script>'",
    after="SELECT\n  id\nFROM orders\nWHERE\n  placed >= $1 AND placed < $1 + 1 AND note <> '</pre><script>'",
    label="orders_of_day",
    assumes=("$1 is a finite day",),
)
TRIAL = TrialRecord(
    proposal=Proposal(change=CHANGE, reason="a function hides the column"),
    lab=LabKind.SESSIONS,
    verdict=Verdict.KEEP,
    reason="it saves",
    same_rows=SameRows(instances=3, rows=4321, varied_runs=21),
)
STUDY = Study(
    study_id="20261121-abc",
    target="host=h dbname=d",
    started_at_s=0.0,
    state=StudyState.FINISHED,
    seed=1,
    fingerprint=Fingerprint(
        server_version=150000,
        server_text="PostgreSQL 15",
        block_bytes=8192,
        data_checksums=False,
        jit_available=False,
        wal_compressions=(),
        io_methods=(),
        extensions=(),
    ),
    trials=(TRIAL,),
)


@pytest.mark.parametrize("render", [study_html, study_markdown])
def test_pages_show_both_texts_their_difference_and_what_they_were_held_to(render: object) -> None:
    assert callable(render)
    page = render(STUDY).replace("&lt;", "<").replace("&gt;", ">").replace("\\", "")

    assert "Statements to change by hand" in page
    assert "-   DATE(placed) = $1" in page
    assert "+   placed >= $1" in page
    assert "$1 is a finite day" in page
    assert "4,321 of 3 calls, and in 21 rounds of made-up rows" in page


def test_hostile_statements_stay_text_on_the_page() -> None:
    assert "<script" not in study_html(STUDY)


def test_scripts_run_nothing_of_it_and_show_the_new_text() -> None:
    for script in (apply_sql(STUDY), undo_sql(STUDY)):
        assert "" == "".join(line for line in script.splitlines() if not line.startswith(("--", "\\set")))
    assert "--     placed >= $1 AND placed < $1 + 1 AND note <> '</pre><script>'" in apply_sql(STUDY)
    assert "Assumes that $1 is a finite day." in apply_sql(STUDY)


def test_json_has_both_texts() -> None:
    change = json.loads(study_json(STUDY))["trials"][0]["proposal"]["change"]

    assert ("rewrite-query", CHANGE.before, CHANGE.after) == (
        change["type"],
        change["before"],
        change["after"],
    )


def test_the_terminal_shows_the_difference_and_apply_what_is_left_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_study(STUDY)
    told = " ".join(capsys.readouterr().out.split())

    assert "by hand, in the service's code; assumes that $1 is a finite day; the rows are the same" in told
    assert "- DATE(placed) = $1" in told
    assert "+ placed >= $1" in told
    show_changes(STUDY)
    assert "by hand, in the service's code: rewrite orders_of_day (date-range)" in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_changes_of_a_study_that_did_not_finish_are_said_to_be_unconfirmed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_changes(STUDY)
    finished = capsys.readouterr().out
    show_changes(msgspec.structs.replace(STUDY, state=StudyState.INTERRUPTED))
    interrupted = capsys.readouterr().out

    assert (
        "note  this study is interrupted: nothing has confirmed its changes together\n" + finished
        == interrupted
    )
