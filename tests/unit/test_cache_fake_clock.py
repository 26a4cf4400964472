"""The clock that users' own tests move."""

from __future__ import annotations

from typing import Any

import pytest

from perfloop.cache import FakeClock, InMemoryRemote, InMemoryServer, Sessions, TieredCache
from perfloop.errors import InvalidInput


def test_lives_follow_it_in_both_tiers() -> None:
    clock = FakeClock()
    server = InMemoryServer(clock=clock)
    with (
        TieredCache(remote=InMemoryRemote(server), clock=clock) as one,
        TieredCache(remote=InMemoryRemote(server), clock=clock) as other,
    ):
        one.set("k", 1, ttl_s=60)
        before: list[Any] = [one.get("k"), other.get("k")]
        clock.advance(61)

        assert [1, 1, None, None] == [*before, one.get("k"), other.get("k")]


def test_sessions_follow_it() -> None:
    clock = FakeClock(1.8e9)
    sessions = Sessions(TieredCache(clock=clock), [b"s" * 32], clock=clock)
    opened = sessions.open("")
    opened.session["cart"] = [1]
    header = sessions.save(opened)
    assert header is not None
    known = dict(sessions.open(header).session)
    clock.advance(1801)

    assert [{"cart": [1]}, {}] == [known, dict(sessions.open(header).session)]


def test_it_does_not_go_back() -> None:
    with pytest.raises(InvalidInput, match="cannot go back by 1 s"):
        FakeClock().advance(-1)
