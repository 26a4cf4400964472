"""What the fake of the shared tier offers to tests beyond the contract: faults, and slow news."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perfloop.cache.in_memory_remote import AsyncInMemoryRemote, InMemoryRemote, InMemoryServer
from perfloop.cache.remote import Gap, KeysChanged, News, StoreOutcome, TagsChanged, Write
from perfloop.errors import TargetUnreachable


def value(key: str = "k", *, tags: tuple[str, ...] = ()) -> Write:
    return Write(key=key, payload=b"v", ttl_s=60, tags=tags)


def test_a_server_that_is_away_answers_nobody_and_keeps_what_it_has() -> None:
    server = InMemoryServer()
    with InMemoryRemote(server) as tier:
        tier.store((value(),))
        server.go_away()
        for call in (
            lambda: tier.fetch(("k",)),
            lambda: tier.store((value(),)),
            lambda: tier.invalidate(("k",)),
        ):
            with pytest.raises(TargetUnreachable, match="come_back"):
                call()
        server.come_back()

        assert tier.fetch(("k",))["k"].entry is not None


def test_listeners_hear_of_an_absence_and_of_a_flush() -> None:
    async def test() -> list[News]:
        server, heard = InMemoryServer(), []
        async with AsyncInMemoryRemote(server) as tier:
            listening = asyncio.create_task(tier.listen(heard.append))
            await asyncio.sleep(0)
            server.go_away()
            server.come_back()
            server.flush()
            listening.cancel()
        return heard

    expected = [Gap(is_over=True), Gap(is_over=False), Gap(is_over=True), Gap(is_over=True)]

    assert expected == asyncio.run(test())


def test_news_can_be_withheld_and_comes_in_order() -> None:
    async def test() -> None:
        server = InMemoryServer()
        heard: list[News] = []
        one, other = AsyncInMemoryRemote(server), AsyncInMemoryRemote(server)
        listening = asyncio.create_task(other.listen(heard.append))
        await asyncio.sleep(0)
        heard.clear()
        server.withhold_news()
        await one.invalidate(("k",))
        server.withhold_news()
        await one.invalidate(tags=("t",))

        assert [] == heard

        server.deliver_news()
        await one.invalidate(("later",))

        assert [KeysChanged(keys=("k",)), TagsChanged(tags=("t",)), KeysChanged(keys=("later",))] == heard

        listening.cancel()

    asyncio.run(test())


def test_a_flushed_server_refuses_the_loads_that_were_under_way() -> None:
    server = InMemoryServer()
    tier = InMemoryRemote(server)
    lease = tier.fetch(("k",), lease_s=30)["k"].lease
    server.flush()

    assert [StoreOutcome.FENCED] == list(tier.store((Write(key="k", payload=b"old", ttl_s=60, lease=lease),)))


def test_an_evicted_tag_takes_its_members_with_it() -> None:
    server = InMemoryServer()
    tier = InMemoryRemote(server)
    tier.store((value("a", tags=("t",)), value("b")))
    server.evict_tag("t")
    found = tier.fetch(("a", "b"))

    assert [True, False] == [found[key].entry is None for key in "ab"]


def test_a_listening_thread_ends_with_its_tier() -> None:
    with InMemoryRemote() as tier:
        thread = threading.Thread(target=tier.listen, args=(lambda news: None,))
        thread.start()
    thread.join(5)

    assert not thread.is_alive()
