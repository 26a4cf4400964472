"""How long 16 workers take to their first useful replies, from a cold command, and one that replaces another.

Each way starts in a Python of its own, whose start counts, as a command's does. The worker imports psycopg,
redis, httpx and pydantic, validates a message and answers. What one process needs to import them stands in
the first row: no way can be sooner. Processor time is of all processes of the way when the last has answered,
memory (PSS) half a second later. The ways take turns. perfloop and this package are compiled before, as
libraries are when they are installed.

    python -m benchmarks.startup --rounds 5 --markdown      # about three minutes
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.startup_ways import WAYS

READY_S: Final = 0.25
REPLACED_S: Final = 0.005
PSS_MB: Final = 100
COMMAND: Final = "perfloop supervise"
FLEET: Final = "perfloop Supervisor"
Round = dict[str, float]


def main() -> None:
    """Measure one way, or compare all."""
    parser = argparse.ArgumentParser(description="Start workers in several ways.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument(
        "--markdown", action="store_true", help="with the host's line, for docs/benchmarks.md"
    )
    parser.add_argument("--way", choices=WAYS, help="only this one, once, as JSON")
    options = parser.parse_args()
    if options.way:
        WAYS[options.way](options.workers)
    else:
        _compare(options.workers, options.rounds, markdown=options.markdown)


def _compare(workers: int, rounds: int, *, markdown: bool) -> None:
    # Here, for it would count as a part of each way's start.
    from benchmarks.page import host_line

    _compile()
    ways = [each for each in WAYS if each != "loky" or importlib.util.find_spec("loky")]
    found: dict[str, list[Round]] = {each: [] for each in ways}
    if markdown:
        print(host_line(), end="\n\n")
    for _ in range(rounds):
        for way in ways:
            found[way].append(_measured(way, workers))
            print(f"{way}: {found[way][-1]}", file=sys.stderr)
    print(_tables(found, workers, rounds))


def _compile() -> None:
    own = importlib.util.find_spec("perfloop")
    assert own is not None
    for folder in (*(own.submodule_search_locations or ()), str(Path(__file__).parent)):
        compileall.compile_dir(folder, quiet=2)


def _measured(way: str, workers: int) -> Round:
    command = [sys.executable, "-m", "benchmarks.startup", "--way", way, "--workers", str(workers)]
    begun_s = time.time()
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: Round = json.loads(told)
    return {"ready_s": found["ready_at_s"] - begun_s, **found}


def _tables(found: dict[str, list[Round]], workers: int, rounds: int) -> str:
    from benchmarks.page import table

    head = ["way", f"{workers} ready", "processor time", "PSS", "one replaced", "messages lost"]
    rows = [_row(way, measured) for way, measured in found.items()]
    said = f"Medians of {rounds} round{'s' * (rounds != 1)}; in brackets the least and the most."
    return "\n\n".join([said, table(head, rows), _targets(found, workers)])


def _row(way: str, rounds: list[Round]) -> list[str]:
    lost = [f"{each['lost']:.0f} of {each['asked']:.0f}" for each in rounds if "lost" in each]
    return [
        way,
        _told(rounds, "ready_s", 1, "s"),
        _told(rounds, "cpu_s", 1, "s"),
        _told(rounds, "pss_mb", 1, "MB"),
        _told(rounds, "replaced_s", 1e3, "ms"),
        max(lost, default=""),
    ]


def _told(rounds: list[Round], name: str, scale: float, unit: str) -> str:
    values = [each[name] * scale for each in rounds if name in each]
    if not values:
        return ""
    return f"{statistics.median(values):.3g} {unit} ({min(values):.3g} to {max(values):.3g})"


def _targets(found: dict[str, list[Round]], workers: int) -> str:
    from benchmarks.page import met, table

    wanted = [
        (f"{COMMAND}: {workers} ready", COMMAND, "ready_s", READY_S, 1.0, "s"),
        (f"{COMMAND}: memory of all", COMMAND, "pss_mb", PSS_MB, 1.0, "MB"),
        (f"{FLEET}: one replaced", FLEET, "replaced_s", REPLACED_S, 1e3, "ms"),
        (f"{FLEET}: messages lost", FLEET, "lost", 0, 1.0, ""),
    ]
    rows = []
    for what, way, name, most, scale, unit in wanted:
        value = statistics.median(each[name] for each in found[way])
        rows.append(
            [
                what,
                f"{most * scale:g} {unit}".strip(),
                f"{value * scale:.3g} {unit}".strip(),
                met(value <= most),
            ]
        )
    return table(["target", "at most", "median", ""], rows)


if __name__ == "__main__":
    main()
