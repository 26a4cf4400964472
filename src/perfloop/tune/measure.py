"""Run the same operations in both arms of a Trial, interleaved, and read what each costs.

The pair is the unit. It has several rounds. In each, every operation runs as a short block in one arm and
at once in the other, in an order drawn by a fair coin: what drifts slower than a block cancels. A block's
CPU time is read from the kernel's accounting of the arm's own backend, so that neighbours do not count, and
both backends share a processor, drawn anew for every pair (`perfloop.adapters.scheduling` says why).

Every pair runs all instances of an operation equally often. Its ratio is then that of the operation's mean:
with a share of the instances a change that helps most of them, and hurts the dear one, would win.

Writes run in transactions of their own that are rolled back, deferred constraints checked first: the
data stays the same, so that every pair runs the same work. The flush at commit is not measured.

An operation whose instances together take longer than `HEAVY_S` is not run in ten pairs where the counted
run says enough: if it differs by more than `HEAVY_RATIO` between the arms, that single run stands in every
pair, for noise does not double a cost; if plan and work are the same, it counts as unchanged.

A treatment that lets an operation run for far longer than the control (`runaway_s`) is not waited for: that
the operation does not come to its end is verdict enough.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import psycopg
from psycopg import errors, sql

from perfloop.adapters.explain import explain
from perfloop.adapters.host import CpuTimes, cpu_times, neighbour_use
from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan
from perfloop.model.workload import Operation, StatementKind
from perfloop.tune.lab.arms import Arm, put_on_one_processor
from perfloop.tune.samples import Block, Count, FailedPair, Pair, Turn, joined
from perfloop.tune.summary import counts_differ

SLICE_S = 0.25
"""Aimed length of one arm's half of a pair, in seconds."""
ROUNDS = 8
"""A pair of eight rounds of a 20 µs statement spreads by 5 %, one of a single round by 20 %."""
MOST_EXECUTIONS = 1000
"""Of one operation in one arm's half of a pair."""
HEAVY_S = 2.0
HEAVY_RATIO = 2.0
RUNAWAY_S = 10.0
_LEAST_CPU_S = 1e-7
"""A block shorter than the kernel's accounting step reads as zero, which has no logarithm."""


def count(arm: Arm, operation: Operation, *, limit_s: float = 0.0) -> Count:
    """Run every instance under EXPLAIN ANALYZE, and once more by itself for its cost.

    Planning comes first and fills the session's caches, so that a first run counts the same work as a later
    one. A heavy instance is not run again: `priced` does that where its cost matters. Errors become part
    of the count. An execution that takes longer than `limit_s` is ended, which is an error; 0 means no limit.

    Raises:
        ServerFailed: the session ended.
    """
    plans: list[Plan] = []
    cpu_s = wall_s = 0.0
    is_priced = True
    try:
        with limited(arm, limit_s):
            for text in operation.instances:
                plan, cost = _counted_run(arm, text)
                if cost.wall_s >= HEAVY_S:
                    is_priced = False
                else:
                    cost = _run(arm, [text], operation.statement.kind)
                plans.append(plan)
                cpu_s += cost.cpu_s
                wall_s += cost.wall_s
    except (psycopg.Error, UnsupportedStatement) as error:
        return Count(error=_reason(error))
    runs = len(operation.instances)
    return Count(plans=tuple(plans), cpu_s=cpu_s / runs, wall_s=wall_s / runs, is_priced=is_priced)


@contextmanager
def limited(arm: Arm, limit_s: float) -> Iterator[None]:
    """Let the server end statements of the arm that take longer; 0 means no limit, as does leaving."""
    if limit_s == 0:
        yield
        return
    arm.end_statements_after(limit_s)
    try:
        yield
    finally:
        if not arm.connection.closed:
            arm.end_statements_after(0)


def runaway_s(control: Count) -> float:
    """How long an execution may take in the treatment arm, in seconds.

    A hundred times as long as in the control, but at least 10 s, and beyond a minute five times as long.
    """
    return max(RUNAWAY_S, min(60.0, 100.0 * control.wall_s), 5.0 * control.wall_s)


def is_heavy(counted: Count) -> bool:
    """Whether all instances together take too long for ten pairs."""
    return counted.wall_s * len(counted.plans) >= HEAVY_S


def priced(arm: Arm, operation: Operation, counted: Count, *, limit_s: float) -> Count:
    """The count with the cost of a run by itself: EXPLAIN ANALYZE adds to each row of each node."""
    try:
        with limited(arm, limit_s):
            block = _run(arm, operation.instances, operation.statement.kind)
    except psycopg.Error as error:
        return Count(error=_reason(error))
    return dataclasses.replace(
        counted, cpu_s=block.cpu_per_call_s, wall_s=block.wall_per_call_s, is_priced=True
    )


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
        wanted = min(slice_s * claims[query_id] / total / cost_s[query_id], MOST_EXECUTIONS)
        turns.append(
            Turn(
                operation=each,
                sets=max(1, round(wanted / len(each.instances))),
                standing=_standing(control[query_id], treatment[query_id]),
            )
        )
    return tuple(turns)


def pair_s(turns: Sequence[Turn], control: Mapping[str, Count], treatment: Mapping[str, Count]) -> float:
    """How long a pair will take, by the counted runs."""
    return sum(
        (control[query_id].wall_s + treatment[query_id].wall_s) * turn.sets * len(turn.operation.instances)
        for turn in turns
        if turn.standing is None
        for query_id in [turn.operation.statement.query_id]
    )


def run_pair(control: Arm, treatment: Arm, turns: Sequence[Turn], rng: Random) -> Pair | FailedPair:
    """Run one pair. A statement that fails in it makes the pair void.

    Raises:
        ServerFailed: a session ended.
    """
    blocks: dict[str, dict[str, list[Block]]] = {control.name: {}, treatment.name: {}}
    put_on_one_processor(control, treatment, rng)
    before = cpu_times()
    for round_number in range(ROUNDS):
        for turn in turns:
            sets = turn.sets_in_round(round_number, ROUNDS)
            if turn.standing is not None or not sets:
                continue
            order = (control, treatment) if rng.random() < 0.5 else (treatment, control)
            for arm in order:
                try:
                    block = _run(arm, turn.operation.instances * sets, turn.operation.statement.kind)
                except psycopg.Error as error:
                    label = turn.operation.statement.label
                    return FailedPair(arm=arm.name, label=label, error=_reason(error))
                blocks[arm.name].setdefault(turn.operation.statement.query_id, []).append(block)
    halves = [
        {query_id: joined(each) for query_id, each in blocks[arm.name].items()}
        for arm in (control, treatment)
    ]
    return _pair(halves, turns, before, cpu_times())


def _pair(
    halves: Sequence[Mapping[str, Block]], turns: Sequence[Turn], before: CpuTimes, after: CpuTimes
) -> Pair:
    own_s = sum(block.cpu_s for half in halves for block in half.values())
    neighbours = neighbour_use(before, after, own_s=own_s)
    standing = {
        turn.operation.statement.query_id: turn.standing for turn in turns if turn.standing is not None
    }
    return Pair(
        control={**halves[0], **{query_id: both[0] for query_id, both in standing.items()}},
        treatment={**halves[1], **{query_id: both[1] for query_id, both in standing.items()}},
        neighbour_ratio=neighbours.neighbour_ratio,
        steal_ratio=neighbours.steal_ratio,
    )


def _run(arm: Arm, texts: Sequence[str], kind: StatementKind) -> Block:
    latencies_s = []
    with arm.told_if_lost():
        worded = [arm.text(text) for text in texts]
        before_s = arm.spent_s()
        for text in worded:
            started_s = time.perf_counter()
            execute(arm.connection, text, kind)
            latencies_s.append(time.perf_counter() - started_s)
        spent_s = arm.spent_s() - before_s
    return Block(
        executions=len(texts),
        cpu_s=max(spent_s, _LEAST_CPU_S),
        wall_s=sum(latencies_s),
        latencies_s=tuple(latencies_s),
    )


def _counted_run(arm: Arm, text: str) -> tuple[Plan, Block]:
    with arm.told_if_lost():
        worded = arm.text(text)
        explain(arm.connection, worded)
        before_s, started_s = arm.spent_s(), time.perf_counter()
        plan = explain(arm.connection, worded, analyze=True)
        wall_s = time.perf_counter() - started_s
        spent_s = arm.spent_s() - before_s
    return plan, Block(executions=1, cpu_s=spent_s, wall_s=wall_s)


def _standing(control: Count, treatment: Count) -> tuple[Block, Block] | None:
    if not (is_heavy(control) or is_heavy(treatment)) or control.error or treatment.error:
        return None
    low, high = sorted((max(control.cpu_s, _LEAST_CPU_S), max(treatment.cpu_s, _LEAST_CPU_S)))
    if high / low >= HEAVY_RATIO:
        return _single(control), _single(treatment)
    if not counts_differ(control, treatment):
        return _single(control), _single(control)
    return None


def _single(counted: Count) -> Block:
    cpu_s = max(counted.cpu_s, _LEAST_CPU_S)
    return Block(executions=1, cpu_s=cpu_s, wall_s=counted.wall_s, latencies_s=(counted.wall_s,))


def _reason(error: Exception) -> str:
    """The server's words; a cancelled statement is one that passed the limit, for nobody else cancels it."""
    if isinstance(error, errors.QueryCanceled) or isinstance(error.__cause__, errors.QueryCanceled):
        return "it was ended, because it took far longer than it may"
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    return str(error).strip()
