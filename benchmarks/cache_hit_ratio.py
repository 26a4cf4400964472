"""Hit ratio and CPU time of the memory tier at the capacities of the survey, beside its rivals.

Each request is a get and, on a miss, a set. Ours does what the whole cache does: a fenced load with a life
and two tags, and its statistics; a rival's entry has none of them. Hit ratios do not depend on the machine;
the CPU time is the least of several runs, and includes the loop and the misses.

What it is held against: the row S3-FIFO of libCacheSim 0.3.5 on whole traces, and a plain S3-FIFO in Python
on the first two million requests, both measured with these traces in November 2026.

    python -m benchmarks.cache_hit_ratio [--best-of 3] [--requests 200000] [--markdown]

The rivals come with the dependency group cache-peers: theine (BSD-3-Clause), cachebox and cachetools (MIT).
One that is not there is left out.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.cache_traces import trace
from benchmarks.page import host_line, met, table
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy

Replay = Callable[[Sequence[str], int], int]
"""Requests and capacity to hits."""

POLICY: Final = CachePolicy(ttl_s=3600)
TAGS: Final = ("type", "dashboard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A trace, or its first requests, at one capacity."""

    trace: str
    capacity: int
    expected_percent: float
    reference: str = "libCacheSim"
    requests: int | None = None


CASES: Final = (
    Case(trace="orm-busy", capacity=625, expected_percent=72.9),
    Case(trace="orm-busy", capacity=1250, expected_percent=79.1),
    Case(trace="orm-busy", capacity=5000, expected_percent=86.6),
    Case(trace="orm-busy", capacity=10_000, expected_percent=90.5),
    Case(trace="orm-night", capacity=2500, expected_percent=77.5),
    Case(trace="web07", capacity=1200, expected_percent=55.2),
    Case(trace="web12", capacity=1200, expected_percent=70.8),
    Case(trace="nasa", capacity=100, expected_percent=72.9),
    Case(trace="orm-busy", capacity=2500, expected_percent=82.8, reference="prototype", requests=2_000_000),
    Case(trace="orm-night", capacity=2500, expected_percent=76.7, reference="prototype", requests=2_000_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one cache did with one case."""

    hit_percent: float
    cpu_ns: float


def replay_ours(requests: Sequence[str], capacity: int) -> int:
    tier = MemoryTier(capacity)
    get, examine, begin, store = tier.get, tier.examine, tier.begin, tier.store
    for key in requests:
        if get(key) is None and examine(key)[1] is None:
            store(begin(key).flight, key, policy=POLICY, tags=TAGS)
    return tier.statistics().hits


def replay_theine(requests: Sequence[str], capacity: int) -> int:
    cache: Any = importlib.import_module("theine").Cache(capacity)
    get, put, hits = cache.get, cache.set, 0
    for key in requests:
        if get(key)[1]:
            hits += 1
        else:
            put(key, key)
    cache.close()
    return hits


def replay_cachebox(requests: Sequence[str], capacity: int) -> int:
    return _replay_mapping(importlib.import_module("cachebox").LRUCache(capacity), requests)


def replay_cachetools(requests: Sequence[str], capacity: int) -> int:
    return _replay_mapping(importlib.import_module("cachetools").LRUCache(capacity), requests)


def _replay_mapping(cache: Any, requests: Sequence[str]) -> int:
    get, hits = cache.get, 0
    for key in requests:
        if get(key) is None:
            cache[key] = key
        else:
            hits += 1
    return hits


RIVALS: Final[dict[str, tuple[str, Replay]]] = {
    "theine": ("theine", replay_theine),
    "cachebox LRU": ("cachebox", replay_cachebox),
    "cachetools LRU": ("cachetools", replay_cachetools),
}


def measure(replay: Replay, requests: Sequence[str], capacity: int, best_of: int) -> Outcome:
    """The hits of one run, and the least CPU time of several."""
    least_s = float("inf")
    hits = 0
    for _ in range(best_of):
        started_s = time.process_time()
        hits = replay(requests, capacity)
        least_s = min(least_s, time.process_time() - started_s)
    return Outcome(hit_percent=100 * hits / len(requests), cpu_ns=1e9 * least_s / len(requests))


def contestants() -> dict[str, Replay]:
    """Ours, and those rivals that are installed."""
    found: dict[str, Replay] = {"perfloop": replay_ours}
    for name, (module, replay) in RIVALS.items():
        try:
            importlib.import_module(module)
        except ImportError:
            print(f"{name} is left out: pip install --group cache-peers", file=sys.stderr)
            continue
        found[name] = replay
    return found


def row(case: Case, limit: int | None, best_of: int, replays: dict[str, Replay]) -> list[str]:
    requests = trace(case.trace, case.requests)[:limit]
    outcomes = [measure(replay, requests, case.capacity, best_of) for replay in replays.values()]
    verdict = met(outcomes[0].hit_percent >= case.expected_percent) if limit is None else "cut short"
    name = f"{case.trace}@{case.capacity}" + (f", first {case.requests:,}" if case.requests else "")
    cells = [f"{outcome.hit_percent:.2f} / {outcome.cpu_ns:.0f}" for outcome in outcomes]
    return [name, f"{case.expected_percent} ({case.reference})", *cells, verdict]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--best-of", type=int, default=1, help="runs of which the least CPU time counts")
    parser.add_argument("--requests", type=int, help="only so many of each trace, for a quick look")
    parser.add_argument("--markdown", action="store_true", help="for docs/benchmarks.md")
    options = parser.parse_args(arguments)
    replays = contestants()
    head = ["trace@capacity", "S3-FIFO, hits %", *(f"{name}, hits % / CPU ns" for name in replays), "target"]
    rows = []
    for case in CASES:
        rows.append(row(case, options.requests, options.best_of, replays))
        print("  ".join(rows[-1]), file=sys.stderr if options.markdown else sys.stdout, flush=True)
    if options.markdown:
        print(host_line(), table(head, rows), sep="\n\n")
    return 0 if all(cells[-1] != met(False) for cells in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
