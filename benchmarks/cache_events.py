"""Event-driven invalidation: what it costs writers, how soon it comes, and how fresh it keeps a cache.

    python -m benchmarks.cache_events [--seconds 5] [--repetitions 5] [--commits 1000] [--reads 5000000]
        [--only throughput|latency|replay] [--markdown]

Everything runs on one server of its own, PostgreSQL with wal_level = logical and durable commits. For
figures to quote, leave the machine alone.

- throughput: pgbench with 16 clients; the four arms take turns. What a service does is 1 write to 100 reads.
  Writes alone, each a transaction that does nothing else, is the worst case.
- latency: from the return of a commit to the call of invalidate_tag, one commit every few milliseconds.
- replay: real requests with 1 write per 100 reads, at a row that the next requests ask for. A write is
  committed in the database; the replay, whose time stands still meanwhile, goes on once it has been
  invalidated. A read is stale if the database holds a newer version when it is served. Beside it
  a TTL of 60 s with 1000 requests a second.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles

import psycopg

from benchmarks.cache_events_writers import MIXES, READS_PER_WRITE, Writing, page
from benchmarks.cache_traces import trace
from benchmarks.page import host_line, met
from perfloop.adapters.changes import outbox_plan, slot_plan
from perfloop.adapters.changes.source import ChangeSource
from perfloop.adapters.servers import PostgresServer, installed_postgres
from perfloop.cache import CachePolicy, TieredCache
from perfloop.cache.invalidation import ChangeListener, Outbox, OutboxPolicy, ReplicationSlot, TagMap
from perfloop.metrics import Registry
from perfloop.model.changes import WatchedTable

SETTINGS = {"wal_level": "logical", "shared_buffers": "256MB", "max_wal_size": "2GB"}
ROWS = 100_000
REQUESTS_PER_S = 1000
TTL_S = 60.0
FOREVER_S = 1e9
ASKED_HIT_RATIO = 0.94
TAGS = TagMap({"objects": ("{id}",)})
TABLE = "CREATE TABLE objects (id int PRIMARY KEY, version int NOT NULL) WITH (fillfactor = 50)"
FACTS = {"outbox": "-11 %, within the noise", "slot": "-8 %, within the noise", "notify": "19 times slower"}
NOTIFY = """
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_notify('objects', NEW.id::text); RETURN NULL; END$$;
CREATE TRIGGER notify_row AFTER UPDATE ON objects FOR EACH ROW EXECUTE FUNCTION notify_row();
"""


class Heard:
    """A cache that only notes when each tag was invalidated."""

    def __init__(self) -> None:
        self.at_s: dict[str, float] = {}
        self.changed = threading.Condition()

    def invalidate_tag(self, *tags: str) -> None:
        with self.changed:
            self.at_s.update(dict.fromkeys(tags, time.perf_counter()))
            self.changed.notify_all()

    def forget(self, tag: str) -> None:
        with self.changed:
            self.at_s.pop(tag, None)

    def wait_for(self, tag: str) -> float:
        with self.changed:
            if not self.changed.wait_for(lambda: tag in self.at_s, timeout=60):
                raise TimeoutError(f"{tag} was not invalidated within a minute")
            return self.at_s.pop(tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A database with one way to tell of changes, and the source that reads them."""

    name: str
    dsn: str
    source: Callable[[], ChangeSource] | None = None
    hurried: Callable[[], ChangeSource] | None = None
    """The same, looking as often as it can, for a replay that waits for each write."""

    @contextlib.contextmanager
    def heard(self) -> Iterator[Heard]:
        heard = Heard()
        if self.source is None:
            yield heard
            return
        with ChangeListener(self.source(), TAGS, heard, registry=Registry()) as listener:
            wait_until_current(listener)
            yield heard


def wait_until_current(listener: ChangeListener) -> None:
    end_s = time.monotonic() + 60
    while listener.statistics().behind_s is None:
        if time.monotonic() > end_s:
            raise TimeoutError(f"the listener did not begin: {listener.statistics().last_fault}")
        time.sleep(0.01)


def make_arms(server: PostgresServer) -> list[Arm]:
    watched = [WatchedTable(table="objects", columns=("id",))]
    hurry = OutboxPolicy(shortest_pause_s=0.0005, longest_pause_s=0.002)
    arms = []
    for name in ("without", "slot", "outbox", "notify"):
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        dsn = server.dsn(name)
        source: Callable[[], ChangeSource] | None = None
        hurried: Callable[[], ChangeSource] | None = None
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLE)
            connection.execute(f"INSERT INTO objects SELECT g, 0 FROM generate_series(1, {ROWS}) g")
            if name == "outbox":
                outbox_plan.carry_out(connection, outbox_plan.plan_install(connection, watched))
                source = partial(Outbox, dsn, reader="benchmark")
                hurried = partial(source, policy=hurry)
            elif name == "slot":
                outbox_plan.carry_out(connection, slot_plan.plan_install(connection, watched))
                source = hurried = partial(ReplicationSlot, dsn, reader="benchmark")
            elif name == "notify":
                connection.execute(NOTIFY)
            connection.execute("VACUUM ANALYZE")
        arms.append(Arm(name=name, dsn=dsn, source=source, hurried=hurried))
    return arms


def throughput(server: PostgresServer, bin_dir: Path, arms: Sequence[Arm], given: argparse.Namespace) -> None:
    named = {arm.name: arm for arm in arms}
    writing = Writing(
        bin_dir=bin_dir,
        server_pid=server.pid,
        dsns={name: arm.dsn for name, arm in named.items()},
        heard=lambda name: named[name].heard(),
        rows=ROWS,
        seconds=given.seconds,
        repetitions=given.repetitions,
    )
    for mix in MIXES:
        print(f"\n{page(mix, writing.turns(mix), FACTS)}", flush=True)


def latency(arms: Sequence[Arm], commits: int) -> None:
    print(f"\n{commits} commits, one after the other\n")
    print("| source | p50 ms | p99 ms | longest ms |\n|---|---|---|---|")
    for arm in (arm for arm in arms if arm.source is not None):
        chance = random.Random(1)
        waits_ms = []
        with arm.heard() as heard, psycopg.connect(arm.dsn, autocommit=True) as connection:
            for _ in range(commits):
                row = chance.randint(1, ROWS)
                heard.forget(str(row))
                connection.execute("UPDATE objects SET version = version + 1 WHERE id = %s", [row])
                committed_s = time.perf_counter()
                waits_ms.append(max(0.0, heard.wait_for(str(row)) - committed_s) * 1000)
                time.sleep(chance.uniform(0, 0.02))
        percentiles = quantiles(waits_ms, n=100)
        print(f"| {arm.name} | {percentiles[49]:.2f} | {percentiles[98]:.2f} | {max(waits_ms):.2f} |")


class Clock:
    """The time of the replay: a request every millisecond."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Relay:
    """Invalidates a cache, and tells the replay that it has."""

    def __init__(self, cache: TieredCache, heard: Heard) -> None:
        self._cache = cache
        self._heard = heard

    def invalidate_tag(self, *tags: str) -> None:
        self._cache.invalidate_tag(*tags)
        self._heard.invalidate_tag(*tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Shares of the reads of one replay."""

    hits: float
    stale: float
    stale_reads: int


def requests(keys: Sequence[str], cache: TieredCache, clock: Clock, write: Callable[[str], None]) -> Replayed:
    """Serve the keys from a cache that is not bounded; `write` gets a row 1 time in 100 reads."""
    chance = random.Random(42)
    rows = {key: (str(number),) for number, key in enumerate(dict.fromkeys(keys), 1)}
    versions = dict.fromkeys(rows, 0)
    loads = stale = 0

    def load() -> int:
        nonlocal loads
        loads += 1
        return versions[key]

    for number, key in enumerate(keys):
        clock.now_s = number / REQUESTS_PER_S
        stale += cache.get_or_load(key, load, tags=rows[key]) != versions[key]
        if number % READS_PER_WRITE == READS_PER_WRITE - 1:
            written = keys[min(len(keys) - 1, number + chance.randint(1, READS_PER_WRITE))]
            versions[written] += 1
            write(rows[written][0])
    return Replayed(hits=1 - loads / len(keys), stale=stale / len(keys), stale_reads=stale)


def replay_events(keys: Sequence[str], arm: Arm) -> Replayed:
    assert arm.hurried is not None
    clock, heard = Clock(), Heard()
    policy = CachePolicy(ttl_s=FOREVER_S)
    with (
        TieredCache(capacity=len(keys), policy=policy, clock=clock) as cache,
        psycopg.connect(arm.dsn, autocommit=True) as connection,
        ChangeListener(arm.hurried(), TAGS, Relay(cache, heard), registry=Registry()) as listener,
    ):
        wait_until_current(listener)

        def write(row: str) -> None:
            heard.forget(row)
            connection.execute("UPDATE objects SET version = version + 1 WHERE id = %s", [int(row)])
            heard.wait_for(row)

        return requests(keys, cache, clock, write)


def replay_ttl(keys: Sequence[str]) -> Replayed:
    clock = Clock()
    policy = CachePolicy(ttl_s=TTL_S, jitter_ratio=0.0)
    with TieredCache(capacity=len(keys), policy=policy, clock=clock) as cache:
        return requests(keys, cache, clock, lambda row: None)


def replay(arms: Sequence[Arm], reads: int) -> None:
    print("\n| trace | way | hits | of them stale | fresh hits | asked |\n|---|---|---|---|---|---|")
    for name in ("orm-busy", "orm-night"):
        keys = trace(name, reads)
        show(name, f"TTL {TTL_S:g} s", replay_ttl(keys), "")
        for arm in (arm for arm in arms if arm.source is not None):
            found = replay_events(keys, arm)
            fulfilled = found.hits - found.stale >= ASKED_HIT_RATIO and not found.stale_reads
            asked = f">= {ASKED_HIT_RATIO:.0%} fresh, 0 stale reads: {met(fulfilled)}"
            show(name, arm.name, found, asked)


def show(name: str, way: str, found: Replayed, asked: str) -> None:
    fresh = found.hits - found.stale
    told = f"{found.hits:.1%} | {found.stale_reads:,} ({found.stale:.2%}) | {fresh:.1%}"
    print(f"| {name} | {way} | {told} | {asked} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--reads", type=int, default=None, help="of each trace; default: all 5,000,000")
    parser.add_argument("--only", choices=["throughput", "latency", "replay"])
    parser.add_argument(
        "--markdown", action="store_true", help="with the host's line, for docs/benchmarks.md"
    )
    given = parser.parse_args()
    binaries = next(each for each in installed_postgres() if (each.bin_dir / "pgbench").exists())
    with PostgresServer(binaries, settings=SETTINGS) as server:
        if given.markdown:
            print(host_line(server=f"PostgreSQL {binaries.version}"))
        arms = make_arms(server)
        if given.only in (None, "latency"):
            latency(arms, given.commits)
        if given.only in (None, "throughput"):
            throughput(server, binaries.bin_dir, arms, given)
        if given.only in (None, "replay"):
            replay(arms, given.reads)


if __name__ == "__main__":
    main()
