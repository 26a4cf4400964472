"""The read-only half of the loop: snapshot, workload, plans, findings. A connection string is enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg

from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.adapters.host import read_host, server_is_here
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.statement_counters import read_statements
from perfloop.analyze.checks import analyze
from perfloop.analyze.nothing import explain_nothing
from perfloop.errors import UnsupportedStatement
from perfloop.model.advice import Finding
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.workload import SkippedStatement, Workload
from perfloop.tune.observer import Observer
from perfloop.validate.workload import read_workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What reading the target gave. `workload` is None where there is nothing to read one from."""

    snapshot: Snapshot
    workload: Workload | None
    findings: tuple[Finding, ...]
    unexplained: tuple[str, ...]
    """For statements without a finding, a sentence each that says why."""


def analyze_target(
    dsn: str,
    observer: Observer,
    *,
    workload_source: Path | None = None,
    window_s: float | None = None,
    seed: int = 1,
    statement_timeout_s: float = 10.0,
) -> Analysis:
    """Read a target and find its bottlenecks.

    Args:
        dsn: as libpq takes it.
        observer: is told of each phase.
        workload_source: a folder of .sql files or a pgbench script; None for pg_stat_statements.
        window_s: count statements over a window of so many seconds from now; None for since the reset.
        seed: of the draws of parameters.
        statement_timeout_s: limit of each of perfloop's own statements on the target.

    Raises:
        TargetUnreachable, MissingRights, InvalidInput: from connecting, with the way out.
    """
    observer.phase("reading the target")
    with connect(dsn, read_only=True, statement_timeout_s=statement_timeout_s) as connection:
        earlier = None
        if window_s is not None:
            earlier = read_statements(connection, role=connection.info.user)
            observer.phase(f"counting statements for {window_s:g} s")
            time.sleep(window_s)
        host = read_host(runs_server=server_is_here(connection))
        snapshot = take_snapshot(connection, taken_at_s=time.time(), host=host, earlier=earlier)
        observer.phase("planning its statements")
        planner = _remembering(connection)
        source = None if workload_source is None else str(workload_source)
        workload = read_workload(source, snapshot, planner, seed=seed)
        snapshot = msgspec.structs.replace(snapshot, plans=_plans(workload, planner))
    findings = analyze(snapshot)
    observer.found(findings)
    return Analysis(
        snapshot=snapshot,
        workload=workload if workload.operations else None,
        findings=findings,
        unexplained=explain_nothing(snapshot, findings)
        + tuple(_why_skipped(each) for each in workload.skipped),
    )


def _remembering(connection: psycopg.Connection) -> Callable[[str], Plan]:
    """EXPLAIN that asks the server once per text."""
    plans: dict[str, Plan] = {}

    def plan(text: str) -> Plan:
        if text not in plans:
            plans[text] = explain(connection, text)
        return plans[text]

    return plan


def _plans(workload: Workload, planner: Callable[[str], Plan]) -> tuple[StatementPlan, ...]:
    found = []
    for operation in workload.operations:
        for instance in operation.instances:
            try:
                plan = planner(instance)
            except UnsupportedStatement:
                continue  # the workload reader has listed it with the server's reason
            found.append(StatementPlan(query_id=operation.statement.query_id, instance=instance, plan=plan))
    return tuple(found)


def _why_skipped(skipped: SkippedStatement) -> str:
    return f"{skipped.statement.label}: {skipped.reason}"
