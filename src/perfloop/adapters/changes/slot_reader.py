"""Follows a database's log: one process for all through a slot that stays, or each through one of its own.

The log tells of a commit a moment before other sessions see it, and with a synchronous standby long
before. What is loaded in between would be old and stay. So a transaction is told once a snapshot of the
server sees it.

A slot that is made, or made anew because its log is gone or has grown too large, starts at a moment
before which anything may have changed. It begins as a temporary one; only when everything has been
invalidated is it copied into the one that stays. A crash at any point between leaves nothing that would
pass for complete.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Any, Final

import psycopg
from msgspec.structs import replace

from perfloop.adapters.changes.log_stream import LogMessage, LogStream, SlotBusy
from perfloop.adapters.changes.outbox_reader import APPLICATION, shut_down, source_name
from perfloop.adapters.changes.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Message,
    Relation,
    RowChange,
    Truncate,
    read_message,
)
from perfloop.adapters.changes.policies import SlotPolicy
from perfloop.adapters.changes.seen import SeenTransactions
from perfloop.adapters.changes.slot_plan import PUBLICATION, block, check_server, read_publication, slot_name
from perfloop.adapters.changes.source import SourceLag
from perfloop.adapters.connection import connect
from perfloop.errors import InvalidInput
from perfloop.model.changes import ANY_TABLE, RowTexts, TableChange, WatchedTable, table_name

LOOK_S: Final = 0.2
FIRST_PAUSE_S: Final = 0.0005
_READER: Final = re.compile(r"[a-z0-9_]{1,35}")


class ReplicationSlot:
    """The changes that a database's log tells; a `ChangeSource`.

    Args:
        dsn: Of the database, on its primary, for a role with REPLICATION.
        reader: The name of the slot that one of all processes follows, after `perfloop_cache_`; made where it
            is not there. One for each prefix in Redis and each database, since who reads clears that one
            alone. None lets this process follow one of its own, which ends with its connection, as a cache
            that shares no Redis must.
        policy: The guard of the log.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        dsn: str,
        *,
        reader: str | None,
        policy: SlotPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if reader is not None and not _READER.fullmatch(reader):
            raise InvalidInput(f"{reader!r} cannot name a slot; use at most 35 of a-z, 0-9 and _")
        self._dsn = dsn
        self._reader = reader
        self._slot = None if reader is None else slot_name(reader)
        self._policy = policy or SlotPolicy()
        self._clock = clock
        self._control: psycopg.Connection[Any] | None = None
        self._stream = LogStream(dsn, hung_after_s=self._policy.hung_after_s, clock=clock)
        self._watched: Mapping[str, tuple[str, ...]] = {}
        self._lag = SourceLag()
        self._begin()

    def _begin(self) -> None:
        self._is_streaming = False
        self._followed = self._slot
        self._temporary: str | None = None
        self._is_everything_told = False
        self._relations: dict[int, Relation] = {}
        self._seen: SeenTransactions | None = None
        self._is_inside = False
        self._told_end = 0
        self._asked: tuple[float, int] | None = None
        self._guarded_at_s = float("-inf")

    def open(self) -> bool:
        """Connect and follow the slot, if no other process does; make it where it is not there.

        Raises:
            InvalidInput: The server does not log what is needed, or there is no publication.
            MissingRights: The role may not replicate.
            TargetUnreachable: The server does not answer.
        """
        control = self._control or self._connect()
        if self._is_streaming or self._temporary is not None:
            return True
        return self._begin_alone() if self._slot is None else self._join(control, self._slot)

    def read(self, stopping: Event) -> Iterator[TableChange]:
        control = self._open_control()
        if self._temporary is not None:
            if not self._is_everything_told:
                yield from self._everything()
                self._is_everything_told = True
                return
            self._settle(control, self._temporary)
        self._confirm()
        self._guard(control)
        if not self._is_streaming:
            return
        try:
            yield from self._received(control, stopping)
        except InvalidInput:
            # What cannot be read can be told by nobody: begin anew, with everything in doubt.
            self._drop(control)
            raise

    def _received(self, control: psycopg.Connection[Any], stopping: Event) -> Iterator[TableChange]:
        end = self._told_end
        for message in self._stream.receive(LOOK_S):
            told = None if message.data is None else read_message(message.data)
            if isinstance(told, Begin):
                self._is_inside = True
                self._note_age(message, told)
                self._wait_until_seen(control, told.xid, stopping)
            elif isinstance(told, Commit):
                self._is_inside = False
                end = told.end
            elif told is None and not self._is_inside:
                end = max(end, message.end)
            else:
                yield from self._changes(told)
            if stopping.is_set():
                return
        self._told_end = end

    def close(self) -> None:
        self._stream.close()
        control, self._control = self._control, None
        if control is not None:
            control.close()
        self._begin()

    def abort(self) -> None:
        self._stream.abort()
        control = self._control
        if control is not None and not control.closed:
            shut_down(control.pgconn.socket)

    def lag(self) -> SourceLag:
        return self._lag

    @property
    def name(self) -> str:
        return source_name("slot", self._reader, self._dsn)

    @property
    def reads_for_all(self) -> bool:
        return self._reader is not None

    def watched(self) -> Sequence[WatchedTable]:
        return tuple(WatchedTable(table=name, columns=columns) for name, columns in self._watched.items())

    @property
    def install_command(self) -> str:
        return "perfloop cache slot install"

    def _connect(self) -> psycopg.Connection[Any]:
        hung_after_s = self._policy.hung_after_s
        control = connect(
            self._dsn, read_only=False, statement_timeout_s=hung_after_s, application_name=APPLICATION
        )
        try:
            check_server(control)
            self._look_what_is_watched(control)
        except BaseException:
            control.close()
            raise
        self._control = control
        return control

    def _look_what_is_watched(self, control: psycopg.Connection[Any]) -> None:
        publication = read_publication(control)
        if publication is None:
            raise InvalidInput(
                f"there is no publication {PUBLICATION}; make it with `{self.install_command}`"
            )
        self._watched = {each.table: each.columns for each in publication.watched}

    def _begin_alone(self) -> bool:
        self._temporary = self._followed = f"{PUBLICATION}_{secrets.token_hex(4)}"
        self._stream.connect()
        self._stream.create_temporary(self._temporary)
        return True

    def _join(self, control: psycopg.Connection[Any], slot: str) -> bool:
        """Follow the slot that all share, where nobody does; one whose log is gone is made anew."""
        self._guard(control)
        row = control.execute(block("read_slot"), [slot]).fetchone()
        active_pid, plugin, is_lost = row[:3] if row else (None, "pgoutput", True)
        if plugin != "pgoutput":
            raise InvalidInput(f"the slot {slot} is one of {plugin}; give the reader another name")
        if active_pid is not None:
            return False
        # It may be long since this process connected.
        self._look_what_is_watched(control)
        if not is_lost:
            self._stream.connect()
            return self._follow(slot)
        if row is not None:
            self._drop(control)
        self._temporary = f"{slot}_{secrets.token_hex(4)}"
        control.execute(block("create_temporary"), [self._temporary])
        return True

    def _follow(self, slot: str) -> bool:
        try:
            self._stream.start(slot, PUBLICATION)
        except SlotBusy:
            self._stream.close()
            return False
        self._is_streaming = True
        return True

    def _drop(self, control: psycopg.Connection[Any]) -> None:
        """Let the next open() begin anew."""
        row = control.execute(block("read_slot"), [self._followed]).fetchone()
        if row is None:
            return
        if row[0] is not None:
            control.execute(block("end_reader"), [row[0]])
        # Another process may have been faster, to drop it or to follow it.
        with suppress(psycopg.errors.UndefinedObject, psycopg.errors.ObjectInUse):
            control.execute(block("drop_slot"), [self._followed])

    def _settle(self, control: psycopg.Connection[Any], temporary: str) -> None:
        """Everything has been invalidated, so from now on the changes are enough."""
        self._temporary = None
        self._is_everything_told = False
        if self._slot is None:
            self._follow(temporary)
            return
        # Another process may have been as fast; one of us follows it.
        with suppress(psycopg.errors.DuplicateObject):
            control.execute(block("copy_slot"), [temporary, self._slot])
        control.execute(block("drop_slot"), [temporary])
        self._stream.connect()
        self._follow(self._slot)

    def _everything(self) -> Iterator[TableChange]:
        for table in self._watched:
            yield TableChange(table=table, rows=None)
        yield ANY_TABLE

    def _confirm(self) -> None:
        if not self._is_inside:
            self._lag = replace(self._lag, oldest_at_s=None)
        asked = self._asked
        if asked is not None and self._told_end >= asked[1] and not self._is_inside:
            self._lag = replace(self._lag, current_at_s=asked[0])
            self._asked = None

    def _guard(self, control: psycopg.Connection[Any]) -> None:
        """Look how much log the slot keeps, and ask how far the server has come."""
        now_s = self._clock()
        if now_s - self._guarded_at_s < self._policy.guard_every_s:
            return
        self._guarded_at_s = now_s
        row = control.execute(block("read_slot"), [self._followed]).fetchone()
        if row is not None:
            _, _, _, kept_bytes, flushed = row
            is_over = kept_bytes > self._policy.max_bytes
            self._lag = replace(self._lag, kept_bytes=kept_bytes, is_over_limit=is_over)
            self._asked = self._asked or (now_s, flushed)
            if is_over and self._policy.drop_over_limit:
                self._drop(control)
        if self._is_streaming:
            self._stream.confirm(self._told_end)

    def _note_age(self, message: LogMessage, begun: Begin) -> None:
        """Both moments are the server's, so that no clock of another host is compared with it."""
        at_s = self._clock() - max(0, message.sent_at_us - begun.committed_at_us) / 1e6
        if self._lag.oldest_at_s is None or at_s < self._lag.oldest_at_s:
            self._lag = replace(self._lag, oldest_at_s=at_s)

    def _wait_until_seen(self, control: psycopg.Connection[Any], xid: int, stopping: Event) -> None:
        pause_s = 0.0
        while self._seen is None or not self._seen.sees_short(xid):
            if stopping.wait(pause_s):
                return
            pause_s = min(pause_s + FIRST_PAUSE_S, LOOK_S)
            row = control.execute(block("read_now")).fetchone()
            self._seen = SeenTransactions.parse(row[0] if row else "")

    def _changes(self, told: Message | None) -> Iterator[TableChange]:
        if isinstance(told, Relation):
            self._relations[told.number] = told
        elif isinstance(told, Truncate):
            for number in told.relations:
                yield TableChange(table=self._table(number), rows=None)
        elif isinstance(told, RowChange):
            table = self._table(told.relation)
            rows = self._rows(told, self._relations[told.relation], table)
            yield TableChange(table=table, rows=rows)

    def _table(self, number: int) -> str | None:
        """The watched table; None for one that is not, as a child that inherits from a watched one."""
        relation = self._relations.get(number)
        if relation is None:
            raise InvalidInput(f"the log tells of table {number} before its name; the slot must be made anew")
        name = table_name(relation.schema, relation.name)
        return name if name in self._watched else None

    def _rows(self, change: RowChange, relation: Relation, table: str | None) -> tuple[RowTexts, ...] | None:
        columns = self._watched.get(table or "", ())
        is_told = change.is_new or relation.keys.issuperset(columns)
        if not columns or not is_told or not set(columns) <= set(relation.columns):
            return None
        rows = []
        for values in (change.old, change.new):
            if values is not None:
                if len(values) != len(relation.columns):
                    raise InvalidInput("a row in the log has other columns than its table")
                named = dict(zip(relation.columns, values, strict=True))
                rows.append({column: named[column] for column in columns if named[column] is not UNCHANGED})
        # A column that is left out lets the mapping clear the whole table, where it needs it.
        return tuple(rows)

    def _open_control(self) -> psycopg.Connection[Any]:
        if self._control is None:
            raise InvalidInput("the slot is not open; call open() first")
        return self._control
