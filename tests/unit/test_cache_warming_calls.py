"""Warming through the cache's own face: what loaders are asked for."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, until

from perfloop.cache import AsyncTieredCache, CachePolicy, InMemoryServer, TieredCache, WarmingPolicy
from perfloop.cache.warming_gate import GatePolicy

POLICY = CachePolicy(ttl_s=60, jitter_ratio=0)
MEMBERS = 5


class Table:
    """A batch loader that counts; what it lacks it leaves out, and `poison` fails the whole call."""

    __name__ = "table"

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.poison: set[int] = set()
        self.missing: set[int] = set()

    def __call__(self, members: Sequence[int]) -> dict[int, str]:
        self.calls.append(tuple(members))
        if self.poison & set(members):
            raise LookupError("no such row")
        return {member: f"row {member}" for member in members if member not in self.missing}


def warmed(cache: Any, table: Any, **terms: Any) -> Any:
    def load(members: Sequence[int]) -> dict[int, str]:
        found: dict[int, str] = table(members)
        return found

    return cache.cached_many("product:{}", warm=True, **terms)(load)


def ask_sessions(products: Any, count: int, *, seed: int = 3, sessions: int = 60) -> None:
    """Each session asks for five products in their order."""
    draw = random.Random(seed)
    for _ in range(count):
        first = MEMBERS * draw.randrange(sessions)
        for member in range(first, first + MEMBERS):
            assert f"row {member}" == products(member)


@pytest.fixture
def options(clock: FakeClock) -> dict[str, Any]:
    return {"clock": clock, "policy": POLICY, "capacity": 60, "rand": random.Random(4).random}


def test_what_is_always_missed_together_is_loaded_in_one_call(kind: Any, options: dict[str, Any]) -> None:
    table = Table()
    with kind.cache(**options) as cache:
        products = warmed(cache, table)
        ask_sessions(products, 250)
        learned = len(table.calls)
        ask_sessions(products, 100, seed=5)
        found = cache.statistics().warming["product:{}"]

    assert len(table.calls) - learned < 0.45 * 100 * MEMBERS * 0.8  # four fifths are not in the tier
    assert found.used > 0.8 * (found.used + found.wasted)
    assert found.loaded_ahead == sum(map(len, table.calls)) - len(table.calls)
    assert found.missed == len(table.calls)


def test_without_warming_no_loader_is_asked_for_more_than_was_missed(
    kind: Any, options: dict[str, Any]
) -> None:
    table = Table()

    def load(members: Sequence[int]) -> dict[int, str]:
        return table(members)

    with kind.cache(**options) as cache:
        ask_sessions(cache.cached_many("product:{}")(load), 100)
        found = cache.statistics().warming

    assert {1} == {len(call) for call in table.calls}
    assert {} == found


def learned_bundle(cache: Any, products: Any, table: Table) -> tuple[int, ...]:
    """Teach it ten sessions, and return a member with what comes with it; no tier has anything then."""
    draw = random.Random(3)
    for _ in range(80):
        cache.invalidate_tag("all")
        first = MEMBERS * draw.randrange(10)
        for member in range(first, first + MEMBERS):
            products(member)
    for first in range(0, 10 * MEMBERS, MEMBERS):
        cache.invalidate_tag("all")
        products(first)
        if len(table.calls[-1]) >= 3:
            cache.invalidate_tag("all")
            return table.calls[-1]
    raise AssertionError("it has learned nothing")


def test_a_loader_that_fails_with_the_bundle_is_asked_again_without_it(
    kind: Any, options: dict[str, Any]
) -> None:
    table = Table()
    with kind.cache(**options) as cache:
        products = warmed(cache, table, tags=("all",))
        first, *followers = learned_bundle(cache, products, table)
        table.poison = {followers[0]}
        value = products(first)
        calls = table.calls[-2:]
        with pytest.raises(LookupError):
            products(followers[0])

    assert (f"row {first}", [(first, *followers), (first,)]) == (value, calls)
    assert (followers[0],) == table.calls[-1]  # it rests


def test_a_busy_database_is_asked_for_nothing_more(kind: Any, options: dict[str, Any]) -> None:
    table = Table()
    with kind.cache(**options) as cache:
        products = warmed(cache, table, is_busy=lambda: True)
        ask_sessions(products, 250)

    assert {1} == {len(call) for call in table.calls}


def test_a_row_that_is_on_its_way_is_waited_for_and_counted_late(kind: Any, options: dict[str, Any]) -> None:
    table, gate, begun = Table(), threading.Event(), threading.Semaphore(0)
    gate.set()

    def gated(members: Sequence[int]) -> dict[int, str]:
        begun.release()
        assert gate.wait(10)
        return table(members)

    with kind.cache(**options) as cache:
        products = warmed(cache, gated, tags=("all",))
        first, follower, *_ = learned_bundle(cache, products, table)
        before = cache.statistics().warming["product:{}"].late
        gate.clear()
        while begun.acquire(blocking=False):
            pass
        asks_first = kind.start(products, first)
        assert begun.acquire(timeout=10)
        asks_follower = kind.start(products, follower)
        until(lambda: cache.statistics().warming["product:{}"].late == before + 1)
        gate.set()
        values = asks_first.result(10), asks_follower.result(10)
        calls = len(table.calls)

        assert (f"row {first}", f"row {follower}") == values
        assert follower in table.calls[-1]
        assert f"row {follower}" == products(follower)
        assert calls == len(table.calls)


def test_what_is_invalidated_while_it_comes_in_a_bundle_is_not_kept(
    kind: Any, options: dict[str, Any]
) -> None:
    table, gate, begun = Table(), threading.Event(), threading.Semaphore(0)
    gate.set()

    def gated(members: Sequence[int]) -> dict[int, str]:
        begun.release()
        assert gate.wait(10)
        return table(members)

    with kind.cache(**options) as cache:
        products = warmed(cache, gated, tags=("all",))
        first, follower, *_ = learned_bundle(cache, products, table)
        gate.clear()
        while begun.acquire(blocking=False):
            pass
        asks_first = kind.start(products, first)
        assert begun.acquire(timeout=10)
        products.invalidate(follower)
        gate.set()
        asks_first.result(10)
        calls = len(table.calls)
        products(follower)

    assert follower in table.calls[calls - 1]
    assert calls + 1 == len(table.calls)


def test_a_follower_that_the_shared_tier_has_is_not_loaded_again(kind: Any, options: dict[str, Any]) -> None:
    server, table = InMemoryServer(clock=options["clock"]), Table()
    with kind.cache(server, **options) as cache, kind.cache(server, **options) as other:
        products = warmed(cache, table, tags=("all",))
        first, follower, *_ = learned_bundle(cache, products, table)
        elsewhere = warmed(other, Table(), tags=("all",))
        assert f"row {follower}" == elsewhere(follower)
        products(first)

    assert first == table.calls[-1][0]
    assert follower not in table.calls[-1]


def test_a_follower_without_a_row_does_no_harm(kind: Any, options: dict[str, Any]) -> None:
    table = Table()
    with kind.cache(**options) as cache:
        products = warmed(cache, table, tags=("all",))
        first, follower, *_ = learned_bundle(cache, products, table)
        table.missing = {follower}

        assert f"row {first}" == products(first)
        assert products(follower) is None


def test_rows_that_nobody_asks_for_are_counted_as_wasted(kind: Any, options: dict[str, Any]) -> None:
    table = Table()
    with kind.cache(**options) as cache:
        products = warmed(cache, table, tags=("all",))
        first, *followers = learned_bundle(cache, products, table)
        products(first)
        before = cache.statistics().warming["product:{}"].wasted
        products.invalidate(*followers)
        found = cache.statistics().warming["product:{}"].wasted

    assert len(table.calls[-1]) - 1 == found - before


def test_a_policy_of_ones_own_is_taken(kind: Any, options: dict[str, Any]) -> None:
    table = Table()
    gate = GatePolicy(min_precision_ratio=1.0, min_outcomes=20, probe_ratio=0.0)
    with kind.cache(**options) as cache:

        def load(members: Sequence[int]) -> dict[int, str]:
            return table(members)

        products = cache.cached_many("product:{}", warm=WarmingPolicy(gate=gate))(load)
        ask_sessions(products, 250)
        found = cache.statistics().warming["product:{}"]

    assert not found.is_open
    assert found.loaded_ahead < 100


class Writers:
    """Threads of which each changes every fourth product, and must see its own changes at once."""

    def __init__(self, cache: TieredCache) -> None:
        self.errors: list[str] = []
        self._versions = dict.fromkeys(range(200), 0)
        self._products = cache.cached_many("product:{}", warm=True)(self._load)

    def _load(self, members: Sequence[int]) -> dict[int, int]:
        return {member: self._versions[member] for member in members}

    def work(self, own: int) -> None:
        draw = random.Random(own)
        for first in draw.choices(range(0, 200, MEMBERS), k=150):
            for member in range(first, first + MEMBERS):
                self._ask(member, mine=member % 4 == own, changes=draw.random() < 0.3)

    def _ask(self, member: int, *, mine: bool, changes: bool) -> None:
        if mine and changes:
            self._versions[member] += 1
            self._products.invalidate(member)
        if self._products(member) not in ({self._versions[member]} if mine else range(1000)):
            self.errors.append(f"{member} was older than {self._versions[member]}")


def test_callers_at_the_same_time_get_their_values_and_nobody_s_old_ones(options: dict[str, Any]) -> None:
    with TieredCache(**options) as cache:
        writers = Writers(cache)
        threads = [threading.Thread(target=writers.work, args=(own,)) for own in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = cache.statistics()

    assert [] == writers.errors
    assert 0 == found.memory.flights
    assert found.warming["product:{}"].used > 0


async def calls_of_requests(*, warm: bool) -> int:
    """Calls of the loader in the second half of 1,600 requests, eight of them at a time, each a task."""
    # A clock that stands still: what a loader takes here is the other tasks' time, and would shut the gate.
    cache = AsyncTieredCache(capacity=300, policy=POLICY, rand=random.Random(3).random, clock=lambda: 0.0)
    calls = 0

    @cache.cached_many("product:{}", warm=warm)
    async def products(members: Sequence[int]) -> dict[int, int]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return dict.fromkeys(members, 1)

    async def request(first: int) -> None:
        for member in range(first, first + MEMBERS):
            await products(member)
            await asyncio.sleep(0)

    draw, learned = random.Random(1), 0
    for number in range(200):
        learned = calls if number == 100 else learned
        await asyncio.gather(*(request(MEMBERS * draw.randrange(200)) for _ in range(8)))
    await cache.close()
    return calls - learned


def test_requests_that_run_at_the_same_time_are_learned_from_one_by_one() -> None:
    without, warmed_calls = (asyncio.run(calls_of_requests(warm=warm)) for warm in (False, True))

    assert warmed_calls < 0.4 * without
