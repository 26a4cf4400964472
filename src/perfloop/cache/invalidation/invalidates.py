"""What a cache must be able to do for changes of a database to reach it."""

from __future__ import annotations

from typing import Protocol


class Invalidates(Protocol):
    """A cache for sync code, called from the listener's thread."""

    def invalidate_tag(self, *tags: str) -> object: ...


class AsyncInvalidates(Protocol):
    """A cache for asyncio, called in the loop that opened the listener."""

    async def invalidate_tag(self, *tags: str) -> object: ...
