"""Capture a Baseline of a target, and hold the target against it later. The target is only read.

Whatever can be compared is read in the same way both times: the same instances are planned again, and the
counters of two windows are compared, the one before the capture and the one since. Where the capture or
the comparison counts over a window of its own, that window stands in.
"""

from __future__ import annotations

import time

import msgspec
import psycopg

from perfloop.adapters.connection import connect, safe_dsn
from perfloop.adapters.explain import explain
from perfloop.adapters.host import read_host, server_is_here
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.statement_counters import StatementReading, read_statements, statement_difference
from perfloop.analyze.changes import kept_settings
from perfloop.analyze.regressions import judge
from perfloop.errors import UnsupportedStatement
from perfloop.model.analysis import Analysis
from perfloop.model.baseline import Baseline, BaselinePlan, BaselineTable, Comparison
from perfloop.model.outline import outline_of
from perfloop.model.snapshot import Snapshot, StatementCounters, StatementPlan
from perfloop.tune.analysis import analyze_target, counters_before
from perfloop.tune.observer import Observer


def capture_baseline(
    dsn: str,
    observer: Observer,
    *,
    name: str | None = None,
    workload_source: str | None = None,
    window_s: float | None = None,
    seed: int = 1,
    statement_timeout_s: float = 10.0,
) -> Baseline:
    """Read a target and return what later moments are held against; nothing is stored yet.

    Args:
        dsn: as libpq takes it.
        observer: is told of each phase.
        name: None for the moment of the capture.
        workload_source: whose statements are planned; None for those of pg_stat_statements.
        window_s: count statements over so many seconds from now; None for since the reset.
        seed: of the draws of parameters.
        statement_timeout_s: limit of each of perfloop's own statements on the target.

    Raises:
        TargetUnreachable, MissingRights, InvalidInput: from connecting, with the way out.
    """
    analysis = analyze_target(
        dsn,
        observer,
        workload_source=workload_source,
        window_s=window_s,
        seed=seed,
        statement_timeout_s=statement_timeout_s,
    )
    snapshot = analysis.snapshot
    observer.phase("reading the counters that the next comparison begins with")
    with connect(dsn, read_only=True, statement_timeout_s=statement_timeout_s) as connection:
        reading = read_statements(connection, role=snapshot.user)
    return Baseline(
        name=name or time.strftime("%Y%m%d-%H%M%S", time.gmtime(snapshot.taken_at_s)),
        target=safe_dsn(dsn),
        database=snapshot.database,
        taken_at_s=snapshot.taken_at_s,
        window_s=window_s,
        reset_at_s=reading.reset_at_s,
        evictions=reading.evictions,
        fingerprint=snapshot.fingerprint,
        statements=reading.counters if window_s is None else snapshot.statements,
        totals=() if window_s is None else reading.counters,
        plans=_plans(analysis),
        settings=kept_settings(snapshot.settings),
        tables=tuple(
            BaselineTable(name=each.name, rows=each.rows, size_bytes=each.size_bytes)
            for each in snapshot.tables
        ),
        indexes=snapshot.indexes,
        limitations=snapshot.limitations,
    )


def compare_with_baseline(
    dsn: str,
    baseline: Baseline,
    observer: Observer,
    *,
    window_s: float | None = None,
    statement_timeout_s: float = 10.0,
    snapshot: Snapshot | None = None,
) -> Comparison:
    """Hold a target against a Baseline.

    Args:
        dsn: of the target, or of another one that should be like it.
        baseline: what to hold it against.
        observer: is told of each phase.
        window_s: count statements over so many seconds from now; None for since the capture.
        statement_timeout_s: limit of each of perfloop's own statements on the target.
        snapshot: where it has just been read, with the same `window_s`; None to read it.

    Raises:
        TargetUnreachable, MissingRights, InvalidInput: from connecting, with the way out.
    """
    is_alone = snapshot is None
    with connect(dsn, read_only=True, statement_timeout_s=statement_timeout_s) as connection:
        if snapshot is None:
            observer.phase("reading the target")
            snapshot = _snapshot(connection, observer, window_s)
        notes = _about_target(dsn, baseline)
        statements = snapshot.statements
        if window_s is None:
            statements, more = _since(connection, baseline, snapshot)
            notes += more
        observer.phase("planning the statements of the baseline again")
        plans, refused = _planned_again(connection, baseline)
        notes += refused
    judgement = judge(msgspec.structs.replace(snapshot, statements=statements, plans=plans), baseline)
    if is_alone:
        observer.found(judgement.findings)
    return Comparison(
        baseline=baseline.name,
        target=safe_dsn(dsn),
        baseline_taken_at_s=baseline.taken_at_s,
        taken_at_s=snapshot.taken_at_s,
        findings=judgement.findings,
        notes=tuple(dict.fromkeys((*notes, *judgement.notes))),
        statements_judged=judgement.statements_judged,
        plans_judged=judgement.plans_judged,
    )


def with_comparison(analysis: Analysis, comparison: Comparison) -> Analysis:
    """The Analysis with what the Comparison found on top, those of one severity first that are worse."""
    findings = sorted((*comparison.findings, *analysis.findings), key=lambda each: each.severity.rank)
    return msgspec.structs.replace(analysis, findings=tuple(findings), comparison=comparison)


def _plans(analysis: Analysis) -> tuple[BaselinePlan, ...]:
    """The plans of the workload's instances; those out of a log ran elsewhere and are not made again."""
    labels = {
        instance: each.statement.label
        for each in (analysis.workload.operations if analysis.workload else ())
        for instance in each.instances
    }
    return tuple(
        BaselinePlan(
            query_id=each.query_id,
            label=labels[each.instance],
            instance=each.instance,
            shape=each.plan.shape,
            total_cost=each.plan.root.total_cost,
            outline=outline_of(each.plan),
        )
        for each in analysis.snapshot.plans
        if each.instance in labels and each.plan.execution_s is None
    )


def _snapshot(connection: psycopg.Connection, observer: Observer, window_s: float | None) -> Snapshot:
    earlier = counters_before(connection, observer, window_s)
    host = read_host(runs_server=server_is_here(connection))
    return take_snapshot(connection, taken_at_s=time.time(), host=host, earlier=earlier)


def _about_target(dsn: str, baseline: Baseline) -> list[str]:
    here = safe_dsn(dsn)
    if here == baseline.target:
        return []
    return [f"the baseline was captured from {baseline.target}, this is {here}"]


def _since(
    connection: psycopg.Connection, baseline: Baseline, snapshot: Snapshot
) -> tuple[tuple[StatementCounters, ...], list[str]]:
    """What was counted since the capture; all that is counted, where the counters are others."""
    reading = read_statements(connection, role=snapshot.user)
    limits = [f"{each.subject}: {each.reason}" for each in reading.limitations]
    if baseline.database != snapshot.database:
        return reading.counters, limits
    earlier = StatementReading(
        counters=baseline.totals or baseline.statements,
        reset_at_s=baseline.reset_at_s,
        evictions=baseline.evictions,
    )
    since = statement_difference(earlier, reading)
    return since.counters, [f"{each.subject}: {each.reason}" for each in since.limitations]


def _planned_again(
    connection: psycopg.Connection, baseline: Baseline
) -> tuple[tuple[StatementPlan, ...], list[str]]:
    """The plans of the Baseline's instances, and a sentence on each statement that is refused now."""
    planned = []
    refused = {}
    for each in baseline.plans:
        try:
            plan = explain(connection, each.instance)
        except UnsupportedStatement as error:
            refused[each.label] = f"{each.label} cannot be planned any more: {error}"
            continue
        planned.append(StatementPlan(query_id=each.query_id, instance=each.instance, plan=plan))
    return tuple(planned), list(refused.values())
