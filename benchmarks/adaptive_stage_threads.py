"""The default law in real threads, beside the best fixed setting at the same time.

    python -m benchmarks.adaptive_stage_threads --markdown      # about 6 minutes
    python -m benchmarks.adaptive_stage_threads --pipeline --markdown      # about 3 minutes

The second goes the way of a user, Pipeline(...).stage(..., limiter="adaptive") against a limit that is a
number, where the first asks the law and a Limiter alone. A host that is loaded stalls both alike. One after
the other they would meet different loads, and those differ by more than the laws do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from benchmarks.adaptive_stage import GRID, SEEDS, SIZE, Cell, against
from benchmarks.page import host_line, met, table
from benchmarks.sink_simulation import Calls, Noise, Score, Sink, Steered, score
from benchmarks.sink_threads import ThreadedRun
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.law import ConcurrencyLaw
from perfloop.control.search_hold import SearchHold
from perfloop.process import Pipeline


class PipelinedRun:
    """A stage that calls the sink for each item, which stands for a batch of SIZE."""

    def __init__(self, sink: Sink, limiter: str | int, seed: int) -> None:
        self._sink = sink
        self._noise = Noise(sink.sigma, seed)
        self._lock = threading.Lock()
        self._in_flight = 0
        self._began_s = 0.0
        self._length_s = 0.0
        self._calls = Calls()
        self._pipeline = Pipeline(self._source()).stage(self._call, limiter=limiter)

    def run(self, length_s: float) -> Calls:
        self._began_s, self._length_s = time.perf_counter(), length_s
        self._pipeline.run()
        return self._calls

    def _source(self) -> Iterator[int]:
        while time.perf_counter() < self._began_s + self._length_s:
            yield SIZE
        self._pipeline.stop(drain=False)

    def _call(self, size: int) -> None:
        begun_at_s = time.perf_counter()
        with self._lock:
            self._in_flight += 1
            capacity = self._sink.capacity_at(begun_at_s - self._began_s)
            taken_s = self._sink.mean_s(size, self._in_flight, capacity) * self._noise.next()
        time.sleep(taken_s)
        now_s = time.perf_counter()
        with self._lock:
            self._in_flight -= 1
            self._calls.ended_at_s.append(now_s - self._began_s)
            self._calls.latency_s.append(now_s - begun_at_s)
            self._calls.items.append(size)


def alone(cell: Cell, seed: int) -> list[Callable[[float], Calls]]:
    """The default law and the best fixed setting, each with a Limiter and threads of its own."""
    laws: list[ConcurrencyLaw] = [SearchHold(), Fixed(cell.capacity)]
    return [ThreadedRun(cell.sink, Steered(law, FixedSize(SIZE)), seed).run for law in laws]


def piped(cell: Cell, seed: int) -> list[Callable[[float], Calls]]:
    """The same two in pipelines."""
    return [PipelinedRun(cell.sink, limiter, seed).run for limiter in ("adaptive", cell.capacity)]


def play_beside(
    plays: Sequence[Callable[[float], Calls]], cell: Cell, length_s: float
) -> tuple[Score, Score]:
    """The law and the best fixed setting at the same time."""
    with ThreadPoolExecutor(2) as beside:
        ours, fixed = (run.result() for run in [beside.submit(play, length_s) for play in plays])
    expected = cell.sink.best_items_per_s(SIZE, cell.capacity)
    best = score(fixed, expected, length_s)
    return score(ours, expected * best.steady_ratio, length_s), best


def threads_table(seeds: Sequence[int], length_s: float, *, is_piped: bool) -> str:
    rows = []
    for cell in GRID:
        if cell.capacity > 16 or (is_piped and cell.sigma > 0.2):
            continue
        plays = piped if is_piped else alone
        pairs = [play_beside(plays(cell, seed), cell, length_s) for seed in seeds]
        best = [fixed for _, fixed in pairs]
        result = against([ours for ours, _ in pairs], [replace(fixed, steady_ratio=1.0) for fixed in best])
        theory = statistics.median(fixed.steady_ratio for fixed in best)
        load = f"{os.getloadavg()[0]:.0f}"
        rows.append([cell.name, load, f"{theory:.0%}", str(result), met(result.is_met)])
    ours = "SearchHold: of the best (least), p99 ratio, to 95 %"
    return table(["sink", "load", "best fixed, of theory", ours, ""], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many runs a cell")
    parser.add_argument("--pipeline", action="store_true", help="through pipelines, four of the cells")
    parser.add_argument("--length-s", type=float, default=15.0, help="of a run")
    parser.add_argument(
        "--markdown", action="store_true", help="with the host's line, for docs/benchmarks.md"
    )
    args = parser.parse_args()
    if args.markdown:
        print(host_line() + "\n")
    print(threads_table(SEEDS[: args.seeds], args.length_s, is_piped=args.pipeline))


if __name__ == "__main__":
    main()
