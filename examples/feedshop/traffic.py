"""Runs feedshop's mix of operations against a database, as its users would."""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from examples.feedshop.mix import Operation, draw, read_pools, values_for
from examples.feedshop.mix import operations as every_operation
from examples.feedshop.service import FeedShop, connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What was asked of the service: calls and seconds spent, by operation."""

    elapsed_s: float
    calls: Mapping[str, int]
    spent_s: Mapping[str, float]

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    @property
    def rate_per_s(self) -> float:
        return self.total / self.elapsed_s

    @property
    def mean_s(self) -> float:
        return sum(self.spent_s.values()) / self.total


def run_traffic(
    dsn: str,
    *,
    seconds: float | None = None,
    operations: int | None = None,
    connections: int = 2,
    seed: int = 1,
) -> Traffic:
    """Call the service until `seconds` have passed or `operations` calls are made, whichever is first.

    Every operation is called once first, since even the rarest is part of the service. The calls of each
    connection follow from the seed and the database as it was; how those of different connections interleave
    does not. Raises ValueError when neither bound is given.
    """
    if seconds is None and operations is None:
        raise ValueError("traffic needs an end: give seconds, operations, or both")
    started_s = time.perf_counter()
    deadline_s = started_s + seconds if seconds is not None else float("inf")

    def part(n: int) -> list[tuple[str, float]]:
        limit = None if operations is None else len(range(n, operations, connections))
        return _one_connection(dsn, deadline_s, limit, seed * 1000 + n, every_operation()[n::connections])

    with ThreadPoolExecutor(connections) as pool:
        parts = list(pool.map(part, range(connections)))
    calls: dict[str, int] = defaultdict(int)
    spent_s: dict[str, float] = defaultdict(float)
    for name, took_s in itertools.chain.from_iterable(parts):
        calls[name] += 1
        spent_s[name] += took_s
    return Traffic(elapsed_s=time.perf_counter() - started_s, calls=calls, spent_s=spent_s)


def _one_connection(
    dsn: str, deadline_s: float, limit: int | None, seed: int, first: Sequence[Operation]
) -> list[tuple[str, float]]:
    """Each call's operation and seconds: those of `first`, then drawn ones."""
    rng = random.Random(seed)
    made: list[tuple[str, float]] = []
    with connect(dsn) as conn:
        shop = FeedShop(conn)
        pools = read_pools(conn, rng)
        for number in itertools.count() if limit is None else range(limit):
            operation = first[number] if number < len(first) else draw(rng)
            values = values_for(operation, pools, rng)
            started_s = time.perf_counter()
            if started_s >= deadline_s:
                break
            getattr(shop, operation.name)(*values)
            made.append((operation.name, time.perf_counter() - started_s))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.feedshop.traffic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m examples.feedshop.traffic 'postgresql:///feedshop' --seconds 8",
    )
    parser.add_argument("dsn", help="a database that examples.feedshop.load has filled")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long (default 8)")
    parser.add_argument("--operations", type=int, help="stop earlier, after this many calls")
    parser.add_argument("--connections", type=int, default=2, help="clients at the same time (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other calls (default 1)")
    options = parser.parse_args()
    traffic = run_traffic(
        options.dsn,
        seconds=options.seconds,
        operations=options.operations,
        connections=options.connections,
        seed=options.seed,
    )
    for name, spent_s in sorted(traffic.spent_s.items(), key=lambda each: -each[1]):
        calls = traffic.calls[name]
        print(f"{name:28}{calls:7} calls {spent_s / calls * 1000:9.2f} ms {spent_s:8.2f} s")
    print(f"{traffic.total} calls, {traffic.rate_per_s:.0f} a second, {traffic.mean_s * 1000:.2f} ms each")


if __name__ == "__main__":
    main()
