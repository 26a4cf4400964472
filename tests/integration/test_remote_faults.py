"""The shared tier on servers that are killed, hung, full, flushed, restarted, or that refuse."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import missing

from perfloop.adapters.remote._async.tier import AsyncRedisTier
from perfloop.adapters.remote._sync.tier import RedisTier
from perfloop.adapters.remote.resp import Parser, Reply, pack
from perfloop.adapters.servers import RedisBinary, RedisServer, installed_redis
from perfloop.cache import TieredCache
from perfloop.cache._sync.link import GREETING_S
from perfloop.cache.remote import (
    EVERYTHING,
    Fetched,
    Gap,
    KeysChanged,
    LoadsFinished,
    News,
    StoreOutcome,
    TagsChanged,
    Write,
)
from perfloop.errors import InvalidInput, MissingRights, ServerFailed, TargetUnreachable

DEADLINE_S = 30.0
CALL_S = 30.0
"""Of a call on a machine that is busy; where a hang is under test, the time is short."""

_prefixes = itertools.count()
BINARIES = installed_redis()


@pytest.fixture(params=BINARIES or [None], ids=lambda one: one.flavour if one else "none")
def binary(request: pytest.FixtureRequest) -> RedisBinary:
    if request.param is None:
        pytest.skip("no Redis or Valkey is installed")
    found: RedisBinary = request.param
    return found


@pytest.fixture(scope="module")
def shared() -> Iterator[Callable[[RedisBinary], RedisServer]]:
    """One server of each kind, for the tests that leave it as it was."""
    running: dict[RedisBinary, RedisServer] = {}
    with contextlib.ExitStack() as stack:

        def start(binary: RedisBinary) -> RedisServer:
            if binary not in running:
                running[binary] = stack.enter_context(RedisServer(binary))
            return running[binary]

        yield start


@pytest.fixture
def server(shared: Callable[[RedisBinary], RedisServer], binary: RedisBinary) -> RedisServer:
    return shared(binary)


@pytest.fixture
def prefix() -> str:
    return f"faults-{next(_prefixes)}"


def order(server: RedisServer, *words: bytes | str | int) -> Reply:
    """One command to the server, by nobody's tier."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(server.socket_path))
        connection.sendall(pack(*words))
        parser, replies = Parser(), []
        while not replies:
            received = connection.recv(1 << 16)
            if not received:
                raise ConnectionError("the server closed the connection")
            replies = list(parser.feed(received))
    return replies[0]


async def load(
    tier: AsyncRedisTier, key: str = "k", payload: bytes = b"v", tags: tuple[str, ...] = ()
) -> StoreOutcome:
    lease = (await tier.fetch((key,), lease_s=30))[key].lease
    assert lease is not None
    return (await tier.store((Write(key=key, payload=payload, ttl_s=60, tags=tags, lease=lease),)))[0]


async def payload_of(tier: AsyncRedisTier, key: str = "k") -> bytes | None:
    entry = (await tier.fetch((key,)))[key].entry
    return None if entry is None else entry.payload


async def eventually(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What the call gives as soon as it does not raise."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(TargetUnreachable):
                return await call()
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def hearing(tier: AsyncRedisTier) -> AsyncIterator[list[News]]:
    heard: list[News] = []
    task = asyncio.create_task(tier.listen(heard.append))
    await until(heard, lambda: Gap(is_over=True) in heard)
    heard.clear()
    try:
        yield heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(heard: list[News], holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 - other threads and processes bring it about
            await asyncio.sleep(0.002)


def test_a_hung_server_costs_its_time_once_for_all_callers(binary: RedisBinary) -> None:
    async def test() -> None:
        with RedisServer(binary) as server:
            async with AsyncRedisTier(server.url, timeout_s=0.3) as tier:
                await load(tier)
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    began_s = time.monotonic()
                    failed = await asyncio.gather(
                        *(tier.fetch((f"{n}",)) for n in range(200)), return_exceptions=True
                    )
                    took_s = time.monotonic() - began_s
                finally:
                    os.kill(server.pid, signal.SIGCONT)

                assert {TargetUnreachable} == {type(one) for one in failed}
                assert 0.3 <= took_s < 3.0  # one after another: a minute
                assert b"v" == await eventually(lambda: payload_of(tier))

    asyncio.run(test())


def test_a_hung_server_costs_threads_its_time_once(binary: RedisBinary) -> None:
    with RedisServer(binary) as server, RedisTier(server.url, timeout_s=0.3) as tier:
        tier.store((Write(key="k", payload=b"v", ttl_s=60),))
        os.kill(server.pid, signal.SIGSTOP)

        def ask(_: int) -> type[Exception] | None:
            try:
                tier.fetch(("k",))
            except TargetUnreachable as error:
                return type(error)
            return None

        try:
            began_s = time.monotonic()
            with ThreadPoolExecutor(60) as pool:
                failed = set(pool.map(ask, range(60)))
            took_s = time.monotonic() - began_s
        finally:
            os.kill(server.pid, signal.SIGCONT)

        assert {TargetUnreachable} == failed
        assert took_s < 2.0  # one answer that does not come, and one connection


def test_a_listener_tells_of_a_hang_and_of_its_end(binary: RedisBinary) -> None:
    async def test() -> None:
        with RedisServer(binary) as server:
            async with AsyncRedisTier(server.url, timeout_s=5) as tier, hearing(tier) as heard:
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    await until(heard, lambda: Gap(is_over=False) in heard)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                await until(heard, lambda: Gap(is_over=True) in heard)

                assert [Gap(is_over=False), Gap(is_over=True)] == heard

    asyncio.run(test())


def test_a_cut_connection_is_a_gap_and_is_opened_again(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        async with (
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as one,
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as other,
            hearing(one) as heard,
        ):
            await load(one)
            order(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            order(server, "CLIENT", "KILL", "TYPE", "pubsub")
            await until(heard, lambda: heard == [Gap(is_over=False), Gap(is_over=True)])

            assert b"v" == await eventually(lambda: payload_of(one))

            await eventually(lambda: other.invalidate(("k",)))
            await until(heard, lambda: KeysChanged(keys=("k",)) in heard)

    asyncio.run(test())


def test_threads_find_a_server_that_came_back(binary: RedisBinary, prefix: str) -> None:
    with RedisServer(binary) as server, RedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
        tier.store((Write(key="k", payload=b"v", ttl_s=60),))
        order(server, "CLIENT", "KILL", "TYPE", "normal")

        assert tier.fetch(("k",))["k"].entry is not None


def test_a_refused_connection_is_told_at_once() -> None:
    async def test() -> None:
        async with AsyncRedisTier("unix:///nowhere/redis.sock") as tier:
            with pytest.raises(TargetUnreachable, match="refused"):
                await tier.fetch(("k",))

    asyncio.run(test())
    with RedisTier("redis://127.0.0.1:1") as sync_tier, pytest.raises(TargetUnreachable, match="refused"):
        sync_tier.invalidate(("k",))


def test_a_listener_that_finds_no_server_says_at_once_and_once_that_nothing_can_be_heard() -> None:
    nowhere = "unix:///nowhere/redis.sock"

    async def test() -> list[News]:
        heard: list[News] = []
        async with AsyncRedisTier(nowhere) as tier:
            listening = asyncio.create_task(tier.listen(heard.append))
            async with asyncio.timeout(DEADLINE_S):
                while not heard:  # noqa: ASYNC110 - the listener's own progress is waited for
                    await asyncio.sleep(0)
                await asyncio.sleep(0.2)  # some more attempts
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
        return heard

    assert [Gap(is_over=False)] == asyncio.run(test())

    told: list[News] = []
    with RedisTier(nowhere) as tier:
        listener = threading.Thread(target=tier.listen, args=(told.append,))
        listener.start()
        asyncio.run(until(told, lambda: bool(told)))
    listener.join(DEADLINE_S)

    assert [Gap(is_over=False)] == told


def test_a_cache_opens_at_once_where_its_server_is_down() -> None:
    began_s = time.monotonic()
    with TieredCache("unix:///nowhere/redis.sock") as cache:
        took_s = time.monotonic() - began_s
        assert cache.get("k") is None

    assert took_s < GREETING_S / 2


@contextlib.contextmanager
def speaks_tls(binary: RedisBinary, settings: dict[str, str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(RedisServer(binary, settings=settings))
        except ServerFailed as error:
            if "tls-port" not in str(error):
                raise
            missing(f"{binary.flavour} {binary.version} was built without TLS")
        yield


def test_tls_is_spoken_and_the_certificate_is_checked() -> None:
    openssl, binary = shutil.which("openssl"), next((one for one in BINARIES if one.flavour == "redis"), None)
    if openssl is None or binary is None:
        pytest.skip("openssl or redis-server is not installed")
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        words = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
        )
        more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run([openssl, *words.split(), *more], check=True, capture_output=True)
        for path, mode in ((Path(folder), 0o755), (key, 0o644), (certificate, 0o644)):
            path.chmod(mode)
        settings = {"tls-port": str(port), "tls-cert-file": str(certificate), "tls-key-file": str(key)}
        url = f"rediss://localhost:{port}?ssl_ca_certs={certificate}"
        with speaks_tls(binary, settings | {"tls-auth-clients": "no"}):

            async def test() -> None:
                async with AsyncRedisTier(url, timeout_s=CALL_S) as tier, hearing(tier) as heard:
                    assert StoreOutcome.STORED == await load(tier)

                    with RedisTier(url, timeout_s=CALL_S) as other:
                        other.invalidate(("k",))
                        await until(heard, lambda: KeysChanged(keys=("k",)) in heard)

                        assert other.fetch(("k",))["k"].entry is None

                async with AsyncRedisTier(f"rediss://localhost:{port}", timeout_s=CALL_S) as stranger:
                    with pytest.raises(TargetUnreachable, match="certificate"):
                        await stranger.fetch(("k",))

            asyncio.run(test())


def test_what_is_no_redis_is_told() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with RedisTier(url, timeout_s=CALL_S) as tier, pytest.raises(TargetUnreachable, match="no Redis"):
            tier.fetch(("k",))
        thread.join()


def test_a_flush_is_heard_and_leaves_nothing_valid(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        async with (
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier,
            hearing(tier) as heard,
        ):
            await load(tier, tags=("t",))
            lease = (await tier.fetch(("other",), lease_s=30))["other"].lease
            await tier.invalidate(tags=("t",))
            order(server, "FLUSHALL")
            await until(heard, lambda: Gap(is_over=True) in heard)
            late = Write(key="other", payload=b"old", ttl_s=60, tags=("t",), lease=lease)

            assert await payload_of(tier) is None
            assert [StoreOutcome.FENCED] == list(await tier.store((late,)))
            assert StoreOutcome.STORED == await load(tier, tags=("t",))
            assert b"v" == await payload_of(tier)

    asyncio.run(test())


def test_a_tag_is_kept_longer_than_any_of_its_members(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            for ttl_s in (5, 500, 50):
                await tier.store((Write(key=f"{ttl_s}", payload=b"v", ttl_s=ttl_s, tags=("t",)),))
            for tag in ("t", "*"):
                left_ms = order(server, "PTTL", f"{{{prefix}}}:t:{tag}")

                assert isinstance(left_ms, int)
                assert 500_000 < left_ms <= 501_000

    asyncio.run(test())


def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            await load(tier)
            order(server, "SCRIPT", "FLUSH")

            assert [b"v"] * 20 == await asyncio.gather(*(payload_of(tier) for _ in range(20)))

            order(server, "SCRIPT", "FLUSH")
            await tier.invalidate(("k",))

            assert await payload_of(tier) is None

    asyncio.run(test())


def test_an_earlier_state_of_the_server_is_valid_no_more(binary: RedisBinary, prefix: str) -> None:
    """A crash that loses the latest invalidations: a snapshot is taken before them, and loaded after them."""

    async def test() -> None:
        with RedisServer(binary) as server:
            async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
                await load(tier, tags=("t",))
                lease = (await tier.fetch(("other",), lease_s=300))["other"].lease
                order(server, "SAVE")
                await tier.invalidate(("k",), tags=("t",))
                # The same folder again, which RedisServer itself has no use for.
                server._process.stop(signal.SIGKILL)
                server.socket_path.unlink()
                server._process.start()
                server._process.wait_until(server._answers, deadline_s=DEADLINE_S)
                late = Write(key="other", payload=b"old", ttl_s=60, tags=("t",), lease=lease)

                assert order(server, "EXISTS", f"{{{prefix}}}:v:k") == 1
                assert await eventually(lambda: payload_of(tier)) is None
                assert [StoreOutcome.FENCED] == list(await tier.store((late,)))
                assert StoreOutcome.STORED == await load(tier, tags=("t",))

    asyncio.run(test())


def test_a_full_server_costs_stores_and_nothing_else(binary: RedisBinary) -> None:
    async def test() -> None:
        with RedisServer(binary, settings={"maxmemory-policy": "noeviction"}) as server:
            async with AsyncRedisTier(server.url, timeout_s=CALL_S) as tier:
                await load(tier, tags=("t",))
                await load(tier, "set before")
                leases = await tier.fetch(("full", "fenced"), lease_s=30)
                order(server, "CONFIG", "SET", "maxmemory", 1)
                full = Write(key="full", payload=b"v", ttl_s=60, lease=leases["full"].lease)
                plain = Write(key="set before", payload=b"new", ttl_s=60)

                assert b"v" == await payload_of(tier)
                assert [StoreOutcome.FULL] * 2 == list(await tier.store((full, plain)))
                assert Fetched() == (await tier.fetch(("new",), lease_s=30))["new"]
                assert Fetched() == (await tier.fetch(("fenced",), lease_s=30))["fenced"]  # nobody could tell
                assert await payload_of(tier, "set before") is None

                await tier.invalidate(("unknown",), tags=("t", "u"))

                assert await payload_of(tier) is None

                order(server, "CONFIG", "SET", "maxmemory", 0)
                late = Write(
                    key="fenced", payload=b"old", ttl_s=60, tags=("u",), lease=leases["fenced"].lease
                )

                assert [StoreOutcome.FENCED] == list(await tier.store((late,)))
                assert StoreOutcome.STORED == await load(tier, tags=("t",))

    asyncio.run(test())


def test_eviction_costs_loads_and_never_truth(binary: RedisBinary) -> None:
    """Values of 2 kB flow through 3 MB: leases, tags, the clock and values are evicted at any moment."""

    async def test() -> None:
        settings = {"maxmemory": "3mb", "maxmemory-policy": "allkeys-random"}
        chance = random.Random(7)
        versions: dict[str, int] = {}
        with RedisServer(binary, settings=settings) as server:
            async with AsyncRedisTier(server.url, timeout_s=CALL_S) as tier:
                for _ in range(120):
                    keys = [f"{chance.randrange(2000)}" for _ in range(32)]
                    keys = list(dict.fromkeys(keys))
                    fetched = await tier.fetch(keys, lease_s=30)
                    writes = []
                    for key, one in fetched.items():
                        version = versions.setdefault(key, 0)
                        if one.entry is not None:
                            assert int(one.entry.payload[:10]) == version
                        elif one.lease is not None:
                            value = b"%010d" % version + b"x" * 2000
                            tags = (f"of-{key}", f"group-{int(key) % 40}")
                            writes.append(Write(key=key, payload=value, ttl_s=60, tags=tags, lease=one.lease))
                    changed = chance.sample(keys, 4)
                    versions.update({key: versions[key] + 1 for key in changed})
                    await tier.invalidate(tags=[f"of-{key}" for key in changed])
                    await tier.store(writes)
                evicted = str(order(server, "INFO", "stats")).split("evicted_keys:")[1].split("\\")[0]

                assert int(evicted) > 100

    asyncio.run(test())


@pytest.mark.parametrize(
    "evicted", [("t:t",), ("t:t", "clock"), ("clock",), ("t:*",), ("t:*", "t:t", "clock")]
)
def test_an_evicted_tag_still_fences_what_it_was_invalidated_for(
    server: RedisServer, prefix: str, evicted: tuple[str, ...]
) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            await load(tier, "member", tags=("t",))
            leases = await tier.fetch(("k", "l"), lease_s=30)
            await tier.invalidate(tags=[f"other-{n}" for n in range(1500)] if "clock" not in evicted else ())
            await tier.invalidate(tags=("t",))
            order(server, "DEL", *(f"{{{prefix}}}:{name}" for name in evicted))
            write = Write(key="k", payload=b"old", ttl_s=60, tags=("t",), lease=leases["k"].lease)

            assert [StoreOutcome.FENCED] == list(await tier.store((write,)))
            assert await payload_of(tier, "member") is None
            assert StoreOutcome.STORED == await load(tier, "m", tags=("t",))
            assert b"v" == await payload_of(tier, "m")

    asyncio.run(test())


def test_an_evicted_clock_of_a_server_whose_time_was_set_back_lets_nothing_come_back(
    server: RedisServer, prefix: str
) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            await tier.invalidate(tags=("t",))
            ahead_us = int((time.time() + 3600) * 1e6)
            order(server, "ZADD", f"{{{prefix}}}:clock", ahead_us, "floor")  # as of before it was set back
            await tier.invalidate(tags=("t",))
            await load(tier, tags=("t",))
            lease = (await tier.fetch(("other",), lease_s=30))["other"].lease
            order(server, "DEL", f"{{{prefix}}}:clock")
            await tier.invalidate(tags=("t",))
            late = Write(key="other", payload=b"old", ttl_s=60, tags=("t",), lease=lease)

            assert await payload_of(tier) is None
            assert [StoreOutcome.FENCED] == list(await tier.store((late,)))

    asyncio.run(test())


def test_everything_is_invalidated_once_and_not_by_the_next_connection(
    server: RedisServer, prefix: str
) -> None:
    async def test() -> None:
        async with (
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as one,
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as other,
        ):
            await one.invalidate(tags=(EVERYTHING,))
            await load(one)

            assert b"v" == await payload_of(other)

    asyncio.run(test())


@pytest.mark.parametrize("evicted", ["t:t", "t:*"])
def test_an_evicted_tag_costs_its_members_and_no_load_that_is_under_way(
    server: RedisServer, prefix: str, evicted: str
) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            await load(tier, "member", tags=("t",))
            lease = (await tier.fetch(("k",), lease_s=30))["k"].lease
            order(server, "DEL", f"{{{prefix}}}:{evicted}")

            assert await payload_of(tier, "member") is None

            write = Write(key="k", payload=b"v", ttl_s=60, tags=("t",), lease=lease)

            assert [StoreOutcome.STORED] == list(await tier.store((write,)))
            assert await payload_of(tier, "member") is None
            assert b"v" == await payload_of(tier)

    asyncio.run(test())


@pytest.mark.parametrize("kind", ["v:k", "l:k", "t:t", "t:*", "clock"])
def test_a_key_that_holds_something_else_is_no_fault(server: RedisServer, prefix: str, kind: str) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            await load(tier, tags=("t",))
            order(server, "DEL", f"{{{prefix}}}:{kind}")
            order(server, "RPUSH", f"{{{prefix}}}:{kind}", "foreign")
            if kind in ("v:k", "t:t", "t:*"):
                assert await payload_of(tier) is None
            await tier.invalidate(("k",), ("t",))
            order(server, "DEL", f"{{{prefix}}}:{kind}")
            order(server, "RPUSH", f"{{{prefix}}}:{kind}", "foreign")
            outcome = await load(tier, tags=("t",))
            second = outcome if outcome == StoreOutcome.STORED else await load(tier, tags=("t",))

            assert StoreOutcome.STORED == second
            assert b"v" == await payload_of(tier)

    asyncio.run(test())


@pytest.mark.parametrize("raw", [b"", b"P", b"P1", b"P1" + b"\0" * 34, b"P1" + b"\xff" * 40, b"another's"])
def test_bytes_of_strangers_at_a_key_are_a_miss(server: RedisServer, prefix: str, raw: bytes) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            await load(tier, "other")
            order(server, "SET", f"{{{prefix}}}:v:k", raw, "PX", 60_000)

            assert await payload_of(tier) is None
            assert StoreOutcome.STORED == await load(tier)

    asyncio.run(test())


def test_a_user_with_exactly_the_grants_may_do_all(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        user = f"cache-{prefix}"
        order(server, "ACL", "SETUSER", user, "reset", "on", ">pw")
        url = f"unix://{user}:pw@{server.socket_path}?db=1"
        async with AsyncRedisTier(url, prefix=prefix, timeout_s=CALL_S) as tier:
            with pytest.raises(MissingRights, match="ACL SETUSER") as refused:
                await tier.fetch(("k",))
            grant = str(refused.value).split("can allow it: ")[1].replace("'", "").split()
            assert order(server, *grant) == b"OK"
            async with AsyncRedisTier(url, prefix=prefix, timeout_s=CALL_S) as other, hearing(other) as heard:
                assert StoreOutcome.STORED == await load(tier, tags=("t",))

                await tier.fetch(("w",), lease_s=30)
                await other.fetch(("w",), lease_s=30)
                await tier.store((Write(key="w", payload=b"v", ttl_s=60),))
                await tier.invalidate(("k",), [f"{n}" for n in range(1100)])
                await tier.invalidate(("k",), [f"again-{n}" for n in range(1100)])
                await until(heard, lambda: isinstance(heard[-1], TagsChanged) if heard else False)

                assert LoadsFinished(keys=("w",)) in heard
                assert await payload_of(other) is None
                order(server, "FLUSHALL")
                await until(heard, lambda: Gap(is_over=True) in heard)

    asyncio.run(test())


@pytest.mark.parametrize("right", ["+get", "+publish", "+evalsha", "+info", "~", "&"])
def test_a_right_that_is_missing_is_named_with_the_grants(
    server: RedisServer, prefix: str, right: str
) -> None:
    user = f"less-{prefix}"
    order(server, "ACL", "SETUSER", user, "reset", "on", ">pw")
    url = f"unix://{user}:pw@{server.socket_path}"
    with RedisTier(url, prefix=prefix, timeout_s=CALL_S) as tier:
        with pytest.raises(MissingRights) as refused:
            tier.fetch(("k",))
        grant = str(refused.value).split("can allow it: ")[1].replace("'", "").split()
        assert order(server, *(word for word in grant if not word.startswith(right))) == b"OK"

        def use() -> None:
            tier.fetch(("k",), lease_s=30)
            tier.invalidate(("k",))

        with pytest.raises(MissingRights, match=rf"ACL SETUSER {user} '~\{{{prefix}\}}:\*'"):
            use()
        if right == "&":
            with pytest.raises(MissingRights, match="ACL SETUSER"):
                tier.listen(lambda news: None)


def test_a_wrong_password_says_where_it_belongs(server: RedisServer, prefix: str) -> None:
    order(server, "ACL", "SETUSER", f"pw-{prefix}", "reset", "on", ">right")
    url = f"unix://pw-{prefix}:wrong@{server.socket_path}"
    with (
        RedisTier(url, timeout_s=CALL_S) as tier,
        pytest.raises(MissingRights, match="redis://user:password@host"),
    ):
        tier.fetch(("k",))


def pings(server: RedisServer) -> int:
    counted = re.search(r"cmdstat_ping:calls=(\d+)", str(order(server, "INFO", "commandstats")))
    return int(counted[1]) if counted else 0


def test_tracking_refused_leaves_pub_sub(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        user = f"untracked-{prefix}"
        rights = ("~*", "resetchannels", "&*", "+@all", "-client", "+client|setname", "-hello")
        assert order(server, "ACL", "SETUSER", user, "on", ">pw", *rights) == b"OK"
        url = f"unix://{user}:pw@{server.socket_path}"
        async with (
            AsyncRedisTier(url, prefix=prefix, timeout_s=CALL_S) as tier,
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as other,
            hearing(tier) as heard,
        ):
            await other.invalidate(("k",))
            await until(heard, lambda: KeysChanged(keys=("k",)) in heard)
            before = pings(server)  # whose answer is another one in version 2 of the protocol
            await until(heard, lambda: pings(server) > before + 1)
            await other.invalidate(("l",))
            await until(heard, lambda: KeysChanged(keys=("l",)) in heard)

            assert 2 == len(heard)

    asyncio.run(test())


def test_two_hundred_callers_share_what_connections_there_are(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            keys = [f"{n}" for n in range(200)]
            outcomes = await asyncio.gather(*(load(tier, key, key.encode()) for key in keys))
            payloads = await asyncio.gather(*(payload_of(tier, key) for key in keys))

            assert [StoreOutcome.STORED] * 200 == outcomes
            assert [key.encode() for key in keys] == payloads

    asyncio.run(test())
    with RedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier, ThreadPoolExecutor(200) as pool:
        found = list(pool.map(lambda n: tier.fetch((f"{n}",))[f"{n}"].entry, range(200)))

    assert [f"{n}".encode() for n in range(200)] == [entry.payload for entry in found if entry]


def test_a_cancelled_call_leaves_the_next_ones_their_own_answers(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            for key in ("a", "b"):
                await load(tier, key, key.encode())
            for _ in range(50):
                doomed = asyncio.create_task(payload_of(tier, "a"))
                await asyncio.sleep(0)
                doomed.cancel()

                assert b"b" == await payload_of(tier, "b")

    asyncio.run(test())


def test_a_caller_cancelled_while_connecting_stops_nobody_else(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
            first, second = (asyncio.create_task(payload_of(tier)) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()

            assert await second is None

    asyncio.run(test())


def test_a_forked_child_speaks_for_itself(server: RedisServer, prefix: str) -> None:
    heard: list[News] = []
    with RedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier:
        tier.store((Write(key="k", payload=b"v", ttl_s=60),))
        listener = threading.Thread(target=tier.listen, args=(heard.append,))
        listener.start()
        asyncio.run(until(heard, lambda: Gap(is_over=True) in heard))
        child = os.fork()
        if child == 0:
            is_found = tier.fetch(("k",))["k"].entry is not None
            tier.invalidate(("k",))
            tier.__exit__(None, None, None)
            os._exit(0 if is_found else 1)
        _, status = os.waitpid(child, 0)
        asyncio.run(until(heard, lambda: KeysChanged(keys=("k",)) in heard))

        assert 0 == status
        assert tier.fetch(("k",))["k"].entry is None
        assert [Gap(is_over=True), KeysChanged(keys=("k",))] == heard
    listener.join(DEADLINE_S)

    assert not listener.is_alive()


def use_for_a_while(server: RedisServer, tier: RedisTier, chance: random.Random, length_s: float) -> int:
    """Read, load and change two keys; how often a value was older than what had been told to be invalid."""
    stale, ends_s = 0, time.monotonic() + length_s
    while time.monotonic() < ends_s:
        key = chance.choice("ab")
        told = int(order(server, "GET", f"told:{key}") or 0)  # type: ignore[arg-type] - bytes or None
        with contextlib.suppress(TargetUnreachable):
            fetched = tier.fetch((key,), lease_s=0.3)[key]
            stale += fetched.entry is not None and int(fetched.entry.payload) < told
            if fetched.lease is not None:
                version = order(server, "GET", f"version:{key}") or b"0"
                assert isinstance(version, bytes)
                time.sleep(chance.random() / 500)  # a loader
                tags = (f"of-{key}", "both")
                tier.store((Write(key=key, payload=version, ttl_s=60, tags=tags, lease=fetched.lease),))
        if chance.random() < 0.2:
            change(server, tier, key, chance)
    return stale


def change(server: RedisServer, tier: RedisTier, key: str, chance: random.Random) -> None:
    version = order(server, "INCR", f"version:{key}")
    keys, tags = chance.choice((((key,), ()), ((), (f"of-{key}",)), ((), ("both",))))
    while True:
        with contextlib.suppress(TargetUnreachable):
            tier.invalidate(keys, tags)
            break
    order(server, "SET", f"told:{key}", str(version))


def test_four_processes_see_nothing_stale_while_any_key_is_lost(server: RedisServer, prefix: str) -> None:
    chance = random.Random(11)
    children = []
    for seed in range(4):
        child = os.fork()
        if child == 0:
            signal.alarm(int(DEADLINE_S))
            status = 99
            with (
                contextlib.suppress(Exception),
                RedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as tier,
            ):
                status = min(98, use_for_a_while(server, tier, random.Random(seed), 1.2))
            os._exit(status)
        children.append(child)
    ends_s = time.monotonic() + 1.0
    names = ("clock", "t:*", "t:of-a", "t:both", "l:a", "l:b", "v:a")
    while time.monotonic() < ends_s:
        order(server, "DEL", f"{{{prefix}}}:{chance.choice(names)}")
        if chance.random() < 0.05:
            order(server, "SCRIPT", "FLUSH")
        time.sleep(0.004)  # the pace of the faults
    statuses = [os.waitpid(child, 0)[1] for child in children]

    assert [0] * 4 == statuses
    assert int(order(server, "GET", "version:a") or 0) > 5  # type: ignore[arg-type] - bytes or None


def test_a_tier_can_be_opened_again(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        tier = AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S)
        async with AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as other:
            for payload in (b"first", b"second"):
                async with tier, hearing(tier) as heard:
                    await load(tier, payload=payload)
                    await other.invalidate(("k",))
                    await until(heard, lambda heard=heard: KeysChanged(keys=("k",)) in heard)

    asyncio.run(test())


def test_news_arrives_within_milliseconds(server: RedisServer, prefix: str) -> None:
    async def test() -> None:
        took_s: list[float] = []
        async with (
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as one,
            AsyncRedisTier(server.url, prefix=prefix, timeout_s=CALL_S) as other,
        ):
            arrived = asyncio.Event()
            listening = asyncio.create_task(other.listen(lambda news: arrived.set()))
            await asyncio.wait_for(arrived.wait(), DEADLINE_S)
            for number in range(300):
                arrived.clear()
                began_s = time.perf_counter()
                await one.invalidate((f"{number}",))
                await arrived.wait()
                took_s.append(time.perf_counter() - began_s)
            listening.cancel()

        assert statistics.median(took_s) < 0.005

    asyncio.run(test())


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "redis://localhost/zero",
        "redis://localhost?protocol=3",
        "rediss://h?ssl_cert_reqs=x",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_when_it_is_given(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected redis://user:password@host:6379/0"):
        AsyncRedisTier(url)


def test_a_prefix_with_a_pattern_in_it_is_refused() -> None:
    with pytest.raises(InvalidInput, match="letters"):
        RedisTier("redis://localhost", prefix="a*")
