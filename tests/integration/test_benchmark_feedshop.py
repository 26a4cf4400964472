"""The benchmark of feedshop, at a fraction of its size: it runs, and it judges by what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from benchmarks.feedshop import Slot, effects_of, ratios_of
from benchmarks.feedshop_score import score_planted, score_traps
from examples.feedshop.planted import PLANTED, TRAPS

from perfloop.adapters.servers import PostgresBinaries
from perfloop.model.advice import AlterSetting, Change, CreateIndex, Finding, Proposal, Severity
from perfloop.model.outcome import LabKind, Study, StudyState, TrialRecord, Verdict
from perfloop.model.target import Fingerprint, IndexKey, TableName

ROOT = Path(__file__).parents[2]
FINGERPRINT = Fingerprint(
    server_version=150018,
    server_text="PostgreSQL 15.18",
    block_bytes=8192,
    data_checksums=False,
    jit_available=False,
    wal_compressions=(),
    io_methods=(),
    extensions=(),
)


def index_on(table: str, *columns: str) -> CreateIndex:
    return CreateIndex(
        table=TableName(schema="public", name=table),
        name="perfloop_idx",
        keys=tuple(IndexKey(text=column) for column in columns),
    )


def study_with(*trials: tuple[Change, Verdict], findings: tuple[Finding, ...] = ()) -> Study:
    return Study(
        study_id="20261121-4f2c",
        target="dbname=feedshop",
        started_at_s=0.0,
        state=StudyState.FINISHED,
        seed=1,
        fingerprint=FINGERPRINT,
        findings=findings,
        trials=tuple(
            TrialRecord(
                proposal=Proposal(change=change, reason="a test"),
                lab=LabKind.DATABASES,
                verdict=verdict,
                reason="a test",
            )
            for change, verdict in trials
        ),
    )


def test_a_small_run_measures_both_databases_and_scores_every_list(
    postgres_binaries: PostgresBinaries,
) -> None:
    options = "--scale 0.02 --traffic 1 --trials 1 --pairs 5 --calls 30 --json"
    command = [sys.executable, "-m", "benchmarks.feedshop", "--major", str(postgres_binaries.major)]

    ended = subprocess.run(
        [*command, *options.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode in (0, 1), ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    assert [each.id for each in PLANTED] == [each["id"] for each in told["planted"]]
    assert [each.id for each in TRAPS] == [each["id"] for each in told["traps"]]
    assert ["mean_s", "p95_s", "throughput_per_s"] == sorted(told["effects"])
    assert all(each["low"] < each["high"] for each in told["effects"].values())
    assert told["passes"] is (ended.returncode == 0)


def test_a_problem_is_mended_by_an_index_that_begins_as_planned_and_by_no_partial_one() -> None:
    whole = index_on("orders", "user_id", "placed_at")
    partial = msgspec.structs.replace(index_on("items", "order_id"), predicate="price_cents > 9")
    other = index_on("posts", "published_at", "feed_id")

    study = study_with((whole, Verdict.KEEP), (partial, Verdict.KEEP), (other, Verdict.KEEP))

    mended = {each.id: each.mended for each in score_planted(study, {}) if each.mended != "no"}
    assert {"order-history": "as planned"} == mended


def test_an_operation_that_takes_half_as_long_was_mended_whatever_did_it_but_relief_in_wal_was_not() -> None:
    ratios = {"feed_timeline": 0.4, "label_drift": 0.6, "settle_order": 0.1}

    scores = score_planted(study_with(), ratios)

    assert {"newest-of-feed": "otherwise"} == {each.id: each.mended for each in scores if each.mended != "no"}


def test_a_finding_counts_at_its_own_place_only() -> None:
    here = Finding(
        check="missing-index",
        severity=Severity.HIGH,
        title="a test",
        location="orders(deleted_at, user_id)",
        evidence=(),
        would_try="a test",
    )
    elsewhere = msgspec.structs.replace(here, location="items(sku)")

    study = study_with(findings=(here, elsewhere))

    assert ["order-history"] == [each.id for each in score_planted(study, {}) if each.found]


@pytest.mark.parametrize(
    ("change", "verdict", "outcomes"),
    [
        (index_on("feeds", "owner_id", "last_seen_at"), Verdict.KEEP, {"index-on-last-seen": "kept"}),
        (index_on("feeds", "last_seen_at"), Verdict.REVERT, {"index-on-last-seen": "reverted"}),
        (AlterSetting(name="work_mem", value="8MB"), Verdict.KEEP, {}),
        (AlterSetting(name="work_mem", value="64MB"), Verdict.UNCLEAR, {"yet-more-work-mem": "unclear"}),
    ],
)
def test_a_trap_is_told_by_what_became_of_it(
    change: Change, verdict: Verdict, outcomes: dict[str, str]
) -> None:
    told = score_traps(study_with((change, verdict)))

    assert outcomes == {each.id: each.outcome for each in told if each.outcome != "not proposed"}


def test_what_took_half_as_long_shows_as_half_the_mean_and_twice_the_throughput() -> None:
    before = Slot(calls=(("read", 0.02), ("write", 0.04)), elapsed_s=0.06)
    after = Slot(calls=(("read", 0.01), ("write", 0.02)), elapsed_s=0.03)

    effects = effects_of([(before, after)] * 6, Random(1))

    assert 0.5 == pytest.approx(effects["mean_s"].ratio)
    assert 0.5 == pytest.approx(effects["p95_s"].ratio)
    assert 2.0 == pytest.approx(effects["throughput_per_s"].ratio)
    assert {"read": pytest.approx(0.5), "write": pytest.approx(0.5)} == ratios_of([(before, after)] * 6)
