"""What a pipeline adds to an item, in CPU time, and what handing over one by one costs.

    python -m benchmarks.pipeline_overhead --markdown

The function does nothing, so that all but the loop's own cost is overhead. CPU time of the whole process is
counted, which another job on the host hardly changes.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.page import host_line, met, table
from perfloop.process import Pipeline

TARGET_US = 2.0
REPEATS = 5


def same(item: int) -> int:
    return item


async def same_async(item: int) -> int:
    return item


def store(items: list[int]) -> None:
    """A sink that costs nothing."""


def plain_loop(count: int) -> None:
    for item in range(count):
        same(item)


def thread_stage(count: int) -> None:
    Pipeline(range(count)).stage(same, limiter=1).run()


def four_threads(count: int) -> None:
    Pipeline(range(count)).stage(same, limiter=4).run()


def batches(count: int) -> None:
    Pipeline(range(count)).batch(store, size=100, linger_s=0.01, limiter=1).run()


def stage_and_batches(count: int) -> None:
    Pipeline(range(count)).stage(same, limiter=1).batch(store, size=100, linger_s=0.01, limiter=1).run()


def ordered_stage(count: int) -> None:
    Pipeline(range(count)).stage(same, limiter=4, ordered=True).run()


def async_stage(count: int) -> None:
    Pipeline(range(count)).stage(same_async, limiter=4).run()


def item_wise_queue(count: int) -> None:
    """A thread behind a bounded queue.Queue, one item at a time."""
    between: queue.Queue[int | None] = queue.Queue(1000)

    def work() -> None:
        while (item := between.get()) is not None:
            same(item)

    worker = threading.Thread(target=work)
    worker.start()
    for item in range(count):
        between.put(item)
    between.put(None)
    worker.join()


def executor_map(count: int) -> None:
    """ThreadPoolExecutor.map, a thousand items at a time, as it has no bound of its own."""
    with ThreadPoolExecutor(1) as executor:
        for first in range(0, count, 1000):
            for _ in executor.map(same, range(first, first + 1000)):
                pass


ROWS: list[tuple[str, Callable[[int], None], int, bool]] = [
    ("thread stage", thread_stage, 1_000_000, True),
    ("thread stage, 4 threads", four_threads, 1_000_000, True),
    ("thread stage, 4 threads, ordered", ordered_stage, 1_000_000, True),
    ("batches of 100", batches, 1_000_000, True),
    ("thread stage, then batches of 100", stage_and_batches, 1_000_000, True),
    ("async stage", async_stage, 300_000, False),
    ("queue.Queue and a thread", item_wise_queue, 200_000, False),
    ("ThreadPoolExecutor.map", executor_map, 100_000, False),
]


def cpu_us(run: Callable[[int], None], count: int) -> float:
    begun_s = time.process_time()
    run(count)
    return (time.process_time() - begun_s) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print what goes into docs/benchmarks.md")
    asked = parser.parse_args()
    loop_us = min(cpu_us(plain_loop, 1_000_000) for _ in range(REPEATS))
    rows = []
    for name, run, count, has_target in ROWS:
        seen = sorted(cpu_us(run, count) - loop_us for _ in range(REPEATS))
        median = statistics.median(seen)
        target = [f"<= {TARGET_US:.0f}", met(median <= TARGET_US)] if has_target else ["", ""]
        rows.append([name, f"{median:.2f}", f"{seen[0]:.2f} to {seen[-1]:.2f}", *target])
    if asked.markdown:
        print(f"{host_line()}\n")
    print(f"CPU µs an item, without the {loop_us:.2f} of a plain loop; median of {REPEATS}.\n")
    print(table(["", "µs", "range", "asked", ""], rows))


if __name__ == "__main__":
    main()
