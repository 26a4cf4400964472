"""Processes that read, write and invalidate through a shared tier that fails, and what they are held to.

The database is a version a key, which only grows. A process's *floor* of a key is the version below which no
read in that process may be, if it begins later. It rises by two rules alone:

1. By a write of its own: as soon as the invalidation (or the set) that follows it has returned. Whatever is
   away, hung, cut or full at that time.
2. By a write of the other process: once both have caught up. That is, the other took down its own floor, then
   deleted a marker that this process held in memory, and then another; both markers went. News come in order,
   so that all that was invalidated before the first marker was heard before the second went. No clock decides
   this, and a fault in between only keeps floors from rising.

A floor that rose holds through every later fault: what was heard must not be forgotten in an outage.
A value carries its key, so that no answer can pass for another's. The only error that a caller may get is
the one that loaders raise now and then.
"""

from __future__ import annotations

import asyncio
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any, Final, NamedTuple

from tests.cache_kinds import AsyncKind, SyncKind

from perfloop.cache import BreakerPolicy, BreakerState, CachePolicy

KEYS: Final = 14
SET_BY: Final = {12: 0, 13: 1}
"""These are set, each by one process alone: who sets a value has to know that it is true."""
CALLERS: Final = 8
POLICY: Final = CachePolicy(ttl_s=0.5, stale_for_s=1, fail_safe_for_s=2, refresh_ahead_ratio=0.8)
LONG: Final = CachePolicy(ttl_s=600)
"""Nothing but an invalidation ends these."""
BREAKER: Final = BreakerPolicy(first_retry_s=0.05, longest_retry_s=0.4)


class LoaderDown(Exception):
    """What a loader raises by itself; a caller without a cache would get it as well."""


class Database:
    """The versions of all keys, shared by all processes."""

    def __init__(self, context: SpawnContext) -> None:
        self._versions = context.Array("q", KEYS)

    def read(self, key: int) -> int:
        return int(self._versions[key])

    def change(self, key: int) -> int:
        with self._versions.get_lock():
            self._versions[key] += 1
            return int(self._versions[key])


class Player:
    """The callers of one process; `tests/integration/test_cache_faults.py` asks it by a pipe."""

    def __init__(self, cache: Any, database: Database, number: int) -> None:
        self._cache = cache
        self._database = database
        self._number = number
        self._lock = threading.Lock()
        self._setting = threading.Lock()
        self._floors = [0] * KEYS
        self._ends = threading.Event()
        self._failures: list[str] = []
        self.reads = 0
        self.changes = 0
        self.slowest_s = 0.0
        self._cached = cache.cached("c{key}", policy=LONG, tags=("row-{key}", "all"))(self._load)
        self._threads = [
            threading.Thread(target=self._act, args=(random.Random(10 * number + caller),), daemon=True)
            for caller in range(CALLERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def promise(self, marker: str) -> list[int]:
        """Take down the floors, then tell the other by a marker."""
        with self._lock:
            floors = list(self._floors)
        self._cache.delete(marker)
        return floors

    def hold(self, marker: str) -> bool:
        """Whether the marker is in the memory of this process now."""
        self._cache.get_or_load(marker, lambda: 1, policy=LONG)
        return self._cache._memory.peek(marker) is not None

    def lost(self, marker: str) -> bool:
        """Whether the news of it was heard."""
        return self._cache._memory.peek(marker) is None

    def raise_floors(self, floors: Sequence[int]) -> None:
        with self._lock:
            self._floors = [max(pair) for pair in zip(self._floors, floors, strict=True)]

    def is_connected(self) -> bool:
        now = self._cache.statistics()
        return now.breaker is BreakerState.CLOSED and now.hears_news and now.pending_invalidations == 0

    def failures(self) -> list[str]:
        return self._failures[:5]

    def _act(self, draw: random.Random) -> None:
        acts: list[Callable[[random.Random], None]] = [
            *[self._read] * 20,
            *[self._call] * 20,
            *[self._read_many] * 12,
            *[self._look] * 8,
            self._write_key,
            self._write_tag,
            self._write_all,
            self._set,
        ]
        while not self._ends.wait(draw.random() * 0.002):
            begun_s = time.monotonic()
            try:
                draw.choice(acts)(draw)
            except LoaderDown:
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, no caller may get it
                self._failures.append(f"raised {error!r}")
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)

    def _load(self, key: int) -> list[int]:
        version = self._database.read(key)
        time.sleep(random.random() * 0.003)
        if random.random() < 0.03:
            raise LoaderDown
        return [key, version]

    def _judge(self, key: int, found: Any, floor: int) -> None:
        self.reads += 1
        if found[0] != key or found[1] < floor:
            self._failures.append(f"key {key}: {found} was read after version {floor}")

    def _read(self, draw: random.Random) -> None:
        key = draw.randrange(KEYS)
        floor = self._floors[key]
        tags = (f"row-{key}", "all")
        self._judge(
            key, self._cache.get_or_load(f"k{key}", lambda: self._load(key), policy=POLICY, tags=tags), floor
        )

    def _call(self, draw: random.Random) -> None:
        key = draw.randrange(12)
        floor = self._floors[key]
        self._judge(key, self._cached(key), floor)

    def _read_many(self, draw: random.Random) -> None:
        keys = {f"k{key}": key for key in draw.sample(range(12), 4)}
        floors = {key: self._floors[key] for key in keys.values()}
        found = self._cache.load_many(
            keys, lambda names: {name: self._load(keys[name]) for name in names}, policy=POLICY, tags=("all",)
        )
        for name, key in keys.items():
            self._judge(key, found[name], floors[key])

    def _look(self, draw: random.Random) -> None:
        keys = {f"k{key}": key for key in draw.sample(range(KEYS), 3)}
        floors = {key: self._floors[key] for key in keys.values()}
        for name, value in self._cache.get_many(keys).items():
            self._judge(keys[name], value, floors[keys[name]])

    def _write_key(self, draw: random.Random) -> None:
        key = draw.randrange(12)
        version = self._database.change(key)
        self._cache.delete(f"k{key}", f"c{key}")
        self._promised({key: version})

    def _write_tag(self, draw: random.Random) -> None:
        """A batch gives its keys no tag of a row, so that they are deleted with it."""
        key = draw.randrange(12)
        version = self._database.change(key)
        self._cache.invalidate_tag(f"row-{key}")
        self._cache.delete(f"k{key}")
        self._promised({key: version})

    def _write_all(self, draw: random.Random) -> None:
        versions = {key: self._database.change(key) for key in range(12)}
        self._cache.invalidate_tag("all")
        self._promised(versions)

    def _set(self, draw: random.Random) -> None:
        with self._setting:
            key = next(key for key, number in SET_BY.items() if number == self._number)
            version = self._database.change(key)
            self._cache.set(f"k{key}", [key, version], policy=POLICY, tags=(f"row-{key}", "all"))
            self._promised({key: version})

    def _promised(self, versions: dict[int, int]) -> None:
        self.changes += 1
        with self._lock:
            for key, version in versions.items():
                self._floors[key] = max(self._floors[key], version)


class Report(NamedTuple):
    """What one process says at its end."""

    failures: list[str]
    left: list[str]
    """What still runs, waits or is connected after the cache was closed."""
    reads: int
    changes: int
    slowest_s: float
    """Of all calls; a loader takes 3 ms at most."""
    outages: int
    refused: int
    """Stores that a fence kept away."""


def play(
    connection: Connection, kind_class: type[SyncKind | AsyncKind], number: int, url: str, database: Database
) -> None:
    """One process: serve what the test asks until it says `end`."""
    kind = kind_class()
    sockets = _sockets()
    with kind.cache(redis=url, prefix="churn", timeout_s=0.2, breaker=BREAKER) as cache:
        player = Player(cache, database, number)
        player.start()
        connection.send("ready")
        while (asked := connection.recv()) != ("end",):
            connection.send(getattr(player, asked[0])(*asked[1:]))
        player.stop()
    now = cache.statistics()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("perfloop")]
    left += [f"{now.memory.flights} loads"] * (now.memory.flights > 0)
    left += ["who waits for another process"] * len(cache._link._hearing.awaited)
    if isinstance(kind, AsyncKind):
        left += kind.run(_other_tasks())
    left += [f"{_sockets() - sockets} sockets"] * (_sockets() > sockets)
    connection.send(
        Report(
            failures=player.failures(),
            left=left,
            reads=player.reads,
            changes=player.changes,
            slowest_s=player.slowest_s,
            outages=now.breaker_openings,
            refused=now.refused_stores,
        )
    )
    kind.close()


async def _other_tasks() -> list[str]:
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def _sockets() -> int:
    count = 0
    for number in os.listdir("/dev/fd"):
        with suppress(OSError):  # that of the folder itself
            count += stat.S_ISSOCK(os.fstat(int(number)).st_mode)
    return count
