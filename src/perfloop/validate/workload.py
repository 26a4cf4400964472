"""Makes a Workload of what pg_stat_statements counted; asks the server whether each instance plans.

The statements with most time make the Workload, up to 99 % of it. Writes that are called often stay
whatever their time: an index that helps a read is paid for by the writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from random import Random

from perfloop.adapters.statements import is_our_own
from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.value import Value
from perfloop.model.workload import Operation, SkippedStatement, Statement, StatementKind, Workload
from perfloop.validate.parameters import UNTYPED, Sampler, draw_instances
from perfloop.validate.tokens import TokenKind, tokens

Planner = Callable[[str], Plan]
"""The plan of a complete text; raises UnsupportedStatement with the server's reason."""

TIME_COVERED = 0.99
WRITE_CALLS_SHARE = 0.001
"""A write below this share of all calls and outside the time covered changes nothing that is measured."""

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast"})


class Counted(Value, frozen=True, kw_only=True):
    """A statement with its calls and time, from whatever source."""

    statement: Statement
    calls: float
    time_share: float = 0.0


def workload_from_statements(
    snapshot: Snapshot,
    plans: Planner,
    *,
    seed: int,
    most: int = 40,
    instances: int = 5,
    sample: Sampler | None = None,
) -> Workload:
    """The Workload of the snapshot's statement counters. What is left out is listed with its reason.

    Args:
        snapshot: With statements, tables and column statistics.
        plans: Asks a server of the same schema, by EXPLAIN.
        seed: The same seed and snapshot give the same Workload.
        most: How many statements at most, besides writes that are called often.
        instances: Draws of parameters per statement.
        sample: Reads values of a column that pg_stats knows nothing about.
    """
    total_s = snapshot.total_s()
    ours = [each for each in snapshot.statements if not is_our_own(each.statement.text)]
    taken, skipped = _select(ours, total_s, most)
    counted = [
        Counted(statement=each.statement, calls=each.calls, time_share=_share(each.total_s, total_s))
        for each in taken
    ]
    made, failed = operations(counted, snapshot, plans, seed=seed, instances=instances, sample=sample)
    return Workload(origin="pg_stat_statements", operations=made, skipped=(*failed, *skipped))


def operations(
    counted: Iterable[Counted],
    snapshot: Snapshot,
    plans: Planner,
    *,
    seed: int,
    instances: int,
    sample: Sampler | None,
) -> tuple[tuple[Operation, ...], tuple[SkippedStatement, ...]]:
    """One Operation per statement that plans, with shares of the calls that sum to 1; and the others."""
    drawn: list[tuple[Counted, tuple[str, ...]]] = []
    skipped: list[SkippedStatement] = []
    for each in counted:
        try:
            texts = _planned_instances(each.statement, snapshot, plans, seed, instances, sample)
            drawn.append((each, texts))
        except UnsupportedStatement as error:
            skipped.append(
                SkippedStatement(statement=each.statement, reason=str(error), time_share=each.time_share)
            )
    calls = sum(each.calls for each, _ in drawn)
    made = (
        Operation(statement=each.statement, calls_share=each.calls / calls, instances=texts)
        for each, texts in drawn
    )
    return tuple(made), tuple(skipped)


def query_id(text: str) -> str:
    """The identity of a text that no server has numbered: a digest of its tokens, whatever its spaces."""
    try:
        words = [token.text for token in tokens(text) if token.kind is not TokenKind.SPACE]
    except UnsupportedStatement:
        words = text.split()
    return hashlib.blake2b("\0".join(words).encode(), digest_size=8).hexdigest()


def _planned_instances(
    statement: Statement, snapshot: Snapshot, plans: Planner, seed: int, count: int, sample: Sampler | None
) -> tuple[str, ...]:
    """The instances that the server plans. Raises UnsupportedStatement if there are none."""
    reason = UnsupportedStatement("no instance of it plans")
    for position, untyped in enumerate(UNTYPED):
        rng = Random(f"{seed} {statement.query_id}")
        drawn = draw_instances(statement.text, snapshot, rng=rng, count=count, sample=sample, untyped=untyped)
        planned = []
        for text in drawn:
            try:
                _refuse_system_tables(plans(text))
                planned.append(text)
            except UnsupportedStatement as error:
                reason = error if position == 0 else reason
        if planned:
            return tuple(planned)
        if drawn == (statement.text,):
            break
    raise reason


def _refuse_system_tables(plan: Plan) -> None:
    schemas = {schema for schema, _ in plan.relations}
    if schemas and schemas <= _SYSTEM_SCHEMAS:
        raise UnsupportedStatement("it reads only the system catalogue, which perfloop does not tune")


def _select(
    counters: list[StatementCounters], total_s: float, most: int
) -> tuple[list[StatementCounters], list[SkippedStatement]]:
    """The most expensive, and the writes that matter; and the rest with the reason."""
    calls = sum(each.calls for each in counters)
    ordered = sorted(counters, key=lambda each: (-each.total_s, each.statement.query_id))
    taken, skipped, covered_s = [], [], 0.0
    for rank, each in enumerate(ordered):
        is_write = each.statement.kind is StatementKind.WRITE
        matters = is_write and each.calls >= WRITE_CALLS_SHARE * calls
        share = _share(each.total_s, total_s)
        if each.calls > 0 and (matters or (rank < most and covered_s < TIME_COVERED * total_s)):
            taken.append(each)
        else:
            most_time = f"those that make {TIME_COVERED:.0%} of the time"
            place = f"the {most} most expensive" if rank >= most else most_time
            reason = f"below {place}: {share:.1%} of the time"
            skipped.append(SkippedStatement(statement=each.statement, reason=reason, time_share=share))
        covered_s += each.total_s
    return taken, skipped


def _share(part_s: float, total_s: float) -> float:
    return min(1.0, part_s / total_s) if total_s > 0 else 0.0
