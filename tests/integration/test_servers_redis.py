"""A Redis server of our own, from every installation."""

from __future__ import annotations

import psutil
import pytest
import redis

from perfloop.adapters.servers import RedisBinary, RedisServer, installed_redis
from perfloop.errors import ServerFailed


@pytest.fixture(params=installed_redis(), ids=lambda one: one.flavour)
def binary(request: pytest.FixtureRequest) -> RedisBinary:
    return request.param


def test_a_server_answers_with_its_settings_and_leaves_nothing(binary: RedisBinary) -> None:
    with RedisServer(binary, settings={"maxmemory": "8mb", "maxmemory-policy": "allkeys-lfu"}) as server:
        folder = server.socket_path.parent.parent
        with redis.Redis.from_url(server.url) as client:
            found = client.config_get("maxmemory*")
        pid = server.pid

    assert ("8388608", "allkeys-lfu") == (found["maxmemory"], found["maxmemory-policy"])
    assert (False, False) == (folder.exists(), psutil.pid_exists(pid))


def test_a_server_listens_on_its_socket_alone_and_stores_nothing(binary: RedisBinary) -> None:
    with RedisServer(binary) as server, redis.Redis.from_url(server.url) as client:
        found = client.config_get("port", "save", "appendonly")

    assert {"port": "0", "save": "", "appendonly": "no"} == found


def test_a_setting_that_does_not_exist_fails_with_the_words_of_the_server(binary: RedisBinary) -> None:
    with (
        pytest.raises(ServerFailed, match=r"(?s)while it was starting.*no-such-setting"),
        RedisServer(binary, settings={"no-such-setting": "1"}),
    ):
        pass


def test_the_shared_server_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
