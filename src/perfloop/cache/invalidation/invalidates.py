"""What a cache must be able to do for changes of a database to reach it."""

from __future__ import annotations

import inspect
from typing import Protocol

from perfloop.cache import TieredCache
from perfloop.errors import InvalidInput


class Invalidates(Protocol):
    """A cache for sync code, called from the listener's thread."""

    def invalidate_tag(self, *tags: str) -> object: ...


class AsyncInvalidates(Protocol):
    """A cache for asyncio, called in the loop that opened the listener."""

    async def invalidate_tag(self, *tags: str) -> object: ...


def require_kind(cache: Invalidates | AsyncInvalidates, *, is_async: bool) -> None:
    """Raise InvalidInput for a cache of the other kind, which would be told of all and clear nothing."""
    if is_async and isinstance(cache, TieredCache):
        raise InvalidInput(
            "a TieredCache cannot be awaited; take ChangeListener, or give an AsyncTieredCache"
        )
    if not is_async and inspect.iscoroutinefunction(cache.invalidate_tag):
        raise InvalidInput(
            f"nobody would await {type(cache).__name__} here; take AsyncChangeListener, or the hook of an"
            " AsyncEngine, or give a TieredCache"
        )
