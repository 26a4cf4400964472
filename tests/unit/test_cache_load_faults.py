"""Loads that fail, hang or are cancelled: what their callers get, and what is left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, Gate, until, waiters

from perfloop.cache import CachePolicy, InMemoryRemote, InMemoryServer, Loaded, TieredCache
from perfloop.cache.remote import Fetched

FAIL_SAFE = CachePolicy(ttl_s=10, fail_safe_for_s=1000, jitter_ratio=0)


class FaultyServer(InMemoryServer):
    """A tier with a fault that its contract does not know."""

    fetches = 0

    def _fetch(self, *_: object) -> Mapping[str, Fetched]:
        self.fetches += 1
        raise UnicodeError("a tag that is no text")


class InterruptedServer(InMemoryServer):
    """A tier in whose first call somebody presses Ctrl-C."""

    fetches = 0

    def _fetch(self, *arguments: Any, **terms: Any) -> Mapping[str, Fetched]:
        self.fetches += 1
        if self.fetches == 1:
            raise KeyboardInterrupt
        return super()._fetch(*arguments, **terms)


class FailingGate(Gate):
    """A loader that fails when it is let."""

    def __call__(self) -> Any:
        super().__call__()
        raise OSError("the database is away")


@pytest.mark.parametrize("hard_timeout_s", [None, 5.0])
def test_a_fault_of_the_shared_tier_reaches_the_caller_once(kind: Any, hard_timeout_s: float | None) -> None:
    server = FaultyServer()
    policy = CachePolicy(ttl_s=60, hard_timeout_s=hard_timeout_s)
    with kind.cache(server, policy=policy) as cache:
        with pytest.raises(UnicodeError):
            cache.get_or_load("k", lambda: 1)

        assert (1, 1) == (server.fetches, cache.statistics().load_failures)


def test_who_comes_after_the_invalidation_of_a_spare_value_s_tag_does_not_get_it(
    kind: Any, clock: FakeClock
) -> None:
    with kind.cache(clock=clock, policy=FAIL_SAFE) as cache:
        cache.get_or_load("k", lambda: Loaded(value="old", tags=("t",)))
        clock.advance(11)
        gate = FailingGate(None)
        early = kind.start(cache.get_or_load, "k", gate)
        gate.wait_begun()
        cache.invalidate_tag("t")
        late = kind.start(cache.get_or_load, "k", gate)
        gate.let()
        gate.let()

        assert early.result() == "old"
        with pytest.raises(OSError, match="away"):
            late.result()


def test_who_comes_after_another_invalidation_still_gets_the_spare_value(kind: Any, clock: FakeClock) -> None:
    with kind.cache(clock=clock, policy=FAIL_SAFE) as cache:
        cache.get_or_load("k", lambda: "old")
        clock.advance(11)
        gate = FailingGate(None)
        early = kind.start(cache.get_or_load, "k", gate)
        gate.wait_begun()
        cache.invalidate_tag("of another")
        late = kind.start(cache.get_or_load, "k", gate)
        until(lambda: waiters(cache, "k") == 2)
        gate.let()

        assert ("old", "old", 1) == (early.result(), late.result(), gate.calls)


def test_a_spare_value_of_the_shared_tier_is_for_those_before_the_invalidation_of_its_tag(
    kind: Any, clock: FakeClock
) -> None:
    server = InMemoryServer(clock=clock)
    with kind.cache(server, clock=clock, policy=FAIL_SAFE) as other:
        other.get_or_load("k", lambda: Loaded(value="old", tags=("t",)))
    with kind.cache(server, clock=clock, policy=FAIL_SAFE) as cache:
        clock.advance(11)
        gate = FailingGate(None)
        early = kind.start(cache.get_or_load, "k", gate)
        gate.wait_begun()
        cache.invalidate_tag("t")
        late = kind.start(cache.get_or_load, "k", gate)
        until(lambda: waiters(cache, "k") == 2)
        gate.let()
        gate.let()

        assert early.result() == "old"
        with pytest.raises(OSError, match="away"):
            late.result()


@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize("moment", ["boarding", "looking up", "loading"])
def test_an_interrupt_leaves_no_key_without_a_leader(
    monkeypatch: pytest.MonkeyPatch, moment: str, by_batch: bool
) -> None:
    interrupts = iter([moment == "loading"])

    def load(keys: Sequence[str] = ("k",)) -> Any:
        if next(interrupts, False):
            raise KeyboardInterrupt
        return dict.fromkeys(keys, 7)

    def board(*_: object) -> None:
        raise KeyboardInterrupt

    server = InterruptedServer() if moment == "looking up" else InMemoryServer()
    with TieredCache(remote=InMemoryRemote(server), policy=CachePolicy(ttl_s=60)) as cache:

        def ask() -> Any:
            return cache.load_many(["k"], load)["k"] if by_batch else cache.get_or_load("k", load)["k"]

        with monkeypatch.context() as patched:
            if moment == "boarding":
                patched.setattr(cache._loading._callers, "board", board)
            with pytest.raises(KeyboardInterrupt):
                ask()

        assert 0 == cache.statistics().memory.flights
        assert 7 == ask()
