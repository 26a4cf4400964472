"""Run the same operations in both arms of a Trial, interleaved, and read what each costs.

The pair is the unit. Within a pair every operation runs as a short block in one arm and at once in the
other, in an order drawn by a fair coin per operation: what drifts slower than a block cancels. A block's
CPU time is read from the kernel's accounting of the arm's own backend, so that neighbours do not count.

Writes run in transactions of their own that are rolled back, deferred constraints checked first: the
data stays the same, so that every pair runs the same work. The flush at commit is not measured.

An operation slower than `HEAVY_S` cannot be run in ten pairs. Where its counted run differs by more than
`HEAVY_RATIO` between the arms, that single run stands in every pair: noise does not double a cost.

A treatment that lets an operation run for more than `RUNAWAY_RATIO` times as long, and for more than
`RUNAWAY_S`, is not waited for: that the operation does not come to its end is verdict enough.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import psycopg
from psycopg import sql

from perfloop.adapters.explain import explain
from perfloop.adapters.host import CpuTimes, cpu_times, neighbour_use
from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan
from perfloop.model.workload import Operation, StatementKind
from perfloop.tune.lab.arms import Arm
from perfloop.tune.samples import Block, Count, Pair, Turn

SLICE_S = 0.25
"""Aimed length of one arm's half of a pair, in seconds."""
HEAVY_S = 2.0
RUNAWAY_S = 10.0
RUNAWAY_RATIO = 100.0
HEAVY_RATIO = 2.0
MAX_REPEATS = 60


def count(arm: Arm, operation: Operation, *, limit_s: float = 0.0) -> Count:
    """Run every instance once to warm up and once under EXPLAIN ANALYZE. Errors become part of the count.

    An execution that takes longer than `limit_s` is ended and counts as an error; 0 means no limit.
    """
    plans: list[Plan] = []
    cpu_s = wall_s = 0.0
    try:
        with _limited(arm.connection, limit_s):
            for text in operation.instances:
                before_s = arm.spent_s()
                started_s = time.perf_counter()
                execute(arm.connection, text, operation.statement.kind)
                wall_s += time.perf_counter() - started_s
                cpu_s += arm.spent_s() - before_s
                plans.append(explain(arm.connection, text, analyze=True))
    except (psycopg.Error, UnsupportedStatement) as error:
        return Count(error=str(error).strip())
    runs = len(operation.instances)
    return Count(plans=tuple(plans), cpu_s=cpu_s / runs, wall_s=wall_s / runs)


@contextmanager
def _limited(connection: psycopg.Connection, limit_s: float) -> Iterator[None]:
    """Let the server end statements that take longer; the session's own limit holds again afterwards."""
    if limit_s == 0:
        yield
        return
    own = connection.execute("SELECT current_setting('statement_timeout')").fetchone()
    _set_limit(connection, f"{math.ceil(limit_s * 1000)}ms")
    try:
        yield
    finally:
        if own is not None and not connection.closed:
            _set_limit(connection, own[0])


def _set_limit(connection: psycopg.Connection, limit: str) -> None:
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [limit])


def execute(connection: psycopg.Connection, text: str, kind: StatementKind) -> None:
    """Run a statement for its work: results are fetched and dropped, writes are rolled back."""
    if kind is StatementKind.READ:
        connection.execute(sql.SQL(text))
        return
    script = sql.SQL("BEGIN;{}\n;SET CONSTRAINTS ALL IMMEDIATE;ROLLBACK").format(sql.SQL(text))
    try:
        connection.execute(script)
    except psycopg.Error:
        if not connection.closed:
            connection.rollback()
        raise


def runaway_s(control: Count) -> float:
    """How long an execution may take in the treatment arm, in seconds."""
    return max(RUNAWAY_S, RUNAWAY_RATIO * control.wall_s)


def plan_turns(
    operations: Sequence[Operation],
    control: Mapping[str, Count],
    treatment: Mapping[str, Count],
    *,
    slice_s: float = SLICE_S,
) -> tuple[Turn, ...]:
    """Share a pair's time among the operations: more executions where weight and cost promise precision.

    The share of an operation goes with weight times the root of its cost (Neyman's allocation, where the
    noise of a block grows with the root of its length).
    """
    cost_s = {
        query_id: max(control[query_id].wall_s, treatment[query_id].wall_s, 1e-5) for query_id in control
    }
    claims = {
        each.statement.query_id: each.calls_share * math.sqrt(cost_s[each.statement.query_id])
        for each in operations
    }
    total = sum(claims.values())
    turns = []
    for each in operations:
        query_id = each.statement.query_id
        standing = _standing(control[query_id], treatment[query_id])
        wanted = slice_s * claims[query_id] / total / cost_s[query_id]
        repeats = max(1, min(MAX_REPEATS, round(wanted)))
        turns.append(Turn(operation=each, repeats=repeats, standing=standing))
    return tuple(turns)


def run_pair(control: Arm, treatment: Arm, turns: Sequence[Turn], number: int, rng: Random) -> Pair:
    """Run one pair; `number` counts from 0 and turns the instances, so that all are used in turn."""
    blocks: dict[str, dict[str, Block]] = {control.name: {}, treatment.name: {}}
    before = cpu_times()
    for turn in turns:
        query_id = turn.operation.statement.query_id
        if turn.standing is not None:
            blocks[control.name][query_id], blocks[treatment.name][query_id] = turn.standing
            continue
        order = (control, treatment) if rng.random() < 0.5 else (treatment, control)
        for arm in order:
            blocks[arm.name][query_id] = _run_block(arm, turn, number)
    return _pair(control, treatment, blocks, before, cpu_times())


def _pair(
    control: Arm,
    treatment: Arm,
    blocks: Mapping[str, Mapping[str, Block]],
    before: CpuTimes,
    after: CpuTimes,
) -> Pair:
    own_s = sum(block.cpu_s for arm in blocks.values() for block in arm.values())
    neighbours = neighbour_use(before, after, own_s=own_s)
    return Pair(
        control=blocks[control.name],
        treatment=blocks[treatment.name],
        neighbour_ratio=neighbours.neighbour_ratio,
        steal_ratio=neighbours.steal_ratio,
    )


def _run_block(arm: Arm, turn: Turn, number: int) -> Block:
    instances = turn.operation.instances
    kind = turn.operation.statement.kind
    first = number * turn.repeats
    latencies_s = []
    before_s = arm.spent_s()
    for offset in range(turn.repeats):
        started_s = time.perf_counter()
        execute(arm.connection, instances[(first + offset) % len(instances)], kind)
        latencies_s.append(time.perf_counter() - started_s)
    return Block(
        executions=turn.repeats,
        # A block shorter than the kernel's accounting step reads as zero, which has no logarithm.
        cpu_s=max(arm.spent_s() - before_s, 1e-7),
        wall_s=sum(latencies_s),
        latencies_s=tuple(latencies_s),
    )


def _standing(control: Count, treatment: Count) -> tuple[Block, Block] | None:
    if max(control.wall_s, treatment.wall_s) < HEAVY_S:
        return None
    low, high = sorted((max(control.cpu_s, 1e-7), max(treatment.cpu_s, 1e-7)))
    if high / low < HEAVY_RATIO:
        return None
    return tuple(
        Block(executions=1, cpu_s=each.cpu_s, wall_s=each.wall_s, latencies_s=(each.wall_s,))
        for each in (control, treatment)
    )  # type: ignore[return-value]  # two arms make two blocks
