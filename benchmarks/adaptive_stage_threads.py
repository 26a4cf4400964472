"""The default law in real threads, beside the best fixed setting at the same time.

    python -m benchmarks.adaptive_stage_threads --markdown      # about 6 minutes

A host that is loaded stalls both alike. One after the other they would meet different loads, and those differ
by more than the laws do.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from benchmarks.adaptive_stage import GRID, SEEDS, SIZE, Cell, against
from benchmarks.page import host_line, met, table
from benchmarks.sink_simulation import Score, Steered, Steering, score
from benchmarks.sink_threads import ThreadedRun
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.search_hold import SearchHold


def play_beside(cell: Cell, seed: int, length_s: float) -> tuple[Score, Score]:
    """The default law and the best fixed setting in real threads at the same time."""
    steerings: list[Steering] = [
        Steered(SearchHold(), FixedSize(SIZE)),
        Steered(Fixed(cell.capacity), FixedSize(SIZE)),
    ]
    with ThreadPoolExecutor(2) as beside:
        runs = [beside.submit(ThreadedRun(cell.sink, one, seed).run, length_s) for one in steerings]
        ours, fixed = (run.result() for run in runs)
    expected = cell.sink.best_items_per_s(SIZE, cell.capacity)
    best = score(fixed, expected, length_s)
    return score(ours, expected * best.steady_ratio, length_s), best


def threads_table(seeds: Sequence[int], length_s: float) -> str:
    rows = []
    for cell in GRID:
        if cell.capacity > 16:
            continue
        pairs = [play_beside(cell, seed, length_s) for seed in seeds]
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
    parser.add_argument("--length-s", type=float, default=15.0, help="of a run")
    parser.add_argument(
        "--markdown", action="store_true", help="with the host's line, for docs/benchmarks.md"
    )
    args = parser.parse_args()
    if args.markdown:
        print(host_line() + "\n")
    print(threads_table(SEEDS[: args.seeds], args.length_s))


if __name__ == "__main__":
    main()
