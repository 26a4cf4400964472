"""Reads one Redis or Valkey server: INFO, the slow log, the latency monitor. It changes nothing.

Maximum memory and policy stand in INFO, so that a user without CONFIG is enough. Whatever goes
wrong here becomes a Limitation: the database is analysed all the same, and a server that hangs
costs a few seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from perfloop.errors import InvalidInput
from perfloop.model.redis import LatencyEvent, RedisState, SlowCommand
from perfloop.model.snapshot import Limitation
from perfloop.model.value import Value

SUBJECT = "Redis"
TIMEOUT_S = 2.0
SLOW_ENTRIES = 512
KEY_LENGTH = 60

_SCHEMES = ("redis", "rediss", "unix")
_RIGHTS = "+info +slowlog|get +latency|latest +select"

ResultT = TypeVar("ResultT")


class RedisReading(Value, frozen=True, kw_only=True):
    """What could be read. `state` is None where even INFO could not."""

    state: RedisState | None = None
    limitations: tuple[Limitation, ...] = ()


def read_redis(url: str, *, timeout_s: float = TIMEOUT_S) -> RedisReading:
    """Read the server once, with `timeout_s` for each answer.

    Raises:
        InvalidInput: The URL is none of redis://, rediss:// or unix://.
    """
    with open_redis(url, timeout_s=timeout_s) as (client, log):
        if client is None:
            return _only(*log.limitations)
        info = log.read("INFO", client.info, None)
        if not info:
            return _only(*log.limitations)
        slow: list[Any] = log.read("SLOWLOG GET", lambda: client.slowlog_get(SLOW_ENTRIES), [])
        latest: list[Any] = log.read("LATENCY LATEST", lambda: client.execute_command("LATENCY LATEST"), [])
    state = _state(info, _slow_commands(slow), _latencies(latest))
    return RedisReading(state=state, limitations=tuple(log.limitations))


@contextmanager
def open_redis(
    url: str, *, timeout_s: float = TIMEOUT_S, subject: str = SUBJECT, rights: str = _RIGHTS
) -> Iterator[tuple[Any, CommandLog]]:
    """A client that gives bytes, tries once and connects with its first command; and the log to read by.

    The client is None, and the log says why, where the driver is not installed.

    Args:
        url: As for `read_redis`.
        timeout_s: Of connecting, and of each answer.
        subject: Of the Limitations.
        rights: What a user who is refused something should be given.

    Raises:
        InvalidInput: The URL is none of redis://, rediss:// or unix://.
    """
    if urlsplit(url).scheme not in _SCHEMES:
        raise InvalidInput(
            "the URL of Redis cannot be read; expected redis://user@host:6379/0 or unix:///path"
        )
    log = CommandLog(subject, rights)
    try:
        import redis
    except ImportError:
        log.refuse("its driver is not installed", "pip install 'perfloop[redis]'")
        yield None, log
        return
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            decode_responses=False,
        )
    except ValueError as error:
        raise InvalidInput(f"the URL of Redis cannot be read: {error}") from None
    log.expect(redis, client.connection_pool.connection_kwargs.get("username") or "default")
    with client:
        yield client, log


def _only(*limitations: Limitation) -> RedisReading:
    return RedisReading(limitations=limitations)


class CommandLog:
    """Reads one command at a time, and keeps a Limitation for each refusal; none after a lost connection."""

    def __init__(self, subject: str, rights: str) -> None:
        self.limitations: list[Limitation] = []
        self._subject = subject
        self._rights = rights
        self._errors: Any = None
        self._user = "default"
        self._is_lost = False

    def expect(self, module: Any, user: str) -> None:
        """Take the errors of this driver for refusals; an argument, because its import is optional."""
        self._errors = module.exceptions
        self._user = user

    def refuse(self, reason: str, remedy: str) -> None:
        self.limitations.append(Limitation(subject=self._subject, reason=reason, remedy=remedy))

    def read(self, command: str, ask: Callable[[], ResultT], otherwise: ResultT) -> ResultT:
        """What `ask` returns, or `otherwise` where the server refused."""
        if self._is_lost:
            return otherwise
        try:
            return ask()
        except self._errors.RedisError as error:
            self._is_lost = isinstance(error, self._errors.ConnectionError | self._errors.TimeoutError)
            self.limitations.append(self._limitation(command, error))
            return otherwise

    def _limitation(self, command: str, error: Exception) -> Limitation:
        errors = self._errors
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, errors.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
            reason, remedy = "it refused the user or the password", "put both into the URL, as user:password@"
        elif isinstance(error, errors.NoPermissionError):
            reason = f"{command} is not allowed to user {self._user}"
            remedy = f"ACL SETUSER {self._user} {self._rights}"
        elif isinstance(error, errors.TimeoutError):
            reason, remedy = (
                f"it did not answer {command} in time",
                "see whether it hangs: redis-cli --latency",
            )
        elif isinstance(error, errors.ConnectionError):
            reason, remedy = text, "check host, port and TLS in the URL, and that the server is up"
        else:
            reason, remedy = f"{command}: {text}", "see the server's log around this moment"
        return Limitation(subject=self._subject, reason=reason, remedy=remedy)


def _state(
    info: Mapping[str, Any], slow: tuple[SlowCommand, ...], latencies: tuple[LatencyEvent, ...]
) -> RedisState:
    databases = [value for name, value in info.items() if name.startswith("db") and isinstance(value, dict)]
    failed = (info.get("aof_last_write_status", "ok"), info.get("aof_last_bgrewrite_status", "ok"))
    return RedisState(
        version=str(info.get("valkey_version") or info.get("redis_version", "unknown")),
        is_valkey="valkey_version" in info,
        is_replica=info.get("role") == "slave",
        uptime_s=float(info.get("uptime_in_seconds", 0)),
        used_bytes=info.get("used_memory", 0),
        resident_bytes=info.get("used_memory_rss", 0),
        limit_bytes=info.get("maxmemory") or None,
        policy=str(info.get("maxmemory_policy", "unknown")),
        system_bytes=info.get("total_system_memory", 0),
        hits=info.get("keyspace_hits", 0),
        misses=info.get("keyspace_misses", 0),
        evicted=info.get("evicted_keys", 0),
        keys=sum(each.get("keys", 0) for each in databases),
        expiring_keys=sum(each.get("expires", 0) for each in databases),
        clients=info.get("connected_clients", 0),
        maximum_clients=info.get("maxclients", 0),
        blocked_clients=info.get("blocked_clients", 0),
        rejected_connections=info.get("rejected_connections", 0),
        snapshot_failed=info.get("rdb_last_bgsave_status", "ok") != "ok",
        log_failed=any(status != "ok" for status in failed),
        fork_s=info.get("latest_fork_usec", 0) / 1e6,
        slow=slow,
        latencies=latencies,
    )


def _slow_commands(entries: list[Any]) -> tuple[SlowCommand, ...]:
    groups: dict[str, list[tuple[float, str | None]]] = {}
    for entry in entries:
        words = bytes(entry["command"]).decode("utf-8", "replace").split(" ")
        key = words[1][:KEY_LENGTH] if len(words) > 1 else None
        groups.setdefault(words[0].upper(), []).append((entry["duration"] / 1e6, key))
    commands = (
        SlowCommand(
            name=name,
            count=len(group),
            longest_s=max(duration for duration, _ in group),
            total_s=sum(duration for duration, _ in group),
            key=max(group, key=lambda each: each[0])[1],
        )
        for name, group in groups.items()
    )
    return tuple(sorted(commands, key=lambda each: (-each.total_s, each.name)))


def _latencies(events: list[Any]) -> tuple[LatencyEvent, ...]:
    return tuple(
        LatencyEvent(name=bytes(name).decode("ascii", "replace"), latest_s=latest / 1e3, worst_s=worst / 1e3)
        for name, _, latest, worst, *_ in events
    )
