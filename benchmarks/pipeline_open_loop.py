"""Open loop in real threads: items arrive all the same, and the pipeline finds how few calls will do.

    python -m benchmarks.pipeline_open_loop --markdown

The sink sleeps 5 ms + 0.05 ms an item a call, with log-normal noise. Arrivals are a Poisson process, and each
item's time counts from when it was due, so that a source that is held up shows. The second half of a run is
scored. The adaptive row is told a p99 budget and nothing else.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.page import host_line, met, table
from perfloop.process import Pipeline

CALL_S = 0.005
ITEM_S = 0.00005
SIGMA = 0.2
BUDGET_S = 0.020
MOST_CALLS = 200
RATE_ASKED = 10_000


@dataclass(frozen=True, slots=True)
class Score:
    """The second half of a run."""

    calls_per_s: float
    p99_s: float
    cpu_ratio: float
    """Of one processor, sink and source included."""


class OpenLoop:
    """One run at one rate."""

    def __init__(self, rate_per_s: float, length_s: float, seed: int) -> None:
        gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, int(rate_per_s * length_s))
        self._due = np.cumsum(gaps).tolist()
        self._half_s = length_s / 2
        self._length_s = length_s
        self._noise = random.Random(seed + 1)
        self._lock = threading.Lock()
        self._calls = 0
        self._times_s: list[float] = []
        self._began_s = 0.0

    def run(self, build: Callable[[Pipeline, Callable[[list[float]], None]], Pipeline]) -> Score:
        pipeline = build(Pipeline(self._source()), self._store)
        begun_cpu_s = time.process_time()
        self._began_s = time.perf_counter()
        pipeline.run()
        cpu_s = time.process_time() - begun_cpu_s
        return Score(
            calls_per_s=self._calls / self._half_s,
            p99_s=float(np.quantile(self._times_s, 0.99)),
            cpu_ratio=cpu_s / self._length_s,
        )

    def _source(self) -> Iterator[float]:
        for due in self._due:
            due_s = self._began_s + due
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            yield due_s

    def _store(self, items: list[float]) -> None:
        with self._lock:
            noise = self._noise.lognormvariate(0, SIGMA)
        time.sleep((CALL_S + ITEM_S * len(items)) * noise)
        now_s = time.perf_counter()
        with self._lock:
            if items[0] - self._began_s >= self._half_s:
                self._calls += 1
                self._times_s += [now_s - due_s for due_s in items]


SETTINGS: dict[str, Callable[[Pipeline, Callable[[list[float]], None]], Pipeline]] = {
    "p99 budget of 20 ms alone": lambda pipeline, store: pipeline.batch(store, p99_budget_s=BUDGET_S),
    "fixed: what is queued at once, 16 calls": lambda pipeline, store: pipeline.batch(
        store, size=1000, linger_s=0, limiter=16
    ),
    "fixed: 200 items or 5 ms, 16 calls": lambda pipeline, store: pipeline.batch(
        store, size=200, linger_s=0.005, limiter=16
    ),
    "fixed: 200 items or 20 ms, 16 calls": lambda pipeline, store: pipeline.batch(
        store, size=200, linger_s=0.02, limiter=16
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print what goes into docs/benchmarks.md")
    parser.add_argument("--length", type=float, default=40.0, help="seconds a run")
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, RATE_ASKED, 30_000])
    asked = parser.parse_args()
    rows = []
    for rate in asked.rates:
        for name, build in SETTINGS.items():
            score = OpenLoop(rate, asked.length, seed=1).run(build)
            verdict = ""
            if rate == RATE_ASKED and build is SETTINGS["p99 budget of 20 ms alone"]:
                verdict = met(score.calls_per_s <= MOST_CALLS and score.p99_s <= BUDGET_S)
            p99 = f"{score.p99_s * 1e3:.1f} ms"
            rows.append(
                [f"{rate:,}", name, f"{score.calls_per_s:.0f}", p99, f"{score.cpu_ratio:.0%}", verdict]
            )
    if asked.markdown:
        print(f"{host_line()}\n")
    print(table(["items/s", "setting", "calls/s", "p99 of items", "CPU", ""], rows))


if __name__ == "__main__":
    main()
