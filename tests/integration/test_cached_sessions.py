"""Sessions on a real Redis: two processes' caches, a server that hangs, and one that is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from perfloop.adapters.servers import RedisServer, find_redis
from perfloop.cache import SessionPolicy, Sessions, TieredCache
from perfloop.errors import TargetUnreachable

SECRET = b"s" * 32
DEADLINE_S = 30.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(find_redis()) as server:
        yield server


def begun(sessions: Sessions, user: str = "7") -> str:
    opened = sessions.open("")
    opened.session["cart"] = [1]
    opened.session.rotate(user)
    return str(sessions.save(opened)).partition(";")[0]


def sees(sessions: Sessions, cookie: str) -> dict[str, object]:
    return dict(sessions.open(cookie).session)


def eventually(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, "not within the deadline"
        time.sleep(0.002)


def test_an_end_in_one_process_is_one_in_the_other_and_late_writes_change_nothing(redis_url: str) -> None:
    with TieredCache(redis_url, prefix="ends") as one, TieredCache(redis_url, prefix="ends") as other:
        first, second = Sessions(one, [SECRET]), Sessions(other, [SECRET])
        for user in map(str, range(20)):
            cookie = begun(first, user)
            assert {"cart": [1]} == sees(second, cookie)
            late = second.open(cookie)
            opened = first.open(cookie)
            opened.session.destroy()
            first.save(opened)
            late.session["cart"] = [2]
            second.save(late)

            eventually(lambda cookie=cookie: sees(second, cookie) == {})  # type: ignore[misc]  # bound now
            assert {} == sees(first, cookie)

        cookies = [begun(first), begun(second), begun(first, "8")]
        assert [{"cart": [1]}] * 3 == [sees(second, cookie) for cookie in cookies]
        first.end_all("7")
        eventually(lambda: [sees(second, cookie) for cookie in cookies] == [{}, {}, {"cart": [1]}])


def test_a_redis_that_hangs_refuses_sessions_at_once_and_serves_them_when_it_is_back(
    server: RedisServer,
) -> None:
    with TieredCache(server.url) as cache, TieredCache(server.url) as other:
        strict = Sessions(cache, [SECRET])
        lenient = Sessions(cache, [SECRET], policy=SessionPolicy(serves_alone=True))
        known, ended = begun(strict), begun(strict)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            cache.delete("anything")
            began_s = time.monotonic()
            for _ in range(10):
                with pytest.raises(TargetUnreachable):
                    strict.open(known)
            took_s = time.monotonic() - began_s
            assert {"cart": [1]} == sees(lenient, known)
            opened = lenient.open(ended)
            opened.session.destroy()
            lenient.save(opened)
            assert {} == sees(lenient, ended)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        eventually(lambda: not cache.is_alone and not other.is_alone)

        assert took_s < 0.5
        assert {"cart": [1]} == sees(strict, known) == sees(Sessions(other, [SECRET]), known)
        assert {} == sees(strict, ended)
        eventually(lambda: sees(Sessions(other, [SECRET]), ended) == {})
