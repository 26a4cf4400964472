"""How often the leak detector alarms falsely, and how soon it finds a leak: simulated workers of 12 h.

    python -m benchmarks.leak_series [--runs 25] [--noise-mb 3]

Samples every ten seconds, with noise of first-order autocorrelation (0.98), spikes of single requests and a
load. Six healthy kinds of worker, and leaks of 0.1 to 5 MB a minute. The detector looks at every floor, as it
does beside a worker.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import host_line, table
from perfloop.process.leaks.floors import MemorySample, floors
from perfloop.process.leaks.suspicion import LeakPolicy, suspect

Numbers = NDArray[np.float64]
Shape = Callable[[np.random.Generator, Numbers], tuple[Numbers, Numbers]]
"""The megabytes that a worker holds, and its load in requests a second."""
HOURS, INTERVAL_S, MB = 12, 10.0, 1e6
FIRST_SEED = 1_000


def even(rng: np.random.Generator, times: Numbers) -> Numbers:
    load: Numbers = 50.0 * (1 + 0.1 * rng.normal(0, 1, len(times)).clip(-2, 2))
    return load


def stable(rng: np.random.Generator, times: Numbers) -> tuple[Numbers, Numbers]:
    return 0.0 * times, even(rng, times)


def warm_up(tau_min: float, rng: np.random.Generator, times: Numbers) -> tuple[Numbers, Numbers]:
    held: Numbers = 80 * (1 - np.exp(-times / (60 * tau_min)))
    return held, even(rng, times)


def one_step(rng: np.random.Generator, times: Numbers) -> tuple[Numbers, Numbers]:
    held: Numbers = np.where(times > rng.uniform(1, HOURS - 1) * 3600, 60.0, 0.0)
    return held, even(rng, times)


def ratchet(rng: np.random.Generator, times: Numbers) -> tuple[Numbers, Numbers]:
    """The largest request so far decides what is held."""
    largest = np.where(rng.random(len(times)) < 0.002, rng.exponential(25, len(times)), 0.0)
    return np.maximum.accumulate(largest), even(rng, times)


def daily(rng: np.random.Generator, times: Numbers) -> tuple[Numbers, Numbers]:
    cycle = 1 + 0.6 * np.sin(2 * np.pi * times / 86_400 + rng.uniform(0, 2 * np.pi))
    return 60 * cycle, even(rng, times) * cycle


def leak(mb_per_min: float, rng: np.random.Generator, times: Numbers) -> tuple[Numbers, Numbers]:
    return mb_per_min * times / 60, even(rng, times)


HEALTHY: dict[str, Shape] = {
    "stable": stable,
    "warm-up, tau 20 min": partial(warm_up, 20),
    "warm-up, tau 90 min": partial(warm_up, 90),
    "one step": one_step,
    "high-water ratchet": ratchet,
    "daily load": daily,
}
LEAKS: dict[str, Shape] = {f"{rate} MB/min": partial(leak, rate) for rate in (0.1, 0.3, 1.0, 5.0)}


def noise(rng: np.random.Generator, count: int, spread_mb: float) -> Numbers:
    steps = rng.normal(0, spread_mb * np.sqrt(1 - 0.98**2), count)
    values = np.empty(count)
    at = rng.normal(0, spread_mb)
    for place, step in enumerate(steps):
        at = 0.98 * at + step
        values[place] = at
    spikes: Numbers = np.where(rng.random(count) < 0.01, rng.exponential(40, count), 0.0)
    return values + spikes


def found_after_h(shape: Shape, seed: int, noise_mb: float, policy: LeakPolicy) -> float | None:
    """Hours until the detector says that this worker leaks; None where it never does."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, HOURS * 3600, INTERVAL_S)
    held, load = shape(rng, times)
    in_use = (200 + held + noise(rng, len(times), noise_mb)) * MB
    requests = np.cumsum(load * INTERVAL_S)
    samples = [
        MemorySample(at_s=float(at), in_use_bytes=int(size), rss_bytes=int(size), requests=int(done))
        for at, size, done in zip(times, in_use, requests, strict=True)
    ]
    found = floors(samples)
    for count in range(1, len(found) + 1):
        suspicion = suspect(found[:count], policy)
        if suspicion is not None:
            return suspicion.at_s / 3600
    return None


def row(name: str, shape: Shape, runs: int, noise_mb: float) -> list[str]:
    after = [found_after_h(shape, FIRST_SEED + run, noise_mb, LeakPolicy()) for run in range(runs)]
    hours = [each for each in after if each is not None]
    median = f"{statistics.median(hours):.1f} h" if hours else "-"
    return [name, f"{len(hours) / runs:.0%}", median, f"{max(hours):.1f} h" if hours else "-"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--noise-mb", type=float, default=3.0, help="standard deviation")
    options = parser.parse_args()
    print(host_line(), f"{options.runs} runs each, noise {options.noise_mb} MB.", end="\n\n")
    for title, shapes in (("healthy worker", HEALTHY), ("leak", LEAKS)):
        rows = [row(name, shape, options.runs, options.noise_mb) for name, shape in shapes.items()]
        print(table([title, "called a leak within 12 h", "median", "latest"], rows), end="\n\n")


if __name__ == "__main__":
    main()
