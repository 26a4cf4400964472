"""How long 16 workers take to their first useful replies, from a cold command, and one that replaces another.

Each way starts in a Python of its own, whose start counts, as a command's does. The worker imports psycopg,
redis, httpx and pydantic, validates a message and answers. Processor time and memory (PSS) are of all
processes of the way when the last has answered. The ways take turns; the clock depends on what else the
machine does, and so the least of all rounds is told beside the median.

    python -m benchmarks.startup --rounds 5
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

from benchmarks.startup_ways import WAYS

READY_S: Final = 0.25
REPLACED_S: Final = 0.005
PSS_MB: Final = 100


def main() -> None:
    parser = argparse.ArgumentParser(description="Start workers in several ways.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--way", choices=WAYS, help="only this one, once, as JSON")
    options = parser.parse_args()
    if options.way:
        WAYS[options.way](options.workers)
    else:
        _compare(options.workers, options.rounds)


def _compare(workers: int, rounds: int) -> None:
    # Here, for it would count as a part of each way's start.
    from benchmarks.page import host_line, met, table

    ways = [each for each in WAYS if each != "loky" or importlib.util.find_spec("loky")]
    found: dict[str, list[dict[str, float]]] = {each: [] for each in ways}
    print(host_line(), end="\n\n")
    for _ in range(rounds):
        for way in ways:
            found[way].append(_measured(way, workers))
    head = ["way", f"{workers} ready, least", "median", "processor time", "PSS", "one replaced", "least"]
    print(table(head, [_row(way, found[way]) for way in ways]))
    ours = found["perfloop Supervisor"]
    for name, most, unit in (
        ("ready_s", READY_S, "s"),
        ("pss_mb", PSS_MB, "MB"),
        ("replaced_s", REPLACED_S, "s"),
    ):
        print(
            f"\nSupervisor, {name} at most {most:g} {unit}: {met(min(each[name] for each in ours) <= most)}"
        )


def _measured(way: str, workers: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.startup", "--way", way, "--workers", str(workers)]
    begun_s = time.time()
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(told)
    return {**found, "ready_s": found["ready_at_s"] - begun_s}


def _row(way: str, rounds: list[dict[str, float]]) -> list[str]:
    def told(name: str, scale: float, unit: str, of: Callable[[Iterable[float]], float]) -> str:
        values = [each[name] * scale for each in rounds if name in each]
        return f"{of(values):.3g} {unit}" if values else ""

    return [
        way,
        told("ready_s", 1, "s", min),
        told("ready_s", 1, "s", statistics.median),
        told("cpu_s", 1, "s", min),
        told("pss_mb", 1, "MB", statistics.median),
        told("replaced_s", 1e3, "ms", statistics.median),
        told("replaced_s", 1e3, "ms", min),
    ]


if __name__ == "__main__":
    main()
