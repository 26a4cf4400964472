"""How often a real Trial keeps a change that does nothing, and how often it keeps a small gain.

Nothing is simulated: every trial is perfloop's `run_trial` with its own policy, on backends of its own, over
two databases of a real server. A read statement sums a table; in the control database the table has ROWS
rows, in the treatment as many (no effect) or so many fewer that a call takes 5 or 10 % less CPU time. How
many that are follows from a line through calls of known size; blocks and rows are counted beside it, and the
median over all trials says what the effect came to.

In a Study a change that alters no plan and no work is not even timed, so it cannot be kept by noise. Here
timing is forced, because that is where noise could deceive. Slices are shorter than a Study's, so that many
trials can be run; that makes each of them noisier. Trials share no pair. Databases are cloned anew for every
block of trials, so that no chance layout of one clone speaks for all.

    python -m benchmarks.trial_error
    python -m benchmarks.trial_error --trials 30 --effect-trials 10 --burners 0
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from random import Random

import psycopg
from psycopg import sql

from benchmarks.page import host_line, met, table
from benchmarks.share_interval import clopper_pearson
from perfloop.adapters.servers import PostgresServer, find_postgres
from perfloop.model.advice import AlterSetting, Proposal
from perfloop.model.outcome import LabKind, TrialRecord, Verdict
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune import measure
from perfloop.tune.decision import STANDARD_KEEP_POLICY
from perfloop.tune.lab.arms import Arm, Arms, put_on_one_processor
from perfloop.tune.measure import count
from perfloop.tune.trial import run_trial

ROWS = 2_000
BLOCK = 25
"""Trials on the same two clones."""
SAVINGS = (0.05, 0.10, -0.05)
"""Of CPU time per call; below 0 the treatment takes more."""
TEXT = "SELECT sum(value) FROM readings"
MAX_FALSE_RATE = 0.01
MIN_POWER = 0.95
CALIBRATION_TURNS = 150
CALLS_PER_TURN = 50
SLICE_S = 0.012
"""Of one arm in a pair; a Study's is twenty times as long."""

# Nothing that starts by itself may fall into one arm of a pair; so do labs.
SETTINGS = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "fsync": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
# It ends by itself when its parent is gone.
BURN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Many trials of one kind."""

    host: str
    saving: float
    """True saving of CPU time per call, by calibration; 0 for A/A."""
    rows: tuple[int, int]
    blocks: tuple[float, float]
    trials: int
    kept: int
    reverted: int
    unclear: int
    mean_pairs: float
    median_ratio: float
    """The median over the trials of treatment over control."""
    spread_ratio: float
    """Half the distance of the quartiles of that ratio."""
    neighbour_ratio: float
    """Mean share of the machine that others used."""

    @property
    def kept_interval(self) -> tuple[float, float]:
        return clopper_pearson(self.kept, self.trials)


class Bench:
    """A server with clones of one table, and trials over them."""

    def __init__(self, server: PostgresServer, rng: Random, slice_s: float) -> None:
        self._server = server
        self._slice_s = slice_s
        self._rows_of_a_call: float | None = None
        self._rng = rng
        self._admin = psycopg.connect(server.dsn(), autocommit=True)
        self._fill("origin", ROWS)

    def close(self) -> None:
        self._admin.close()

    def rows_for(self, saving: float) -> int:
        """Rows at which a call takes `saving` less CPU time than at ROWS."""
        if saving == 0:
            return ROWS
        if self._rows_of_a_call is None:
            self._rows_of_a_call = self._calibrated()
        return round(ROWS - saving * self._rows_of_a_call)

    def _calibrated(self) -> float:
        """CPU time of a call at ROWS, in rows: the rows and what a call costs besides.

        Raises:
            SystemExit: the cost does not grow with the rows, as on a host too busy to calibrate.
        """
        self._fill("half", ROWS // 2)
        turns = self._cpu_per_call_s("origin", "half")
        per_row_s = statistics.median(whole - half for whole, half in turns) / (ROWS - ROWS // 2)
        if per_row_s <= 0:
            raise SystemExit("calibration failed: fewer rows do not take less time; try on a quieter host")
        return statistics.median(whole for whole, _ in turns) / per_row_s

    def series(self, host: str, saving: float, trials: int) -> Series:
        """Run so many trials of one kind."""
        rows = self.rows_for(saving)
        self._fill("other", rows)
        records: list[TrialRecord] = []
        while len(records) < trials:
            self._clone("control", "origin")
            self._clone("treatment", "other")
            records += [self._trial() for _ in range(min(BLOCK, trials - len(records)))]
        ratios = [record.cpu.ratio for record in records if record.cpu is not None]
        quartiles = statistics.quantiles(ratios, n=4)
        verdicts = [record.verdict for record in records]
        return Series(
            host=host,
            saving=saving,
            rows=(ROWS, rows),
            blocks=(records[0].control_work.blocks, records[0].treatment_work.blocks),
            trials=len(records),
            kept=verdicts.count(Verdict.KEEP),
            reverted=verdicts.count(Verdict.REVERT),
            unclear=verdicts.count(Verdict.UNCLEAR),
            mean_pairs=statistics.fmean(record.cpu.pairs for record in records if record.cpu is not None),
            median_ratio=statistics.median(ratios),
            spread_ratio=(quartiles[2] - quartiles[0]) / 2,
            neighbour_ratio=statistics.fmean(each.host.neighbour_ratio for each in records if each.host),
        )

    def _trial(self) -> TrialRecord:
        with self._arms() as arms:
            operation = _operation()
            workload = Workload(origin="benchmark", operations=(operation,))
            baseline = {operation.statement.query_id: count(arms.control, operation)}
            seed = self._rng.getrandbits(32)
            return run_trial(
                _PROPOSAL,
                arms,
                workload,
                baseline,
                STANDARD_KEEP_POLICY,
                seed=seed,
                slice_s=self._slice_s,
            ).record

    @contextmanager
    def _arms(self) -> Iterator[Arms]:
        # As of two instances: only there a Trial times statements whose plan and work are the same.
        with _session(self._server, "control") as one, _session(self._server, "treatment") as two:
            yield Arms(
                kind=LabKind.INSTANCES,
                control=Arm(name="control", connection=one),
                treatment=Arm(name="treatment", connection=two),
            )

    def _cpu_per_call_s(self, first: str, second: str) -> list[tuple[float, float]]:
        """CPU time of a call in each of two databases, in short turns on one processor."""
        found = []
        with _session(self._server, first) as one, _session(self._server, second) as two:
            arms = Arm(name=first, connection=one), Arm(name=second, connection=two)
            for _ in range(CALIBRATION_TURNS):
                put_on_one_processor(*arms, self._rng)
                took_s = {arm.name: _turn_s(arm) for arm in self._rng.sample(arms, 2)}
                found.append((took_s[first], took_s[second]))
        return found

    def _fill(self, database: str, rows: int) -> None:
        self._clone(database, "template0")
        with _session(self._server, database) as connection:
            connection.execute("CREATE TABLE readings (id integer, value integer)")
            connection.execute(
                "INSERT INTO readings SELECT g, mod(g, 100) FROM generate_series(1, %s) g", [rows]
            )
            connection.execute("VACUUM ANALYZE readings")

    def _clone(self, database: str, template: str) -> None:
        name = sql.Identifier(database)
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._admin.execute(create.format(name, sql.Identifier(template)))


_PROPOSAL = Proposal(
    change=AlterSetting(name="cursor_tuple_fraction", value="0.1"),
    reason="a setting that acts on no statement here",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=300, help="without effect, on each host (300)")
    parser.add_argument("--effect-trials", type=int, default=60, help="with each effect (60)")
    parser.add_argument(
        "--burners", type=int, default=2, help="processes that load the host; 0: no such part"
    )
    parser.add_argument("--slice", type=float, default=SLICE_S, help=f"seconds of an arm's slice ({SLICE_S})")
    parser.add_argument("--major", type=int, default=15, help="of the server (15)")
    parser.add_argument("--seed", type=int, default=20_261_121)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print what goes into docs/benchmarks.md")
    options = parser.parse_args()
    binaries = find_postgres(prefer_major=options.major)
    host = host_line(server=f"PostgreSQL {binaries.version}")
    found = run(options)
    if options.json:
        print(json.dumps([{**asdict(one), "kept_interval": one.kept_interval} for one in found], indent=1))
    else:
        slices = f"Slices of {options.slice * 1000:g} ms; a study's are {measure.SLICE_S * 1000:g} ms."
        print(f"{host} {slices}\n\n{markdown(found)}")
    return 0 if all(judged is not False for judged in map(judge, found)) else 1


def run(options: argparse.Namespace) -> list[Series]:
    binaries = find_postgres(prefer_major=options.major)
    found = []
    with PostgresServer(binaries, settings=SETTINGS) as server:
        bench = Bench(server, Random(options.seed), options.slice)
        try:
            for saving in (0.0, *SAVINGS):
                trials = options.effect_trials if saving else options.trials
                found.append(_told(bench.series("as it is", saving, trials)))
            if options.burners:
                with burners(options.burners):
                    label = f"{options.burners} burners"
                    found.append(_told(bench.series(label, 0.0, options.trials)))
                    found.append(_told(bench.series(label, 0.05, options.effect_trials)))
        finally:
            bench.close()
    return found


@contextmanager
def burners(number: int) -> Iterator[None]:
    """So many processes that do nothing but use a processor each."""
    running = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(number)]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait()


def judge(series: Series) -> bool | None:
    """Whether the series reaches what is promised; None where nothing is.

    The promise of 5 % is for a host left to itself.
    """
    rate = series.kept / series.trials
    if series.saving <= 0:
        return rate <= MAX_FALSE_RATE
    return rate >= MIN_POWER if series.host == "as it is" else None


def markdown(found: Sequence[Series]) -> str:
    rows = [
        [
            one.host,
            "A/A" if one.saving == 0 else f"{one.saving:+.0%}",
            f"{one.rows[0]} : {one.rows[1]}, {one.blocks[0]:.0f} : {one.blocks[1]:.0f}",
            f"{1 - one.median_ratio:+.1%} ± {one.spread_ratio:.1%}",
            f"{one.kept} of {one.trials}",
            f"{one.kept_interval[0]:.1%} to {one.kept_interval[1]:.1%}",
            f"{one.reverted} / {one.unclear}",
            f"{one.mean_pairs:.1f}",
            f"{one.neighbour_ratio:.0%}",
            {True: met(True), False: met(False), None: "-"}[judge(one)],
        ]
        for one in found
    ]
    head = [
        "host",
        "CPU saved",
        "rows, blocks",
        "seen: median ± half the quartiles' distance",
        "kept",
        "95 % interval",
        "reverted / unclear",
        "mean pairs",
        "used by others",
        f"A/A ≤ {MAX_FALSE_RATE:.0%}, 5 % ≥ {MIN_POWER:.0%}",
    ]
    return table(head, rows)


def _told(series: Series) -> Series:
    """Long series would look dead without a word."""
    print(f"{series.host}, {series.saving:+.0%}: kept {series.kept} of {series.trials}", file=sys.stderr)
    return series


def _turn_s(arm: Arm) -> float:
    before_s = arm.spent_s()
    for _ in range(CALLS_PER_TURN):
        arm.connection.execute(TEXT.encode())
    return (arm.spent_s() - before_s) / CALLS_PER_TURN


def _operation() -> Operation:
    statement = Statement(query_id="1", text=TEXT, kind=StatementKind.READ, name="sum")
    return Operation(statement=statement, calls_share=1.0, instances=(TEXT,))


def _session(server: PostgresServer, database: str) -> psycopg.Connection:
    return psycopg.connect(server.dsn(database), autocommit=True, prepare_threshold=None)


if __name__ == "__main__":
    sys.exit(main())
