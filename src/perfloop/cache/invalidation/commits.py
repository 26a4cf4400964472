"""Invalidates what this service itself commits, before the call that commits returns.

The outbox and the log hear of every writer, a moment later; a commit hook hears of one service only, and
at once, so that a user who saves a form does not see the page of before. Use it beside one of them, or
alone where all that writes goes through the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from perfloop.adapters.changes.django_commits import DjangoCommits
from perfloop.adapters.changes.sqlalchemy_commits import SqlalchemyCommits
from perfloop.cache.invalidation.invalidates import AsyncInvalidates, Invalidates, require_kind
from perfloop.cache.invalidation.tags import TagMap
from perfloop.model.changes import TableChange


class SqlalchemyHook:
    """Clears tags after each commit through an engine, while it is open.

    Args:
        engine: An Engine with a cache for sync code, or an AsyncEngine with one for asyncio.
        tags: Which tags a change invalidates.
        cache: Whose `invalidate_tag` is called, and for an AsyncEngine awaited, by whoever commits.
    """

    def __init__(self, engine: Any, tags: TagMap, cache: Invalidates | AsyncInvalidates) -> None:
        self._is_async = hasattr(engine, "sync_engine")
        self._tags = tags
        self._cache = cache
        self._commits = SqlalchemyCommits(getattr(engine, "sync_engine", engine), _columns(tags), self._tell)

    def open(self) -> None:
        """Begin to listen.

        Raises:
            InvalidInput: SQLAlchemy is not installed; or the cache is of another kind than the engine.
        """
        require_kind(self._cache, is_async=self._is_async)
        self._commits.open()

    def close(self) -> None:
        self._commits.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, changes: Sequence[TableChange]) -> None:
        found = _found(self._tags, changes)
        if not found:
            return
        invalidating: Any = self._cache.invalidate_tag(*found)
        if self._is_async:
            # We are in the greenlet in which SQLAlchemy runs its sync side for asyncio.
            from sqlalchemy.util import await_only

            await_only(invalidating)


class DjangoHook:
    """Clears tags after each commit of a Django project, while it is open; as a rule as long as the process.

    Args:
        tags: Which tags a change invalidates.
        cache: Whose `invalidate_tag` is called by whoever commits.
    """

    def __init__(self, tags: TagMap, cache: Invalidates) -> None:
        self._tags = tags
        self._cache = cache
        self._commits = DjangoCommits(_columns(tags), self._tell)

    def open(self) -> None:
        """Begin to listen, from an AppConfig's ready() or later.

        Raises:
            InvalidInput: Django is not installed; or the cache is for asyncio.
        """
        require_kind(self._cache, is_async=False)
        self._commits.open()

    def close(self) -> None:
        self._commits.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, changes: Sequence[TableChange]) -> None:
        found = _found(self._tags, changes)
        if found:
            self._cache.invalidate_tag(*found)


def _columns(tags: TagMap) -> dict[str, frozenset[str]]:
    return {name: table.columns for name, table in tags.tables.items()}


def _found(tags: TagMap, changes: Sequence[TableChange]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag for change in changes for tag in tags.tags_of(change)))
