"""Loads that fail, hang or are cancelled: what their callers get, and what is left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, Gate, until, waiters

from perfloop.cache import CachePolicy, InMemoryRemote, InMemoryServer, Loaded, TieredCache
from perfloop.cache.memory import MemoryTier
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


class Outcome(BaseException):
    """As test frameworks and green threads raise them: no Exception."""


class Unshowable(Exception):
    """An error that fails where it is to be logged."""

    def __repr__(self) -> str:
        raise TypeError("no repr")

    __str__ = __repr__


class Unmeasurable:
    """A value that fails where its size is asked for."""

    @property
    def nbytes(self) -> int:
        raise TypeError("no size")


@pytest.mark.parametrize("hard_timeout_s", [None, 60.0])
@pytest.mark.parametrize("by_batch", [False, True])
def test_whatever_a_loader_raises_all_who_wait_get_it_and_nobody_loads_again(
    kind: Any, by_batch: bool, hard_timeout_s: float | None
) -> None:
    begun, failing = Gate(None), []

    def load(keys: Sequence[str] = ()) -> Any:
        failing.append(keys)
        begun()
        raise Outcome

    with kind.cache(policy=CachePolicy(ttl_s=60, hard_timeout_s=hard_timeout_s)) as cache:
        ask, key = (cache.load_many, ["k"]) if by_batch else (cache.get_or_load, "k")
        callers = [kind.start(ask, key, load) for _ in range(3)]
        until(lambda: waiters(cache, "k") == 3)
        begun.let()
        errors = [caller.exception(timeout=5) for caller in callers]
        begun.let()  # where it is called again, it fails again

    assert [Outcome] * 3 == [type(error) for error in errors]
    assert 1 == len(failing)


def test_an_error_that_cannot_be_shown_gives_the_lease_back_as_any_other(kind: Any) -> None:
    def fail() -> Any:
        raise Unshowable

    server = InMemoryServer()
    with kind.cache(server, policy=CachePolicy(ttl_s=60)) as one, kind.cache(server) as other:
        with pytest.raises(Unshowable):
            one.get_or_load("k", fail)

        assert 7 == other.get_or_load("k", lambda: 7, ttl_s=60)
        assert 0 == other.statistics().remote_hits


@pytest.mark.parametrize("bounds", [{}, {"max_bytes": 100_000}])
def test_a_value_that_cannot_be_measured_is_kept_as_any_other(kind: Any, bounds: dict[str, int]) -> None:
    value = Unmeasurable()
    with kind.cache(policy=CachePolicy(ttl_s=60), **bounds) as cache:
        assert [value] * 3 == [cache.get_or_load("k", lambda: value) for _ in range(3)]
        assert (1, 1) == (cache.statistics().loads, cache.statistics().memory.entries)


def test_a_fault_in_keeping_what_get_found_keeps_nobody_waiting(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(*_: object, **__: object) -> bool:
        raise TypeError("by the test")

    server = InMemoryServer()
    with kind.cache(server, policy=CachePolicy(ttl_s=60)) as one, kind.cache(server) as other:
        one.set("k", "value")
        with monkeypatch.context() as patched:
            patched.setattr(MemoryTier, "store", store)
            with pytest.raises(TypeError):
                other.get("k")

        assert "value" == kind.start(other.get_or_load, "k", lambda: 1, ttl_s=60).result(timeout=5)


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
