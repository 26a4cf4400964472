"""What a stream of keys that never come back leaves in memory: ten million of them, each with two tags.

    python -m benchmarks.cache_memory [--keys 10000000]

Each bound has a process of its own, both at once, whose resident size is looked at ten times on the way.
Every key is loaded once through `TieredCache`, with a tag of its own and one that a thousand others have;
every fifth load lives for a moment only, and now and then a tag or a key is invalidated that nobody has, has
had, or has yet.
"""

from __future__ import annotations

import argparse
import functools
import gc
import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]  # ships no types

from benchmarks.page import host_line, met, table
from perfloop.cache import CachePolicy, MemoryStatistics, TieredCache

BOUNDS: Mapping[str, Mapping[str, Any]] = {
    "100,000 entries": {"capacity": 100_000},
    "100 MB": {"max_bytes": 100_000_000},
}
GROWTH = 1.1
"""The last size over that of the second look, when it is full and its ghosts are, too; at most."""
LOOKS = 10
LONG = CachePolicy(ttl_s=600)
SHORT = CachePolicy(ttl_s=0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One bound, and what was in memory as the keys went by."""

    bound: str
    keys: int
    resident_bytes: tuple[int, ...]
    """Beyond what the process had with an empty cache; evenly spread over the keys."""
    statistics: MemoryStatistics
    cpu_s: float

    @property
    def growth(self) -> float:
        return self.resident_bytes[-1] / self.resident_bytes[1]


def stream(bound: str, keys: int) -> Stream:
    """Send that many keys through a cache in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_stream, (bound, keys))


def _stream(bound: str, keys: int) -> Stream:
    process = psutil.Process()
    cache = TieredCache(**BOUNDS[bound])
    gc.collect()
    empty_bytes = process.memory_info().rss
    sizes = []
    begun_s = time.process_time()
    for look in range(LOOKS):
        _send(cache, range(look * keys // LOOKS, (look + 1) * keys // LOOKS))
        gc.collect()
        sizes.append(process.memory_info().rss - empty_bytes)
    return Stream(
        bound=bound,
        keys=keys,
        resident_bytes=tuple(sizes),
        statistics=cache.statistics().memory,
        cpu_s=time.process_time() - begun_s,
    )


def _send(cache: TieredCache, numbers: range) -> None:
    for number in numbers:
        policy = SHORT if number % 5 == 0 else LONG
        tags = (f"row-{number}", f"group-{number // 1000}")
        load = functools.partial("value {}".format, number)
        cache.get_or_load(f"key-{number}", load, policy=policy, tags=tags)
        if number % 50 == 0:
            cache.invalidate_tag(f"row-{number // 2}", f"unknown-{number}")
            cache.delete(f"key-{number + 7}", f"nobody's-{number}")


def main(keys: int) -> list[str]:
    """Send the keys through each bound, and return the lines of the page."""
    host, rows = host_line(), []
    with ThreadPoolExecutor() as both:
        streams = list(both.map(functools.partial(stream, keys=keys), BOUNDS))
    for found in streams:
        now = found.statistics
        sizes = "/".join(f"{found.resident_bytes[look] / 1e6:.0f}" for look in (0, 1, 4, LOOKS - 1))
        rows.append(
            [
                found.bound,
                f"{found.keys:,}",
                sizes,
                f"{found.growth:.2f}",
                met(found.growth <= GROWTH),
                f"{now.entries:,}",
                f"{now.tags:,}",
                f"{now.ghosts:,}",
                f"{found.cpu_s / found.keys * 1e6:.1f}",
            ]
        )
    head = ["bound", "keys", "resident MB after 1/10, 2/10, 5/10, all", "last / second", f"<= {GROWTH}"]
    return [host, "", table([*head, "entries", "tags", "ghosts", "CPU µs a key"], rows)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=10_000_000)
    print("\n".join(main(parser.parse_args().keys)))
