"""How near an adaptive stage comes to the best fixed setting, and how soon: on sinks that queue or collapse.

Every law begins at 1 call at once and 8 items a call, and is told nothing. The best fixed setting of a cell
is its capacity, played on the same noise. The simulation is on a virtual clock, so that it is the same on any
host and under any load; in real threads: `benchmarks.adaptive_stage_threads`.

    python -m benchmarks.adaptive_stage --markdown                # about 5 minutes of 2 processors

The rival comes with the dependency group pipeline-peers: adaptive-concurrency (Apache-2.0).
"""

from __future__ import annotations

import argparse
import math
import statistics
import timeit
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.open_loop import OpenLoop, OpenLoopScore, SteeredOpenLoop
from benchmarks.page import host_line, met, table
from benchmarks.sink_simulation import (
    COLLAPSE,
    PLATEAU,
    Coordinated,
    Score,
    Simulation,
    Sink,
    Steered,
    Steering,
    phase_ratio,
    score,
)
from benchmarks.stalls import KINDS as STALL_KINDS
from benchmarks.stalls import Stalls
from perfloop.control.aimd import Aimd
from perfloop.control.batch_fit import BatchFit
from perfloop.control.coordinator import Coordinator
from perfloop.control.fixed import Fixed, FixedSize
from perfloop.control.gradient2 import Gradient2
from perfloop.control.hill_climbing import HillClimbing
from perfloop.control.law import ConcurrencyLaw
from perfloop.control.limiter import Limiter
from perfloop.control.linger import Linger
from perfloop.control.search_hold import SearchHold
from perfloop.control.slots import Slots
from perfloop.process.pipeline.steering import BatchSteering

try:
    from benchmarks.adaptive_concurrency_peer import AdaptiveConcurrency
except ImportError:
    AdaptiveConcurrency = None  # type: ignore[assignment,misc]  # the rival is left out where it is not installed

KINDS: Final = {"plateau": PLATEAU, "collapse": COLLAPSE}
SIZE: Final = 8
LENGTH_S: Final = 60.0
P99_BUDGET_S: Final = 0.025
BEST_SIZE: Final = 200
STEPS: Final = ((0.0, 16), (60.0, 6), (120.0, 32))
OPEN_LOOP_BUDGET_S: Final = 0.02
SETTLING_S: Final = 14.0
"""Of a run in open loop from one call at once, of which the second half is scored."""
RATES: Final = (50, 500, 3_000, 10_000, 50_000, 150_000, 250_000)
DEFAULT: Final = "SearchHold (default)"
PEER_SEEDS: Final = 3
SEEDS: Final = (11, 12, 13, 14, 15)
"""Of the scored runs; laws were tuned on others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A law that is scored, and how long its Windows are."""

    name: str
    make: Callable[[], Steering]
    interval_s: float


def _alone(make: Callable[[], ConcurrencyLaw]) -> Callable[[], Steering]:
    return lambda: Steered(make(), FixedSize(SIZE))


CONTENDERS: Final = {
    contender.name: contender
    for contender in (
        Contender(name=DEFAULT, make=_alone(SearchHold), interval_s=0.1),
        Contender(name="HillClimbing", make=_alone(HillClimbing), interval_s=0.1),
        Contender(name="Gradient2", make=_alone(Gradient2), interval_s=1.0),
        Contender(name="Aimd", make=_alone(Aimd), interval_s=1.0),
        *(
            [
                Contender(
                    name="adaptive-concurrency 0.1.1",
                    make=lambda: AdaptiveConcurrency(workers=1, size=SIZE),
                    interval_s=0.1,
                )
            ]
            if AdaptiveConcurrency is not None
            else []
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One sink of the grid, on a quiet host or on one with stalls of a kind."""

    kind: str
    capacity: int
    sigma: float
    stalls: str | None = None

    @property
    def sink(self) -> Sink:
        return Sink(contention=KINDS[self.kind], capacity=((0.0, self.capacity),), sigma=self.sigma)

    @property
    def name(self) -> str:
        name = f"{self.kind}, capacity {self.capacity}, sigma {self.sigma}"
        return f"{name}, {self.stalls} stalls" if self.stalls else name


GRID: Final = [Cell(kind=k, capacity=c, sigma=s) for k in KINDS for c in (6, 16, 64) for s in (0.2, 0.5)]
STALLED: Final = [
    replace(cell, stalls=stalls) for stalls in STALL_KINDS for cell in GRID if cell.capacity < 64
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellScore:
    """One law on one cell, over the seeds."""

    steady: list[float]
    p99_ratio: float
    reached_s: float

    @property
    def is_met(self) -> bool:
        is_high = statistics.median(self.steady) >= 0.95 and min(self.steady) >= 0.90
        return is_high and self.p99_ratio <= 1.3 and self.reached_s <= 10

    def __str__(self) -> str:
        steady = f"{statistics.median(self.steady):.1%} ({min(self.steady):.1%})"
        return f"{steady}, {self.p99_ratio:.2f}, {_moment(self.reached_s)}"


def _moment(at_s: float) -> str:
    return f"{at_s:.1f} s" if math.isfinite(at_s) else "never"


def play_cell(name: str | None, cell: Cell, seed: int) -> Score:
    """One run; without a name, of the best fixed setting."""
    make, interval_s = _alone(lambda: Fixed(cell.capacity)), 0.1
    if name is not None:
        make, interval_s = CONTENDERS[name].make, CONTENDERS[name].interval_s
    stalls = Stalls(cell.stalls, seed, LENGTH_S) if cell.stalls else None
    calls = Simulation(cell.sink, make(), seed, interval_s=interval_s, stalls=stalls).run(LENGTH_S)
    return score(calls, cell.sink.best_items_per_s(SIZE, cell.capacity), LENGTH_S)


def against(scores: Sequence[Score], best: Sequence[Score]) -> CellScore:
    pairs = list(zip(scores, best, strict=False))
    return CellScore(
        steady=[ours.steady_ratio / fixed.steady_ratio for ours, fixed in pairs],
        p99_ratio=statistics.median(ours.p99_s / fixed.p99_s for ours, fixed in pairs),
        reached_s=statistics.median(ours.reached_s for ours in scores),
    )


def play_steps(name: str, kind: str, sigma: float, seed: int) -> list[float]:
    """The share of the best in each phase, while the capacity moves."""
    contender = CONTENDERS[name]
    sink = Sink(contention=KINDS[kind], capacity=STEPS, sigma=sigma)
    calls = Simulation(sink, contender.make(), seed, interval_s=contender.interval_s).run(180.0)
    return [phase_ratio(calls, at, at + 60, sink.best_items_per_s(SIZE, capacity)) for at, capacity in STEPS]


def play_both(kind: str, seed: int, *, is_coordinated: bool) -> Score:
    """Concurrency and batch size, by turns or each on its own, against 16 calls of 200 items."""
    cell = Cell(kind=kind, capacity=16, sigma=0.2)
    concurrency, batch = SearchHold(), BatchFit(start=SIZE, p99_budget_s=P99_BUDGET_S)
    steering: Steering = Steered(concurrency, batch)
    if is_coordinated:
        steering = Coordinated(Coordinator(concurrency, batch))
    calls = Simulation(cell.sink, steering, seed).run(LENGTH_S)
    return score(calls, cell.sink.best_items_per_s(BEST_SIZE, 16), LENGTH_S)


def grid_table(pool: ProcessPoolExecutor, plan: Mapping[str, Sequence[int]]) -> str:
    """Laws with the seeds that each is played on; the best fixed setting is played on all of them."""
    laws = list(plan)
    seeds = max(plan.values(), key=len)
    best_runs = {cell: [pool.submit(play_cell, None, cell, seed) for seed in seeds] for cell in GRID}
    runs = {
        (law, cell): [pool.submit(play_cell, law, cell, seed) for seed in plan[law]]
        for cell in GRID
        for law in laws
    }
    scores = {}
    for law, cell in runs:
        best = [run.result() for run in best_runs[cell]]
        scores[law, cell] = against([run.result() for run in runs[law, cell]], best)
    rows = [[cell.name, *(str(scores[law, cell]) for law in laws)] for cell in GRID]
    counts = [sum(scores[law, cell].is_met for cell in GRID) for law in laws]
    rows.append(["**cells within the target**", *(f"{count} of {len(GRID)}" for count in counts)])
    return table(["sink", *laws], rows)


def steps_table(pool: ProcessPoolExecutor, plan: Mapping[str, Sequence[int]]) -> str:
    cells = [(kind, sigma) for kind in KINDS for sigma in (0.2, 0.5)]
    runs = {
        (law, kind, sigma): [pool.submit(play_steps, law, kind, sigma, seed) for seed in seeds]
        for kind, sigma in cells
        for law, seeds in plan.items()
    }
    rows = []
    for kind, sigma in cells:
        row = [f"{kind}, sigma {sigma}"]
        for law in plan:
            phases = zip(*(run.result() for run in runs[law, kind, sigma]), strict=True)
            row.append(" / ".join(f"{statistics.median(phase):.0%}" for phase in phases))
        rows.append(row)
    return table(["sink", *plan], rows)


def both_table(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> str:
    rows = []
    for kind in KINDS:
        for is_coordinated in (True, False):
            runs = [pool.submit(play_both, kind, seed, is_coordinated=is_coordinated) for seed in seeds]
            scores = [run.result() for run in runs]
            steady = [run.steady_ratio for run in scores]
            p99_s = statistics.median(run.p99_s for run in scores)
            reached_s = statistics.median(run.reached_s for run in scores)
            is_met = statistics.median(steady) >= 0.95 and p99_s <= P99_BUDGET_S and reached_s <= 10
            how = "one at a time (Coordinator)" if is_coordinated else "each on its own"
            row = [kind, how, f"{statistics.median(steady):.1%} ({min(steady):.1%})", f"{p99_s * 1e3:.1f} ms"]
            rows.append([*row, _moment(reached_s), met(is_met) if is_coordinated else ""])
    return table(["sink", "laws", "of the best (least)", "p99, budget 25 ms", "to 95 %", ""], rows)


def open_loop_table(budget_s: float, seed: int) -> str:
    rows = []
    for rate in RATES:
        length_s = 60.0 if rate <= 10_000 else 20.0
        greedy = OpenLoop(rate, None, seed).run(length_s)
        linger = OpenLoop(rate, Linger(budget_s), seed).run(length_s)
        first = f"{greedy.calls_per_s:,.0f} | {greedy.p99_s * 1e3:.1f} ms"
        second = f"{linger.calls_per_s:,.0f} | {linger.p99_s * 1e3:.1f} ms | {linger.linger_s * 1e3:.1f} ms"
        rows.append([f"{rate:,}", first, second])
    steered = f"p99 budget {budget_s * 1e3:.0f} ms: calls/s"
    return table(["items/s", "at once: calls/s", "p99", steered, "p99", "linger found"], rows)


def settling_table(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> str:
    """A stage as a pipeline has it, from one call at once: the worst of the seeds, once half is over."""
    rows = []
    for rate in (500, 3_000, 10_000):
        scores = list(pool.map(play_settling, [rate] * len(seeds), seeds))
        calls, p99_s = max(one.calls_per_s for one in scores), max(one.p99_s for one in scores)
        is_met = calls <= 200 and p99_s <= OPEN_LOOP_BUDGET_S
        rows.append([f"{rate:,}", f"{calls:.0f}", f"{p99_s * 1e3:.1f} ms", met(is_met)])
    return table(["items/s", "calls/s", "p99", ""], rows)


def play_settling(rate_per_s: float, seed: int) -> OpenLoopScore:
    linger, slots = Linger(OPEN_LOOP_BUDGET_S), Slots(OPEN_LOOP_BUDGET_S, highest=128)
    steering = BatchSteering(SearchHold(), FixedSize(SIZE), most=1000, linger=linger, slots=slots)
    return SteeredOpenLoop(rate_per_s, steering, seed).run(SETTLING_S)


def stalled_table(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> str:
    """The default law alone, against the best fixed setting on a host that stalls at the same moments."""
    names = (DEFAULT, None)
    runs = {c: {n: [pool.submit(play_cell, n, c, s) for s in seeds] for n in names} for c in STALLED}
    rows = []
    for cell, played in runs.items():
        ours, best = ([run.result() for run in played[name]] for name in names)
        shares = [one.steady_ratio / other.steady_ratio for one, other in zip(ours, best, strict=True)]
        p99_ratio = statistics.median(one.p99_s / other.p99_s for one, other in zip(ours, best, strict=True))
        theory = statistics.median(run.steady_ratio for run in best)
        share = f"{statistics.median(shares):.1%} ({min(shares):.1%})"
        rows.append([cell.name, f"{theory:.0%}", share, f"{p99_ratio:.2f}"])
    return table(["sink and host", "best fixed, of theory", DEFAULT, "p99 ratio"], rows)


def pair_ns() -> float:
    """What an acquire and its release take, with their share of a Window, on an idle Limiter."""
    limiter, calls = Limiter(4), 10_000

    def play() -> None:
        for _ in range(calls):
            limiter.release(limiter.acquire(), SIZE)
        limiter.drain()

    return min(timeit.repeat(play, number=1, repeat=20)) / calls * 1e9


def print_simulated(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> None:
    plan = {name: seeds if name == DEFAULT else seeds[:PEER_SEEDS] for name in CONTENDERS}
    counted = f"{DEFAULT} on {len(seeds)} seeds, the others on {len(seeds[:PEER_SEEDS])}."
    print(f"{counted} Each entry: share of the best fixed setting in the last half, median (least);")
    print("p99 over that of the best fixed setting; the time from which on five seconds brought 95 %.\n")
    print(grid_table(pool, plan))
    print("\nOn hosts that stall, in the last half of a minute, SearchHold alone.\n")
    print(stalled_table(pool, seeds))
    print("\nCapacity 16, then 6, then 32, for 60 s each: share of the best in each phase, median.")
    print("The others are on one seed.\n")
    print(steps_table(pool, {name: seeds if name == DEFAULT else seeds[:1] for name in CONTENDERS}))
    print("\nBoth numbers, from 1 call of 8 items; the best fixed setting is 16 calls of 200.\n")
    print(both_table(pool, seeds))
    print("\nOpen loop, 16 slots: calls a second and the p99 of items.\n")
    print(open_loop_table(OPEN_LOOP_BUDGET_S, seeds[0]))
    print(f"\nFrom one call at once, from second {SETTLING_S / 2:.0f} on; the worst of {len(seeds)} seeds.\n")
    print(settling_table(pool, seeds))
    print(f"\nAn acquire and its release, with their share of a Window: {pair_ns():.0f} ns.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds a cell")
    parser.add_argument(
        "--markdown", action="store_true", help="with the host's line, for docs/benchmarks.md"
    )
    args = parser.parse_args()
    if args.markdown:
        print(host_line() + "\n")
    with ProcessPoolExecutor(2) as pool:
        print_simulated(pool, SEEDS[: args.seeds])


if __name__ == "__main__":
    main()
