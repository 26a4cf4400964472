"""What following a database's log needs in it: a publication of the watched tables, and old values.

What is told and what was there before is noted in the publication's comment, so that removing it brings
back each table's replica identity. All readers share it. The slot of each is made by its first process,
which then invalidates everything once; removing the publication removes them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from perfloop.adapters.changes.outbox_plan import Statement, resolve
from perfloop.adapters.changes.outbox_plan import block as outbox_block
from perfloop.adapters.queries import load_blocks
from perfloop.errors import InvalidInput, MissingRights
from perfloop.model.changes import WatchedTable, split_name, table_name

PUBLICATION: Final = "perfloop_cache"
FULL: Final = "f"
INDEX: Final = "i"
PARTITIONED: Final = "p"
_IDENTITY_BLOCKS: Final = {"d": "tell_key", "n": "tell_nothing"}


class Identity(msgspec.Struct, frozen=True):
    """A table's replica identity as it was; the index is named where there was one."""

    kind: str
    index: str | None = None


class Noted(msgspec.Struct, frozen=True):
    """What the comment of the publication holds of one table."""

    columns: tuple[str, ...]
    before: Identity | None
    """None where it was left alone."""


class Note(msgspec.Struct, frozen=True):
    """The comment of the publication."""

    perfloop: dict[str, Noted]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publication of ours as it stands."""

    noted: dict[str, Noted]

    @property
    def watched(self) -> tuple[WatchedTable, ...]:
        return tuple(WatchedTable(table=name, columns=each.columns) for name, each in self.noted.items())


def slot_name(reader: str) -> str:
    """The slot that the processes of a reader share."""
    return f"{PUBLICATION}_{reader}"


def block(name: str) -> sql.SQL:
    """The block of that name in slot.sql."""
    return load_blocks("perfloop.adapters.changes", "slot.sql")[name]


def check_server(connection: psycopg.Connection[Any]) -> str:
    """Whether server and role can do it; gives max_slot_wal_keep_size.

    Raises:
        InvalidInput: The server does not log what decoding needs, or is a standby.
        MissingRights: The role may not replicate.
    """
    row = connection.execute(block("read_server")).fetchone()
    level, in_recovery, kept_limit, replicates, role = row or ("", False, "", False, "")
    if in_recovery:
        raise InvalidInput("this server is a standby; name the primary")
    if level != "logical":
        raise InvalidInput(
            f"wal_level is {level}, and logical decoding needs: ALTER SYSTEM SET wal_level = logical, then a "
            "restart; the outbox needs neither"
        )
    if not replicates:
        raise MissingRights(
            f"role {role} may not replicate; ALTER ROLE {role} REPLICATION, or use the outbox"
        )
    return str(kept_limit)


def read_publication(connection: psycopg.Connection[Any]) -> Publication | None:
    """The publication, or None without one.

    Raises:
        InvalidInput: It is somebody else's.
    """
    row = connection.execute(block("read_publication"), [PUBLICATION]).fetchone()
    if row is None:
        return None
    try:
        return Publication(noted=msgspec.json.decode(row[0] or "", type=Note).perfloop)
    except msgspec.DecodeError:
        raise InvalidInput(
            f"the publication {PUBLICATION} was not made by perfloop; rename it or drop it"
        ) from None


def plan_install(
    connection: psycopg.Connection[Any], watched: Sequence[WatchedTable]
) -> tuple[Statement, ...]:
    """The statements that publish these tables, besides those published already.

    Raises:
        InvalidInput: A table or column is not there or cannot be watched; or as `check_server`.
        MissingRights: As `check_server`.
    """
    if not watched:
        raise InvalidInput("no table is named; say which to watch with --table orders:id")
    check_server(connection)
    found = read_publication(connection)
    noted = dict(found.noted) if found else {}
    statements: list[Statement] = []
    for each in watched:
        resolved = resolve(connection, each)
        before = noted.get(resolved.table)
        replaced = _replaced_identity(connection, resolved)
        _check_parts(connection, resolved, is_replaced=replaced is not None)
        if replaced is not None:
            statements.append(block("tell_all_columns").format(table=_identifier(resolved.table)))
        noted[resolved.table] = Noted(
            columns=resolved.columns, before=replaced or (before.before if before else None)
        )
    head = "set_tables" if found else "create_publication"
    return (*statements, *_publish(head, noted))


def plan_remove(connection: psycopg.Connection[Any], tables: Sequence[str] = ()) -> tuple[Statement, ...]:
    """The statements that publish these tables no longer; without any, all of them, and the slots go, too.

    Raises:
        InvalidInput: One is not published.
    """
    found = read_publication(connection)
    if found is None:
        return ()
    unknown = [table for table in tables if table not in found.noted]
    if unknown:
        raise InvalidInput(f"{', '.join(unknown)} is not watched; see perfloop cache slot status")
    gone = list(tables) or list(found.noted)
    left = {table: noted for table, noted in found.noted.items() if table not in gone}
    statements = [statement for table in gone for statement in _as_before(table, found.noted[table].before)]
    if left:
        return (*statements, *_publish("set_tables", left))
    statements.append(block("drop_publication").format(publication=sql.Identifier(PUBLICATION)))
    # Last, because no rollback brings a slot back.
    slots = [name for name, *_ in read_slots(connection)]
    return (*statements, *(block("drop_slot_named").format(slot=sql.Literal(slot)) for slot in slots))


def read_slots(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Of each reader's slot: name, the process that follows it, whether its log is lost, bytes it keeps."""
    return connection.execute(block("read_slots")).fetchall()


def _publish(head: str, noted: dict[str, Noted]) -> Iterator[Statement]:
    publication = sql.Identifier(PUBLICATION)
    tables = sql.SQL(", ").join(_identifier(table) for table in noted)
    yield block(head).format(publication=publication, tables=tables)
    text = msgspec.json.encode(Note(perfloop=noted)).decode()
    yield block("note_publication").format(publication=publication, noted=sql.Literal(text))


def _replaced_identity(connection: psycopg.Connection[Any], watched: WatchedTable) -> Identity | None:
    """The identity to be replaced, as it would not tell all watched columns; a table must have one at all."""
    row = connection.execute(block("read_identity"), split_name(watched.table)).fetchone()
    kind, index, columns = row or ("n", None, [])
    if kind == FULL or (columns and set(watched.columns) <= set(columns)):
        return None
    return Identity(kind=kind, index=index)


def _check_parts(connection: psycopg.Connection[Any], watched: WatchedTable, *, is_replaced: bool) -> None:
    """Parts are published with the whole, and the server refuses UPDATEs of those that tell no old values.

    Raises:
        InvalidInput: Some do, or parts that are made later would.
    """
    for schema, relation, kind in connection.execute(
        outbox_block("read_parts"), split_name(watched.table)
    ).fetchall():
        name = table_name(schema, relation)
        if kind == PARTITIONED and is_replaced:
            raise InvalidInput(
                f"{name} is partitioned, and its replica identity does not reach its parts, so that "
                "UPDATEs of them would fail or tell too little; watch columns of its primary key, or use "
                "the outbox"
            )
        identity, _, columns = connection.execute(block("read_identity"), (schema, relation)).fetchone() or (
            "n",
            None,
            [],
        )
        if name != watched.table and identity != FULL and not columns:
            raise InvalidInput(
                f"{name}, which is a part of {watched.table}, has no primary key, so that UPDATEs of it "
                f"would fail; ALTER TABLE {name} REPLICA IDENTITY FULL, or use the outbox"
            )


def _as_before(table: str, identity: Identity | None) -> Iterator[Statement]:
    if identity is None:
        return
    if identity.kind == INDEX and identity.index is not None:
        # regclass has quoted it where it must be.
        index = sql.Identifier(*_unquoted(identity.index))
        yield block("tell_index").format(table=_identifier(table), index=index)
        return
    yield block(_IDENTITY_BLOCKS[identity.kind]).format(table=_identifier(table))


def _unquoted(name: str) -> tuple[str, ...]:
    return (name.rpartition(".")[2].strip('"').replace('""', '"'),)


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*split_name(table))
