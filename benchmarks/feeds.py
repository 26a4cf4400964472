"""The feed reader of examples/feeds: a plain loop, a pipeline, the pipeline on dask; equal rows, entries/s.

    python -m benchmarks.feeds --documents 400 --latency 0.02

Each way begins with empty tables and counts from its first line to its last, with starting and ending its
processes, but without starting the cluster; the rounds take turns. Parsing is given two processes, or two
workers of a cluster on this machine. On a host that others use, the CPU time of all processes together says
more than the rate; it is sampled, so that the last twentieth of a second of a process may be missing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import psutil  # type: ignore[import-untyped]  # ships no types

# At run time these are loaded in functions: the processes of a pipeline load this module again.
if TYPE_CHECKING:
    from examples.feeds.reader import Read
    from examples.feeds.store import Store

    from perfloop.process import PipelineSummary

WORKERS = 2
SAMPLED_EVERY_S = 0.05


class Made(NamedTuple):
    """What one run came to."""

    took_s: float
    cpu_s: float
    summary: PipelineSummary | None


class Run(NamedTuple):
    """The same by entries."""

    rate_per_s: float
    cpu_s: float


def main() -> None:
    options = _options()
    from examples.feeds.generate import generate
    from examples.feeds.store import Store

    from benchmarks.page import host_line
    from perfloop.adapters.servers import PostgresServer, installed_postgres

    binaries = installed_postgres()[0]
    print(host_line(server=f"PostgreSQL {binaries.version}"))
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresServer(binaries) as server,
        Store(server.dsn()) as store,
    ):
        paths = generate(Path(folder), options.documents)
        ways = _ways(paths, store, options.latency)
        runs: dict[str, list[Run]] = {name: [] for name in ways}
        summaries: dict[str, PipelineSummary | None] = {}
        checksums = set()
        for name, read in [*ways.items()] * options.rounds:
            store.empty()
            made = read()
            runs[name].append(
                Run(store.counts().sightings / made.took_s, made.cpu_s / store.counts().sightings)
            )
            summaries[name] = made.summary
            checksums.add(store.checksum())
    print(
        f"\n{options.documents} documents, {options.latency * 1e3:g} ms for fetching each\n\n{_table(runs)}"
    )
    equal = "equal" if len(checksums) == 1 else "**not equal**"
    print(f"\nThe rows are {equal} in all {options.rounds * len(runs)} runs.")
    for name, summary in summaries.items():
        if summary is not None:
            print(f"\n{name}, last round:\n{summary.text()}")


def _ways(paths: list[Path], store: Store, latency_s: float) -> dict[str, Callable[[], Made]]:
    from examples.feeds.reader import dask_executor, read_by_pipeline, read_plainly

    def plainly() -> Made:
        return _timed(lambda: read_plainly(paths, store, latency_s=latency_s))

    def pipelined(executor: str | Executor) -> Made:
        workers = None if executor == "threads" else WORKERS
        return _timed(
            lambda: read_by_pipeline(paths, store, latency_s=latency_s, executor=executor, workers=workers)
        )

    def on_dask() -> Made:
        with dask_executor(WORKERS) as executor:
            return pipelined(executor)

    return {
        "plain loop": plainly,
        "pipeline, parsing in threads": lambda: pipelined("threads"),
        "pipeline, parsing in processes": lambda: pipelined("processes"),
        "pipeline, parsing on dask": on_dask,
    }


def _timed(read: Callable[[], Read]) -> Made:
    began_s = time.perf_counter()
    with _CpuTime() as cpu:
        summary = read().summary
    return Made(time.perf_counter() - began_s, cpu.spent_s(), summary)


class _CpuTime:
    """Of this process and all below it, also of those that end meanwhile; sampled in a thread."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._before: dict[int, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _CpuTime:
        self._look()
        self._before = dict(self._seen)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    def spent_s(self) -> float:
        return sum(spent_s - self._before.get(pid, 0.0) for pid, spent_s in self._seen.items())

    def _watch(self) -> None:
        while not self._is_over.wait(SAMPLED_EVERY_S):
            self._look()

    def _look(self) -> None:
        own = psutil.Process()
        for process in (own, *own.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            self._seen[process.pid] = times.user + times.system


def _table(runs: dict[str, list[Run]]) -> str:
    from benchmarks.page import table

    def median(name: str, field: str) -> float:
        return statistics.median(float(getattr(run, field)) for run in runs[name])

    rows = [
        [
            name,
            f"{median(name, 'rate_per_s'):,.0f}",
            f"{min(made).rate_per_s:,.0f} to {max(made).rate_per_s:,.0f}",
            f"{median(name, 'rate_per_s') / median('plain loop', 'rate_per_s'):.2f} x",
            f"{median(name, 'cpu_s') * 1e3:.2f} ms",
        ]
        for name, made in runs.items()
    ]
    return table(["", "entries/s, median", "range", "of the plain loop", "CPU an entry"], rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feeds")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that fetching one takes")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
