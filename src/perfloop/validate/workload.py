"""Makes a Workload of what pg_stat_statements counted; asks the server whether each instance plans.

The statements with most time make the Workload, up to 99 % of it. Those that are called often stay
whatever their time, writes above all: they pay for the indexes of the others.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec

from perfloop.adapters.statements import is_our_own, parameter_count
from perfloop.errors import InvalidInput, UnsupportedStatement
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.workload import SkippedStatement, Statement, StatementKind, Workload
from perfloop.validate.logged import spread
from perfloop.validate.operations import Counted, Drawing, Planner, operations, touches_nothing
from perfloop.validate.parameters import ParameterTypes, Sampler
from perfloop.validate.pgbench_script import is_pgbench, read_script
from perfloop.validate.server_log import LogReading
from perfloop.validate.sql_folder import Found, files_of, read_statements, read_text, unreadable

FROM_COUNTERS = "pg_stat_statements"
TIME_COVERED = 0.99
MOST_INSTANCES = 5000
"""Of the statements of files: each instance is planned, so that where there are many, each has fewer."""
COMMON_CALLS_SHARE = {StatementKind.WRITE: 0.001, StatementKind.READ: 0.02}
"""From these shares of all calls on a statement stays, however little time it takes."""
MOST_RARE = 100
"""Of the others, those with most time are kept apart, so that no change harms them unseen."""
RARE_INSTANCES = 2
_TOLD_REASONS = 3


def workload_from_statements(
    snapshot: Snapshot,
    plans: Planner,
    *,
    seed: int,
    most: int = 40,
    instances: int = 5,
    sample: Sampler | None = None,
    types: ParameterTypes | None = None,
    logged: LogReading | None = None,
    origin: str = FROM_COUNTERS,
) -> Workload:
    """The Workload of the snapshot's statement counters. What is left out is listed with its reason.

    Args:
        snapshot: With statements, tables and column statistics.
        plans: Asks a server of the same schema, by EXPLAIN.
        seed: The same seed and snapshot give the same Workload.
        most: How many statements at most, besides writes that are called often.
        instances: Draws of parameters per statement.
        sample: Reads values of a column that pg_stats knows nothing about; see `sampling.sampler`.
        types: Asks a server for the types of parameters; see `sampling.parameter_types`.
        logged: Statements of a log, whose real parameters go before drawn ones.
        origin: What the Workload says it was made of.
    """
    total_s = snapshot.total_s()
    taken, skipped = _select(snapshot.statements, total_s, most)
    drawing = Drawing(snapshot=snapshot, plans=plans, seed=seed, count=instances, sample=sample, types=types)

    def counted(each: StatementCounters) -> Counted:
        return _counted(each, total_s, _logged_instances(each.statement, logged, instances))

    made, failed = operations((counted(each) for each in taken), drawing)
    left_out = {each.statement.query_id for each in skipped}
    rare = [each for each in snapshot.statements if each.statement.query_id in left_out]
    rare.sort(key=lambda each: (-each.total_s, each.statement.query_id))
    few = msgspec.structs.replace(drawing, count=RARE_INSTANCES)
    unharmed, _ = operations((counted(each) for each in rare[:MOST_RARE]), few)
    return Workload(origin=origin, operations=made, skipped=(*failed, *skipped), rare=unharmed)


def _counted(counters: StatementCounters, total_s: float, instances: tuple[str, ...]) -> Counted:
    return Counted(
        statement=counters.statement,
        calls=counters.calls,
        time_share=_share(counters.total_s, total_s),
        rows_per_call=counters.rows / counters.calls,
        instances=instances,
    )


def workload_from_files(
    source: str,
    snapshot: Snapshot,
    plans: Planner,
    *,
    seed: int,
    instances: int = 5,
    sample: Sampler | None = None,
    types: ParameterTypes | None = None,
    logged: LogReading | None = None,
) -> Workload:
    """The Workload of a folder or file of SQL, or of a pgbench script; `path@3` gives it a weight of 3.

    Raises InvalidInput where there is no such file or folder, it has no .sql files, or none can be read.
    """
    path, calls = _weighted(source)
    paths, closed = files_of(path)
    found = [_read_file(each, snapshot, calls, seed, instances) for each in paths]
    _refuse_unread(path, found)
    instances = max(1, min(instances, MOST_INSTANCES // max(1, sum(len(file.counted) for file in found))))
    drawing = Drawing(snapshot=snapshot, plans=plans, seed=seed, count=instances, sample=sample, types=types)
    counted = (_with_logged(each, logged, instances) for file in found for each in file.counted)
    made, failed = operations(counted, drawing)
    unread = tuple(each for file in found for each in file.skipped)
    return Workload(origin=source, operations=made, skipped=(*failed, *unread, *closed))


def _refuse_unread(path: Path, found: list[Found]) -> None:
    if any(file.counted for file in found):
        return
    skipped = [each for file in found for each in file.skipped]
    reasons = dict.fromkeys(f"{each.statement.label}: {each.reason}" for each in skipped)
    told = f" ({'; '.join(tuple(reasons)[:_TOLD_REASONS])})" if reasons else ""
    raise InvalidInput(f"{path} has no statement that can be read{told}; give it the SQL of the service")


def read_workload(
    source: str | None,
    snapshot: Snapshot,
    plans: Planner,
    *,
    seed: int,
    most: int = 40,
    instances: int = 5,
    sample: Sampler | None = None,
    types: ParameterTypes | None = None,
    logged: LogReading | None = None,
    is_log: bool = False,
) -> Workload:
    """The Workload of files, or of the snapshot's counters, where there is no source or it `is_log`."""
    if source is not None and not is_log:
        return workload_from_files(
            source,
            snapshot,
            plans,
            seed=seed,
            instances=instances,
            sample=sample,
            types=types,
            logged=logged,
        )
    return workload_from_statements(
        snapshot,
        plans,
        seed=seed,
        most=most,
        instances=instances,
        sample=sample,
        types=types,
        logged=logged,
        origin=source or FROM_COUNTERS,
    )


def _with_logged(counted: Counted, logged: LogReading | None, count: int) -> Counted:
    """A statement of a file that has parameters takes those of the log."""
    if counted.instances or not parameter_count(counted.statement.text):
        return counted
    texts = _logged_instances(counted.statement, logged, count)
    return msgspec.structs.replace(counted, instances=texts)


def _logged_instances(statement: Statement, logged: LogReading | None, count: int) -> tuple[str, ...]:
    found = logged.find(statement.query_id, statement.text) if logged is not None else None
    return spread(found.samples, count) if found is not None else ()


def _weighted(source: str) -> tuple[Path, float]:
    path, at, weight = source.rpartition("@")
    if at and weight.isdecimal() and int(weight) > 0 and not Path(source).exists():
        return Path(path), float(weight)
    return Path(source), 1.0


def _read_file(path: Path, snapshot: Snapshot, calls: float, seed: int, instances: int) -> Found:
    try:
        text = read_text(path)
        if is_pgbench(text, path.suffix):
            rng = Random(f"{seed} {path.name}")
            return read_script(text, path.stem, snapshot, calls=calls, instances=instances, rng=rng)
        return read_statements(text, path.stem, calls=calls)
    except UnsupportedStatement as error:
        return unreadable(path, str(error))


def _select(
    counters: tuple[StatementCounters, ...], total_s: float, most: int
) -> tuple[list[StatementCounters], list[SkippedStatement]]:
    """The most expensive and those that are called often; and the rest with the reason."""
    counters = tuple(each for each in counters if each.calls > 0 and _is_work(each.statement.text))
    calls = sum(each.calls for each in counters)
    ordered = sorted(counters, key=lambda each: (-each.total_s, each.statement.query_id))
    taken: list[StatementCounters] = []
    skipped: list[SkippedStatement] = []
    covered_s = 0.0
    for rank, each in enumerate(ordered):
        is_common = each.calls >= COMMON_CALLS_SHARE[each.statement.kind] * calls
        is_covered = covered_s >= TIME_COVERED * total_s > 0
        covered_s += each.total_s
        if is_common or not (is_covered or rank >= most):
            taken.append(each)
            continue
        rest = (
            f"the statements that make {TIME_COVERED:.0%} of the time"
            if is_covered
            else f"the {most} dearest"
        )
        share = _share(each.total_s, total_s)
        reason = f"not among {rest}, and rarely called: {share:.2%} of the time"
        skipped.append(SkippedStatement(statement=each.statement, reason=reason, time_share=share))
    return taken, skipped


def _is_work(text: str) -> bool:
    """Whether the service asked for it, rather than perfloop itself or a pool that tests its connections."""
    return not is_our_own(text) and not touches_nothing(text)


def _share(part_s: float, total_s: float) -> float:
    return min(1.0, part_s / total_s) if total_s > 0 else 0.0
