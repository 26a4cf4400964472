"""What a user opens to have a cache cleared by what is committed: one for sync code, one for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Self

from perfloop import metrics
from perfloop.adapters.changes.source import ChangeSource
from perfloop.cache import AsyncTieredCache, TieredCache
from perfloop.cache.invalidation.freshness import InvalidationStatistics
from perfloop.cache.invalidation.invalidates import AsyncInvalidates, Invalidates, require_kind
from perfloop.cache.invalidation.listening import ListenerPolicy, Listening
from perfloop.cache.invalidation.tags import TagMap
from perfloop.errors import InvalidInput
from perfloop.metrics import Registry


class ChangeListener:
    """Invalidates a sync cache by what was committed in a database, while it is open.

    Args:
        source: An `Outbox` or a `ReplicationSlot`.
        tags: Which tags a change invalidates.
        cache: Whose `invalidate_tag` is called from the listener's thread.
        policy: How it bears with a server.
        registry: Where its metrics go.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        source: ChangeSource,
        tags: TagMap,
        cache: Invalidates,
        *,
        policy: ListenerPolicy | None = None,
        registry: Registry = metrics.registry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._cache = cache
        self._listening = Listening(
            source,
            tags,
            lambda found: cache.invalidate_tag(*found),
            lambda: not _is_away(cache),
            policy=policy or ListenerPolicy(),
            registry=registry,
            clock=clock,
        )

    def open(self) -> None:
        """Start to listen.

        Raises:
            InvalidInput: The database is not set up for this source, or does not watch what the tags are
                of; or one process would read for all and the cache shares nothing with them; or the cache
                is of the other kind.
            MissingRights: The role may not read it.
        """
        require_kind(self._cache, is_async=False)
        _check_reader(self._source, self._cache)
        self._listening.open()

    def close(self) -> None:
        """Stop; what was not invalidated yet is told to whoever listens next."""
        self._listening.close()

    def statistics(self) -> InvalidationStatistics:
        return self._listening.statistics()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncChangeListener:
    """Invalidates an asyncio cache by what was committed in a database, while it is open.

    The arguments are those of `ChangeListener`; `invalidate_tag` is awaited in the loop that opened it.
    """

    def __init__(
        self,
        source: ChangeSource,
        tags: TagMap,
        cache: AsyncInvalidates,
        *,
        policy: ListenerPolicy | None = None,
        registry: Registry = metrics.registry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._cache = cache
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening = Listening(
            source,
            tags,
            self._invalidate,
            lambda: not _is_away(cache),
            policy=policy or ListenerPolicy(),
            registry=registry,
            clock=clock,
        )

    async def open(self) -> None:
        """Start to listen; raises as that of `ChangeListener`."""
        require_kind(self._cache, is_async=True)
        _check_reader(self._source, self._cache)
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._listening.open)

    async def close(self) -> None:
        """Stop; what was not invalidated yet is told to whoever listens next."""
        await asyncio.to_thread(self._listening.close)

    def statistics(self) -> InvalidationStatistics:
        return self._listening.statistics()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _invalidate(self, found: Sequence[str]) -> None:
        if self._loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._given(found), self._loop).result()

    async def _given(self, found: Sequence[str]) -> None:
        await self._cache.invalidate_tag(*found)


def _is_away(cache: object) -> bool:
    """Whether the cache keeps invalidations in this process's memory, for a shared tier that is away."""
    return isinstance(cache, TieredCache | AsyncTieredCache) and cache.is_alone


def _check_reader(source: ChangeSource, cache: object) -> None:
    if not source.reads_for_all or not isinstance(cache, TieredCache | AsyncTieredCache):
        return
    if cache.statistics().breaker is None:
        raise InvalidInput(
            "one process would read for all, and this cache shares nothing with the others, which would stay"
            " as they are; let each process read for itself with reader=None, or give the cache a Redis"
        )
