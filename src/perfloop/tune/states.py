"""What a server shows of one Change: what was there before, how much of it is there now. Only reads.

The session is pinned, so that a definition reads as in a Snapshot, with names in full.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

import msgspec
import psycopg
from psycopg import errors
from psycopg.rows import DictRow

from perfloop.adapters.catalog import read_role, read_settings
from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import load_blocks
from perfloop.database.knobs import same_value
from perfloop.errors import ChangeFailed, MissingRights
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    CreateExtension,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    ServerChange,
    SetTableOptions,
    SettingScope,
)
from perfloop.model.target import Setting


class Standing(enum.Enum):
    """How much of a Change a server shows."""

    ABSENT = "absent"
    PARTIAL = "partial"
    """Begun and not usable: an invalid index, a line that is written and not loaded."""
    AWAITS_RESTART = "awaits restart"
    IN_EFFECT = "in effect"


def named(connection: psycopg.Connection, change: ServerChange) -> ServerChange:
    """The Change with the name of the database or role that it means on this connection."""
    if not isinstance(change, AlterSetting) or change.scope_name is not None:
        return change
    if change.scope is SettingScope.SYSTEM:
        return change
    role = read_role(connection)
    name = role.database if change.scope is SettingScope.DATABASE else role.user
    return msgspec.structs.replace(change, scope_name=name)


def read_before(connection: psycopg.Connection, change: ServerChange) -> str | None:
    """What undo must bring back: a definition or a value as the server wrote it, None for absence.

    Raises:
        ChangeFailed: the object to create exists, the one to drop does not or has changed since,
            or its undo could not bring all of it back.
        MissingRights: the role may not read what ALTER SYSTEM wrote.
    """
    state = read_state(connection, change)
    match change:
        case CreateIndex() if read_index(connection, change) is not None:
            raise ChangeFailed(f"an index {change.name} exists already; drop or rename it first")
        case CreateStatistics() if state is not None:
            raise ChangeFailed(f"statistics {change.name} exist already; drop them first")
        case DropIndex():
            _refuse_drop(connection, change)
    return state


def read_state(connection: psycopg.Connection, change: ServerChange) -> str | None:
    """What the server holds now, in the form of `read_before`; None for absence and for a leftover."""
    match change:
        case CreateIndex() | DropIndex():
            index = read_index(connection, change)
            return index.definition if index and (index.is_whole or was_invalid(change)) else None
        case AlterSetting(scope=SettingScope.SYSTEM):
            return read_system_line(connection, change)[0]
        case AlterSetting():
            change = _settled(connection, change)
            block = "database_setting" if change.scope is SettingScope.DATABASE else "role_setting"
            return _text(_row(connection, block, change.scope_name, change.name))
        case CreateExtension():
            return _text(_row(connection, "installed_extension", change.name))
        case CreateStatistics():
            return _text(_row(connection, "statistics", change.table.schema, change.name))
        case SetTableOptions():
            row = _row(
                connection, "table_options", list(change.names), change.table.schema, change.table.name
            )
            return None if row is None or row["state"] is None else _text(row)
        case AnalyzeTable():
            return None


def standing(connection: psycopg.Connection, change: ServerChange) -> Standing:
    """How much of the Change the server shows now. ANALYZE counts as done once the table has statistics."""
    match change:
        case CreateIndex():
            index = read_index(connection, change)
            if index is None:
                return Standing.ABSENT
            return Standing.IN_EFFECT if index.is_whole else Standing.PARTIAL
        case DropIndex():
            index = read_index(connection, change)
            if index is None:
                return Standing.IN_EFFECT
            return Standing.ABSENT if index.is_whole or was_invalid(change) else Standing.PARTIAL
        case AlterSetting(scope=SettingScope.SYSTEM):
            return _system_standing(connection, change)
        case AlterSetting() | CreateExtension() | CreateStatistics() | SetTableOptions():
            wanted = _state_wanted(change)
            state = read_state(connection, change)
            return Standing.IN_EFFECT if state is not None and wanted in (None, state) else Standing.ABSENT
        case AnalyzeTable():
            row = _row(connection, "is_analyzed", change.table.schema, change.table.name)
            return Standing.IN_EFFECT if row is not None and row["is_analyzed"] else Standing.ABSENT


def _state_wanted(
    change: AlterSetting | CreateExtension | CreateStatistics | SetTableOptions,
) -> str | None:
    """What `read_state` gives once the Change is made; None where any state will do."""
    match change:
        case AlterSetting():
            return change.value
        case SetTableOptions():
            return ", ".join(sorted(change.options))
        case CreateExtension() | CreateStatistics():
            return None


def read_setting(connection: psycopg.Connection, name: str) -> Setting | None:
    """A setting with its limits, as this session has it; None where the server has none of that name."""
    return next((each for each in read_settings(connection) if each.name == name.lower()), None)


def read_loaded_at(connection: psycopg.Connection) -> datetime | None:
    """When this session read the configuration files last."""
    row = _row(connection, "loaded_at")
    return None if row is None else row["loaded_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """How an index is defined, whether it can be used, and what its undo would lose."""

    definition: str
    is_whole: bool
    backs_constraint: bool
    is_marked: bool
    has_tablespace: bool
    has_comment: bool
    is_partition: bool


def read_index(connection: psycopg.Connection, change: CreateIndex | DropIndex) -> IndexState | None:
    """The index of the Change's name, a leftover included."""
    row = _row(connection, "index", change.table.schema, change.name)
    return None if row is None else IndexState(**row)


def was_invalid(change: ServerChange) -> bool:
    """Whether the Change drops an index that was of no use before either."""
    return isinstance(change, DropIndex) and not change.was_valid


def _refuse_drop(connection: psycopg.Connection, change: DropIndex) -> None:
    index = read_index(connection, change)
    if index is None and was_invalid(change):
        return  # somebody has tidied up, or an undo that does not build such an index again
    if index is None:
        raise ChangeFailed(f"there is no index {change.name} to drop; nothing was changed. Run optimize anew")
    if index.definition != change.definition or index.is_whole is not change.was_valid:
        raise ChangeFailed(f"index {change.name} has changed since the study; run optimize again")
    losses = {
        "it enforces a constraint": index.backs_constraint,
        "it is marked for CLUSTER or as replica identity": index.is_marked,
        "it lies in a tablespace of its own": index.has_tablespace,
        "it carries a comment": index.has_comment,
        "it is part of a partitioned index": index.is_partition,
    }
    for loss in (text for text, is_so in losses.items() if is_so):
        raise ChangeFailed(f"index {change.name} stays: {loss}, which undo would lose; drop it by hand")


def read_system_line(connection: psycopg.Connection, change: AlterSetting) -> tuple[str | None, str | None]:
    """What ALTER SYSTEM wrote of a setting, and what the server has against it.

    Raises MissingRights where the role may not read that.
    """
    try:
        row = _row(connection, "system_setting", change.name)
    except errors.InsufficientPrivilege as error:
        raise MissingRights(
            "this role may not read pg_file_settings, without which ALTER SYSTEM has no exact undo; "
            "as superuser: GRANT SELECT ON pg_file_settings TO <role>; "
            "GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO <role>"
        ) from error
    return (None, None) if row is None else (row["state"], row["error"])


def _system_standing(connection: psycopg.Connection, change: AlterSetting) -> Standing:
    line, fault = read_system_line(connection, change)
    setting = read_setting(connection, change.name)
    if setting is None or line != change.value:
        return Standing.ABSENT
    if setting.context == "postmaster" and not same_value(setting, line):
        return Standing.AWAITS_RESTART if setting.pending_restart else Standing.PARTIAL
    in_use = fault is None and setting.source == "configuration file" and same_value(setting, line)
    return Standing.IN_EFFECT if in_use else Standing.PARTIAL


def _settled(connection: psycopg.Connection, change: AlterSetting) -> AlterSetting:
    settled = named(connection, change)
    assert isinstance(settled, AlterSetting)
    return settled


def _row(connection: psycopg.Connection, block: str, *parameters: str | list[str] | None) -> DictRow | None:
    rows = read_rows(connection, load_blocks("perfloop.tune", "states.sql")[block], parameters or None)
    return rows[0] if rows else None


def _text(row: DictRow | None) -> str | None:
    return None if row is None else str(row["state"])
