"""`perfloop jobs`, run as its users run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from perfloop.adapters.servers import RedisServer, find_redis
from perfloop.errors import ServerNotFound

redis = pytest.importorskip("redis")


@pytest.fixture
def rq_url() -> Iterator[str]:
    """A Redis with a queue of RQ whose only worker died with a job; its oldest job has waited for a day."""
    try:
        binary = find_redis()
    except ServerNotFound:
        pytest.skip("no Redis or Valkey is installed")
    with RedisServer(binary) as server, redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", "rq:queue:mail")
        client.rpush("rq:queue:mail", "a", "b")
        client.hset("rq:job:a", "enqueued_at", "2026-01-01T00:00:00.000000Z")
        client.zadd("rq:wip:mail", {"c:1": time.time() - 60})
        yield server.url


def test_queues_are_shown_with_what_is_wrong_and_what_is_unknown(perfloop: Any, rq_url: str) -> None:
    told = perfloop("jobs", "--redis", rq_url, "--fail-on", "high")

    assert 1 == told.code
    assert "rq queue mail: 1 job is in progress with a worker that is dead" in told.out
    assert "its oldest job has been due for" in told.out
    assert "? done, a job takes: no job that ended well is kept" in " ".join(told.out.split())


def test_json_is_one_document_with_nulls_for_what_is_unknown(perfloop: Any, rq_url: str) -> None:
    told = perfloop("jobs", "--redis", rq_url, "--json")
    (queue,) = json.loads(told.out)["queues"]

    assert 0 == told.code
    assert (2, 1, None) == (queue["depth"], queue["stuck"], queue["finished"])
    assert ["arrived", "finished", "run_time_s"] == [name for name, _ in queue["unknown"]]


def test_nothing_to_look_at_is_said(perfloop: Any, shop_dsn: str) -> None:
    told = perfloop("jobs", shop_dsn)

    assert (0, True) == (told.code, "no queue of procrastinate, Celery, RQ or Dramatiq is here" in told.out)


def test_no_address_and_an_empty_one_are_not_understood(perfloop: Any) -> None:
    without, empty = perfloop("jobs"), perfloop("jobs", "")

    assert (2, 2) == (without.code, empty.code)
    assert "give a DSN, --redis URL, or both" in without.err


@pytest.mark.parametrize("gate", [(), ("--fail-on", "high")], ids=["look", "gate"])
def test_where_nothing_can_be_read_nothing_is_said_to_be_well(perfloop: Any, gate: tuple[str, ...]) -> None:
    told = perfloop("jobs", "--redis", "redis://127.0.0.1:1", *gate)

    assert 3 == told.code
    assert "not read" in told.out
    assert "jobs in Redis could not be read" in told.fault


def test_watching_goes_on_until_ctrl_c_and_says_what_grew(rq_url: str) -> None:
    command = [sys.executable, "-m", "perfloop", "jobs", "--redis", rq_url, "--watch", "0.1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        looks = [json.loads(running.stdout.readline()) for _ in range(2)]
        running.send_signal(signal.SIGINT)
        running.stdout.read()

    assert [None, 0] == [look["queues"][0]["grown_by"] for look in looks]
    assert 130 == running.returncode
