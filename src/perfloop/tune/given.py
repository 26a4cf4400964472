"""What the user gives besides the target: a workload of files, and logs with real parameters and plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import psycopg

from perfloop.adapters.explain import explain
from perfloop.adapters.statements import parameter_count
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Limitation, Snapshot, StatementCounters, StatementPlan
from perfloop.model.units import share_text
from perfloop.model.value import Value
from perfloop.model.workload import SkippedStatement, Workload
from perfloop.validate.logged import counters_of, limitations_of, read_log_source
from perfloop.validate.normaliser import shape_key
from perfloop.validate.server_log import LogReading

SMALL_SHARE = 0.005
"""Statements that take less of the time than this are left out without a sentence each."""

_TOLD_ONE_BY_ONE = 3
_GENERIC_PLANS = 20
"""Of statements without values, the first so many, which take the most time, are planned."""


class Sources(Value, frozen=True, kw_only=True):
    """What was given on the command line."""

    workload: str | None
    log: str | None
    log_line_prefix: str | None
    seed: int


class Given(Value, frozen=True, kw_only=True):
    """What was read of it, before anything is planned."""

    snapshot: Snapshot
    """Its statements are the log's, where a log is the workload."""
    logged: LogReading | None = None
    is_log: bool = False
    """Whether the workload is a log."""


def read_sources(sources: Sources, snapshot: Snapshot, tell: Callable[[str], None]) -> Given:
    """Read the logs that were given. Raises InvalidInput where one has nothing that can be used."""
    if sources.workload is None and sources.log is None:
        _refuse_prefix(sources)
        return Given(snapshot=snapshot)
    as_workload = _read(sources, sources.workload, snapshot, tell, required=False)
    if as_workload is not None:
        return _workload_of(as_workload, sources, snapshot)
    logged = _read(sources, sources.log, snapshot, tell, required=True)
    if logged is None:
        _refuse_prefix(sources)
        return Given(snapshot=snapshot)
    return Given(snapshot=_told(snapshot, logged), logged=logged)


def _read(
    sources: Sources,
    path: str | None,
    snapshot: Snapshot,
    tell: Callable[[str], None],
    *,
    required: bool,
) -> LogReading | None:
    if path is None:
        return None
    return read_log_source(
        path,
        snapshot,
        line_prefix=sources.log_line_prefix,
        seed=sources.seed,
        required=required,
        tell=tell,
    )


def _workload_of(logged: LogReading, sources: Sources, snapshot: Snapshot) -> Given:
    if sources.log is not None:
        raise InvalidInput("the workload is a log and has its own parameters; leave --log out")
    if not logged.statements:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in logged.notes)
        raise InvalidInput(
            f"no statement can be read from {sources.workload} ({reasons}); "
            "set log_min_duration_statement on the server, or leave --workload out"
        )
    snapshot = msgspec.structs.replace(snapshot, statements=counters_of(logged, snapshot))
    return Given(snapshot=_told(snapshot, logged), logged=logged, is_log=True)


def _refuse_prefix(sources: Sources) -> None:
    if sources.log_line_prefix is not None:
        raise InvalidInput("--log-line-prefix is about a log; give one with --workload or --log")


def _told(snapshot: Snapshot, logged: LogReading) -> Snapshot:
    limitations = snapshot.limitations + limitations_of(logged.notes)
    return msgspec.structs.replace(snapshot, limitations=limitations)


def with_logged_plans(snapshot: Snapshot, logged: LogReading | None) -> Snapshot:
    """Add the plans with measured figures that the log has of the snapshot's statements.

    A plan that the server would not choose any more may be of a time before an index or ANALYZE; it is
    left out, and told.
    """
    if logged is None:
        return snapshot
    now: dict[str, set[str]] = {}
    for each in snapshot.plans:
        now.setdefault(each.query_id, set()).add(each.plan.shape)
    texts = {each.statement.query_id: each.statement.text for each in snapshot.statements}
    measured: list[StatementPlan] = []
    outdated = 0
    for query_id, shapes in now.items():
        found = logged.find(query_id, texts.get(query_id, ""))
        for each in found.plans if found is not None else ():
            if not _is_measured(each.plan):
                continue
            if each.plan.shape in shapes:
                measured.append(msgspec.structs.replace(each, query_id=query_id))
            else:
                outdated += 1
    return msgspec.structs.replace(
        snapshot,
        plans=snapshot.plans + tuple(measured),
        limitations=snapshot.limitations + _outdated(outdated),
    )


def with_names(snapshot: Snapshot, workload: Workload) -> Snapshot:
    """Give counted statements the names that files have for them, so that all speak of them alike."""
    names = {
        shape_key(each.statement.text): each.statement.name
        for each in workload.operations
        if each.statement.name is not None
    }
    if not names:
        return snapshot

    def named(counters: StatementCounters) -> StatementCounters:
        name = names.get(shape_key(counters.statement.text))
        statement = counters.statement
        if name is None:
            return counters
        return msgspec.structs.replace(counters, statement=msgspec.structs.replace(statement, name=name))

    return msgspec.structs.replace(snapshot, statements=tuple(named(each) for each in snapshot.statements))


def why_skipped(skipped: Iterable[SkippedStatement], *, all_told: bool) -> tuple[str, ...]:
    """What was left out, with the reason: in one sentence for several of the same reason.

    Of counted statements those that take next to no time are told in sum; of files that were given all
    matter.
    """
    least = 0.0 if all_told else SMALL_SHARE
    by_reason: dict[str, list[SkippedStatement]] = {}
    rest: list[float] = []
    for each in skipped:
        if each.time_share >= least:
            by_reason.setdefault(each.reason, []).append(each)
        else:
            rest.append(each.time_share)
    told = [sentence for reason, group in by_reason.items() for sentence in _sentences(reason, group)]
    if rest:
        statements = "1 more statement is" if len(rest) == 1 else f"{len(rest)} more statements are"
        told.append(f"{statements} left out, with {share_text(sum(rest))} of the time")
    return tuple(told)


def _sentences(reason: str, group: list[SkippedStatement]) -> list[str]:
    if len(group) <= _TOLD_ONE_BY_ONE:
        return [f"{each.statement.label}: {reason}" for each in group]
    return [f"{group[0].statement.label} and {len(group) - 1} more: {reason}"]


def _is_measured(plan: Plan) -> bool:
    return plan.root.actual_rows is not None


def _outdated(count: int) -> tuple[Limitation, ...]:
    if not count:
        return ()
    reason = f"{count} of its plans are not what the server chooses now, and are left out"
    return (Limitation(subject="the log", reason=reason, remedy=""),)


def generic_plans(
    connection: psycopg.Connection[Any], skipped: Iterable[SkippedStatement]
) -> tuple[StatementPlan, ...]:
    """Generic plans of statements whose parameters nobody knows: checks see them, no trial does."""
    found: list[StatementPlan] = []
    for each in skipped:
        text = each.statement.text
        if len(found) == _GENERIC_PLANS or not each.time_share or not parameter_count(text):
            continue
        try:
            plan = explain(connection, text, generic=True)
        except UnsupportedStatement:
            continue
        found.append(StatementPlan(query_id=each.statement.query_id, instance=text, plan=plan))
    return tuple(found)
