"""Explain one statement of a target: how it is planned, what is wrong with that, what an index would change.

The target is only read, and nothing is run on it, unless that is asked for. What would be tried is tried in
a lab that has the rows of the statement's tables (`explained_lab`).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from msgspec.structs import replace

from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.adapters.host import read_host, server_is_here
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.statements import parameter_count
from perfloop.analyze.annotate import annotate
from perfloop.analyze.checks import analyze
from perfloop.analyze.nothing import why_nothing
from perfloop.analyze.reading import PlanReading, read_plans
from perfloop.analyze.smells import SMELLS
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.advice import Finding
from perfloop.model.explained import ExplainedPlan, Explanation
from perfloop.model.snapshot import Snapshot, StatementCounters, StatementPlan
from perfloop.model.target import TableName
from perfloop.model.workload import Operation, SkippedStatement, StatementKind
from perfloop.tune.asked import ExplainOptions, counted, given, refuse_values, refuse_writes, with_values
from perfloop.tune.explained_lab import try_indexes
from perfloop.tune.observer import Observer
from perfloop.validate.operations import Counted, Drawing, operations
from perfloop.validate.sampling import parameter_types, sampler

MOST_PLANS = 3
"""Of the plans of one statement, the dearest so many are shown."""
_WIDE_RATIO = 3.0
_ABOUT_READ = frozenset({"stale-statistics", "table-bloat", "vacuum-lag"})
"""Checks of tables that bear on a statement that reads them."""
_ABOUT_WRITTEN = _ABOUT_READ | {"invalid-index", "hot-updates", "duplicate-index"}
"""Those that bear on a statement that writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A statement with the Snapshot that has the plans of all its instances."""

    operation: Operation
    snapshot: Snapshot


def explain_query(
    dsn: str, query_id: str, options: ExplainOptions, observer: Observer
) -> tuple[Explanation, ...]:
    """Explain a statement that pg_stat_statements counted, by its query id or by the end of it.

    Raises InvalidInput where there is none or more than one, and as `explain_text`.
    """
    return _explain(dsn, lambda snapshot: counted(snapshot, query_id), options, observer)


def explain_text(
    dsn: str, text: str, name: str, options: ExplainOptions, observer: Observer
) -> tuple[Explanation, ...]:
    """Explain the statements of a text, in its order.

    Raises:
        TargetUnreachable, MissingRights, InvalidInput: the target cannot be read.
        InvalidInput: none of the statements can be explained, or one may not be run.
        LabRefused, ServerNotFound: a lab was asked for and cannot be had.
    """
    return _explain(dsn, lambda snapshot: given(text, name), options, observer)


def _explain(
    dsn: str,
    choose: Callable[[Snapshot], tuple[Counted, ...]],
    options: ExplainOptions,
    observer: Observer,
) -> tuple[Explanation, ...]:
    observer.phase("reading the target")
    read_only = not (options.analyze and options.may_write)
    with connect(dsn, read_only=read_only, statement_timeout_s=options.statement_timeout_s) as connection:
        host = read_host(runs_server=server_is_here(connection))
        snapshot = take_snapshot(connection, taken_at_s=time.time(), host=host)
        asked = with_values(choose(snapshot), options.parameters)
        refuse_writes(asked, options)
        observer.phase("planning it")
        refuse_values(asked, lambda text: explain(connection, text))
        drawing = Drawing(
            snapshot=snapshot,
            plans=lambda text: explain(connection, text),
            seed=options.seed,
            sample=sampler(connection),
            types=parameter_types(connection),
        )
        made, failed = operations(asked, drawing)
        planned = {each.statement.query_id: _planned(connection, snapshot, each) for each in made}
        explained = [_explained(connection, each, options, observer) for each in planned.values()]
        explained += [_unplanned(connection, snapshot, each, alone=len(asked) == 1) for each in failed]
    order = [each.statement.query_id for each in asked]
    explained.sort(key=lambda each: order.index(each.statement.query_id))
    if options.what_if or options.with_indexes:
        explained = [
            _tried(dsn, planned.get(each.statement.query_id), each, options, observer) for each in explained
        ]
    return tuple(explained)


def _labelled(snapshot: Snapshot, operation: Operation) -> Snapshot:
    """The Snapshot in which rules find the statement's words, also where nobody counted it."""
    statement = operation.statement
    if any(each.statement.query_id == statement.query_id for each in snapshot.statements):
        return snapshot
    uncounted = StatementCounters(statement=statement, calls=0, total_s=0.0, rows=0)
    return replace(snapshot, statements=(*snapshot.statements, uncounted))


def _planned(connection: psycopg.Connection, snapshot: Snapshot, operation: Operation) -> _Planned:
    query_id = operation.statement.query_id
    plans = tuple(
        StatementPlan(query_id=query_id, instance=text, plan=explain(connection, text))
        for text in operation.instances
    )
    return _Planned(operation=operation, snapshot=replace(_labelled(snapshot, operation), plans=plans))


def _explained(
    connection: psycopg.Connection, planned: _Planned, options: ExplainOptions, observer: Observer
) -> Explanation:
    snapshot, query_id = planned.snapshot, planned.operation.statement.query_id
    chosen = tuple(_chosen(snapshot.plans))
    notes: list[str] = []
    if options.analyze:
        observer.phase("running it on the target, in a transaction that is rolled back")
        chosen = tuple((_executed(connection, each, notes), about) for each, about in chosen)
    seen = replace(snapshot, plans=tuple(each for each, _ in chosen))
    abouts = [about for _, about in chosen]
    shown = tuple(map(_annotated, read_plans(seen), abouts))
    findings = _findings(snapshot, query_id)
    counters = next(each for each in snapshot.statements if each.statement.query_id == query_id)
    return replace(
        _blank(snapshot, counters),
        plans=shown,
        findings=findings,
        reasons=_reasons(seen, shown, counters),
        notes=tuple(dict.fromkeys((*notes, *_spread(snapshot.plans, shown)))),
    )


def _annotated(reading: PlanReading, about: str) -> ExplainedPlan:
    return annotate(reading, about=about)


def _chosen(plans: tuple[StatementPlan, ...]) -> Iterator[tuple[StatementPlan, str]]:
    """One plan of each shape, the dearest ones first, with words on whose plan it is."""
    by_shape: dict[str, list[StatementPlan]] = defaultdict(list)
    for each in plans:
        by_shape[each.plan.shape].append(each)
    groups = sorted(by_shape.values(), key=lambda group: -_dearest(group).plan.root.total_cost)
    for group in groups[:MOST_PLANS]:
        some = f"{len(group)} of {len(plans)}" if len(groups) > 1 else f"all {len(plans)}"
        yield _dearest(group), f"{some} draws of parameters" if len(plans) > 1 else ""


def _dearest(group: list[StatementPlan]) -> StatementPlan:
    return max(group, key=lambda each: (each.plan.root.total_cost, each.instance))


def _executed(connection: psycopg.Connection, each: StatementPlan, notes: list[str]) -> StatementPlan:
    try:
        return replace(each, plan=explain(connection, each.instance, analyze=True))
    except UnsupportedStatement as error:
        notes.append(f"it could not be run, so this is an estimate: {error}")
        return each


def _spread(plans: tuple[StatementPlan, ...], shown: tuple[ExplainedPlan, ...]) -> Iterator[str]:
    costs = sorted(each.plan.root.total_cost for each in plans)
    shapes = {each.plan.shape for each in plans}
    if len(shapes) > len(shown):
        yield f"{len(shapes) - len(shown)} more plans, which cost less, are not shown"
    if len(shapes) == 1 and costs[-1] > _WIDE_RATIO * max(1.0, costs[0]):
        yield (
            f"all {len(plans)} draws of parameters have this plan, at costs from {costs[0]:,.0f} to "
            f"{costs[-1]:,.0f}; shown is the dearest"
        )


def _findings(snapshot: Snapshot, query_id: str) -> tuple[Finding, ...]:
    """What checks of the whole target say of the statement or its tables; smells stand at the nodes."""
    smells = {each.name for each in SMELLS}
    statement = next(each.statement for each in snapshot.statements if each.statement.query_id == query_id)
    about = _ABOUT_WRITTEN if statement.kind is StatementKind.WRITE else _ABOUT_READ
    tables = {
        str(TableName(schema=schema, name=name))
        for each in snapshot.plans
        for schema, name in each.plan.relations
    }
    return tuple(
        each
        for each in analyze(snapshot)
        if (query_id in each.query_ids and each.check not in smells)
        or (each.check in about and each.location.partition(":")[0] in tables)
    )


def _reasons(
    snapshot: Snapshot,
    shown: tuple[ExplainedPlan, ...],
    counters: StatementCounters,
) -> tuple[str, ...]:
    """Why there is nothing to say of the plans, where there is nothing."""
    if any(plan.remarks for plan in shown):
        return ()
    mean_s = counters.mean_s if counters.calls else None
    return (f"it {why_nothing(snapshot, snapshot.plans[0].plan, mean_s=mean_s)}",)


def _unplanned(
    connection: psycopg.Connection, snapshot: Snapshot, skipped: SkippedStatement, *, alone: bool
) -> Explanation:
    """What can be said of a statement without values for its parameters, or that touches no table.

    Raises InvalidInput where the server does not plan it at all, if it is the only one.
    """
    statement = skipped.statement
    generic = parameter_count(statement.text) > 0
    counters = next(
        (each for each in snapshot.statements if each.statement.query_id == statement.query_id),
        StatementCounters(statement=statement, calls=0, total_s=0.0, rows=0),
    )
    blank = _blank(snapshot, counters)
    try:
        plan = explain(connection, statement.text, generic=generic)
    except UnsupportedStatement as error:
        if alone:
            raise InvalidInput(f"{statement.label} cannot be explained: {error}") from error
        return replace(blank, notes=(f"it cannot be explained: {error}",))
    seen = StatementPlan(query_id=statement.query_id, instance=statement.text, plan=plan)
    (reading,) = read_plans(replace(snapshot, plans=(seen,)))
    about = "the plan for any parameters" if generic else ""
    notes = (f"no values could be drawn for its parameters ({skipped.reason}); --param gives them",)
    return replace(blank, plans=(annotate(reading, about=about),), notes=notes if generic else ())


def _tried(
    dsn: str,
    planned: _Planned | None,
    explained: Explanation,
    options: ExplainOptions,
    observer: Observer,
) -> Explanation:
    if planned is None:
        note = "no index is tried, because it could not be planned with values"
        return replace(explained, notes=(*explained.notes, note))
    found = try_indexes(
        dsn,
        planned.snapshot,
        planned.operation,
        tuple((each.instance, about) for each, about in _chosen(planned.snapshot.plans)),
        options.with_indexes,
        max_lab_bytes=options.max_lab_bytes,
        tell=observer.phase,
    )
    return replace(
        explained,
        attempts=found.attempts,
        reasons=(*explained.reasons, *found.reasons),
        notes=(*explained.notes, *found.notes),
    )


def _blank(snapshot: Snapshot, counters: StatementCounters) -> Explanation:
    total_s = snapshot.total_s()
    is_counted = counters.calls > 0
    return Explanation(
        database=snapshot.database,
        server_version=snapshot.fingerprint.server_version,
        taken_at_s=snapshot.taken_at_s,
        statement=counters.statement,
        counters=counters if is_counted else None,
        time_share=counters.total_s / total_s if is_counted and total_s > 0 else None,
    )
