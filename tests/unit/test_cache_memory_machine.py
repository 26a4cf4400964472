"""The memory tier against a plain model: whatever it hands out is never stale, whoever interleaves."""

import itertools
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from perfloop.cache import shelf
from perfloop.cache.flights import Boarding
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy, Freshness
from perfloop.cache.tag_cells import IDLE_LIMIT, TagCells
from perfloop.model.remote import EVERYTHING

CAPACITY = 4
KEYS = [f"key{number}" for number in range(7)]
TAGS = {key: (f"odd{number % 2}", f"third{number % 3}") for number, key in enumerate(KEYS)}
POLICY = CachePolicy(ttl_s=10, stale_for_s=5, fail_safe_for_s=5, jitter_ratio=0)


class Load:
    """One load under way, with what each of its callers was promised when it came."""

    def __init__(self, boarding: Boarding, promised: int) -> None:
        self.flight = boarding.flight
        self.callers = [(boarding.number, promised)]
        self.value: int | None = None


class Source:
    """Versions of keys as a database has them, and the version below which nothing may be served.

    A write bumps a version. It is promised from the moment that an invalidation of the key or of its tag
    has returned.
    """

    def __init__(self, tier: MemoryTier) -> None:
        self.tier = tier
        self.versions = dict.fromkeys(KEYS, 1)
        self.promised = dict.fromkeys(KEYS, 1)
        self.loads: list[Load] = []

    def begin(self, key: str, tags: tuple[str, ...]) -> None:
        boarding = self.tier.begin(key, tags)
        if boarding.leads:
            self.loads.append(Load(boarding, self.promised[key]))
            return
        joined = next(load for load in self.loads if load.flight is boarding.flight)
        joined.callers.append((boarding.number, self.promised[key]))

    def read(self, load: Load) -> None:
        load.value = self.versions[load.flight.key]

    def finish(self, load: Load) -> bool:
        """Store what was read; each caller that is served gets no less than it was promised."""
        key = load.flight.key
        assert load.value is not None
        self.loads.remove(load)
        stored = self.tier.store(load.flight, load.value, policy=POLICY, tags=TAGS[key])
        served = [promised for number, promised in load.callers if load.flight.serves(number)]
        assert served, "the caller that led the load gets its value in any case"
        assert load.value >= max(served)
        return stored

    def invalidate(self, keys: list[str], tags: list[str]) -> None:
        self.tier.invalidate(keys)
        self.tier.invalidate_tags(tags)
        for key in KEYS:
            if key in keys or EVERYTHING in tags or set(tags) & set(TAGS[key]):
                self.promised[key] = self.versions[key]

    def check(self) -> None:
        for key in KEYS:
            entry = self.tier.get(key)
            assert entry is None or entry.value >= self.promised[key]
            freshness, entry = self.tier.examine(key)
            assert (entry is None) == (freshness is Freshness.EXPIRED)
            assert entry is None or entry.value >= self.promised[key]


keys = st.sampled_from(KEYS)


class MemoryMachine(RuleBasedStateMachine):
    ghosts = False
    most_tags = 2 * CAPACITY

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.tier = MemoryTier(CAPACITY, clock=lambda: self.now_s, ghosts=self.ghosts)
        self.source = Source(self.tier)
        self.stored_at: dict[str, float] = {}
        self.unchecked: set[str] = set()

    def _load(self, data: st.DataObject) -> Load:
        return data.draw(st.sampled_from(self.source.loads))

    @rule(key=keys, names_tags=st.booleans())
    def begin(self, key: str, names_tags: bool) -> None:
        self.source.begin(key, TAGS[key] if names_tags else ())

    @precondition(lambda self: self.source.loads)
    @rule(data=st.data())
    def read_and_perhaps_store(self, data: st.DataObject) -> None:
        load = self._load(data)
        if load.value is None:
            self.source.read(load)
        elif self.source.finish(load):
            self.stored_at[load.flight.key] = self.now_s

    @precondition(lambda self: self.source.loads)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        load = self._load(data)
        self.source.loads.remove(load)
        self.tier.end(load.flight)

    @rule(key=keys)
    def put(self, key: str) -> None:
        self.source.versions[key] += 1
        self.tier.put(key, self.source.versions[key], policy=POLICY, tags=TAGS[key])
        self.source.promised[key] = self.source.versions[key]
        self.stored_at[key] = self.now_s

    @rule(key=keys)
    def write_without_a_word(self, key: str) -> None:
        self.source.versions[key] += 1

    @rule(key=keys)
    def write_and_invalidate_the_key(self, key: str) -> None:
        self.source.versions[key] += 1
        self.source.invalidate([key], [])

    @rule(tag=st.sampled_from(["odd0", "odd1", "third0", "third1", "third2", "unknown", EVERYTHING]))
    def write_and_invalidate_a_tag(self, tag: str) -> None:
        for key in KEYS:
            if tag == EVERYTHING or tag in TAGS[key]:
                self.source.versions[key] += 1
        self.source.invalidate([], [tag])

    @rule()
    def raise_epoch(self) -> None:
        self.tier.raise_epoch()
        for key in KEYS:
            assert self.tier.get(key) is None
            freshness, entry = self.tier.examine(key)
            assert freshness in (Freshness.UNCHECKED, Freshness.EXPIRED)
            trusted, same = self.tier.examine(key, trusting=True)
            assert trusted is not Freshness.UNCHECKED
            assert same is entry

    @rule(passed_s=st.sampled_from([0.5, 4.0, 9.0, 30.0]))
    def time_passes(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule(limit=st.integers(0, 10))
    def sweep(self, limit: int) -> None:
        self.tier.sweep(limit)

    @invariant()
    def nothing_stale_is_served(self) -> None:
        self.source.check()

    @invariant()
    def what_is_fresh_is_within_its_life(self) -> None:
        for key in KEYS:
            if self.tier.get(key) is not None:
                assert self.now_s < self.stored_at[key] + 10
            freshness, entry = self.tier.examine(key)
            if entry is not None and freshness is not Freshness.UNCHECKED:
                age_s = self.now_s - self.stored_at[key]
                assert freshness is (
                    Freshness.FRESH if age_s < 10 else Freshness.STALE if age_s < 15 else Freshness.SPARE
                )
                assert age_s < 20

    @invariant()
    def it_is_bounded(self) -> None:
        statistics = self.tier.statistics()
        assert statistics.entries <= CAPACITY
        assert statistics.ghosts <= CAPACITY
        assert statistics.tags <= self.most_tags or self.source.loads
        assert statistics.flights <= len(self.source.loads)


class GhostMachine(MemoryMachine):
    """The sampled keys take another way to be served, and the ghosts carry tags as well."""

    ghosts = True
    most_tags = len({tag for tags in TAGS.values() for tag in tags})


TestMemoryTier = MemoryMachine.TestCase
TestMemoryTier.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMemoryTierWithGhosts = GhostMachine.TestCase
TestMemoryTierWithGhosts.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_at_least_one_of_the_keys_is_sampled() -> None:
    tier = MemoryTier(CAPACITY, ghosts=True)
    for key in KEYS:
        tier.put(key, 1, policy=POLICY)
        if tier.get(key) is None and tier.examine(key)[0] is Freshness.FRESH:
            return

    raise AssertionError("choose other keys")


@pytest.mark.parametrize(("idle_limit", "schedules"), [(IDLE_LIMIT, 10_000), (1, 3_000), (0, 2_000)])
def test_ten_thousand_random_interleavings_of_loads_and_invalidations_serve_nothing_stale(
    idle_limit: int, schedules: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "TagCells", partial(TagCells, idle_limit=idle_limit))
    kept = refused = 0
    for seed in range(schedules):
        rng = random.Random(seed)
        source = Source(MemoryTier(CAPACITY, clock=lambda: 0.0))
        for _ in range(12):
            stored = _random_step(source, rng)
            kept += stored is True
            refused += stored is False
        source.check()

    assert kept > schedules / 10
    assert refused > schedules / 10


def _random_step(source: Source, rng: random.Random) -> bool | None:
    """One step of a load, or a write with its invalidation; whether a load was kept, where one ended."""
    key = rng.choice(KEYS[:3])
    if rng.random() < 0.25:
        key_only = rng.random() < 0.5
        touched = [other for other in KEYS if other == key or (not key_only and TAGS[key][0] in TAGS[other])]
        for other in touched:
            source.versions[other] += 1
        source.invalidate([key] if key_only else [], [] if key_only else [TAGS[key][0]])
        return None
    if source.loads and rng.random() < 0.7:
        load = rng.choice(source.loads)
        if load.value is not None:
            return source.finish(load)
        source.read(load)
        return None
    source.begin(key, TAGS[key] if rng.random() < 0.3 else ())
    return None


class Crowd:
    """Threads that read, load and write the same few keys at once."""

    def __init__(self, tier: MemoryTier) -> None:
        self.tier = tier
        self.versions = dict.fromkeys(KEYS, 1)
        self.promised = dict.fromkeys(KEYS, 1)
        self.failures: list[str] = []
        self.start = threading.Barrier(6)

    def read(self, seed: int) -> None:
        rng = random.Random(seed)
        self.start.wait()
        for _ in range(2_000):
            key = rng.choice(KEYS)
            least = self.promised[key]
            entry = self.tier.get(key) or self.tier.examine(key)[1]
            if entry is None:
                self._load(key)
            elif entry.value < least:
                self.failures.append(f"{key}: {entry.value} after {least} was promised")

    def _load(self, key: str) -> None:
        boarding = self.tier.begin(key)
        if boarding.leads:
            version = self.versions[key]
            time.sleep(0)
            self.tier.store(boarding.flight, version, policy=POLICY, tags=TAGS[key])

    def write(self, own: list[str]) -> None:
        """Only one thread writes a key, as only one transaction has its row."""
        self.start.wait()
        for key in own * 150:
            version = self.versions[key] = self.versions[key] + 1
            if version % 2:
                self.tier.invalidate([key])
            else:
                self.tier.invalidate_tags(TAGS[key][:1])
            self.promised[key] = version
            time.sleep(0)


def test_threads_that_load_write_and_invalidate_read_nothing_older_than_promised() -> None:
    crowd = Crowd(MemoryTier(CAPACITY))
    threads = [threading.Thread(target=crowd.read, args=(seed,)) for seed in range(4)]
    threads += [threading.Thread(target=crowd.write, args=(KEYS[part::2],)) for part in range(2)]

    with _switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [] == crowd.failures[:3]
    statistics = crowd.tier.statistics()
    assert statistics.entries <= CAPACITY
    assert statistics.flights == 0
    assert statistics.hits > 100
    assert statistics.refused > 10


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_the_order_of_every_short_schedule_of_one_load_and_one_invalidation_is_harmless() -> None:
    steps = ["begin", "read", "store", "write", "invalidate"]
    for order in itertools.permutations(steps):
        ranks = {step: order.index(step) for step in steps}
        if not ranks["begin"] < ranks["read"] < ranks["store"] or ranks["invalidate"] < ranks["write"]:
            continue
        for by_key in (True, False):
            source = Source(MemoryTier(CAPACITY, clock=lambda: 0.0))
            for step in order:
                _take(step, source, by_key)
            source.check()


def _take(step: str, source: Source, by_key: bool) -> None:
    key = KEYS[0]
    if step == "begin":
        source.begin(key, ())
    elif step == "read":
        source.read(source.loads[0])
    elif step == "store":
        source.finish(source.loads[0])
    elif step == "write":
        source.versions[key] += 1
    else:
        source.invalidate([key] if by_key else [], [] if by_key else [TAGS[key][1]])
