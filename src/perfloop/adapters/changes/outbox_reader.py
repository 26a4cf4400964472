"""Reads the outbox: one process for all, or each process for itself.

Nothing is locked and nothing is deleted to read: a look takes what came to light since the last one (see
`seen`). How far the reader has come is stored about once a second, so a crash repeats about a second of
events, which does no harm, and loses none. Another process takes over when the session of the first has
ended; the server ends it when the process hangs.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Event, Lock
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from perfloop.adapters.changes.outbox_plan import block, read_installed
from perfloop.adapters.changes.policies import OutboxPolicy
from perfloop.adapters.changes.seen import SeenTransactions
from perfloop.adapters.changes.source import SourceLag
from perfloop.adapters.connection import connect
from perfloop.errors import InvalidInput, MissingRights
from perfloop.model.changes import ANY_TABLE, TableChange, WatchedTable

APPLICATION: Final = "perfloop cache"
GROWTH: Final = 1.25
ONE_LOOK: Final = 2000
"""Events that a look fetches at once; more are streamed, so that a backlog takes no memory."""


class Outbox:
    """The changes that the outbox of a database notes; a `ChangeSource`.

    Args:
        dsn: Of the database, on its primary; not of a pooler in transaction mode.
        reader: The name under which one of all processes reads, and under which it goes on after a restart:
            one for each prefix in Redis, since who reads clears that one alone. None lets this process read
            for itself, as a cache that shares no Redis must.
        policy: How often.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        dsn: str,
        *,
        reader: str | None,
        policy: OutboxPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dsn = dsn
        self._reader = reader
        self._policy = policy or OutboxPolicy()
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._connection_lock = Lock()
        self._is_reading = False
        self._position: SeenTransactions | None = None
        self._server = ""
        self._in_doubt = False
        self._told: SeenTransactions | None = None
        self._looked_at_s = self._stored_at_s = clock()
        self._pause_s = 0.0
        self._ends: deque[tuple[float, int]] = deque()
        self._lag = SourceLag()
        self._watched: tuple[WatchedTable, ...] = ()

    def open(self) -> bool:
        """Connect, and be the one that reads, if no other process does.

        Raises:
            InvalidInput: The database has no outbox, or is a standby.
            MissingRights: The role may not read it.
            TargetUnreachable: The server does not answer.
        """
        connection = self._connection or self._connect()
        if not self._is_reading and self._is_elected(connection):
            self._begin(connection)
            self._is_reading = True
        return self._is_reading

    def read(self, stopping: Event) -> Iterator[TableChange]:
        self._confirm()
        if stopping.wait(self._pause_s):
            return
        began_s = self._clock()
        last_s, self._looked_at_s = self._looked_at_s, began_s
        if self._in_doubt:
            self._told = self._position
            yield from self._everything()
            return
        position = self._position
        if position is None:
            raise InvalidInput("the outbox is not open; call open() first")
        told: SeenTransactions | None = None
        count = 0
        for seen, cleaned, age_s, name, rows in self._events(position):
            if told is None:
                told = SeenTransactions.parse(seen)
                if int(cleaned) > position.xmin:
                    yield from self._everything()
            if name is not None:
                count += 1
                self._note_age(began_s, min(age_s, began_s - last_s))
                yield TableChange(table=name, rows=None if rows is None else tuple(rows))
        self._told = told
        self._pause_s = self._next_pause(count)

    def close(self) -> None:
        with self._connection_lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._is_reading = False
        self._told = None

    def abort(self) -> None:
        with self._connection_lock:
            if self._connection is not None and not self._connection.closed:
                shut_down(self._connection.pgconn.socket)

    def lag(self) -> SourceLag:
        return self._lag

    @property
    def name(self) -> str:
        return source_name("outbox", self._reader, self._dsn)

    @property
    def reads_for_all(self) -> bool:
        return self._reader is not None

    def watched(self) -> Sequence[WatchedTable]:
        return self._watched

    @property
    def install_command(self) -> str:
        return "perfloop cache outbox install"

    def _connect(self) -> psycopg.Connection[Any]:
        # No limit in time: a backlog is streamed as fast as the cache takes it, and whoever uses the source
        # calls abort() where there is no progress.
        connection = connect(self._dsn, read_only=False, statement_timeout_s=0, application_name=APPLICATION)
        try:
            connection.prepare_threshold = 2
            milliseconds = str(round(self._policy.silent_for_s * 1000))
            connection.execute(block("prepare_session"), {"silent_ms": milliseconds})
            self._look_what_is_watched(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            connection.close()
            raise MissingRights(
                "the role may not read the outbox; GRANT USAGE ON SCHEMA perfloop_cache and "
                "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA perfloop_cache TO the role"
            ) from error
        except BaseException:
            connection.close()
            raise
        with self._connection_lock:
            self._connection = connection
        return connection

    def _look_what_is_watched(self, connection: psycopg.Connection[Any]) -> None:
        installed = read_installed(connection)
        if not installed.exists:
            raise InvalidInput(f"this database has no outbox; install one with `{self.install_command}`")
        self._watched = installed.watched

    def _is_elected(self, connection: psycopg.Connection[Any]) -> bool:
        if self._reader is None:
            return True
        return connection.execute(block("try_election"), [self._reader]).fetchone() == (True,)

    def _begin(self, connection: psycopg.Connection[Any]) -> None:
        """Go on from where the last reader of this name was on this server; otherwise all is in doubt."""
        # It may be long since this process connected.
        self._look_what_is_watched(connection)
        previous = self._position, self._server
        self._looked_at_s = self._stored_at_s = self._clock()
        self._pause_s = 0.0
        self._ends.clear()
        in_recovery, self._server = connection.execute(block("read_server")).fetchone() or (False, "")
        if in_recovery:
            raise InvalidInput("this server is a standby, where nothing can be stored; name the primary")
        if self._reader is not None:
            row = connection.execute(block("read_position"), [self._reader]).fetchone()
            previous = (SeenTransactions.parse(row[0]), row[1]) if row else (None, "")
        if previous[0] is not None and previous[1] == self._server:
            self._position = previous[0]
            return
        connection.execute(block("drop_alien_events"))
        self._position = self._now(connection)
        self._in_doubt = True

    def _now(self, connection: psycopg.Connection[Any]) -> SeenTransactions:
        row = connection.execute(block("read_now")).fetchone()
        return SeenTransactions.parse(row[0] if row else "")

    def _events(self, position: SeenTransactions) -> Iterator[tuple[Any, ...]]:
        connection = self._open_connection()
        parameters = {
            "xmax": str(position.xmax),
            "open": "{" + ",".join(str(xid) for xid in position.open) + "}",
        }
        events = connection.execute(block("read_events"), {**parameters, "limit": ONE_LOOK}).fetchall()
        if len(events) < ONE_LOOK:
            yield from events
            return
        events.clear()
        with connection.cursor() as cursor:
            yield from cursor.stream(block("read_events"), {**parameters, "limit": None})

    def _everything(self) -> Iterator[TableChange]:
        for each in read_installed(self._open_connection()).watched:
            yield TableChange(table=each.table, rows=None)
        yield ANY_TABLE

    def _confirm(self) -> None:
        told, self._told = self._told, None
        if told is None:
            return
        self._position = told
        is_first, self._in_doubt = self._in_doubt, False
        self._lag = SourceLag(current_at_s=self._looked_at_s, kept_bytes=self._lag.kept_bytes)
        if is_first or self._clock() - self._stored_at_s >= self._policy.store_every_s:
            self._store(told)

    def _store(self, position: SeenTransactions) -> None:
        connection = self._open_connection()
        self._stored_at_s = self._clock()
        if self._reader is not None:
            parameters = {"name": self._reader, "position": str(position), "server": self._server}
            connection.execute(block("store_position"), parameters)
            connection.execute(block("forget_readers"), [self._policy.forget_after_s])
        self._ends.append((self._stored_at_s, position.xmin))
        finished: int | None = None
        while self._ends and self._ends[0][0] <= self._stored_at_s - self._policy.keep_for_s:
            finished = self._ends.popleft()[1]
        if finished is not None:
            connection.execute(block("clean"), {"finished": str(finished)})
        row = connection.execute(block("read_kept")).fetchone()
        self._lag = SourceLag(current_at_s=self._lag.current_at_s, kept_bytes=row[0] if row else 0)

    def _note_age(self, now_s: float, age_s: float) -> None:
        at_s = now_s - max(age_s, 0.0)
        oldest_at_s = self._lag.oldest_at_s
        if oldest_at_s is None or at_s < oldest_at_s:
            self._lag = SourceLag(
                oldest_at_s=at_s, current_at_s=self._lag.current_at_s, kept_bytes=self._lag.kept_bytes
            )

    def _next_pause(self, count: int) -> float:
        if count:
            took_s = self._clock() - self._looked_at_s
            return min(max(4 * took_s, self._policy.shortest_pause_s), self._policy.longest_pause_s)
        return min(max(self._pause_s * GROWTH, self._policy.shortest_pause_s), self._policy.longest_pause_s)

    def _open_connection(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            raise InvalidInput("the outbox is not open; call open() first")
        return self._connection


def source_name(kind: str, reader: str | None, dsn: str) -> str:
    """As `outbox shop of localhost:5432/orders`; what the DSN leaves to the environment is left out."""
    named = conninfo_to_dict(dsn)
    place = f"{named.get('host') or ''}:{named.get('port') or ''}/{named.get('dbname') or ''}"
    return " ".join((kind, *([] if reader is None else [reader]), "of", place))


def shut_down(descriptor: int) -> None:
    """End a connection under whoever waits for it, in another thread."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as shared:
        shared.shutdown(socket.SHUT_RDWR)
