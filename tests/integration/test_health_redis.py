"""Redis and Valkey servers with planted problems: read, judged, and never in the way of the database."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from perfloop.adapters.redis import read_redis
from perfloop.adapters.servers import RedisBinary, RedisServer, installed_redis
from perfloop.analyze import redis as checks
from perfloop.analyze.checks import CHECKS
from perfloop.errors import InvalidInput
from perfloop.model.advice import Finding, Severity
from perfloop.model.redis import RedisState
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import from_json
from perfloop.tune.analysis import analyze_target
from perfloop.tune.observer import Silence

driver = pytest.importorskip("redis")

SNAPSHOT = from_json((Path(__file__).parents[1] / "unit/data/snapshot.json").read_text(), Snapshot)
SMALL = {"slowlog-log-slower-than": "10000", "latency-monitor-threshold": "5", "maxclients": "20"}


@pytest.fixture(scope="module", params=installed_redis(), ids=lambda one: f"{one.flavour}{one.version}")
def binary(request: pytest.FixtureRequest) -> RedisBinary:
    return request.param


@pytest.fixture
def server(binary: RedisBinary) -> Iterator[RedisServer]:
    with RedisServer(binary, settings=SMALL) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[driver.Redis]:
    with driver.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def see(server: RedisServer) -> Callable[[], Snapshot]:
    def read() -> Snapshot:
        reading = read_redis(server.url)
        assert () == reading.limitations
        return replace(SNAPSHOT, redis=reading.state)

    return read


def locations(findings: tuple[Finding, ...]) -> list[str]:
    return [each.location for each in findings]


def fill(client: driver.Redis, count: int, *, size: int = 10, expire_s: int | None = None) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.set(f"{expire_s}:{number}", b"x" * size, ex=expire_s)
        pipeline.execute(raise_on_error=False)


@pytest.mark.spares(*(each.name for each in CHECKS if each.name.startswith("redis-")))
def test_a_server_that_is_well_has_no_finding(client: driver.Redis, see: Callable[[], Snapshot]) -> None:
    client.config_set("maxmemory", "100mb")
    fill(client, 100)
    snapshot = see()

    assert [] == [
        each.title
        for name in dir(checks)
        if name.startswith("redis_")
        for each in getattr(checks, name)(snapshot)
    ]
    assert () == checks.redis_memory(SNAPSHOT)


@pytest.mark.finds("redis-hit-ratio")
def test_a_low_hit_ratio_is_found(client: driver.Redis, see: Callable[[], Snapshot]) -> None:
    client.set("there", 1)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(12_000):
            pipeline.get("there" if number % 4 == 0 else "missing")
        pipeline.execute()
    (finding,) = checks.redis_hit_ratio(see())

    assert "Redis had only 25 % of the keys that it was asked for" == finding.title
    assert Severity.MEDIUM is finding.severity


@pytest.mark.finds("redis-evictions")
def test_evictions_are_found(client: driver.Redis, see: Callable[[], Snapshot]) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", "4mb")
    fill(client, 6_000, size=1000)

    assert ["Redis: evictions"] == locations(checks.redis_evictions(see()))
    assert () == checks.redis_memory(see())


@pytest.mark.finds("redis-memory")
def test_a_full_server_that_refuses_writes_is_found(
    client: driver.Redis, see: Callable[[], Snapshot]
) -> None:
    client.config_set("maxmemory", "4mb")
    fill(client, 6_000, size=1000)
    (finding,) = checks.redis_memory(see())

    assert Severity.HIGH is finding.severity
    assert "refuses writes when it is full" in finding.title


def test_a_server_without_a_limit_is_found(see: Callable[[], Snapshot]) -> None:
    (finding,) = checks.redis_memory(see())

    assert ("Redis: memory", Severity.LOW) == (finding.location, finding.severity)


@pytest.mark.finds("redis-policy", "redis-lasting-keys")
def test_a_cache_that_would_refuse_writes_and_keys_that_outlive_it_are_found(
    client: driver.Redis, see: Callable[[], Snapshot]
) -> None:
    client.config_set("maxmemory", "100mb")
    fill(client, 1_500, expire_s=600)
    before = see()
    fill(client, 400)

    assert ["Redis: policy"] == locations(checks.redis_policy(before))
    assert [] == locations(checks.redis_lasting_keys(before))
    assert "400 of 1,900 keys never expire" in checks.redis_lasting_keys(see())[0].title
    client.config_set("maxmemory-policy", "allkeys-lfu")
    assert [] == locations(checks.redis_policy(see())) + locations(checks.redis_lasting_keys(see()))


@pytest.mark.finds("redis-fragmentation")
def test_fragmentation_is_found_where_it_is_large(see: Callable[[], Snapshot]) -> None:
    """An empty server takes many times what it uses, which is no fault."""
    snapshot = see()

    assert ["Redis: fragmentation"] == locations(checks.redis_fragmentation(snapshot, least_bytes=1))
    assert () == checks.redis_fragmentation(snapshot)


@pytest.mark.finds("redis-slow-commands")
def test_commands_that_stop_the_server_are_found(client: driver.Redis, see: Callable[[], Snapshot]) -> None:
    fill(client, 2_000)
    client.config_set("slowlog-log-slower-than", "0")
    client.keys("*")
    client.config_set("slowlog-log-slower-than", "10000")
    found = checks.redis_slow_commands(see())
    client.slowlog_reset()

    assert "Redis: KEYS" in locations(found)
    keys = next(each for each in found if "KEYS" in each.location)
    assert "nothing in a lab: SCAN with a COUNT, or a set of the keys that are wanted" == keys.would_try
    assert () == checks.redis_slow_commands(see())


@pytest.mark.finds("redis-latency")
def test_events_that_stop_the_server_are_found(client: driver.Redis, see: Callable[[], Snapshot]) -> None:
    client.config_set("latency-monitor-threshold", "1")
    fill(client, 3_000)
    client.execute_command("BGSAVE")
    deadline = time.monotonic() + 10
    while (snapshot := see()).redis is not None and snapshot.redis.fork_s == 0:
        assert time.monotonic() < deadline

    assert "Redis: fork" in locations(checks.redis_latency(snapshot, fork_least_s=1e-6))
    assert () == checks.redis_latency(snapshot)


@pytest.mark.finds("redis-clients")
def test_clients_near_the_limit_are_found(
    server: RedisServer, client: driver.Redis, see: Callable[[], Snapshot]
) -> None:
    others = [driver.Redis.from_url(server.url, single_connection_client=True) for _ in range(16)]
    try:
        for each in others:
            each.ping()
        crowded = see()
    finally:
        for each in others:
            each.close()

    assert ["Redis: clients"] == locations(checks.redis_clients(crowded))
    assert crowded.redis is not None
    assert crowded.redis.maximum_clients <= 20


def test_refused_clients_are_found(server: RedisServer, see: Callable[[], Snapshot]) -> None:
    others = [driver.Redis.from_url(server.url, single_connection_client=True) for _ in range(20)]
    try:
        for each in others:
            each.ping()
        refused = driver.Redis.from_url(server.url)
        with refused, pytest.raises(driver.exceptions.ConnectionError):
            refused.ping()
    finally:
        for each in others:
            each.close()
    deadline = time.monotonic() + 10
    while not read_redis(server.url).state:
        assert time.monotonic() < deadline

    # Looking whether the others had gone may have been refused as well.
    assert re.search(r"[1-9]\d* were refused", checks.redis_clients(see())[0].title)


@pytest.mark.finds("redis-persistence")
def test_a_snapshot_that_fails_is_found(
    server: RedisServer, client: driver.Redis, see: Callable[[], Snapshot]
) -> None:
    well = checks.redis_persistence(see())
    folder = client.config_get("dir")["dir"]
    (Path(folder) / client.config_get("dbfilename")["dbfilename"]).mkdir()
    client.execute_command("BGSAVE")
    deadline = time.monotonic() + 10
    while not (found := checks.redis_persistence(see())):
        assert time.monotonic() < deadline

    assert () == well
    assert Severity.HIGH is found[0].severity


def test_a_user_without_rights_is_told_the_right_that_is_missing(
    server: RedisServer, client: driver.Redis
) -> None:
    client.execute_command("ACL SETUSER watcher on >secret +info")
    url = server.url.replace("unix://", "unix://watcher:secret@")
    limited = read_redis(url)
    (remedy,) = {each.remedy for each in limited.limitations}
    client.execute_command(remedy)
    client.execute_command("ACL SETUSER nobody on >secret")

    assert limited.state is not None
    assert ["SLOWLOG GET", "LATENCY LATEST"] == [each.reason.split(" is ")[0] for each in limited.limitations]
    assert () == read_redis(url).limitations
    assert None is read_redis(url.replace("watcher", "nobody")).state
    (refusal,) = read_redis(url.replace("secret", "wrong")).limitations
    assert "it refused the user or the password" == refusal.reason


def test_a_server_that_hangs_costs_a_moment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began_s = time.monotonic()
        reading = read_redis(f"redis://127.0.0.1:{deaf.getsockname()[1]}", timeout_s=0.3)

    assert time.monotonic() - began_s < 3
    assert None is reading.state
    (limitation,) = reading.limitations
    assert "see whether it hangs: redis-cli --latency" == limitation.remedy


def test_what_is_no_redis_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        reading = read_redis(f"redis://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.5)
        thread.join()

    assert None is reading.state
    assert 1 == len(reading.limitations)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost:port"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="the URL of Redis cannot be read"):
        read_redis(url)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    (limitation,) = read_redis("redis://localhost").limitations

    assert "pip install 'perfloop[redis]'" == limitation.remedy


def test_redis_is_analysed_beside_the_database(postgres_dsn: str, server: RedisServer) -> None:
    analysis = analyze_target(postgres_dsn, Silence(), redis_url=server.url)

    assert isinstance(analysis.snapshot.redis, RedisState)
    assert "redis-memory" in {each.check for each in analysis.findings}


def test_a_dead_redis_does_not_keep_the_database_from_being_analysed(postgres_dsn: str) -> None:
    analysis = analyze_target(postgres_dsn, Silence(), redis_url="redis://127.0.0.1:1")

    assert None is analysis.snapshot.redis
    assert "Redis" in {each.subject for each in analysis.snapshot.limitations}
    assert analysis.snapshot.settings
