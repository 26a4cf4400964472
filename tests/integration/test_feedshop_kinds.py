"""The planted GIN index of feedshop is proposed and kept by a trial; the trap beside it is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from examples.feedshop.load import load
from msgspec.structs import replace

from perfloop.adapters.explain import explain
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.model.advice import CreateIndex, Proposal
from perfloop.model.outcome import TrialRecord, Verdict
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.workload import Operation, Workload
from perfloop.tune.advisor.advice import propose
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.decision import STANDARD_KEEP_POLICY
from perfloop.tune.lab.lab import Lab
from perfloop.tune.lab.servers import OwnServer
from perfloop.tune.lab.settings import lab_settings
from perfloop.tune.measure import count
from perfloop.tune.trial import run_trial
from perfloop.validate.workload import workload_from_files

pytestmark = pytest.mark.slow

HOST = Host(cpus=2, memory_bytes=2**32, available_bytes=2**31, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0)
FOLDER = "examples/feedshop/workload"
SHARES = {"mark_feed_seen": 0.3, "quiet_feeds": 0.01, "posts_of_campaign": 0.05, "publish_post": 0.05}


@pytest.fixture(scope="module")
def opened(postgres_binaries: PostgresBinaries) -> Iterator[tuple[Lab, Snapshot, Workload]]:
    with ExitStack() as stack:
        settings = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
        server = stack.enter_context(PostgresServer(postgres_binaries, settings=settings))
        load(server.dsn(), scale=0.3)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            snapshot = take_snapshot(connection, taken_at_s=0.0, host=HOST)
            workload = workload_from_files(
                FOLDER, snapshot, lambda text: explain(connection, text), seed=1, instances=3
            )
        chosen = tuple(
            replace(each, calls_share=SHARES[each.statement.label])
            for each in workload.operations
            if each.statement.label in SHARES
        )
        lab = Lab(
            OwnServer(postgres_binaries, lab_settings(snapshot)),
            settings=lab_settings(snapshot),
            snapshot=snapshot,
            target_dsn=server.dsn(),
            binaries=postgres_binaries,
            tell=lambda sentence: None,
        )
        yield stack.enter_context(lab), snapshot, replace(workload, operations=chosen)


def named(workload: Workload, *labels: str) -> Workload:
    chosen = tuple(each for each in workload.operations if each.statement.label in labels)
    whole = sum(each.calls_share for each in chosen)
    shared: tuple[Operation, ...] = tuple(
        replace(each, calls_share=each.calls_share / whole) for each in chosen
    )
    return replace(workload, operations=shared)


def proposed(opened: tuple[Lab, Snapshot, Workload], *labels: str) -> list[Proposal]:
    lab, snapshot, workload = opened
    with lab.clone() as connection, open_what_if(connection, snapshot.tables) as what_if:
        advice = propose(snapshot, (), named(workload, *labels), what_if)
    return [each for each in advice.proposals if isinstance(each.change, CreateIndex)]


def tried(opened: tuple[Lab, Snapshot, Workload], change: Any, *labels: str) -> TrialRecord:
    lab, _, workload = opened
    chosen = named(workload, *labels)
    with lab.control_arm() as arm:
        baseline = {each.statement.query_id: count(arm, each) for each in chosen.operations}
    with lab.arms(change) as arms:
        trial = run_trial(
            Proposal(change=change, reason="a test"), arms, chosen, baseline, STANDARD_KEEP_POLICY, seed=5
        )
    lab.revert(change, diverged=True)
    return trial.record


def test_the_index_on_attributes_is_proposed_and_kept(opened: tuple[Lab, Snapshot, Workload]) -> None:
    labels = ("posts_of_campaign", "publish_post")

    first = proposed(opened, *labels)[0].change
    record = tried(opened, first, *labels)

    assert "create index on posts using gin (attrs jsonb_path_ops)" == first.title
    assert Verdict.KEEP is record.verdict


def test_the_index_on_last_seen_is_not_kept(opened: tuple[Lab, Snapshot, Workload]) -> None:
    labels = ("quiet_feeds", "mark_feed_seen")
    indexes = [each.change for each in proposed(opened, *labels)]
    trap = next((each for each in indexes if "last_seen_at" in each.title), None)

    assert trap is None or Verdict.REVERT is tried(opened, trap, *labels).verdict
