"""feedshop, the example service: what perfloop finds, keeps and reverts there, and what that is worth.

The loop tunes one set of rows under one traffic; the score is taken with other calls, and without the loop:
`perfloop apply` brings what was kept to a copy of the target, and then the same calls run in closed loop on
the original and on the copy, slot by slot, in an order drawn by a coin. Writes commit. Latencies are the
client's, its own work included.

    python -m benchmarks.feedshop --major 15
    python -m benchmarks.feedshop --major 18 --markdown
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import fmean

import psycopg
from examples.feedshop.load import load
from examples.feedshop.mix import draw, read_pools, values_for
from examples.feedshop.service import FeedShop, connect
from examples.feedshop.traffic import run_traffic

from benchmarks.changed_copy import changed_copy
from benchmarks.feedshop_score import PlantedScore, TrapScore, score_planted, score_traps
from benchmarks.page import host_line, met, table
from benchmarks.rewritten_calls import rewritten_calls
from benchmarks.step_clock import StepClock
from perfloop.adapters.servers import PostgresServer, find_postgres
from perfloop.adapters.store import Journal
from perfloop.model.outcome import Study
from perfloop.stats.interval import (
    RatioInterval,
    bootstrap_interval,
    geometric_mean,
    quantile,
    ratio_of_sums,
)
from perfloop.tune.study import StudyOptions, optimize

SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
DATABASE = "feedshop"
DATA_SEED = 2026
"""Neither the demo's nor the tests': nothing was fitted to these rows."""
CONNECTIONS = 2
MEAN_TARGET = 0.40
THROUGHPUT_TARGET = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The calls of one slot on one database, as (operation, seconds), and the time that all took."""

    calls: tuple[tuple[str, float], ...]
    elapsed_s: float

    @property
    def latencies_s(self) -> list[float]:
        return [took_s for _, took_s in self.calls]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One figure before and after, and after over before with its 95 % interval."""

    before: float
    after: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that is printed."""

    server: str
    rows_seed: int
    scale: float
    optimize_s: float
    planted: tuple[PlantedScore, ...]
    traps: tuple[TrapScore, ...]
    kept: tuple[str, ...]
    pairs: int
    calls_per_slot: int
    effects: dict[str, Effect]

    def passes(self) -> bool:
        return (
            all(each.found and each.fixed for each in self.planted if each.possible)
            and not any(each.outcome == "kept" for each in self.traps)
            and self.effects["mean_s"].ratio <= MEAN_TARGET
            and self.effects["throughput_per_s"].ratio >= THROUGHPUT_TARGET
        )


class ClosedLoop:
    """Clients on one database; each calls again as soon as it has its answer."""

    def __init__(self, dsn: str, rewritten: Mapping[str, str] | None = None) -> None:
        self._dsn = dsn
        self._rewritten = rewritten or {}
        self._stack = ExitStack()
        self._shops: list[FeedShop] = []
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def __enter__(self) -> ClosedLoop:
        self._stack.enter_context(self._pool)
        connections = [self._stack.enter_context(connect(self._dsn)) for _ in range(CONNECTIONS)]
        self._shops = [FeedShop(connection, self._rewritten) for connection in connections]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, calls: Sequence[tuple[str, tuple[object, ...]]]) -> Slot:
        """Make these calls, shared out as the clients become free."""
        waiting = iter(calls)
        lock = threading.Lock()

        def client(shop: FeedShop) -> list[tuple[str, float]]:
            made: list[tuple[str, float]] = []
            while True:
                with lock:
                    call = next(waiting, None)
                if call is None:
                    return made
                started_s = time.perf_counter()
                getattr(shop, call[0])(*call[1])
                made.append((call[0], time.perf_counter() - started_s))

        began_s = time.perf_counter()
        parts = list(self._pool.map(client, self._shops))
        elapsed_s = time.perf_counter() - began_s
        return Slot(calls=tuple(each for part in parts for each in part), elapsed_s=elapsed_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--major", type=int, default=15, help="of the server (15)")
    parser.add_argument("--seed", type=int, default=1, help="of traffic, trials and scoring (1)")
    parser.add_argument("--data-seed", type=int, default=DATA_SEED, help=f"of the rows ({DATA_SEED})")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 makes 1.16 million rows (1.0)")
    parser.add_argument("--traffic", type=float, default=20.0, help="seconds of traffic to tune by (20)")
    parser.add_argument("--pairs", type=int, default=24, help="of slots to score by (24)")
    parser.add_argument("--calls", type=int, default=400, help="in each slot (400)")
    parser.add_argument("--trials", type=int, default=StudyOptions().most_trials, help="at most")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print what goes into docs/benchmarks.md")
    options = parser.parse_args()
    host = host_line(server=f"PostgreSQL {find_postgres(prefer_major=options.major).version}")
    outcome = run(options)
    if options.json:
        print(json.dumps({**asdict(outcome), "passes": outcome.passes()}, indent=1))
    else:
        print(f"{host}\n\n{markdown(outcome)}")
    return 0 if outcome.passes() else 1


def run(options: argparse.Namespace) -> Outcome:
    binaries = find_postgres(prefer_major=options.major)
    if binaries.major != options.major:
        raise SystemExit(f"PostgreSQL {options.major} is not installed here, {binaries.version} is")
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresServer(binaries, settings=SETTINGS) as server,
        Journal(Path(folder) / "journal.sqlite3") as journal,
    ):
        dsn = _fill(server, options)
        run_traffic(dsn, seconds=options.traffic, connections=CONNECTIONS, seed=options.seed)
        began_s = time.monotonic()
        study = optimize(
            dsn, StudyOptions(seed=options.seed, most_trials=options.trials), journal, StepClock()
        )
        optimize_s = time.monotonic() - began_s
        with changed_copy(server, DATABASE, study, journal) as changed:
            slots = measure(
                dsn,
                changed,
                pairs=options.pairs,
                calls=options.calls,
                rng=Random(options.seed + 1),
                rewritten=rewritten_calls(study),
            )
    return _outcome(options, binaries.version, study, optimize_s, slots)


def measure(
    original: str,
    changed: str,
    *,
    pairs: int,
    calls: int,
    rng: Random,
    rewritten: Mapping[str, str] | None = None,
) -> list[tuple[Slot, Slot]]:
    """Slots of the original and the changed database, side by side; a first pair only warms up.

    The changed one is asked in the `rewritten` words, as by people who took them over.
    """
    found = []
    with connect(original) as connection:
        pools = read_pools(connection, rng)
    with ClosedLoop(original) as before, ClosedLoop(changed, rewritten) as after:
        for _ in range(pairs + 1):
            drawn = [draw(rng) for _ in range(calls)]
            script = [(operation.name, values_for(operation, pools, rng)) for operation in drawn]
            if rng.random() < 0.5:
                first = before.run(script)
                found.append((first, after.run(script)))
            else:
                first = after.run(script)
                found.append((before.run(script), first))
    return found[1:]


def effects_of(slots: Sequence[tuple[Slot, Slot]], rng: Random) -> dict[str, Effect]:
    """Mean, p95 and throughput with the intervals of perfloop.stats."""
    before, after = [pair[0] for pair in slots], [pair[1] for pair in slots]

    def mean_s(chosen: Sequence[Slot]) -> float:
        return ratio_of_sums([(sum(slot.latencies_s), len(slot.calls)) for slot in chosen])

    def p95_s(chosen: Sequence[Slot]) -> float:
        return geometric_mean([quantile(slot.latencies_s, 0.95) for slot in chosen])

    def throughput_per_s(chosen: Sequence[Slot]) -> float:
        return ratio_of_sums([(len(slot.calls), slot.elapsed_s) for slot in chosen])

    summaries = {"mean_s": mean_s, "p95_s": p95_s, "throughput_per_s": throughput_per_s}
    found = {}
    for name, summary in summaries.items():
        interval = bootstrap_interval(before, after, summary, rng=rng)
        found[name] = _effect(summary(before), summary(after), interval)
    return found


def ratios_of(slots: Sequence[tuple[Slot, Slot]]) -> dict[str, float]:
    """Mean latency after over before, by operation."""

    def means_s(chosen: Sequence[Slot]) -> dict[str, float]:
        made: dict[str, list[float]] = defaultdict(list)
        for slot in chosen:
            for name, took_s in slot.calls:
                made[name].append(took_s)
        return {name: fmean(took_s) for name, took_s in made.items()}

    before, after = means_s([pair[0] for pair in slots]), means_s([pair[1] for pair in slots])
    return {name: after[name] / before[name] for name in sorted(before)}


def markdown(outcome: Outcome) -> str:
    possible = [each for each in outcome.planted if each.possible]
    found = sum(each.found for each in possible)
    fixed = sum(each.fixed for each in possible)
    wrong = [each.id for each in outcome.traps if each.outcome == "kept"]
    summary = [
        ["planted problems found", "all", f"{found} of {len(possible)}", met(found == len(possible))],
        ["planted problems mended", "all", f"{fixed} of {len(possible)}", met(fixed == len(possible))],
        ["traps kept", "none", ", ".join(wrong) or "none", met(not wrong)],
        _effect_row("mean", outcome.effects["mean_s"], f"≤ {MEAN_TARGET:.2f}", MEAN_TARGET),
        _effect_row("p95", outcome.effects["p95_s"], "-", None),
        _effect_row(
            "throughput", outcome.effects["throughput_per_s"], f"≥ {THROUGHPUT_TARGET}", THROUGHPUT_TARGET
        ),
    ]
    return "\n\n".join(
        (
            f"Server {outcome.server}, rows of seed {outcome.rows_seed} at scale {outcome.scale:g}; "
            f"optimize took {outcome.optimize_s:.0f} s; scored by {outcome.pairs} pairs of "
            f"{outcome.calls_per_slot} calls from {CONNECTIONS} connections. Ratios are after over before.",
            table(["claim", "target", "measured", ""], summary),
            table(
                ["planted", "found", "mended", "mean latency of its operation"],
                [each.cells() for each in outcome.planted],
            ),
            table(["trap", "what became of it", "why"], [each.cells() for each in outcome.traps]),
            "Kept: " + ("; ".join(outcome.kept) or "nothing") + ".",
        )
    )


def _fill(server: PostgresServer, options: argparse.Namespace) -> str:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    dsn = server.dsn(DATABASE)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    load(dsn, seed=options.data_seed, scale=options.scale)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_statements_reset()")  # filling it is none of its users' work
    return dsn


def _outcome(
    options: argparse.Namespace,
    version: str,
    study: Study,
    optimize_s: float,
    slots: list[tuple[Slot, Slot]],
) -> Outcome:
    return Outcome(
        server=f"PostgreSQL {version}",
        rows_seed=options.data_seed,
        scale=options.scale,
        optimize_s=optimize_s,
        planted=score_planted(study, ratios_of(slots)),
        traps=score_traps(study),
        kept=tuple(trial.proposal.change.title for trial in study.kept()),
        pairs=len(slots),
        calls_per_slot=options.calls,
        effects=effects_of(slots, Random(options.seed)),
    )


def _effect(before: float, after: float, interval: RatioInterval) -> Effect:
    return Effect(before=before, after=after, ratio=interval.estimate, low=interval.low, high=interval.high)


def _effect_row(name: str, effect: Effect, target: str, limit: float | None) -> list[str]:
    if name == "throughput":
        figures = f"{effect.before:.0f} → {effect.after:.0f} per s"
        fulfilled = limit is None or effect.ratio >= limit
    else:
        figures = f"{effect.before * 1000:.2f} → {effect.after * 1000:.2f} ms"
        fulfilled = limit is None or effect.ratio <= limit
    measured = f"{figures}, ratio {effect.ratio:.3f} [{effect.low:.3f}, {effect.high:.3f}]"
    return [name, target, measured, "" if limit is None else met(fulfilled)]


if __name__ == "__main__":
    sys.exit(main())
