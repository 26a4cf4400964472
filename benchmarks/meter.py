"""The meter against prometheus_client: what an observation costs, how wrong quantiles are, what gets lost.

One process; ours and the rival take turns slice by slice, so that a noisy neighbour hits both. The minimum of
the slices decides, the median stands beside it. All figures include the loop around the operation (about
4 ns) and, for histograms, the drain of every slice into finished buckets.

    python benchmarks/meter.py [--slices 80] [--operations 20000] [--json] [--skip-exactness]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from threading import Thread
from time import perf_counter
from typing import cast

import numpy as np
import prometheus_client as rival
from numpy.typing import NDArray

from perfloop.metrics import Drainer, Registry

QUANTILES = (0.5, 0.99, 0.999)
QUANTILE_ERROR_LIMIT = 0.006
EXACT_OBSERVATIONS = 10_000_000
THREADS = 4

Loop = Callable[[Sequence[float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A statement of ours, and the rival's that does the same; both see a `value` to observe."""

    name: str
    ours: str
    rivals: str
    limit_ns: float | None = None
    limit_ratio: float | None = None


CONTESTS = (
    Contest(
        name="histogram, bound observe(x)",
        ours="observe(value)",
        rivals="rivals_observe(value)",
        limit_ns=60,
        limit_ratio=10,
    ),
    Contest(
        name="histogram.observe(x)",
        ours="histogram.observe(value)",
        rivals="rivals_histogram.observe(value)",
        limit_ns=60,
        limit_ratio=10,
    ),
    Contest(
        name="family[m, s].observe(x)",
        ours="family[method, status].observe(value)",
        rivals="rivals_family.labels(method, status).observe(value)",
        limit_ns=100,
        limit_ratio=12,
    ),
    Contest(
        name="family.labels(m, s).observe(x)",
        ours="family.labels(method, status).observe(value)",
        rivals="rivals_family.labels(method, status).observe(value)",
    ),
    Contest(
        name="counter.inc()",
        ours="counter.inc()",
        rivals="rivals_counter.inc()",
        limit_ns=35,
        limit_ratio=7,
    ),
    Contest(name="counter.inc(2.5)", ours="counter.inc(2.5)", rivals="rivals_counter.inc(2.5)"),
    Contest(name="@timed", ours="timed()", rivals="rivals_timed()", limit_ns=300, limit_ratio=4),
    Contest(name="with timer", ours="\n  with timer: pass", rivals="\n  with rivals_histogram.time(): pass"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a contest measured, in ns per operation."""

    name: str
    ours_min_ns: float
    ours_median_ns: float
    rivals_min_ns: float
    rivals_median_ns: float
    ratio: float
    limit_ns: float | None
    limit_ratio: float | None
    passed: bool | None


def lognormal(size: int) -> NDArray[np.float64]:
    """Latencies in seconds: sigma 1 around 10 ms."""
    return np.random.default_rng(20261121).lognormal(np.log(0.010), 1.0, size)


def actors(ours: Registry, theirs: rival.CollectorRegistry) -> dict[str, object]:
    """Everything the statements name, on both sides."""

    def nothing() -> None:
        pass

    histogram = ours.histogram("plain_seconds")
    rivals_histogram = rival.Histogram("plain_seconds", "x", registry=theirs)
    labels = ("method", "status")
    return {
        "method": "GET",
        "status": "200",
        "histogram": histogram,
        "observe": histogram.observe,
        "family": ours.histogram("labelled_seconds", labels=labels),
        "counter": ours.counter("plain"),
        "timed": ours.timed("call")(nothing),
        "timer": ours.timed("block"),
        "rivals_histogram": rivals_histogram,
        "rivals_observe": rivals_histogram.observe,
        "rivals_family": rival.Histogram("labelled_seconds", "x", labels, registry=theirs),
        "rivals_counter": rival.Counter("plain", "x", registry=theirs),
        "rivals_timed": rival.Histogram("call_seconds", "x", registry=theirs).time()(nothing),
    }


def loop_over(statement: str, names: dict[str, object]) -> Loop:
    """A function that runs the statement for each value, with the names as its locals, as timeit does."""
    parameters = ", ".join(f"{name}={name}" for name in names)
    scope = dict(names)
    exec(f"def loop(values, {parameters}):\n for value in values: {statement}\n", scope)
    return cast("Loop", scope["loop"])


def measure(*, slices: int, operations: int) -> list[Outcome]:
    registry = Registry()
    names = actors(registry, rival.CollectorRegistry())
    loops = [(one, loop_over(one.ours, names), loop_over(one.rivals, names)) for one in CONTESTS]
    values = lognormal(operations).tolist()
    ours_ns: dict[str, list[float]] = {contest.name: [] for contest in CONTESTS}
    rivals_ns: dict[str, list[float]] = {contest.name: [] for contest in CONTESTS}
    for _ in range(slices):
        for contest, ours, rivals in loops:
            started_s = perf_counter()
            ours(values)
            registry.drain()
            middle_s = perf_counter()
            rivals(values)
            rivals_ns[contest.name].append((perf_counter() - middle_s) / operations * 1e9)
            ours_ns[contest.name].append((middle_s - started_s) / operations * 1e9)
    return [_outcome(contest, ours_ns[contest.name], rivals_ns[contest.name]) for contest in CONTESTS]


def _outcome(contest: Contest, ours_ns: list[float], rivals_ns: list[float]) -> Outcome:
    ratio = min(rivals_ns) / min(ours_ns)
    passed = None
    if contest.limit_ns is not None and contest.limit_ratio is not None:
        passed = min(ours_ns) <= contest.limit_ns and ratio >= contest.limit_ratio
    return Outcome(
        name=contest.name,
        ours_min_ns=min(ours_ns),
        ours_median_ns=median(ours_ns),
        rivals_min_ns=min(rivals_ns),
        rivals_median_ns=median(rivals_ns),
        ratio=ratio,
        limit_ns=contest.limit_ns,
        limit_ratio=contest.limit_ratio,
        passed=passed,
    )


def quantile_errors() -> dict[str, float]:
    """Relative errors on a million lognormal values with sigma 1 around 10 ms, against the sorted values."""
    values = lognormal(1_000_000)
    histogram = Registry().histogram("exact_seconds")
    for value in values.tolist():
        histogram.observe(value)
    exact = np.quantile(values, QUANTILES)
    return {
        f"p{q * 100:g}": abs(histogram.quantile(q) / float(truth) - 1)
        for q, truth in zip(QUANTILES, exact, strict=True)
    }


def lost_under_threads(total: int = EXACT_OBSERVATIONS) -> dict[str, float]:
    """What is missing (or doubled, when negative) after four threads beside a live drainer and a reader."""
    registry = Registry()
    histogram, counter = registry.histogram("busy_seconds"), registry.counter("busy")

    def work() -> None:
        for _ in range(total // THREADS):
            histogram.observe(1.0)
            counter.inc()

    with Drainer(registry, every_s=0.001):
        threads = [Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.01)
                histogram.quantile(0.99)
    return {
        "observations": total - histogram.count,
        "sum": total - histogram.sum,
        "steps": total - counter.value,
        "dropped": histogram.dropped,
    }


def lost_under_fork(total: int = EXACT_OBSERVATIONS // 10, children: int = 4) -> dict[str, float]:
    """What parent and children miss when the parent forks amid its observations; each counts its own."""
    registry = Registry()
    histogram = registry.histogram("forked_seconds")
    missing = 0
    for _ in range(children):
        for _ in range(total):
            histogram.observe(1.0)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            for _ in range(total):
                histogram.observe(1.0)
            os.write(writer, str(histogram.count).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        missing += abs(total - int(os.read(reader, 32)))
        os.close(reader)
        os.close(writer)
    return {"parent": children * total - histogram.count, "children": missing}


def report(outcomes: Sequence[Outcome], errors: dict[str, float], lost: dict[str, dict[str, float]]) -> None:
    print(f"{'ns per operation, min (median)':34}{'ours':>16}{'prometheus':>18}{'ratio':>8}  target")
    for one in outcomes:
        ours = f"{one.ours_min_ns:.1f} ({one.ours_median_ns:.1f})"
        rivals = f"{one.rivals_min_ns:.0f} ({one.rivals_median_ns:.0f})"
        target = "-"
        if one.passed is not None:
            verdict = "pass" if one.passed else "FALLS SHORT"
            target = f"<= {one.limit_ns:g} ns, >= {one.limit_ratio:g} x: {verdict}"
        print(f"{one.name:34}{ours:>16}{rivals:>18}{one.ratio:>7.1f}x  {target}")
    print("\nquantile error, 1e6 lognormal values (target <= 0.6 %)")
    for name, error in errors.items():
        print(f"  {name:8}{error:8.3%}  {'pass' if error <= QUANTILE_ERROR_LIMIT else 'FALLS SHORT'}")
    for situation, figures in lost.items():
        print(f"\nmissing or doubled, {situation} (target 0)")
        for name, number in figures.items():
            print(f"  {name:14}{number:8g}  {'pass' if number == 0 else 'FALLS SHORT'}")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--slices", type=int, default=80)
    parser.add_argument("--operations", type=int, default=20_000, help="operations in each slice")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--skip-exactness", action="store_true", help="leave the 10 M observations out")
    options = parser.parse_args(arguments)

    outcomes = measure(slices=options.slices, operations=options.operations)
    errors = quantile_errors()
    lost: dict[str, dict[str, float]] = {}
    if not options.skip_exactness:
        lost = {f"{THREADS} threads and a drainer": lost_under_threads(), "fork": lost_under_fork()}
    if options.json:
        print(
            json.dumps(
                {"operations": [asdict(one) for one in outcomes], "quantile_errors": errors, "lost": lost}
            )
        )
    else:
        report(outcomes, errors, lost)
    fell_short = (
        any(one.passed is False for one in outcomes)
        or any(error > QUANTILE_ERROR_LIMIT for error in errors.values())
        or any(number != 0 for figures in lost.values() for number in figures.values())
    )
    return 1 if fell_short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
