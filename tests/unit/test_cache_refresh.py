"""What `refresh` gives, and what everybody else gets until it is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from tests.cache_kinds import FakeClock, Gate, until, waiters

from perfloop.cache import BreakerPolicy, CachePolicy, InMemoryServer

POLICY = CachePolicy(ttl_s=60, fail_safe_for_s=600, jitter_ratio=0)


class Two(NamedTuple):
    one: Any
    other: Any
    server: InMemoryServer


@pytest.fixture
def two(kind: Any, clock: FakeClock) -> Iterator[Two]:
    """Two processes."""
    server = InMemoryServer(clock=clock)
    options = {"clock": clock, "policy": POLICY, "breaker": BreakerPolicy(first_retry_s=0.002)}
    with kind.cache(server, **options) as one, kind.cache(server, **options) as other:
        yield Two(one, other, server)


@pytest.fixture
def cache(kind: Any, clock: FakeClock) -> Iterator[Any]:
    with kind.cache(clock=clock, policy=POLICY) as cache:
        yield cache


class Table:
    """Rows that a test changes, and that are read through a gate once it is closed."""

    def __init__(self) -> None:
        self.row = "old"
        self.gate: Gate | None = None
        self.fails = False
        self.asked: list[tuple[int, ...]] = []

    def read(self, number: int) -> str:
        return self.read_many((number,))[number]

    def read_many(self, numbers: Sequence[int]) -> dict[int, str]:
        self.asked.append(tuple(numbers))
        row = self.row
        if self.gate is not None:
            self.gate()
        if self.fails:
            raise LookupError("away")
        return {number: f"{row} {number}" for number in numbers if number < 100}


def decorated(cache: Any, table: Table) -> Any:
    def user(number: int) -> str:
        return table.read(number)

    return cache.cached("user:{number}", tags=("users",))(user)


def decorated_many(cache: Any, table: Table) -> Any:
    def users(numbers: Sequence[int]) -> dict[int, str]:
        return table.read_many(numbers)

    return cache.cached_many("user:{}", tags=("users",))(users)


@pytest.mark.parametrize("share", [False, True], ids=["alone", "shared"])
def test_the_old_value_is_served_until_the_new_one_is_there(
    kind: Any, cache: Any, two: Two, share: bool
) -> None:
    table = Table()
    user = decorated(two.one if share else cache, table)
    user(7)
    table.row, table.gate = "new", Gate(None)
    refresh = kind.start(user.refresh, 7)
    table.gate.wait_begun()
    meanwhile = user(7)
    table.gate.let()

    assert ["old 7", "new 7", "new 7"] == [meanwhile, refresh.result(), user(7)]
    assert [(7,), (7,)] == table.asked


def test_a_loader_that_fails_raises_and_leaves_the_old_value(two: Two) -> None:
    table = Table()
    user, many = decorated(two.one, table), decorated_many(two.other, table)
    user(7)
    table.fails = True
    for refresh in (user.refresh, many.refresh):
        with pytest.raises(LookupError):
            refresh(7)

    assert ["old 7", "old 7"] == [user(7), many(7)]


def test_what_a_load_read_before_is_not_what_refresh_gives(kind: Any, cache: Any) -> None:
    table = Table()
    user = decorated(cache, table)
    table.gate = gate = Gate(None)
    earlier = kind.start(user, 7)
    gate.wait_begun()
    table.row = "new"
    refresh = kind.start(user.refresh, 7)
    until(lambda: waiters(cache, "user:7") == 2)
    gate.let()
    gate.wait_begun()
    gate.let()

    assert ("old 7", "new 7", "new 7") == (earlier.result(), refresh.result(), user(7))


def test_nor_what_another_process_read_before(kind: Any, two: Two) -> None:
    table = Table()
    user, there = decorated(two.one, table), decorated(two.other, table)
    table.gate = gate = Gate(None)
    earlier = kind.start(there, 7)
    gate.wait_begun()
    table.row = "new"
    refresh = kind.start(user.refresh, 7)
    until(lambda: two.one._link._hearing.awaited)
    gate.let()
    gate.wait_begun()
    gate.let()

    assert ("old 7", "new 7") == (earlier.result(), refresh.result())
    until(lambda: there(7) == "new 7")


def test_an_invalidation_meanwhile_wins(kind: Any, two: Two) -> None:
    for invalidate in (lambda: two.other.delete("user:7"), lambda: two.other.invalidate_tag("users")):
        table = Table()
        user = two.one.cached(f"user:{{number}}", tags=("users",))(_reading(table))  # noqa: F541 - a template
        user(7)
        table.row, table.gate = "between", Gate(None)
        refresh = kind.start(user.refresh, 7)
        table.gate.wait_begun()
        table.row = "new"
        invalidate()
        table.gate.let()
        if not refresh.done():
            table.gate.let()

        assert refresh.result() in ("between 7", "new 7")
        table.gate = None
        until(lambda: user(7) == "new 7")  # noqa: B023 - called within the loop
        two.one.delete("user:7")


def _reading(table: Table) -> Any:
    def reading(number: int) -> str:
        return table.read(number)

    return reading


def test_the_other_process_sees_the_new_value(two: Two) -> None:
    table = Table()
    user, there = decorated(two.one, table), decorated(two.other, table)
    before = [user(7), there(7)]
    table.row = "new"
    user.refresh(7)

    assert ["old 7", "old 7"] == before
    until(lambda: there(7) == "new 7")
    assert [(7,), (7,)] == table.asked


def test_without_the_shared_tier_its_old_value_is_gone_when_it_is_back(two: Two, clock: FakeClock) -> None:
    table = Table()
    user, there = decorated(two.one, table), decorated(two.other, table)
    before = [user(7), there(7)]
    two.server.go_away()
    table.row = "new"
    alone = user.refresh(7)
    two.server.come_back()
    clock.advance(1)  # for the breaker

    assert ["old 7", "old 7", "new 7"] == [*before, alone]
    until(lambda: there(7) == "new 7")


def test_many_members_are_loaded_anew_in_one_call(cache: Any) -> None:
    table = Table()
    users = decorated_many(cache, table)
    users.many([1, 2, 3])
    table.row = "new"
    fresh = users.refresh(1, 2, 200)

    assert {1: "new 1", 2: "new 2"} == fresh
    assert {1: "new 1", 2: "new 2", 3: "old 3"} == users.many([1, 2, 3, 200])
    assert [(1, 2, 3), (1, 2, 200)] == table.asked


def test_refreshes_of_the_same_members_do_not_wait_for_one_another_for_ever(kind: Any, two: Two) -> None:
    table = Table()
    here, there = decorated_many(two.one, table), decorated_many(two.other, table)
    orders = [(1, 2, 3), (3, 2, 1), (2, 3, 1), (1, 3, 2)]
    running = [kind.start(users.refresh, *order) for order in orders for users in (here, there)]

    assert [{1: "old 1", 2: "old 2", 3: "old 3"}] * 8 == [each.result(20) for each in running]
    assert 8 == sum(len(asked) for asked in table.asked) / 3


def test_a_refresh_is_counted_as_a_load_and_as_no_request(cache: Any) -> None:
    user = decorated(cache, Table())
    user(7)
    user.refresh(7)
    statistics = cache.statistics()

    assert (1, 2, 0) == (statistics.asked, statistics.loads, statistics.background_loads)
