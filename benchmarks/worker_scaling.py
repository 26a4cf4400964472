"""How many workers a group has under changing load: scaled against a fixed number, in simulation.

    python -m benchmarks.worker_scaling [--seed 1]

Arrivals are Poisson in steps of half a second; each of the workers does what the service time lets it, a new
one after its start; what waits is one queue. Where something else is the bottleneck, no more than its
capacity is done by however many workers. Time is simulated, so the table is the same on any machine.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from msgspec import structs

from benchmarks.page import table
from perfloop.process.scaling.policy import ScalingPolicy
from perfloop.process.scaling.scaling import Demand, WorkerScaling
from perfloop.process.scaling.season import SeasonPolicy

STEP_S, WINDOW_S, START_S, SERVICE_S = 0.5, 5.0, 2.0, 0.1
HOUR = 3600.0
Rate = Callable[[float], float]
SEASON = SeasonPolicy(period_s=HOUR, bins=120, recent=12)


@dataclass
class Played:
    """What came of one load."""

    waits_s: list[tuple[float, int]] = field(default_factory=list)
    """How long those that arrived in a step waited, and how many they were."""
    workers: list[int] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    scaling: WorkerScaling | None = None

    @property
    def worker_hours(self) -> float:
        return sum(self.workers) * STEP_S / HOUR

    @property
    def changes(self) -> int:
        return sum(before != after for before, after in zip(self.workers, self.workers[1:], strict=False))

    def wait_s(self, share: float) -> float:
        """Below which this share of the arrivals waited."""
        waits = sorted(self.waits_s)
        total, seen = sum(count for _, count in waits), 0
        for wait, count in waits:
            seen += count
            if seen >= share * total:
                return wait
        return 0.0


def play(
    rate: Rate,
    length_s: float,
    scaling: WorkerScaling | None,
    *,
    workers: int,
    seed: int = 1,
    capacity: float = math.inf,
    collapse: float = 0.0,
    most: int | None = None,
) -> Played:
    """One load from its beginning; `capacity` messages a second are the most that something else lets pass.

    With `collapse`, each worker beyond what the capacity needs takes that share of it away. There is room for
    `most` workers.
    """
    rng = np.random.default_rng(seed)
    played, queue, credit, ready_s = Played(scaling=scaling), 0, 0.0, [0.0] * workers
    arrived = done = busy_s = 0.0
    for step in range(int(length_s / STEP_S)):
        now_s = step * STEP_S
        come = int(rng.poisson(rate(now_s) * STEP_S))
        running = sum(each <= now_s for each in ready_s)
        extra = max(0.0, running - capacity * SERVICE_S) if math.isfinite(capacity) else 0.0
        pace = min(running / SERVICE_S, capacity * max(0.1, 1 - collapse * extra))
        played.waits_s.append((queue / pace if pace else STEP_S, come))
        queue += come
        credit = min(credit + pace * STEP_S, pace * STEP_S + 1)
        served = min(queue, int(credit))
        queue, credit = queue - served, credit - served
        arrived, done = arrived + come, done + served
        busy_s += served * running / pace if pace else 0.0
        played.queue.append(queue)
        played.workers.append(len(ready_s))
        if scaling is not None and (step + 1) * STEP_S % WINDOW_S == 0:
            demand = Demand(
                ended_at_s=now_s + STEP_S,
                length_s=WINDOW_S,
                workers=len(ready_s),
                arrivals_per_s=arrived / WINDOW_S,
                completions_per_s=done / WINDOW_S,
                queue_length=queue,
                service_s=busy_s / done if done else None,
            )
            arrived = done = busy_s = 0.0
            change = scaling.update(demand, most=most)
            if change is not None:
                fresh = [now_s + START_S] * max(0, change.after - len(ready_s))
                ready_s = [*ready_s, *fresh][: change.after]
    return played


def steady(now_s: float) -> float:
    return 60.0


def step_up(now_s: float) -> float:
    return 20.0 if now_s < 1200 or now_s > 3000 else 100.0


def ramp(now_s: float) -> float:
    return 10.0 + 110.0 * min(1.0, now_s / 3000)


def cycle(now_s: float) -> float:
    """A day of one hour, with a steep morning."""
    return 15.0 + 100.0 * math.sqrt(max(0.0, math.sin(2 * math.pi * now_s / HOUR)))


def too_much(now_s: float) -> float:
    return 100.0


LOADS: dict[str, tuple[Rate, float]] = {
    "steady, 60/s": (steady, HOUR),
    "step, 20 to 100/s and back": (step_up, 1.5 * HOUR),
    "ramp, 10 to 120/s": (ramp, HOUR),
    "daily cycle, 15 to 115/s": (cycle, 4 * HOUR),
}


def row(name: str, how: str, played: Played) -> list[str]:
    return [
        name,
        how,
        f"{played.worker_hours:.1f}",
        f"{played.wait_s(0.5) * 1000:.0f} ms",
        f"{played.wait_s(0.99):.2f} s",
        str(max(played.queue)),
        str(played.changes),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    policy = ScalingPolicy(highest=32, start_s=60.0)
    rows = []
    for name, (rate, length_s) in LOADS.items():
        rates = [rate(at) for at in np.arange(0, length_s, 30)]
        mean, peak = (math.ceil(each * SERVICE_S / 0.8) for each in (float(np.mean(rates)), max(rates)))
        rows.append(
            row(name, f"{mean} fixed, for the mean", play(rate, length_s, None, workers=mean, seed=seed))
        )
        rows.append(
            row(name, f"{peak} fixed, for the peak", play(rate, length_s, None, workers=peak, seed=seed))
        )
        rows.append(row(name, "scaled", play(rate, length_s, WorkerScaling(policy), workers=2, seed=seed)))
        if rate is cycle:
            scaling = WorkerScaling(structs.replace(policy, season=SEASON))
            rows.append(
                row(name, "scaled, with its season", play(rate, length_s, scaling, workers=2, seed=seed))
            )
    for collapse in (0.0, 0.05):
        name = "100/s, but 60/s pass" + (", less with more workers" if collapse else "")
        for how, workers in (("32 fixed", 32), ("scaled", 6)):
            law = WorkerScaling(policy) if workers == 6 else None
            played = play(too_much, 1800, law, workers=workers, seed=seed, capacity=60.0, collapse=collapse)
            rows.append(row(name, how, played))
    head = ["load", "workers", "worker hours", "median wait", "p99 wait", "longest queue", "changes"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
