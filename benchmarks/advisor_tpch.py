"""The index search alone on TPC-H, beside the rules of two other tools: what are their sets worth, built?

perfloop's `search_indexes` chooses under a budget of space and rehearses what it chose, with every query
weighed the same (`--weigh equal`): the score is a geometric mean, in which they weigh the same too. In
one run the rules of dexter and postgres-mcp choose by the same HypoPG (`advisor_rivals`). Each set is built
in a copy of the database, which is analysed and runs all queries against the original, alternating; a cost
is the least CPU time of the backend. Nothing is left out afterwards: what a set makes slower counts.

Nothing in the search is fitted to these figures. Its limits are those of the trial that comes after it
(1.15 for a statement, 3 for the WAL of a write, half a percent for a gain), and the formulas of size and of
the nested loop's correction follow from the server's own.

    python -m benchmarks.advisor_tpch --markdown
    python -m benchmarks.advisor_tpch --scale 0.01 --runs 1
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

import msgspec
import psycopg

from benchmarks.advisor_rivals import BarePlanner, dexter, postgres_mcp
from benchmarks.advisor_tpch_page import LARGE_BYTES, SMALL_BYTES, Built, Chosen, figures, markdown
from benchmarks.changed_copy import database_bytes
from benchmarks.page import host_line
from benchmarks.tpch import HEAVY_S, cpu_of, insert_text, wal_per_row
from benchmarks.tpch_target import DATABASE, SETTINGS, fill, write_queries
from perfloop.adapters.explain import explain
from perfloop.adapters.host import read_host
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.servers import PostgresServer, find_postgres
from perfloop.model.advice import CreateIndex
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.acts import act
from perfloop.tune.advisor.consider import read_workload
from perfloop.tune.advisor.extend import SearchPolicy
from perfloop.tune.advisor.index_search import search_indexes
from perfloop.tune.advisor.lab_rehearsal import rehearsal_beside
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.advisor.rehearsal import Rehearsal, Rehearsed
from perfloop.tune.weighing import Weighing

COPY = "tpch_copy"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale", type=float, default=0.1, help="TPC-H scale factor (0.1)")
    parser.add_argument("--runs", type=int, default=7, help="of each query on each side (7)")
    parser.add_argument("--heavy-runs", type=int, default=2, help=f"of queries above {HEAVY_S:g} s (2)")
    parser.add_argument("--seed", type=int, default=1)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print what goes into docs/benchmarks.md")
    options = parser.parse_args()
    binaries = find_postgres(prefer_major=15)
    host = host_line(server=f"PostgreSQL {binaries.version}")
    with tempfile.TemporaryDirectory() as folder, PostgresServer(binaries, settings=SETTINGS) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        fill(server.dsn(DATABASE), scale=options.scale)
        built = run(server, write_queries(Path(folder)), options)
    if options.json:
        print(json.dumps([figures(each) for each in built], indent=1))
    else:
        print(f"{host}\n\n{markdown(built, options)}")
    return 0


def run(server: PostgresServer, queries: Mapping[str, str], options: argparse.Namespace) -> list[Built]:
    dsn = server.dsn(DATABASE)
    before_s = base_costs(dsn, queries, options)
    with psycopg.connect(dsn, autocommit=True) as connection:
        snapshot = take_snapshot(connection, taken_at_s=0.0, host=read_host(runs_server=True))
    reads, counters = operations(queries, before_s)
    snapshot = msgspec.structs.replace(snapshot, statements=counters)
    found = []
    for choose in _choosers(snapshot, reads, options.seed):
        with clone(server) as copy:
            chosen = choose(copy)
        with clone(server) as copy:
            found.append(build(dsn, copy, chosen, queries, before_s, options))
    return found


def _choosers(
    snapshot: Snapshot, reads: tuple[Operation, ...], seed: int
) -> Iterator[Callable[[str], Chosen]]:
    inserting = (*reads, _operation("insert", insert_text(), StatementKind.WRITE, len(reads) + 1))

    def ours(name: str, size_bytes: int, mix: tuple[Operation, ...]) -> Callable[[str], Chosen]:
        return lambda dsn: search(name, dsn, snapshot, mix, size_bytes)

    yield ours("perfloop, 38 MB", SMALL_BYTES, reads)
    yield ours("perfloop, 71 MB", LARGE_BYTES, reads)
    yield ours("perfloop, 71 MB, inserts in the workload", LARGE_BYTES, inserting)
    yield lambda dsn: by_rule("dexter's rule, default", dsn, snapshot, reads, dexter)
    yield lambda dsn: by_rule(
        "postgres-mcp's rule, one run a query",
        dsn,
        snapshot,
        reads,
        lambda planner, statements, there: postgres_mcp(planner, statements, there, seed=seed),
    )


def operations(
    queries: Mapping[str, str], before_s: Mapping[str, float]
) -> tuple[tuple[Operation, ...], tuple[StatementCounters, ...]]:
    """The queries, called equally often, and what a server would have counted of them."""
    reads = tuple(_operation(name, text, StatementKind.READ, len(queries)) for name, text in queries.items())
    counters = tuple(
        StatementCounters(statement=each.statement, calls=1, total_s=before_s[each.statement.label], rows=1)
        for each in reads
    )
    return reads, counters


def _operation(name: str, text: str, kind: StatementKind, of: int) -> Operation:
    statement = Statement(query_id=name, text=text, kind=kind, name=name)
    return Operation(statement=statement, calls_share=1 / of, instances=(text,))


def search(name: str, dsn: str, snapshot: Snapshot, mix: tuple[Operation, ...], size_bytes: int) -> Chosen:
    """Perfloop's own choice."""
    policy = SearchPolicy(storage_bytes=size_bytes, weighing=Weighing.EQUAL)
    workload = Workload(origin="TPC-H", operations=mix)
    with psycopg.connect(dsn, autocommit=True) as connection:
        began_s = time.monotonic()
        with open_what_if(connection, snapshot.tables) as what_if:
            lab = rehearsal_beside(connection, what_if)
            rehearsal = None if lab is None else TimedRehearsal(lab)
            found = search_indexes(snapshot, workload, what_if, policy, rehearsal=rehearsal)
            rehearsal_s = 0.0 if rehearsal is None else rehearsal.spent_s
            search_s = time.monotonic() - began_s - rehearsal_s
            explains = what_if.statistics().explains + (lab.explains if lab else 0)
            # Asked of the planner and the formula: the rehearsal's own figures are those of real indexes.
            indexes = found.result.chosen
            return Chosen(
                name=name,
                indexes=indexes,
                search_s=search_s,
                rehearsal_s=rehearsal_s,
                explains=explains,
                predicted_bytes={index.name: what_if.size_bytes(index) for index in indexes},
                predicted_costs={
                    each.label: what_if.cost(each.instances[0], indexes).total_cost
                    for each in found.reading.statements
                    if not each.writes
                },
            )


class TimedRehearsal:
    """A rehearsal that knows how long it took: it builds and runs, which is no part of a search."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self.spent_s = 0.0

    def size_bytes(self, index: CreateIndex) -> int:
        with self._timed():
            return self._rehearsal.size_bytes(index)

    def rehearse(self, instance: str, indexes: tuple[CreateIndex, ...], *, known_s: float) -> Rehearsed:
        with self._timed():
            return self._rehearsal.rehearse(instance, indexes, known_s=known_s)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.spent_s += time.monotonic() - began_s


def by_rule(
    name: str,
    dsn: str,
    snapshot: Snapshot,
    reads: tuple[Operation, ...],
    rule: Callable[..., tuple[CreateIndex, ...]],
) -> Chosen:
    """A rival's choice. What it reads of the queries' plans is ours, and not counted against it."""
    workload = Workload(origin="TPC-H", operations=reads)
    with psycopg.connect(dsn, autocommit=True) as connection:
        with open_what_if(connection, snapshot.tables) as what_if:
            statements = read_workload(workload, snapshot, what_if, max_instances=1).statements
        planner = BarePlanner(connection)
        began_s = time.monotonic()
        indexes = rule(planner, statements, snapshot.indexes)
        search_s = time.monotonic() - began_s
    return Chosen(
        name=name,
        indexes=indexes,
        search_s=search_s,
        rehearsal_s=0.0,
        explains=planner.explains,
        predicted_bytes={},
        predicted_costs={},
    )


@contextmanager
def clone(server: PostgresServer) -> Iterator[str]:
    """A copy of the database, dropped on leaving."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {COPY} TEMPLATE {DATABASE}")
        try:
            yield server.dsn(COPY)
        finally:
            connection.execute(f"DROP DATABASE {COPY} (FORCE)")


def base_costs(dsn: str, queries: Mapping[str, str], options: argparse.Namespace) -> dict[str, float]:
    """Least CPU seconds of each query in the original; only of the heavy ones they are final."""
    least_s: dict[str, float] = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(options.heavy_runs):
            for name, text in queries.items():
                took_s = cpu_of(connection, text)
                least_s[name] = min(took_s, least_s.get(name, took_s))
    return least_s


def build(
    dsn: str,
    copy: str,
    chosen: Chosen,
    queries: Mapping[str, str],
    before_s: Mapping[str, float],
    options: argparse.Namespace,
) -> Built:
    """Build the set in the copy, let the planner know it, and measure."""
    with psycopg.connect(copy, autocommit=True) as connection:
        size_before = database_bytes(copy)
        for index in chosen.indexes:
            act(connection, index, concurrently=False)
        grown_bytes = database_bytes(copy) - size_before
        connection.execute("ANALYZE")
        rows = connection.execute("SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relkind = 'i'")
        sizes = {str(name): int(size) for name, size in rows}
        costs = {name: explain(connection, text).root.total_cost for name, text in queries.items()}
    before, after = measure(dsn, copy, queries, before_s, options)
    return Built(
        chosen=chosen,
        titles=tuple(index.title for index in chosen.indexes),
        grown_bytes=grown_bytes,
        ratios={name: after[name] / before[name] for name in queries},
        cpu_before_s=sum(before.values()),
        cpu_after_s=sum(after.values()),
        costs=costs,
        index_bytes={index.name: sizes[index.name] for index in chosen.indexes},
        wal_ratio=wal_per_row(copy) / wal_per_row(dsn),
    )


def measure(
    dsn: str,
    copy: str,
    queries: Mapping[str, str],
    before_s: Mapping[str, float],
    options: argparse.Namespace,
) -> tuple[dict[str, float], dict[str, float]]:
    """Least CPU seconds of each query in original and copy; their order is drawn for every run."""
    rng = Random(options.seed)
    heavy = {name: took_s for name, took_s in before_s.items() if took_s > HEAVY_S}
    least: tuple[dict[str, float], dict[str, float]] = (dict(heavy), {})
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(copy, autocommit=True) as two:
        for _ in range(options.runs):
            for name, text in queries.items():
                sides = [1] if name in heavy else rng.sample((0, 1), 2)
                for side in sides:
                    took_s = cpu_of((one, two)[side], text)
                    least[side][name] = min(took_s, least[side].get(name, took_s))
    return least


if __name__ == "__main__":
    sys.exit(main())
