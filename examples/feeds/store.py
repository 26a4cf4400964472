"""Where entries go: PostgreSQL, a batch a statement; and what of it is cached."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

import psycopg

from examples.feeds.classify import Classified
from perfloop.cache import EVERYTHING, TieredCache

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_, *_PARTS = _NAME.split((Path(__file__).parent / "reader.sql").read_text(encoding="utf-8"))
SQL = {name: body.strip().encode() for name, body in zip(_PARTS[::2], _PARTS[1::2], strict=True)}


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows. `sightings` says which feed has which entry."""

    feeds: int
    entries: int
    sightings: int


class Store:
    """The reader's tables; opened by `with`, which makes them. May be used by several threads at once.

    The same entries make the same rows, in whatever order, in whatever batches and however often they come.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._idle: SimpleQueue[psycopg.Connection] = SimpleQueue()
        self.cache = TieredCache()
        self._feed_ids = self.cache.cached_many("feed:{}", ttl_s=3600)(self._load_feed_ids)
        self.newest = self.cache.cached("newest:{label}", ttl_s=60, tags=("label-{label}",))(self._newest)

    def __enter__(self) -> Store:
        with self._connection() as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(SQL["schema"])
        return self

    def __exit__(self, *_: object) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    def add(self, batch: Sequence[Classified]) -> None:
        """Store entries, each once; of those that say the same the earliest date is kept.

        In the order of their digests, so that two batches which share some wait for one another, and never
        each for the other.
        """
        ids = self._feed_ids.many(sorted({each.entry.feed for each in batch}))
        rows = _once(batch)
        seen = sorted({(each.entry.digest, ids[each.entry.feed]) for each in batch})
        with self._connection() as connection, connection.transaction():
            new = connection.execute(SQL["add_entries"], _columns(rows)).fetchall()
            connection.execute(SQL["add_sightings"], [list(column) for column in zip(*seen, strict=True)])
        for (label,) in set(new):
            self.cache.invalidate_tag(f"label-{label}")

    def counts(self) -> Counts:
        return Counts(*self._row("counts"))

    def checksum(self) -> str:
        """Of all rows but the numbers of the feeds, which depend on the order."""
        return str(self._row("checksum")[0])

    def empty(self) -> None:
        with self._connection() as connection:
            connection.execute(SQL["empty"])
        self.cache.invalidate_tag(EVERYTHING)

    def _row(self, name: str) -> tuple[int, ...]:
        with self._connection() as connection:
            row = connection.execute(SQL[name]).fetchone()
        assert row is not None  # an aggregate always yields a row
        return row

    def _newest(self, label: str) -> tuple[tuple[str, str], ...]:
        with self._connection() as connection:
            return tuple(connection.execute(SQL["newest"], [label]).fetchall())

    def _load_feed_ids(self, names: Sequence[str]) -> dict[str, int]:
        with self._connection() as connection:
            connection.execute(SQL["add_feeds"], [list(names)])
            return dict(connection.execute(SQL["feed_ids"], [list(names)]).fetchall())

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        """One that nobody else has; there are as many as were ever needed at once.

        One that broke is left out: the next attempt has another.
        """
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = psycopg.connect(self._dsn, autocommit=True, application_name="feeds")
        try:
            yield connection
        finally:
            if not connection.closed:
                self._idle.put(connection)


def _once(batch: Sequence[Classified]) -> list[Classified]:
    """One for each digest, in their order: the one with the earliest date."""
    latest = datetime.max.replace(tzinfo=UTC)
    by_date = sorted(batch, key=lambda each: each.entry.published or latest, reverse=True)
    return [each for _, each in sorted({each.entry.digest: each for each in by_date}.items())]


def _columns(rows: Sequence[Classified]) -> list[list[object]]:
    return [
        [each.entry.digest for each in rows],
        [each.entry.title for each in rows],
        [each.entry.link for each in rows],
        [each.entry.summary for each in rows],
        [each.entry.published for each in rows],
        [each.label for each in rows],
        [each.score for each in rows],
        [each.because for each in rows],
    ]
