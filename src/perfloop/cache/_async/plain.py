"""Looking and setting, where no loader is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from perfloop.cache._async.landing import NOTHING
from perfloop.cache._async.link import AsyncLink
from perfloop.cache._async.loading import SERVED, AsyncLoading
from perfloop.cache._async.storing import AsyncStoring
from perfloop.cache.events import CacheEvent, Missed
from perfloop.cache.loaded import Request, Source, Terms
from perfloop.cache.memory import MemoryTier
from perfloop.cache.policy import CachePolicy, Freshness, drawn_life_s
from perfloop.cache.remote import RemoteEntry, Write
from perfloop.cache.statistics import Counts


class AsyncPlain:
    """Gets and sets of one cache."""

    def __init__(
        self,
        memory: MemoryTier,
        link: AsyncLink | None,
        loading: AsyncLoading,
        storing: AsyncStoring,
        *,
        terms: Terms,
        counts: Counts,
        rand: Callable[[], float],
        tell: Callable[[CacheEvent], None],
    ) -> None:
        self._memory = memory
        self._link = link
        self._loading = loading
        self._storing = storing
        self._terms = terms
        self._counts = counts
        self._rand = rand
        self._tell = tell

    async def look(self, keys: Sequence[str], kind: Any) -> dict[str, Any]:
        """The values that a tier has, stale ones included where they may be served."""
        values: dict[str, Any] = {}
        absent: list[str] = []
        link = self._link
        if link is not None:
            link.require_open()
        for key in keys:
            found, entry = self._memory.examine(key, trusting=link is not None and link.is_away)
            if entry is not None and found in SERVED:
                values[key] = entry.value
                if found is Freshness.STALE:
                    self._loading.tell_stale(key)
            else:
                absent.append(key)
        if absent and link is not None and not link.is_away:
            values.update(await self._look_up(link, absent, kind))
        missed = tuple(key for key in absent if key not in values)
        if missed:
            self._tell(Missed(keys=missed))
        return values

    def _unchecked(self, keys: Iterable[str]) -> dict[str, Any]:
        """What the memory tier has of these, now that the remote tier went away as it was asked."""
        values: dict[str, Any] = {}
        for key in keys:
            found, entry = self._memory.examine_again(key, trusting=True)
            if entry is not None and found in SERVED:
                values[key] = entry.value
                if found is Freshness.STALE:
                    self._loading.tell_stale(key)
                else:
                    self._counts.served(Source.UNCHECKED, key)
        return values

    async def _look_up(self, link: AsyncLink, keys: Sequence[str], kind: Any) -> dict[str, Any]:
        led = {}
        for key in keys:
            flight, leads, _ = self._memory.begin(key)
            if leads:
                led[key] = (flight, self._loading.board(flight))
        values: dict[str, Any] = {}
        try:
            answer = await link.fetch(keys, None)
            if answer is None:
                return self._unchecked(keys)
            for key in keys:
                entry = answer[key].entry
                value = NOTHING if entry is None else self._value(key, entry, kind)
                if entry is None or value is NOTHING:
                    self._loading.drop_unchecked((key,))
                    continue
                values[key] = value
                if key in led:
                    flight, landing = led[key]
                    landing.is_bare = self._storing.is_bare(self._request(key, entry, kind), entry)
                    self._storing.keep_fetched(self._request(key, entry, kind), flight, entry, value)
                    is_fresh = entry.ttl_s > entry.age_s
                    landing.land(value, Source.REMOTE if is_fresh else Source.STALE)
                    del led[key]
        finally:
            for flight, landing in led.values():  # whoever joined meanwhile has a loader
                self._memory.end(flight)
                landing.turn_back()
        return values

    def _value(self, key: str, entry: RemoteEntry, kind: Any) -> Any:
        left_s = entry.ttl_s - entry.age_s
        if -left_s >= entry.stale_for_s and left_s <= 0:
            return NOTHING
        value = self._storing.decoded(self._request(key, entry, kind), entry)
        if value is not NOTHING:
            if left_s > 0:
                self._counts.served(Source.REMOTE, key)
            else:
                self._loading.tell_stale(key)
        return value

    def _request(self, key: str, entry: RemoteEntry, kind: Any) -> Request:
        policy = self._terms.kept(entry.ttl_s, entry.stale_for_s, entry.fail_safe_for_s)
        return Request(key, None, policy, entry.tags, kind)

    async def put(self, request: Request, value: object) -> None:
        """Keep a value in both tiers, fenced like a load: who asks meanwhile waits for it."""
        if self._link is not None:
            self._link.require_open()
        policy, tags, link = request.policy, request.tags, self._link
        drawn_s = drawn_life_s(policy, self._rand(), negative=value is None)
        if link is None:
            self._memory.put(request.key, value, policy=policy, tags=tags)
        elif drawn_s <= 0:
            await self._end(link, request.key)
        else:
            write = self._storing.write(request, value, policy, tags, drawn_s, None)
            await self._loading.crew.see_through(self._put, link, write, value, policy)

    async def _end(self, link: AsyncLink, key: str) -> None:
        """What has no life ends what is kept; what was fetched meanwhile is older than that."""
        self._memory.invalidate((key,))
        try:
            await link.invalidate((key,), ())
        finally:
            self._memory.invalidate((key,))

    async def _put(self, link: AsyncLink, write: Write, value: object, policy: CachePolicy) -> None:
        leads = False
        while not leads:
            self._memory.invalidate((write.key,))
            flight, leads, _ = self._memory.begin(write.key, write.tags)
        landing = self._loading.board(flight)
        try:
            await link.store([write])
            self._storing.keep_in_memory(flight, value, policy, write.tags, write.ttl_s, 0.0)
            landing.land(value)
        finally:
            self._memory.end(flight)
            landing.turn_back()
            if flight.detached:  # whoever came meanwhile may have fetched what was there before
                self._memory.invalidate((write.key,))
