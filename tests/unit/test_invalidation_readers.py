"""Which caches a listener takes: with a reader for all only what is shared, and none of the other kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import create_engine

from perfloop.cache import AsyncTieredCache, InMemoryRemote, InMemoryServer, TieredCache
from perfloop.cache.invalidation import (
    AsyncChangeListener,
    ChangeListener,
    DjangoHook,
    Outbox,
    ReplicationSlot,
    SqlalchemyHook,
    TagMap,
)
from perfloop.errors import InvalidInput

NOWHERE = "postgresql://127.0.0.1:1/nowhere"


@pytest.mark.parametrize("source", [Outbox(NOWHERE, reader="shop"), ReplicationSlot(NOWHERE, reader="shop")])
def test_a_cache_in_one_process_refuses_a_reader_for_all(source: Outbox | ReplicationSlot) -> None:
    with TieredCache() as cache, pytest.raises(InvalidInput, match="reader=None"):
        ChangeListener(source, TagMap(), cache).open()


def test_so_does_one_for_asyncio() -> None:
    async def listen() -> None:
        async with AsyncTieredCache() as cache:
            await AsyncChangeListener(Outbox(NOWHERE, reader="shop"), TagMap(), cache).open()

    with pytest.raises(InvalidInput, match="reader=None"):
        asyncio.run(listen())


def test_a_cache_with_a_shared_tier_takes_it_and_one_without_reads_for_itself() -> None:
    with TieredCache(remote=InMemoryRemote(InMemoryServer())) as shared, TieredCache() as alone:
        named = ChangeListener(Outbox(NOWHERE, reader="shop"), TagMap(), shared)
        own = ChangeListener(Outbox(NOWHERE, reader=None), TagMap(), alone)
        with named, own:
            faults = [each.statistics().last_fault for each in (named, own)]

    assert all(faults)


@pytest.mark.parametrize(
    "listening",
    [
        ChangeListener(Outbox(NOWHERE, reader=None), TagMap(), AsyncTieredCache()),
        SqlalchemyHook(create_engine("sqlite://"), TagMap(), AsyncTieredCache()),
        DjangoHook(TagMap(), AsyncTieredCache()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_nobody_who_does_not_await_takes_a_cache_for_asyncio(listening: Any) -> None:
    with pytest.raises(InvalidInput, match="nobody would await AsyncTieredCache"):
        listening.open()


def test_a_listener_for_asyncio_takes_no_cache_for_threads() -> None:
    listener = AsyncChangeListener(Outbox(NOWHERE, reader=None), TagMap(), TieredCache())  # type: ignore[arg-type]  # the mistake

    with pytest.raises(InvalidInput, match="cannot be awaited"):
        asyncio.run(listener.open())
