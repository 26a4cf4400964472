"""The read-only half of the loop: snapshot, workload, plans, findings. A connection string is enough."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import psycopg

from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.adapters.jobs.reading import JobReading
from perfloop.adapters.jobs.redis_jobs import read_redis_jobs
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.pressure import read_target_host
from perfloop.adapters.redis import RedisReading, read_redis
from perfloop.adapters.statement_counters import StatementReading, read_statements
from perfloop.adapters.statements import parameter_count, statement_kind
from perfloop.analyze.checks import analyze
from perfloop.analyze.nothing import explain_nothing
from perfloop.analyze.plan_cache import TOLD_SHARE
from perfloop.analyze.sites import statement_shares
from perfloop.errors import UnsupportedStatement
from perfloop.model.analysis import Analysis
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.workload import StatementKind, Workload
from perfloop.tune.given import (
    Sources,
    generic_plans,
    read_sources,
    why_skipped,
    with_logged_plans,
    with_names,
)
from perfloop.tune.observer import Observer
from perfloop.validate.sampling import parameter_types, sampler
from perfloop.validate.workload import read_workload

_UNSEEN = Plan(root=PlanNode(kind="Unknown", fields={}))


def analyze_target(
    dsn: str,
    observer: Observer,
    *,
    workload_source: str | None = None,
    log: str | None = None,
    log_line_prefix: str | None = None,
    window_s: float | None = None,
    redis_url: str | None = None,
    seed: int = 1,
    statement_timeout_s: float = 10.0,
) -> Analysis:
    """Read a target and find its bottlenecks.

    Args:
        dsn: as libpq takes it.
        observer: is told of each phase.
        workload_source: path of a folder of .sql files, of a pgbench script, or of a server's log or a folder
            of logs; None for pg_stat_statements.
        log: path of a log whose real parameters stand in for `$n`; not with a log as `workload_source`.
        log_line_prefix: of logs in stderr format; None to go by the target's setting or by their looks.
        window_s: count statements over a window of so many seconds from now; None for since the reset.
        redis_url: of the Redis or Valkey beside the database; None to leave it out.
        seed: of the draws of parameters.
        statement_timeout_s: limit of each of perfloop's own statements on the target.

    Raises:
        TargetUnreachable, MissingRights, InvalidInput: from connecting, with the way out.
    """
    redis, jobs = _read_redis(redis_url)
    observer.phase("reading the target")
    with connect(dsn, read_only=True, statement_timeout_s=statement_timeout_s) as connection:
        snapshot = _read_target(connection, observer, window_s)
        sources = Sources(workload=workload_source, log=log, log_line_prefix=log_line_prefix, seed=seed)
        given = read_sources(sources, snapshot, observer.phase)
        snapshot = given.snapshot
        is_files = workload_source is not None and not given.is_log
        observer.phase("planning its statements")
        planner = _remembering(connection)
        workload = read_workload(
            workload_source,
            snapshot,
            planner,
            seed=seed,
            sample=sampler(connection),
            types=parameter_types(connection),
            logged=given.logged,
            is_log=given.is_log,
        )
        plans = _plans(workload, planner) + generic_plans(connection, workload.skipped)
        generic = _generic_plans(connection, snapshot, workload)
        snapshot = msgspec.structs.replace(snapshot, plans=plans, generic_plans=generic)
        snapshot = with_names(with_logged_plans(snapshot, given.logged), workload)
    snapshot = _with_redis(snapshot, redis, jobs)
    findings = analyze(snapshot)
    observer.found(findings)
    return Analysis(
        snapshot=snapshot,
        workload=workload if workload.operations else None,
        findings=findings,
        unexplained=explain_nothing(snapshot, findings) + why_skipped(workload.skipped, all_told=is_files),
    )


def _read_redis(url: str | None) -> tuple[RedisReading, JobReading]:
    redis = RedisReading() if url is None else read_redis(url)
    if url is None or redis.state is None:
        return redis, JobReading()
    return redis, read_redis_jobs(url, now_s=time.time())


def counters_before(
    connection: psycopg.Connection, observer: Observer, window_s: float | None
) -> StatementReading | None:
    """What the counters say now, once the window from here on is over; None where there is no window."""
    if window_s is None:
        return None
    earlier = read_statements(connection, role=connection.info.user)
    observer.phase(f"counting statements for {window_s:g} s")
    time.sleep(window_s)
    return earlier


def _read_target(connection: psycopg.Connection, observer: Observer, window_s: float | None) -> Snapshot:
    earlier = counters_before(connection, observer, window_s)
    host = read_target_host(connection)
    return take_snapshot(connection, taken_at_s=time.time(), host=host, earlier=earlier)


def _with_redis(snapshot: Snapshot, redis: RedisReading, jobs: JobReading) -> Snapshot:
    return msgspec.structs.replace(
        snapshot,
        redis=redis.state,
        jobs=snapshot.jobs + jobs.queues,
        limitations=snapshot.limitations + redis.limitations + jobs.limitations,
    )


def _remembering(connection: psycopg.Connection) -> Callable[[str], Plan]:
    """EXPLAIN that asks the server once per text.

    A server plans a write only for a role that may write. Such a write stays in the workload unseen, with
    an empty plan: the lab, where every statement may run, plans it.
    """
    plans: dict[str, Plan] = {}

    def plan(text: str) -> Plan:
        if text not in plans:
            try:
                plans[text] = explain(connection, text)
            except UnsupportedStatement as error:
                is_write = statement_kind(text) is StatementKind.WRITE
                if not (is_write and isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege)):
                    raise
                plans[text] = _UNSEEN
        return plans[text]

    return plan


def _plans(workload: Workload, planner: Callable[[str], Plan]) -> tuple[StatementPlan, ...]:
    seen = (
        StatementPlan(query_id=each.statement.query_id, instance=instance, plan=planner(instance))
        for each in workload.operations
        for instance in each.instances
    )
    return tuple(each for each in seen if each.plan is not _UNSEEN)


def _generic_plans(
    connection: psycopg.Connection, snapshot: Snapshot, workload: Workload
) -> tuple[StatementPlan, ...]:
    """Of each statement with parameters that takes some of the time, one plan for whatever values."""
    shares = statement_shares(snapshot)
    found = []
    for each in workload.operations:
        statement = each.statement
        if shares.get(statement.query_id, 1.0) < TOLD_SHARE or not parameter_count(statement.text):
            continue
        try:
            plan = explain(connection, statement.text, generic=True)
        except UnsupportedStatement:
            continue
        found.append(StatementPlan(query_id=statement.query_id, instance=statement.text, plan=plan))
    return tuple(found)
