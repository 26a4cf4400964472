"""Two caches on one server against a model: outages, late news, terms of values, and acts amid a load.

Loaders act while they load, so that each interleaving is one that hypothesis chose and can repeat; which
steps of asyncio mix is tests/unit/test_cache_machine.py. A value tells its version, when it was loaded and
for how long it may be served. A version that leaves 3 when divided by 4 is "there is none".

A cache's floor of a key rises by its own invalidations at once, and by those of the other as soon as both are
connected: with nothing pending, nothing withheld, and no outage since.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.cache_kinds import AsyncKind, SyncKind, until

from perfloop.cache import (
    BreakerPolicy,
    BreakerState,
    CachePolicy,
    FakeClock,
    InMemoryServer,
    Loaded,
)
from perfloop.cache.remote import Gap

KEYS = ("a", "b")
TAGS = {"a": ("ab",), "b": ("b", "ab")}
BREAKER = BreakerPolicy(first_retry_s=0.001, longest_retry_s=0.002)
POLICIES = (
    CachePolicy(ttl_s=10, jitter_ratio=0),
    CachePolicy(ttl_s=10, jitter_ratio=0, stale_for_s=20, refresh_ahead_ratio=0.5),
    CachePolicy(ttl_s=10, jitter_ratio=0, stale_for_s=3, fail_safe_for_s=20, negative_ttl_s=1),
    CachePolicy(ttl_s=10, jitter_ratio=0, negative_ttl_s=0),
)
NOTHING = object()

which_cache = st.integers(0, 1)
which_key = st.sampled_from(KEYS)
acts = st.one_of(
    st.tuples(st.sampled_from(["delete", "tag", "set"]), which_cache, which_key),
    st.tuples(st.sampled_from(["away", "back", "flush", "lose a tag", "withhold", "deliver", "lose news"])),
)
some_terms = st.sampled_from([None, CachePolicy(ttl_s=3), CachePolicy(ttl_s=6, stale_for_s=6)])
waits = st.sampled_from([0.5, 4.0, 9.0, 25.0])


LEASE_S = 0.02
"""A waiter sleeps so long in truth; by the clock of the server it passes as that is read."""
TICK_S = 0.0002
LATE_S = 0.5
"""What ticks may add to the life of a value; all other time passes while nothing is loaded."""


class Ticking(FakeClock):
    """Goes on a little whenever it is read, so that a lease ends that nobody gives back."""

    def __call__(self) -> float:
        self.advance(TICK_S)
        return super().__call__()


class LoaderDown(Exception):
    """A loader's own error."""


class Outages(RuleBasedStateMachine):
    """By calls of one thread; what is refreshed behind has ended before the next."""

    kind: ClassVar[type[SyncKind | AsyncKind]] = SyncKind

    @initialize(policy=st.sampled_from(POLICIES), capacity=st.sampled_from([2, 100]))
    def open(self, policy: CachePolicy, capacity: int) -> None:
        self.stack = contextlib.ExitStack()
        driver = self.kind()
        self.stack.callback(driver.close)
        self.policy = policy
        self.clock = Ticking()
        self.server = InMemoryServer(clock=self.clock)
        self.caches = [
            self.stack.enter_context(
                driver.cache(
                    self.server,
                    clock=self.clock,
                    policy=policy,
                    capacity=capacity,
                    breaker=BREAKER,
                    lease_s=LEASE_S,
                )
            )
            for _ in range(2)
        ]
        self.truth = dict.fromkeys(KEYS, 0)
        self.floors = [dict.fromkeys(KEYS, 0) for _ in range(2)]
        self.faults: list[str] = []
        self.is_away = self.is_withheld = False

    @property
    def is_connected(self) -> bool:
        told = [cache.statistics() for cache in self.caches]
        return not (self.is_away or self.is_withheld) and all(
            one.breaker is BreakerState.CLOSED and one.hears_news and not one.pending_invalidations
            for one in told
        )

    def agree(self) -> None:
        if self.is_connected:
            floors = {key: max(floor[key] for floor in self.floors) for key in KEYS}
            self.floors = [dict(floors), dict(floors)]

    @rule(act=acts)
    def act(self, act: Any) -> None:
        name, *details = act
        if name in ("delete", "tag", "set"):
            self.change(name, *details)
        elif name == "flush":
            self.server.flush()
        elif name == "lose a tag":
            self.server.evict_tag("ab")
        else:
            self.part(name)

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def part(self, name: str) -> None:
        if name == "away":
            self.is_away = True
            self.server.go_away()
        elif name == "back":
            self.is_away = False
            self.server.come_back()
        elif name == "withhold":
            if not self.is_withheld:
                self.is_withheld = True
                self.server.withhold_news()
        else:
            self.is_withheld = False
            if name == "lose news":  # as where a connection is cut: there is a gap, and it is told of
                self.server._withheld = []
                self.server._tell(Gap(is_over=True))
            self.server.deliver_news()

    def change(self, name: str, at: int, key: str) -> None:
        cache, keys = self.caches[at], [key]
        if name == "tag":
            keys = [other for other in KEYS if TAGS[key][0] in TAGS[other]]
        for each in keys:
            self.truth[each] += 1
        if name == "tag":
            cache.invalidate_tag(TAGS[key][0])
        elif name == "delete":
            cache.delete(key)
        else:
            cache.set(key, self.value_of(key, self.policy), tags=TAGS[key])
        for each in keys:
            self.floors[at][each] = self.truth[each]
        self.agree()

    def value_of(self, key: str, policy: CachePolicy) -> Any:
        version = self.truth[key]
        if version % 4 == 3:
            return None
        served_s = policy.ttl_s + max(policy.stale_for_s, policy.fail_safe_for_s)
        return [key, version, self.clock(), served_s]

    def judge(self, key: str, value: Any, floor: int, at_s: float) -> None:
        if value is NOTHING:
            return
        if value is None:
            if not any(version % 4 == 3 for version in range(floor, self.truth[key] + 1)):
                self.faults.append(f"{key}: None was read after {floor}")
            return
        of, version, loaded_at_s, served_s = value
        if of != key or version < floor:
            self.faults.append(f"{key}: {value} was read after {floor}")
        if at_s - loaded_at_s > served_s + LATE_S:
            self.faults.append(f"{key}: {value} was read at {at_s}")

    def load(self, key: str, terms: CachePolicy | None, meanwhile: list[Any], fails: bool) -> Any:
        value = self.value_of(key, terms or self.policy)
        while meanwhile:
            self.act(meanwhile.pop())
        if fails:
            raise LoaderDown
        if terms is None:
            return value
        return Loaded(value=value, ttl_s=terms.ttl_s, stale_for_s=terms.stale_for_s, tags=TAGS[key])

    @rule(
        at=which_cache,
        key=which_key,
        meanwhile=st.lists(acts, max_size=3),
        terms=some_terms,
        fails=st.sampled_from([False, False, False, True]),
    )
    def read(self, at: int, key: str, meanwhile: list[Any], terms: CachePolicy | None, fails: bool) -> None:
        if terms is not None and self.policy.fail_safe_for_s:
            terms = None  # fail_safe_for_s is none of a loader's terms
        floor, at_s = self.floors[at][key], self.clock()
        tags = TAGS[key] if terms is None else ()
        with contextlib.suppress(LoaderDown):
            found = self.caches[at].get_or_load(
                key, lambda: self.load(key, terms, meanwhile, fails), tags=tags
            )
            self.judge(key, found, floor, at_s)
        self.rest()

    @rule(at=which_cache, meanwhile=st.lists(acts, max_size=3), fails=st.booleans())
    def read_all(self, at: int, meanwhile: list[Any], fails: bool) -> None:
        def load(keys: Any) -> dict[str, Any]:
            values = {key: self.value_of(key, self.policy) for key in keys}
            while meanwhile:
                self.act(meanwhile.pop())
            if fails:
                raise LoaderDown
            return values

        floors, at_s = dict(self.floors[at]), self.clock()
        with contextlib.suppress(LoaderDown):
            found = self.caches[at].load_many(KEYS, load, tags=("ab", "b"))
            for key in KEYS:
                self.judge(key, found.get(key), floors[key], at_s)
        self.rest()

    @rule(at=which_cache, key=which_key, terms=some_terms, seconds=waits)
    def hand_over(self, at: int, key: str, terms: CachePolicy | None, seconds: float) -> None:
        """What chance seldom puts together: the other cache gets a value with its terms, and time passes."""
        self.read(at, key, [], terms, fails=False)
        self.read(1 - at, key, [], None, fails=False)
        self.wait(seconds)
        self.look(1 - at, key)

    @rule(at=which_cache, key=which_key)
    def look(self, at: int, key: str) -> None:
        self.judge(key, self.caches[at].get(key, NOTHING), self.floors[at][key], self.clock())

    @rule()
    def recover(self) -> None:
        """Whatever happened, all is well within a moment of the server's being back."""
        self.part("deliver")
        self.part("back")
        deadline_s = time.monotonic() + 20
        while not self.is_connected:
            assert time.monotonic() < deadline_s, [cache.statistics() for cache in self.caches]
            self.clock.advance(0.01)
            time.sleep(0.001)
        self.agree()

    def rest(self) -> None:
        for cache in self.caches:
            loading = getattr(cache, "_cache", cache)._loading
            until(lambda loading=loading: not len(loading.crew))  # type: ignore[misc]  # a lambda's default

    @invariant()
    def nothing_was_stale(self) -> None:
        assert [] == getattr(self, "faults", [])

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.recover()
            flights = [cache.statistics().memory.flights for cache in self.caches]
            self.stack.close()
            assert [0, 0] == flights


class AsyncOutages(Outages):
    kind = AsyncKind


TestOutages = Outages.TestCase
TestOutages.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAsyncOutages = AsyncOutages.TestCase
TestAsyncOutages.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
for machine in (TestOutages, TestAsyncOutages):
    # What fails is made smaller for up to five minutes, which the usual limit would end without a word.
    machine.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]  # pytest looks for it
