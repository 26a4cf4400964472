"""A restart through the cache's own face: what is loaded before anybody asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.cache_kinds import FakeClock, until

from perfloop.cache import (
    AsyncInMemoryRemote,
    AsyncTieredCache,
    CachePolicy,
    InMemoryRemote,
    InMemoryServer,
    KeyListPolicy,
    KeyListStatistics,
    TieredCache,
)
from perfloop.cache.key_list_file import read_keys

POLICY = CachePolicy(ttl_s=60, jitter_ratio=0)
FAST = KeyListPolicy(every_s=3600, loaded_rows_per_s=1e9, batch_rows=20)
PRODUCTS = list(range(100))


class Table:
    """A batch loader that notes what it is asked for."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails

    def __call__(self, members: Sequence[Any]) -> dict[Any, str]:
        self.calls.append(tuple(members))
        if self.fails:
            raise LookupError("away")
        return {member: f"row {member}" for member in members}

    @property
    def rows(self) -> set[Any]:
        return {member for call in self.calls for member in call}


@pytest.fixture
def options(clock: FakeClock, tmp_path: Path) -> dict[str, Any]:
    return {
        "clock": clock,
        "policy": POLICY,
        "capacity": 200,
        "key_list": tmp_path / "keys",
        "key_list_policy": FAST,
        "rand": lambda: 0.4,
    }


def cache_of(table: Table, options: dict[str, Any]) -> tuple[TieredCache, Any]:
    """Not open yet, and its template known, as those of a module are."""
    cache = TieredCache(**options)

    def load(members: Sequence[Any]) -> dict[Any, str]:
        return table(members)

    return cache, cache.cached_many("product:{}")(load)


def run_once(options: dict[str, Any], members: Sequence[Any] = PRODUCTS) -> None:
    cache, products = cache_of(Table(), options)
    with cache:
        for member in members:
            products(member)
        cache.set("other", 1)


def settle(cache: Any) -> KeyListStatistics:
    """Once all that is listed has been looked at."""
    until(lambda: len(cache._loading.crew) == 1)  # who looks at the tier stays
    found = cache.statistics().key_list
    assert found is not None
    return found


def test_a_restart_begins_with_the_keys_of_the_last_process(options: dict[str, Any]) -> None:
    run_once(options)
    table = Table()
    cache, products = cache_of(table, options)
    with cache:
        found = settle(cache)
        restored, calls = table.rows, len(table.calls)
        values = [products(member) for member in PRODUCTS]

    assert [f"row {member}" for member in PRODUCTS] == values
    assert (100, len(restored), 0, "") == (found.listed, found.from_loaders, found.from_remote, found.note)
    assert 85 <= len(restored) < 100  # about one in twenty is held back
    assert 5 == calls
    assert set(PRODUCTS) == table.rows
    assert len(table.calls) - calls == 100 - len(restored)


def test_the_same_holds_for_asyncio(options: dict[str, Any]) -> None:
    run_once(options)
    table = Table()

    async def run() -> KeyListStatistics | None:
        cache = AsyncTieredCache(**options)

        async def load(members: Sequence[int]) -> dict[int, str]:
            return table(members)

        products = cache.cached_many("product:{}")(load)
        async with cache:
            while len(table.rows) < 85:
                assert await products(PRODUCTS[0]) is not None
                await asyncio.sleep(0)
            return cache.statistics().key_list

    found = asyncio.run(run())

    assert found is not None
    assert found.from_loaders >= 85 - 20
    assert 100 == len(read_keys(options["key_list"], FAST).found.keys)


def test_a_restart_in_the_middle_of_a_restart_forgets_nothing(options: dict[str, Any]) -> None:
    run_once(options)
    slow = KeyListPolicy(every_s=3600, loaded_rows_per_s=0.001, batch_rows=10)
    cache, _ = cache_of(Table(), {**options, "key_list_policy": slow})
    with cache:
        pass

    assert 100 == len(read_keys(options["key_list"], FAST).found.keys)


def test_what_the_shared_tier_has_is_not_loaded(options: dict[str, Any]) -> None:
    server = InMemoryServer(clock=options["clock"])
    run_once({**options, "remote": InMemoryRemote(server)})
    table = Table()
    cache, _ = cache_of(table, {**options, "remote": InMemoryRemote(server)})
    with cache:
        until(lambda: cache.statistics().memory.entries >= 85)
        until(lambda: cache.statistics().key_list.from_remote >= 85)
        found = cache.statistics().key_list

    assert found is not None
    assert [] == table.calls
    assert 0 == found.from_loaders


def test_texts_and_numbers_come_back_as_what_they_were(options: dict[str, Any]) -> None:
    members = ["plain", "7", "a:b/c", "über", "", 7, -3, "None", "'quoted"]
    run_once(options, members)
    table = Table()
    cache, _ = cache_of(table, options)
    with cache:
        settle(cache)

    assert table.rows <= set(members)
    assert len(table.rows) >= 7
    assert {type(member) for member in table.rows} == {str, int}


def test_a_loader_that_fails_ends_it_and_harms_nobody(options: dict[str, Any]) -> None:
    run_once(options)
    table = Table(fails=True)
    cache, products = cache_of(table, options)
    with cache:
        found = settle(cache)
        table.fails = False
        value = products(7)

    assert "row 7" == value
    assert 2 == len(table.calls)
    assert "a loader failed" in found.note


def test_a_damaged_list_starts_cold_and_is_replaced(options: dict[str, Any]) -> None:
    options["key_list"].write_bytes(b"perfloop keys 1\n and then nothing of ours")
    cache, products = cache_of(Table(), options)
    with cache:
        products(7)
        found = cache.statistics().key_list

    assert found is not None
    assert "damaged" in found.note
    assert ("product:7",) == read_keys(options["key_list"], FAST).found.keys


def test_a_list_that_cannot_be_written_is_said_and_no_more(options: dict[str, Any]) -> None:
    options["key_list"] = options["key_list"] / "no" / "folder"
    cache, products = cache_of(Table(), options)
    with cache:
        value = products(7)
    found = cache.statistics().key_list

    assert found is not None
    assert "row 7" == value
    assert "not written" in found.note


def test_the_loaders_are_not_asked_faster_than_allowed(options: dict[str, Any]) -> None:
    run_once(options)
    table = Table()
    slow = KeyListPolicy(every_s=3600, loaded_rows_per_s=1.0, batch_rows=20)
    cache, _ = cache_of(table, {**options, "key_list_policy": slow})
    with cache:
        until(lambda: table.calls)
        began_s = time.monotonic()

    assert 1 == len(table.calls)
    assert time.monotonic() - began_s < 2.0  # closing does not wait for the rest


def test_the_list_s_worth_is_measured_by_the_keys_held_back(options: dict[str, Any]) -> None:
    many = list(range(3000))
    options = {**options, "capacity": 4000, "key_list_policy": KeyListPolicy(loaded_rows_per_s=1e9)}
    run_once(options, many)
    cache, products = cache_of(Table(), options)
    with cache:
        settle(cache)
        for member in many:
            products(member)
        found = cache.statistics().key_list

    assert found is not None
    assert 3000 == found.requests
    assert found.hit_ratio == pytest.approx(0.95, abs=0.03)
    assert found.hit_ratio_without == pytest.approx(0.0, abs=0.3)


def test_a_forked_child_leaves_its_parents_list_alone(options: dict[str, Any]) -> None:
    cache, products = cache_of(Table(), options)
    with cache:
        products.many(PRODUCTS)
        cache._parts.restart()  # as in a forked child

    assert not options["key_list"].exists()


def test_where_bytes_bound_the_tier_no_more_is_loaded_than_it_had_room_for(options: dict[str, Any]) -> None:
    del options["capacity"]
    options = {**options, "max_bytes": 20_000}
    cache, products = cache_of(Table(), options)
    with cache:
        for start in range(0, 600, 20):
            products.many(range(start, start + 20))
            products.many(range(20))
            if start % 100 == 0:
                cache._parts.key_listing._look(cache._loading.crew)
        held = cache.statistics().memory.entries
    listed = len(read_keys(options["key_list"], FAST).found.keys)
    table = Table()
    again, _ = cache_of(table, options)
    with again:
        found = settle(again)

    assert held < listed == found.listed
    assert 0 < found.from_loaders <= held


def test_closing_goes_on_where_the_list_fails(options: dict[str, Any], monkeypatch: Any) -> None:
    cache, _ = cache_of(
        Table(), {**options, "remote": InMemoryRemote(InMemoryServer(clock=options["clock"]))}
    )
    cache.open()
    monkeypatch.setattr(cache._parts.key_listing, "_look", lambda crew: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.close()

    cache.open()  # raises where it was not closed
    monkeypatch.undo()
    cache.close()


def test_an_open_that_is_cancelled_leaves_nothing_open(tmp_path: Path, monkeypatch: Any) -> None:
    async def run() -> int:
        remote = AsyncInMemoryRemote(InMemoryServer())
        cache = AsyncTieredCache(remote=remote, policy=POLICY, key_list=tmp_path / "keys")
        begun = asyncio.Event()

        async def hang(crew: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr(cache._parts.key_listing, "open", hang)
            opening = asyncio.create_task(cache.open())
            await begun.wait()
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        left = len(asyncio.all_tasks())
        async with cache:
            return left

    assert 1 == asyncio.run(run())
