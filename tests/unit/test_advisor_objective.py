"""What statements weigh in the search, and what their instances are known to take."""

from __future__ import annotations

import pytest

from perfloop.model.plan import read_plan
from perfloop.model.snapshot import Activity, Host, Snapshot, StatementCounters, StatementPlan
from perfloop.model.target import Fingerprint
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.advisor.objective import seconds_per_instance, time_shares
from perfloop.tune.weighing import Weighing

COSTS = {"often": 10.0, "seldom": 2000.0}


def statement(name: str) -> Statement:
    return Statement(query_id=name, text=name, kind=StatementKind.READ, name=name)


def operation(name: str, *, share: float) -> Operation:
    return Operation(statement=statement(name), calls_share=share, instances=(f"{name} 1", f"{name} 2"))


@pytest.fixture
def snapshot() -> Snapshot:
    """Counters of `often`, and a plan that was run of one instance of `seldom`."""
    return Snapshot(
        taken_at_s=0.0,
        database="shop",
        user="shop",
        fingerprint=Fingerprint(
            server_version=150018,
            server_text="PostgreSQL 15",
            block_bytes=8192,
            data_checksums=False,
            jit_available=True,
            wal_compressions=(),
            io_methods=(),
            extensions=(),
        ),
        settings=(),
        tables=(),
        indexes=(),
        statements=(StatementCounters(statement=statement("often"), calls=10, total_s=0.1, rows=10),),
        plans=(
            StatementPlan(
                query_id="seldom",
                instance="seldom 1",
                plan=read_plan({"Plan": {"Node Type": "Result"}, "Execution Time": 3000.0}),
            ),
        ),
        activity=Activity(
            connections=1,
            active=1,
            idle_in_transaction=0,
            hit_blocks=1,
            read_blocks=1,
            temp_bytes=0,
            temp_files=0,
            database_bytes=1,
            counted_for_s=1.0,
        ),
        host=Host(cpus=2, memory_bytes=1, available_bytes=1, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0),
    )


@pytest.fixture
def workload() -> Workload:
    operations = operation("often", share=0.9), operation("seldom", share=0.1)
    return Workload(origin="test", operations=operations)


def test_by_time_a_statement_weighs_its_calls_times_their_time(
    workload: Workload, snapshot: Snapshot
) -> None:
    shares = time_shares(workload, snapshot, COSTS, Weighing.TIME)

    assert {"often": 0.9 * 0.01, "seldom": 0.1 * 3.0} == pytest.approx(
        {name: share * (0.9 * 0.01 + 0.1 * 3.0) for name, share in shares.items()}
    )


def test_weighed_equally_neither_calls_nor_time_count(workload: Workload, snapshot: Snapshot) -> None:
    assert {"often": 0.5, "seldom": 0.5} == time_shares(workload, snapshot, COSTS, Weighing.EQUAL)


def test_an_instance_takes_what_its_own_run_took_and_else_what_calls_take(
    workload: Workload, snapshot: Snapshot
) -> None:
    expected = {"often 1": 0.01, "often 2": 0.01, "seldom 1": 3.0, "seldom 2": 3.0}

    assert expected == seconds_per_instance(workload, snapshot)
