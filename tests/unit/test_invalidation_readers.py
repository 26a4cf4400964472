"""A cache that shares nothing takes no reader for all."""

from __future__ import annotations

import asyncio

import pytest

from perfloop.cache import AsyncTieredCache, InMemoryRemote, InMemoryServer, TieredCache
from perfloop.cache.invalidation import AsyncChangeListener, ChangeListener, Outbox, ReplicationSlot, TagMap
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
