"""What an index would change for one statement, measured in a lab that has the rows of its tables only.

Nothing hypothetical happens on a target: HypoPG can end its server (a partial index on an expression and a
view were enough in 1.4), and it has to be installed there. In a lab the index is built for real, and the
statement is run for real without and with it, so that rows and blocks are counted, not estimated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from msgspec.structs import replace
from psycopg import sql

from perfloop.adapters.explain import explain
from perfloop.adapters.queries import load_blocks
from perfloop.adapters.servers import find_postgres
from perfloop.analyze.annotate import annotate
from perfloop.analyze.checks import analyze
from perfloop.analyze.reading import read_plans
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.advice import CreateIndex
from perfloop.model.explained import ExplainedPlan, IndexAttempt
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.target import TableName
from perfloop.model.value import Value
from perfloop.model.workload import Operation, StatementKind, Workload
from perfloop.tune.advisor.advice import propose
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.lab.carry import carry_statistics, plant_invalid_indexes
from perfloop.tune.lab.copies import Copies, set_session
from perfloop.tune.lab.fill import copy_database, refuse_old_tools, refuse_unless_it_fits
from perfloop.tune.lab.servers import ORIGIN, OwnServer
from perfloop.tune.lab.settings import lab_settings
from perfloop.tune.statements import act_statements

STATEMENT_TIMEOUT_S = 60.0
TRIED = "perfloop_tried"
"""The name of an index that the user wrote down."""
_INDEXED_SHARE = 2
"""What a table takes in the lab over its heap, with its indexes."""


class LabFindings(Value, frozen=True, kw_only=True):
    """What the lab said of one statement."""

    attempts: tuple[IndexAttempt, ...]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """An index to build, and whose idea it was."""

    title: str
    origin: str
    name: str
    commands: tuple[sql.SQL | sql.Composed, ...]


def try_indexes(
    dsn: str,
    snapshot: Snapshot,
    operation: Operation,
    instances: tuple[tuple[str, str], ...],
    asked: tuple[str, ...],
    *,
    max_lab_bytes: int,
    tell: Callable[[str], None],
) -> LabFindings:
    """Run the instances in a lab, without and with each index.

    Args:
        dsn: of the target, which is only copied from.
        snapshot: of the target, with the plans of the operation.
        operation: the statement.
        instances: those of its texts that are run, each with words on what it stands for.
        asked: indexes as "table (keys)"; none to try the one that the advisor thinks best.
        max_lab_bytes: refuse to copy more.
        tell: is told of each phase.

    Raises:
        LabRefused, ServerNotFound: no lab can be had.
        InvalidInput: an index that was asked for cannot be built.
    """
    with _lab(dsn, snapshot, operation, max_lab_bytes, tell) as (connection, notes):
        before = _run_all(connection, snapshot, operation, instances)
        if asked:
            builds = tuple(map(_asked_build, asked))
            reasons: tuple[str, ...] = ()
        else:
            tell("searching for an index")
            builds, reasons = _best(connection, snapshot, operation)
        attempts = []
        for build in builds:
            tell(f"building {build.title}")
            with _built(connection, build) as attempt:
                after = _run_all(connection, snapshot, operation, instances)
            attempts.append(replace(attempt, pairs=tuple(zip(before, after, strict=True))))
    return LabFindings(attempts=tuple(attempts), reasons=reasons, notes=notes)


@contextmanager
def _lab(
    dsn: str,
    snapshot: Snapshot,
    operation: Operation,
    max_lab_bytes: int,
    tell: Callable[[str], None],
) -> Iterator[tuple[psycopg.Connection, tuple[str, ...]]]:
    """A session on a copy of the target with the rows of the statement's tables."""
    major = snapshot.fingerprint.major
    binaries = find_postgres(prefer_major=major)
    refuse_old_tools(binaries, major)
    filled = _filled(snapshot, operation)
    size_bytes = sum(each.size_bytes for each in snapshot.tables if each.name in filled)
    refuse_unless_it_fits(_INDEXED_SHARE * size_bytes, limit_bytes=max_lab_bytes)
    with OwnServer(binaries, lab_settings(snapshot)) as server:
        copies = Copies(server)
        copies.clone(ORIGIN, of=None)
        many = "1 table" if len(filled) == 1 else f"{len(filled)} tables"
        tell(f"copying {many} into a lab")
        empty = [each.name for each in snapshot.tables if each.name not in filled]
        problems = copy_database(dsn, copies.dsn(ORIGIN), binaries, empty=empty)
        notes = tuple(each for each in problems if "foreign key" not in each)
        if binaries.major != major:
            notes += (f"the lab runs PostgreSQL {binaries.major}, the target {major}: plans may differ",)
        with copies.connect(ORIGIN) as connection:
            connection.execute("VACUUM ANALYZE")
            plant_invalid_indexes(connection, snapshot)
            carry_statistics(connection, snapshot)
            set_session(connection, {"statement_timeout": f"{STATEMENT_TIMEOUT_S:.0f}s"})
            yield connection, notes


def _filled(snapshot: Snapshot, operation: Operation) -> frozenset[TableName]:
    """The tables whose rows the lab needs. What a write checks and sets off is not seen, so it gets all."""
    if operation.statement.kind is StatementKind.WRITE:
        return frozenset(each.name for each in snapshot.tables)
    query_id = operation.statement.query_id
    return frozenset(
        TableName(schema=schema, name=name)
        for each in snapshot.plans
        if each.query_id == query_id
        for schema, name in each.plan.relations
    )


def _run_all(
    connection: psycopg.Connection,
    snapshot: Snapshot,
    operation: Operation,
    instances: tuple[tuple[str, str], ...],
) -> tuple[ExplainedPlan, ...]:
    """Each instance run twice, the second time counted, when its blocks are where they stay."""
    plans = []
    for instance, _ in instances:
        try:
            explain(connection, instance, analyze=True)
            plan = explain(connection, instance, analyze=True)
        except UnsupportedStatement:
            # It takes too long, or this lab lacks what it needs; the estimate is still true of the lab.
            plan = explain(connection, instance)
        plans.append(StatementPlan(query_id=operation.statement.query_id, instance=instance, plan=plan))
    seen = replace(snapshot, plans=tuple(plans))
    return tuple(
        annotate(reading, about=about)
        for reading, (_, about) in zip(read_plans(seen), instances, strict=True)
    )


def _best(
    connection: psycopg.Connection, snapshot: Snapshot, operation: Operation
) -> tuple[tuple[_Build, ...], tuple[str, ...]]:
    """The index that the advisor ranks first for this statement alone, or why there is none."""
    workload = Workload(origin="explain", operations=(replace(operation, calls_share=1.0),))
    with open_what_if(connection, snapshot.tables) as what_if:
        advice = propose(snapshot, analyze(snapshot), workload, what_if)
    indexes = [each.change for each in advice.proposals if isinstance(each.change, CreateIndex)]
    label = operation.statement.label
    about = tuple(each for each in advice.unexplained if each.startswith(label))
    builds = (
        _Build(
            title=each.title.removeprefix("create index on "),
            origin="the advisor's choice",
            name=each.name,
            commands=act_statements(each, concurrently=False),
        )
        for each in indexes[:1]
    )
    return tuple(builds), () if indexes else about


def _asked_build(text: str) -> _Build:
    named = sql.SQL("CREATE INDEX {} ON ").format(sql.Identifier(TRIED))
    command = named + sql.SQL(text.strip().rstrip(";"))
    return _Build(title=text, origin="as asked for", name=TRIED, commands=(command,))


@contextmanager
def _built(connection: psycopg.Connection, build: _Build) -> Iterator[IndexAttempt]:
    """The index, real, until the block ends. Raises InvalidInput where the server does not build it."""
    began = time.monotonic()
    try:
        for command in build.commands:
            # The extended protocol takes one command, whatever stands behind a semicolon.
            connection.execute(command, binary=True)
    except psycopg.Error as error:
        fact = error.diag.message_primary or str(error).strip()
        raise InvalidInput(
            f'the index "{build.title}" cannot be built: {fact}; '
            'write it as "orders (user_id, placed_at desc)"'
        ) from error
    build_s = time.monotonic() - began
    block = load_blocks("perfloop.tune", "explained.sql")["index_of_name"]
    row = connection.execute(block, [build.name]).fetchone()
    schema, size_bytes = (str(row[0]), int(row[1])) if row else ("public", 0)
    yield IndexAttempt(title=build.title, origin=build.origin, size_bytes=size_bytes, build_s=build_s)
    connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(schema, build.name)))
