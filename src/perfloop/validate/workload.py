"""Makes a Workload of what pg_stat_statements counted; asks the server whether each instance plans.

The statements with most time make the Workload, up to 99 % of it. Those that are called often stay
whatever their time, writes above all: they pay for the indexes of the others.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec

from perfloop.adapters.statements import is_our_own
from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.workload import SkippedStatement, StatementKind, Workload
from perfloop.validate.operations import Counted, Drawing, Planner, operations
from perfloop.validate.parameters import ParameterTypes, Sampler
from perfloop.validate.pgbench_script import is_pgbench, read_script
from perfloop.validate.sql_folder import Found, files_of, read_statements, read_text, unreadable

FROM_COUNTERS = "pg_stat_statements"
TIME_COVERED = 0.99
COMMON_CALLS_SHARE = {StatementKind.WRITE: 0.001, StatementKind.READ: 0.02}
"""From these shares of all calls on a statement stays, however little time it takes."""
MOST_RARE = 100
"""Of the others, those with most time are kept apart, so that no change harms them unseen."""
RARE_INSTANCES = 2


def workload_from_statements(
    snapshot: Snapshot,
    plans: Planner,
    *,
    seed: int,
    most: int = 40,
    instances: int = 5,
    sample: Sampler | None = None,
    types: ParameterTypes | None = None,
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
    """
    total_s = snapshot.total_s()
    taken, skipped = _select(snapshot.statements, total_s, most)
    drawing = Drawing(snapshot=snapshot, plans=plans, seed=seed, count=instances, sample=sample, types=types)
    made, failed = operations((_counted(each, total_s) for each in taken), drawing)
    left_out = {each.statement.query_id for each in skipped}
    rare = [each for each in snapshot.statements if each.statement.query_id in left_out]
    rare.sort(key=lambda each: (-each.total_s, each.statement.query_id))
    few = msgspec.structs.replace(drawing, count=RARE_INSTANCES)
    unharmed, _ = operations((_counted(each, total_s) for each in rare[:MOST_RARE]), few)
    return Workload(origin=FROM_COUNTERS, operations=made, skipped=(*failed, *skipped), rare=unharmed)


def _counted(counters: StatementCounters, total_s: float) -> Counted:
    return Counted(
        statement=counters.statement,
        calls=counters.calls,
        time_share=_share(counters.total_s, total_s),
        rows_per_call=counters.rows / counters.calls,
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
) -> Workload:
    """The Workload of a folder or file of SQL, or of a pgbench script; `path@3` gives it a weight of 3.

    Raises InvalidInput where there is no such file or folder, or it has no .sql files.
    """
    path, calls = _weighted(source)
    found = [_read_file(each, snapshot, calls, seed, instances) for each in files_of(path)]
    drawing = Drawing(snapshot=snapshot, plans=plans, seed=seed, count=instances, sample=sample, types=types)
    made, failed = operations((each for file in found for each in file.counted), drawing)
    unread = (each for file in found for each in file.skipped)
    return Workload(origin=source, operations=made, skipped=(*failed, *unread))


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
) -> Workload:
    """The Workload of files, or without a source that of pg_stat_statements."""
    if source is None:
        return workload_from_statements(
            snapshot, plans, seed=seed, most=most, instances=instances, sample=sample, types=types
        )
    return workload_from_files(
        source, snapshot, plans, seed=seed, instances=instances, sample=sample, types=types
    )


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
    counters = tuple(each for each in counters if each.calls > 0 and not is_our_own(each.statement.text))
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


def _share(part_s: float, total_s: float) -> float:
    return min(1.0, part_s / total_s) if total_s > 0 else 0.0
