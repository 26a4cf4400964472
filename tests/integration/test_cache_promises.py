"""What the pages of the cache say of its server, and of what a tag costs."""

from __future__ import annotations

import functools
import re
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cache_kinds import KINDS, AsyncKind, SyncKind, until

from perfloop.adapters.remote.resp import Parser, Reply, pack
from perfloop.adapters.servers import RedisServer, installed_redis
from perfloop.cache import TieredCache
from perfloop.errors import MissingRights

BINARIES = installed_redis()


@pytest.fixture(params=BINARIES or [None], ids=lambda one: one.flavour if one else "none", scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if request.param is None:
        pytest.skip("no Redis or Valkey is installed")
    with RedisServer(request.param) as server:
        yield server


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Iterator[SyncKind | AsyncKind]:
    kind = request.param()
    yield kind
    kind.close()


def order(server: RedisServer, *words: str) -> Reply:
    """One command to the server, by no cache."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(server.socket_path))
        connection.sendall(pack(*words))
        parser, replies = Parser(), []
        while not replies:
            replies = list(parser.feed(connection.recv(1 << 16)))
    return replies[0]


def commands(server: RedisServer) -> int:
    """What the server has done so far, within scripts too; without this question and the listeners' PING."""
    counted = re.findall(r"cmdstat_(\w+)\S*?:calls=(\d+)", str(order(server, "INFO", "commandstats")))
    return sum(int(calls) for name, calls in counted if name not in ("info", "ping"))


def test_a_tag_of_a_thousand_costs_the_server_no_more_than_that_of_one(server: RedisServer) -> None:
    with TieredCache(server.url, prefix="tags", timeout_s=5) as cache:
        names = [f"k{number}" for number in range(1000)]
        cache.load_many(names, lambda keys: dict.fromkeys(keys, 1), ttl_s=60, tags=("many",))
        cache.get_or_load("one", lambda: 1, ttl_s=60, tags=("one",))
        cache.invalidate_tag("a connection, and its script")
        asked = []
        for tag in ("one", "many"):
            before = commands(server)
            cache.invalidate_tag(tag)
            asked.append(commands(server) - before)

        assert asked[0] == asked[1] > 0
        assert {} == cache.get_many(["one", *names])


def test_a_tag_of_many_thousands_costs_the_process_no_more_than_that_of_one() -> None:
    cache = TieredCache()
    for number in range(20_000):
        cache.set(f"k{number}", number, ttl_s=60, tags=("many",))
    cache.set("one", 1, ttl_s=60, tags=("one",))

    steps = [_calls(functools.partial(cache.invalidate_tag, tag)) for tag in ("one", "many")]

    assert steps[0] == steps[1] > 0
    assert cache.get("one") is None
    assert cache.get("k7") is None


def _calls(act: Callable[[], Any]) -> int:
    """How many functions an act calls, Python's and C's."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


def test_a_cache_whose_user_may_not_subscribe_says_so_when_it_is_opened_and_opens_when_it_may(
    server: RedisServer, kind: SyncKind | AsyncKind
) -> None:
    user = f"deaf-{kind.name}"
    order(server, "ACL", "SETUSER", user, "reset", "on", ">pw", "~*", "+@all", "resetchannels")
    url = f"unix://{user}:pw@{server.socket_path}"
    with pytest.raises(MissingRights, match="ACL SETUSER"), kind.cache(redis=url, timeout_s=5):
        raise AssertionError("it opened")

    order(server, "ACL", "SETUSER", user, "&*")
    with kind.cache(redis=url, timeout_s=5) as cache:
        until(lambda: cache.statistics().hears_news)

        assert 1 == cache.get_or_load("k", lambda: 1, ttl_s=60)
