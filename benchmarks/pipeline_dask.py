"""What a stage on dask.distributed costs, with two workers, beside futures by hand and local processes.

    pip install '.[dask]'
    python -m benchmarks.pipeline_dask --markdown

An item sleeps for a millisecond, so that two workers on a busy host are still two workers. The least possible
time is the sum of the items' own times over the number of workers; overhead is what comes on top of it.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from benchmarks.page import host_line, met, table
from perfloop.process import Pipeline

ITEMS = 20_000
WORKERS = 2
TARGET = 0.05
BY_HAND = 50


def nap(number: int) -> tuple[int, float]:
    begun_s = time.perf_counter()
    time.sleep(0.001)
    return number * number, time.perf_counter() - begun_s


def naps(numbers: list[int]) -> list[tuple[int, float]]:
    return [nap(number) for number in numbers]


def by_hand(executor: Executor, numbers: list[int]) -> list[tuple[int, float]]:
    """Tasks of fifty items, at most two a worker in flight."""
    results: list[tuple[int, float]] = []
    flying: list[Future[list[tuple[int, float]]]] = []
    for first in range(0, len(numbers), BY_HAND):
        if len(flying) == 2 * WORKERS:
            results += flying.pop(0).result()
        flying.append(executor.submit(naps, numbers[first : first + BY_HAND]))
    for future in flying:
        results += future.result()
    return results


def by_pipeline(executor: Executor | str, numbers: list[int]) -> list[tuple[int, float]]:
    results: list[tuple[int, float]] = []
    Pipeline(numbers).stage(nap, executor=executor, workers=WORKERS).batch(results.extend, limiter=1).run()
    return results


def row(name: str, run: Callable[[list[int]], list[tuple[int, float]]], has_target: bool) -> list[str]:
    numbers = list(range(ITEMS))
    run(numbers[:1000])  # connections and processes are there afterwards, where they stay
    begun_s = time.perf_counter()
    results = run(numbers)
    took_s = time.perf_counter() - begun_s
    overhead = took_s / (sum(seconds for _, seconds in results) / WORKERS) - 1
    is_equal = sorted(square for square, _ in results) == [number * number for number in numbers]
    verdict = met(is_equal and overhead <= TARGET) if has_target else ""
    return [name, f"{took_s:.1f} s", f"{overhead:.1%}", "equal" if is_equal else "**differ**", verdict]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print what goes into docs/benchmarks.md")
    asked = parser.parse_args()
    distributed: Any = importlib.import_module("distributed")  # of the extra; not all who check types have it
    rows = []
    with (
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = client.get_executor()
        rows.append(row("dask, a stage", lambda numbers: by_pipeline(executor, numbers), True))
        rows.append(row("dask, futures by hand", lambda numbers: by_hand(executor, numbers), False))
    rows.append(row("local processes, a stage", lambda numbers: by_pipeline("processes", numbers), False))
    if asked.markdown:
        print(f"{host_line()}\n")
    print(table(["", "took", "overhead", "results", f"asked <= {TARGET:.0%}"], rows))


if __name__ == "__main__":
    main()
