"""Results of statements in the cache, until one of the tables that they read changes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from perfloop.adapters.reads._async.connections import AsyncReads, reads_through
from perfloop.cache._async.cache import AsyncTieredCache
from perfloop.cache._async.resolving import tables_behind
from perfloop.cache.invalidation.tags import TagMap
from perfloop.cache.loaded import texts_of
from perfloop.cache.policy import CachePolicy
from perfloop.cache.query_call import AsyncLending, LenderGone
from perfloop.cache.query_key import QueryStatistics, Standing, query_key
from perfloop.cache.query_rules import SETTINGS
from perfloop.cache.query_text import ReadStatement, read_statement
from perfloop.cache.rows import Row, StoredRows, named_rows, stored
from perfloop.errors import InvalidInput
from perfloop.metrics.counter import Counter

RESOLVED_FOR_S: Final = 300.0
"""How long what the catalogue said of a statement is believed."""
MOST_RESOLVED: Final = 10_000


class AsyncQueryCache:
    """Keeps results of statements that only read, for asyncio.

    Args:
        cache: Where results are kept. One prefix serves one PostgreSQL cluster.
        connect: Opens a connection of its own, as `pool.connection` or `engine.connect` do; needed for
            `stale_for_s`, whose loads go on when the caller has given its connection back.
        identity: A name for what all connections have in common: server, database, role and settings. With
            it a hit asks the server nothing outside transactions. None asks at each call.
        tags: The mapping that the listener of changes uses.
        row_security: Settings that row-level security reads, besides the role; None refuses such tables.
        allow: Names of functions to be trusted, such as `now`.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        cache: AsyncTieredCache,
        *,
        connect: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        identity: str | None = None,
        tags: TagMap | None = None,
        row_security: Iterable[str] | None = None,
        allow: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._connect = connect
        self._identity = identity
        self._tag_map = tags or TagMap()
        self._policies_are_known = row_security is not None
        self._settings = [*SETTINGS, *texts_of("row_security", row_security or ())]
        self._allowed = frozenset(name.lower() for name in texts_of("allow", allow))
        self._clock = clock
        self._resolved: dict[Any, tuple[float, tuple[str, ...]]] = {}
        self._bypasses = Counter()

    async def fetch_all(
        self,
        connection: Any,
        statement: Any,
        params: Any = None,
        *,
        ttl_s: float,
        stale_for_s: float = 0.0,
        tags: Iterable[str] | None = None,
    ) -> tuple[Row, ...]:
        """The rows of a statement, from the cache where it may, else through the connection.

        A transaction that has written, or sees an older state than others, runs it as it is, unkept.

        Args:
            connection: Of psycopg, or a Core connection of SQLAlchemy with psycopg below.
            statement: Text, or what psycopg.sql composes; for SQLAlchemy `select(…)` or `text(…)`.
            params: As the connection takes them.
            ttl_s: The longest that a result lives.
            stale_for_s: How long after that it is served while a new one is loaded behind.
            tags: Instead of those of the tables that the statement reads.

        Returns:
            Named tuples, shared by all callers in the process: do not change lists and dicts in them.

        Raises:
            UnsupportedStatement: It cannot be known when its result would change.
            InvalidInput: The connection or a parameter is none that this can work with.
        """
        if stale_for_s > 0 and self._connect is None:
            raise InvalidInput("stale_for_s loads behind the caller; give QueryCache connect=pool.connection")
        policy = CachePolicy(ttl_s=ttl_s, stale_for_s=stale_for_s)
        reads, given = reads_through(connection), None if tags is None else texts_of("tags", tags)
        rows = await self._found(reads, statement, params, policy, given)
        return named_rows(*await reads.fetch(statement, params)) if rows is None else rows

    async def _found(
        self,
        reads: AsyncReads,
        statement: Any,
        params: Any,
        policy: CachePolicy,
        given: tuple[str, ...] | None,
    ) -> tuple[Row, ...] | None:
        """From the cache, loaded where it has none; None where the statement is to run as it is."""
        written = reads.written(statement, params)
        read = read_statement(written.text, has_params=written.params is not None)
        standing = await self._standing(reads)
        if standing.bypasses:
            self._bypasses.inc()
            return None
        key = query_key((reads.kind, written.form), standing.identity, read, written.params)
        tags = await self._tags(reads, read, standing, given)
        lending = AsyncLending()

        async def load() -> StoredRows:
            if lending.is_mine:
                with lending.used():
                    return stored(*await reads.fetch(statement, params))
            return await self._load_apart(statement, params, standing)

        try:
            kept = await self._kept(key, load, policy, tags)
        finally:
            await lending.end()
        try:
            return kept.rows()
        except InvalidInput:
            await self._cache.delete(key)
            return None

    def statistics(self) -> QueryStatistics:
        """What it did since it was made; the rest is in those of the cache."""
        return QueryStatistics(bypasses=int(self._bypasses.value))

    async def _kept(
        self, key: str, load: Callable[[], Awaitable[StoredRows]], policy: CachePolicy, tags: tuple[str, ...]
    ) -> StoredRows:
        while True:
            try:
                return await self._cache.get_or_load(key, load, policy=policy, tags=tags, kind=StoredRows)
            except LenderGone:
                continue

    async def _standing(self, reads: AsyncReads) -> Standing:
        if self._identity is not None and reads.is_idle:
            return Standing(identity=self._identity)
        return await self._asked(reads)

    async def _asked(self, reads: AsyncReads) -> Standing:
        """As the server says."""
        ((*identity, has_written, is_older, has_temporary),) = await reads.ask(
            "read_standing", settings=self._settings
        )
        return Standing(
            identity=identity if self._identity is None else self._identity,
            bypasses=has_written or is_older,
            has_temporary=has_temporary,
        )

    async def _load_apart(self, statement: Any, params: Any, standing: Standing) -> StoredRows:
        if self._connect is None:
            raise LenderGone
        async with self._connect() as connection:
            reads = reads_through(connection)
            if (await self._standing(reads)).identity != standing.identity:
                raise InvalidInput(
                    "connect gives connections of another role or with other settings than the caller's, so"
                    " that they cannot renew its results; use stale_for_s=0 for these"
                )
            return stored(*await reads.fetch(statement, params))

    async def _tags(
        self, reads: AsyncReads, read: ReadStatement, standing: Standing, given: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        """The tags, once it is known that the result may be kept at all."""
        which = (reads.kind, repr(standing.identity), read.normal, given is None)
        resolved_at_s, tags = self._resolved.get(which, (None, ()))
        is_known = resolved_at_s is not None and self._clock() - resolved_at_s < RESOLVED_FOR_S
        if not is_known or standing.has_temporary:
            tables = await tables_behind(
                reads, read, policies_are_known=self._policies_are_known, allowed=self._allowed
            )
            tags = () if given is not None else self._tag_map.table_tags(tables)
            if len(self._resolved) >= MOST_RESOLVED:
                self._resolved.clear()
            self._resolved[which] = (self._clock(), tags)
        return tags if given is None else given
