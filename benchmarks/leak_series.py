"""How often the leak detector alarms falsely, and how soon it finds a leak: simulated workers of 12 h.

    python -m benchmarks.leak_series [--runs 25] [--noise-mb 2 3 4] [--cost]

Samples every ten seconds, with noise of first-order autocorrelation (0.98), spikes of single requests and a
load. Six healthy kinds of worker, one whose memory is fragmented more and more (its resident set grows, what
is in use does not), and leaks of 0.1 to 5 MB a minute. The detector looks at every floor, as it does beside a
worker. In groups, four workers were started hours apart and share a daily load that nobody counts.

With `--cost`, what the sampling costs a real worker instead: CPU time of a sample, and of one every ten
seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import host_line, table
from perfloop.process.leaks.contrast import Peer, suspect_among
from perfloop.process.leaks.floors import Floor, MemorySample, floors
from perfloop.process.leaks.sampler import Sampler
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


def fragmented(rng: np.random.Generator, times: Numbers) -> tuple[Numbers, Numbers]:
    """In use nothing grows; malloc keeps 1 MB a minute more free, which only the resident set shows."""
    return 0.0 * times, even(rng, times)


HEALTHY: dict[str, Shape] = {
    "stable": stable,
    "warm-up, tau 20 min": partial(warm_up, 20),
    "warm-up, tau 90 min": partial(warm_up, 90),
    "one step": one_step,
    "high-water ratchet": ratchet,
    "daily load": daily,
    "fragmentation, 1 MB/min": fragmented,
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


def floors_of(shape: Shape, seed: int, noise_mb: float, *, counts: bool = True) -> list[Floor]:
    """A worker's twelve hours."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, HOURS * 3600, INTERVAL_S)
    held, load = shape(rng, times)
    in_use = (200 + held + noise(rng, len(times), noise_mb)) * MB
    kept_free = times / 60 * MB if shape is fragmented else 0 * times
    requests = np.cumsum(load * INTERVAL_S) if counts else 0 * times
    return floors(
        MemorySample(at_s=float(at), in_use_bytes=int(size), rss_bytes=int(size + free), requests=int(done))
        for at, size, free, done in zip(times, in_use, kept_free, requests, strict=True)
    )


def found_after_h(shape: Shape, seed: int, noise_mb: float, policy: LeakPolicy) -> float | None:
    """Hours until the detector says that this worker leaks; None where it never does."""
    found = floors_of(shape, seed, noise_mb)
    for count in range(1, len(found) + 1):
        suspicion = suspect(found[:count], policy)
        if suspicion is not None:
            return suspicion.at_s / 3600
    return None


def group_found_after_h(
    leak_mb_per_min: float, seed: int, noise_mb: float, policy: LeakPolicy, *, alone: bool
) -> float | None:
    """Hours of the oldest until one of its group is said to leak, of the second six of its hours."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    starts_h = (0.0,) if alone else (0.0, 1.0, 2.0, 4.0)
    peers = {}
    for place, start_h in enumerate(starts_h):
        shape = partial(_of_the_day, leak_mb_per_min, start_h, phase)
        told = floors_of(shape, 100 * seed + place, noise_mb, counts=False)
        peers[str(place)] = (start_h * 3600, told)
    for now_s in np.arange(6 * 3600, HOURS * 3600, 300.0):
        seen = {
            name: Peer(
                started_at_s=start_s, floors=tuple(each for each in told if each.at_s + start_s <= now_s)
            )
            for name, (start_s, told) in peers.items()
        }
        if suspect_among(seen, policy):
            return float(now_s) / 3600
    return None


def _of_the_day(
    leak_mb_per_min: float, start_h: float, phase: float, rng: np.random.Generator, times: Numbers
) -> tuple[Numbers, Numbers]:
    cycle = 60 * (1 + 0.6 * np.sin(2 * np.pi * (times + start_h * 3600) / 86_400 + phase))
    return cycle + leak_mb_per_min * times / 60, even(rng, times)


def row(name: str, after: list[float | None]) -> list[str]:
    hours = [each for each in after if each is not None]
    median = f"{statistics.median(hours):.1f} h" if hours else "-"
    early = sum(each <= 3 for each in hours) / len(after)
    return [
        name,
        f"{len(hours) / len(after):.0%}",
        median,
        f"{early:.0%}",
        f"{max(hours):.1f} h" if hours else "-",
    ]


def show_series(runs: int, noise_mb: float) -> None:
    policy, seeds = LeakPolicy(), range(FIRST_SEED, FIRST_SEED + runs)
    print(f"Noise of {noise_mb:g} MB, {runs} runs each:", end="\n\n")
    for title, shapes in (("healthy worker", HEALTHY), ("leak", LEAKS)):
        head = [title, "called a leak within 12 h", "median", "within 3 h", "latest"]
        rows = [
            row(name, [found_after_h(shape, seed, noise_mb, policy) for seed in seeds])
            for name, shape in shapes.items()
        ]
        print(table(head, rows), end="\n\n")
    rows = []
    for rate, alone in ((0.0, True), (0.0, False), (1.0, False)):
        workers = "one worker" if alone else "four workers"
        name = f"{workers}, {f'leak of {rate:g} MB/min' if rate else 'healthy'}"
        told = [group_found_after_h(rate, seed, noise_mb, policy, alone=alone) for seed in seeds]
        rows.append([name, f"{sum(each is not None for each in told) / runs:.0%}"])
    print(table(["daily load that is not counted", "called a leak in hours 6 to 12"], rows), end="\n\n")


def show_cost() -> None:
    """Of a sample in this process, with a heap of a service's size."""
    kept = [{"id": at, "name": str(at)} for at in range(300_000)]
    sampler = Sampler()
    costs = []
    for _ in range(50):
        before_s = time.thread_time()
        for _ in range(100):
            sampler.sample()
        costs.append((time.thread_time() - before_s) / 100)
    cost_s = statistics.median(costs)
    rows = [[f"{cost_s * 1e6:.0f} us", f"{min(costs) * 1e6:.0f} us", f"{cost_s / INTERVAL_S:.5%}"]]
    print(table(["CPU time of a sample, median", "least", f"one every {INTERVAL_S:.0f} s"], rows))
    del kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument(
        "--noise-mb", type=float, nargs="+", default=[2.0, 3.0, 4.0], help="standard deviations"
    )
    parser.add_argument("--cost", action="store_true", help="what the sampling costs, instead")
    options = parser.parse_args()
    print(host_line(), end="\n\n")
    if options.cost:
        show_cost()
        return
    for noise_mb in options.noise_mb:
        show_series(options.runs, noise_mb)


if __name__ == "__main__":
    main()
