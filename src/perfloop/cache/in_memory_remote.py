"""A shared tier in memory, for tests. Each cache of a test gets its own tier on one server, as processes do.

    server = InMemoryServer(clock=clock)
    async with (
        AsyncTieredCache(remote=AsyncInMemoryRemote(server)) as one,
        AsyncTieredCache(remote=AsyncInMemoryRemote(server)) as other,
    ): ...

It keeps the contract of `perfloop.cache.remote` as the Redis tier does; one suite holds both to it. So it
takes no key or tag that Redis would not, and tells its news in the order in which the scripts there do.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from perfloop.adapters.remote.resp import as_bytes
from perfloop.cache.remote import (
    EVERYTHING,
    Fetched,
    Gap,
    KeysChanged,
    Lease,
    LoadsFinished,
    News,
    RemoteEntry,
    StoreOutcome,
    TagsChanged,
    Write,
)
from perfloop.errors import TargetUnreachable


@dataclass(slots=True, kw_only=True)
class _Stored:
    write: Write
    birth: int
    stored_at_s: float


@dataclass(slots=True, kw_only=True)
class _Claim:
    token: str
    ends_at_s: float
    is_awaited: bool = False


def _check_names(names: Iterable[str]) -> None:
    """As the Redis tier does by sending them: what is no text is no name."""
    for name in names:
        as_bytes(name)


class InMemoryServer:
    """What tiers share. Values, leases and tags end by its clock alone, which a test may turn by hand.

    Args:
        clock: Seconds, never going back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._values: dict[str, _Stored] = {}
        self._claims: dict[str, _Claim] = {}
        self._tags: dict[str, int] = {}
        self._number = 0
        self._origins = itertools.count(1)
        self._tokens = itertools.count(1)
        self._listeners: dict[int, Callable[[News], None]] = {}
        self._withheld: list[tuple[int, News]] | None = None
        self._is_away = False

    def go_away(self) -> None:
        """Be unreachable: every call raises, and listeners hear that there is a gap."""
        with self._lock:
            self._is_away = True
            self._tell(Gap(is_over=False))

    def come_back(self) -> None:
        """Be reachable again, with all that was stored."""
        with self._lock:
            self._is_away = False
            self._tell(Gap(is_over=True))

    def flush(self) -> None:
        """Lose everything, as by FLUSHALL; the numbers go on."""
        with self._lock:
            self._values.clear()
            self._claims.clear()
            self._tell(Gap(is_over=True))

    def evict_tag(self, tag: str) -> None:
        """Lose one tag, as where memory is short: whatever carries it is invalid, and nobody is told."""
        with self._lock:
            self._tags[tag] = self._next()

    def withhold_news(self) -> None:
        """Tell nothing until `deliver_news`: a network that is slow."""
        with self._lock:
            if self._withheld is None:
                self._withheld = []

    def deliver_news(self) -> None:
        """Tell what was withheld, in order, and tell at once from now on."""
        with self._lock:
            withheld, self._withheld = self._withheld or [], None
            for origin, news in withheld:
                self._tell(news, besides=origin)

    def _enter(self) -> int:
        return next(self._origins)

    def _listen(self, origin: int, hear: Callable[[News], None]) -> None:
        with self._lock:
            self._listeners[origin] = hear
            hear(Gap(is_over=not self._is_away))

    def _leave(self, origin: int) -> None:
        with self._lock:
            self._listeners.pop(origin, None)

    def _fetch(
        self, keys: Sequence[str], lease_s: float | None, early_s: float, token: str
    ) -> Mapping[str, Fetched]:
        _check_names(keys)
        with self._lock:
            self._reach()
            token = token or f"own-{next(self._tokens)}"
            return {key: self._fetch_one(key, lease_s, early_s, token) for key in keys}

    def _fetch_one(self, key: str, lease_s: float | None, early_s: float, token: str) -> Fetched:
        entry = self._entry(key)
        if lease_s is None or (entry is not None and entry.ttl_s - entry.age_s > early_s):
            return Fetched(entry=entry)
        now_s = self._clock()
        claim = self._claims.get(key)
        if claim is not None and claim.ends_at_s > now_s:
            claim.is_awaited = True
            return Fetched(entry=entry, held_for_s=claim.ends_at_s - now_s)
        self._claims[key] = _Claim(token=token, ends_at_s=now_s + lease_s)
        return Fetched(entry=entry, lease=Lease(key=key, token=token, birth=self._number))

    def _entry(self, key: str) -> RemoteEntry | None:
        stored = self._values.get(key)
        if stored is None or stored.write.payload is None:
            return None
        write, age_s = stored.write, self._clock() - stored.stored_at_s
        if age_s >= write.kept_for_s or self._is_invalid(write.tags, stored.birth):
            del self._values[key]
            return None
        return RemoteEntry(
            payload=stored.write.payload,
            birth=stored.birth,
            age_s=age_s,
            ttl_s=write.ttl_s,
            stale_for_s=write.stale_for_s,
            fail_safe_for_s=write.fail_safe_for_s,
            tags=write.tags,
        )

    def _is_invalid(self, tags: Iterable[str], birth: int) -> bool:
        return any(self._tags.get(tag, 0) > birth for tag in (*tags, EVERYTHING))

    def _store(self, origin: int, writes: Sequence[Write]) -> Sequence[StoreOutcome]:
        for write in writes:
            _check_names((write.key, *write.tags))
        with self._lock:
            self._reach()
            finished: list[str] = []
            outcomes = [self._store_one(write, finished) for write in writes]
            changed = tuple(
                write.key
                for write, outcome in zip(writes, outcomes, strict=True)
                if outcome is StoreOutcome.STORED and (write.lease is None or write.renews)
            )
            self._tell_keys(origin, changed, finished)
            return outcomes

    def _store_one(self, write: Write, finished: list[str]) -> StoreOutcome:
        if write.lease is None:
            self._end_claim(write.key, finished)
            self._put(write)
            return StoreOutcome.STORED
        claim = self._claims.get(write.key)
        if claim is None or claim.token != write.lease.token or claim.ends_at_s <= self._clock():
            finished.append(write.key)  # others may have waited for it, which its claim alone knew
            return StoreOutcome.FENCED
        self._end_claim(write.key, finished)
        if write.payload is None:
            return StoreOutcome.RELEASED
        if self._is_invalid(write.tags, write.lease.birth):
            return StoreOutcome.FENCED
        self._put(write)
        return StoreOutcome.STORED

    def _put(self, write: Write) -> None:
        self._values[write.key] = _Stored(write=write, birth=self._number, stored_at_s=self._clock())

    def _end_claim(self, key: str, finished: list[str]) -> None:
        claim = self._claims.pop(key, None)
        if claim is not None and claim.is_awaited and claim.ends_at_s > self._clock():
            finished.append(key)

    def _invalidate(self, origin: int, keys: Sequence[str], tags: Sequence[str]) -> None:
        _check_names((*keys, *tags))
        with self._lock:
            self._reach()
            number = self._next()
            finished: list[str] = []
            for key in keys:
                self._values.pop(key, None)
                self._end_claim(key, finished)
            self._tags.update(dict.fromkeys(tags, number))
            self._tell_keys(origin, tuple(keys), finished)
            if EVERYTHING in tags:
                self._tell(Gap(is_over=True), besides=origin)
            elif tags:
                self._tell(TagsChanged(tags=tuple(tags)), besides=origin)

    def _tell_keys(self, origin: int, changed: tuple[str, ...], finished: Sequence[str]) -> None:
        if changed:
            self._tell(KeysChanged(keys=changed), besides=origin)
        if finished:
            self._tell(LoadsFinished(keys=tuple(finished)))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _reach(self) -> None:
        if self._is_away:
            raise TargetUnreachable("the in-memory server is away; come_back() ends that")

    def _tell(self, news: News, *, besides: int = 0) -> None:
        if self._withheld is not None and not isinstance(news, Gap):
            self._withheld.append((besides, news))
            return
        for origin, hear in list(self._listeners.items()):
            if origin != besides:
                hear(news)


class AsyncInMemoryRemote:
    """One process's tier, for asyncio. Every call gives other tasks a turn before it acts and after."""

    def __init__(self, server: InMemoryServer | None = None) -> None:
        self.server = server or InMemoryServer()
        self._origin = self.server._enter()

    @property
    def scope(self) -> str:
        """All caches on one server share its keys."""
        return ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server._leave(self._origin)

    async def fetch(
        self, keys: Sequence[str], *, lease_s: float | None = None, early_s: float = 0.0, token: str = ""
    ) -> Mapping[str, Fetched]:
        await asyncio.sleep(0)
        fetched = self.server._fetch(keys, lease_s, early_s, token)
        await asyncio.sleep(0)
        return fetched

    async def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome]:
        await asyncio.sleep(0)
        outcomes = self.server._store(self._origin, writes)
        await asyncio.sleep(0)
        return outcomes

    async def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        await asyncio.sleep(0)
        self.server._invalidate(self._origin, keys, tags)
        await asyncio.sleep(0)

    async def listen(self, hear: Callable[[News], None]) -> None:
        """Hear at once, in the caller's own step; see `InMemoryServer.withhold_news` for a slow network."""
        self.server._listen(self._origin, hear)
        try:
            await asyncio.Event().wait()
        finally:
            self.server._leave(self._origin)


class InMemoryRemote:
    """One process's tier, for threads. News is told in the thread that caused it."""

    def __init__(self, server: InMemoryServer | None = None) -> None:
        self.server = server or InMemoryServer()
        self._origin = self.server._enter()
        self._closed = threading.Event()

    @property
    def scope(self) -> str:
        """All caches on one server share its keys."""
        return ""

    def __enter__(self) -> Self:
        self._closed.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.server._leave(self._origin)
        self._closed.set()

    def fetch(
        self, keys: Sequence[str], *, lease_s: float | None = None, early_s: float = 0.0, token: str = ""
    ) -> Mapping[str, Fetched]:
        return self.server._fetch(keys, lease_s, early_s, token)

    def store(self, writes: Sequence[Write]) -> Sequence[StoreOutcome]:
        return self.server._store(self._origin, writes)

    def invalidate(self, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        self.server._invalidate(self._origin, keys, tags)

    def listen(self, hear: Callable[[News], None]) -> None:
        self.server._listen(self._origin, hear)
        try:
            self._closed.wait()
        finally:
            self.server._leave(self._origin)
