"""Everything that can be refused is refused before the first act: rights, limits, builds, what is there."""

from __future__ import annotations

from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from perfloop.adapters.catalog import read_fingerprint, read_settings
from perfloop.adapters.host import read_host, server_is_here
from perfloop.adapters.probe import read_rows
from perfloop.database.knobs import refuse, refuse_memory
from perfloop.errors import ChangeFailed, ChangeForbidden, InvalidInput, MissingRights
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    CreateExtension,
    CreateIndex,
    DropIndex,
    ServerChange,
    SettingScope,
)
from perfloop.model.outcome import Study
from perfloop.model.target import Fingerprint, Setting, TableName
from perfloop.tune.acts import LockPolicy
from perfloop.tune.extensions import refuse_extension
from perfloop.tune.session import ActingSession, block
from perfloop.tune.states import read_before

_BUILD_FEATURES = {"jit": "jit", "wal_compression": "wal_compression", "io_method": "io_method"}
_OUTRANKING = {
    SettingScope.SYSTEM: {
        "command line": "on the server's command line",
        "environment variable": "in the server's environment",
        "global": "for all roles",
        "database": "for the database",
        "user": "for the role",
        "database user": "for the role in the database",
    },
    SettingScope.DATABASE: {"user": "for the role", "database user": "for the role in the database"},
    SettingScope.ROLE: {"database user": "for the role in the database"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPolicy:
    """What apply may do."""

    restart_allowed: bool = False
    """Write settings that wait for a restart, which perfloop does not do on a target."""
    other_major_allowed: bool = False
    """Carry verdicts to another major version."""
    memory_bytes: int | None = None
    """Of the target's machine; where that is this one, it is read if it is not given."""
    locks: LockPolicy = field(default_factory=LockPolicy)


def preflight(
    session: ActingSession, study: Study, changes: tuple[ServerChange, ...], policy: ApplyPolicy
) -> None:
    """Refuse the whole apply for the first Change that this target would not take.

    Raises ChangeForbidden, ChangeFailed, InvalidInput or MissingRights, with the way out; nothing
    was changed then.
    """
    connection = session.connection
    live = read_fingerprint(connection)
    settings = read_settings(connection)
    tried_on = study.lab_fingerprint or study.fingerprint
    _refuse_major(tried_on, live, policy)
    for change in changes:
        if isinstance(change, AlterSetting):
            _refuse_build(change, tried_on, live)
            _refuse_setting(session, change, settings, policy)
        elif isinstance(change, CreateExtension):
            refuse_extension(connection, change)
        else:
            _refuse_table(connection, change.table, change)
        read_before(connection, change)
    if any(isinstance(each, AlterSetting) and each.scope is SettingScope.SYSTEM for each in changes):
        _refuse_files(connection)


def _refuse_major(tried_on: Fingerprint, live: Fingerprint, policy: ApplyPolicy) -> None:
    if tried_on.major != live.major and not policy.other_major_allowed:
        raise ChangeFailed(
            f"the verdicts are of PostgreSQL {tried_on.major} and the target is {live.major}; planners "
            "differ: run optimize with the target's version, or allow it with --other-major"
        )


def _refuse_build(change: AlterSetting, tried_on: Fingerprint, live: Fingerprint) -> None:
    differs = {*tried_on.lacks(live), *live.lacks(tried_on)}
    for prefix, feature in _BUILD_FEATURES.items():
        if change.name.startswith(prefix) and feature in differs:
            raise ChangeForbidden(
                f"{change.name} was tried on a build that differs from the target's in {feature}, "
                "so the verdict does not hold there; run optimize with the target's binaries"
            )


def _refuse_setting(
    session: ActingSession, change: AlterSetting, settings: tuple[Setting, ...], policy: ApplyPolicy
) -> None:
    setting = next((each for each in settings if each.name == change.name.lower()), None)
    refuse(change.name, change.value, change.scope, setting)
    assert setting is not None
    if setting.context == "postmaster" and not policy.restart_allowed:
        raise ChangeForbidden(
            f"{change.name} takes effect only after a restart; allow it to be written with --restart"
        )
    memory_bytes = policy.memory_bytes or _memory_here(session.connection)
    if memory_bytes is not None:
        refuse_memory(settings, change.name, change.value, memory_bytes)
    place = _OUTRANKING[change.scope].get(setting.source)
    if place is not None:
        raise ChangeFailed(
            f"{change.name} is set {place} already, which outranks this; remove it there first"
        )
    _refuse_setting_rights(session, change, setting)


def _memory_here(connection: psycopg.Connection) -> int | None:
    """The memory that a server on this machine has; None for one elsewhere, or in a container of its own."""
    if not server_is_here(connection):
        return None
    return read_host(runs_server=True, window_s=0.0).memory_bytes


def _refuse_setting_rights(session: ActingSession, change: AlterSetting, setting: Setting) -> None:
    connection = session.connection
    granted = {"sets": False, "writes": False}
    if connection.info.server_version >= 150_000:
        (granted,) = read_rows(connection, block("parameter_rights"), [change.name] * 2)
    if change.scope is SettingScope.SYSTEM:
        _refuse_system_rights(session, change, writes=granted["writes"])
        return
    (stored,) = read_rows(connection, block("stored_setting_rights"), [change.scope_name] * 2)
    right = "owns_database" if change.scope is SettingScope.DATABASE else "alters_role"
    if not stored[right]:
        raise MissingRights(
            f"this role may not store settings of {change.scope.value} {change.scope_name}; "
            "connect as its owner or as a superuser"
        )
    if setting.context == "superuser" and not stored["is_superuser"] and not granted["sets"]:
        raise MissingRights(
            f"{change.name} needs: GRANT SET ON PARAMETER {change.name} TO <role> (PostgreSQL 15)"
        )


def _refuse_system_rights(session: ActingSession, change: AlterSetting, *, writes: bool) -> None:
    (rights,) = read_rows(session.connection, block("system_setting_rights"))
    if not session.allows_alter_system:
        raise MissingRights(
            "ALTER SYSTEM is switched off here (allow_alter_system); set it where it is managed"
        )
    if not rights["writes"] and not writes:
        raise MissingRights(
            f"{change.name} needs: GRANT ALTER SYSTEM ON PARAMETER {change.name} TO <role> "
            "(PostgreSQL 15), or a superuser"
        )
    if not rights["reloads"]:
        raise MissingRights("loading it needs: GRANT EXECUTE ON FUNCTION pg_reload_conf() TO <role>")


def _refuse_files(connection: psycopg.Connection) -> None:
    try:
        faults = read_rows(connection, block("file_faults"))
    except errors.InsufficientPrivilege as error:
        raise MissingRights(
            "this role may not read pg_file_settings; as superuser: "
            "GRANT SELECT ON pg_file_settings TO <role>"
        ) from error
    if faults:
        first = faults[0]
        raise ChangeFailed(
            f"{first['sourcefile']} line {first['sourceline']}: {first['error']}; "
            "the server loads no setting until this is mended"
        )


def _refuse_table(connection: psycopg.Connection, table: TableName, change: ServerChange) -> None:
    rows = read_rows(connection, block("table_rights"), [table.schema, table.name])
    if not rows:
        raise ChangeFailed(f"there is no table {table} on the target; nothing was changed. Run optimize anew")
    rights = rows[0]
    if rights["is_partitioned"] and not isinstance(change, AnalyzeTable | CreateIndex):
        raise InvalidInput(
            f"{table} is partitioned, and only indexes are built on it without blocking; "
            "apply it by hand, partition by partition"
        )
    may = rights["owns_table"] or (isinstance(change, AnalyzeTable) and rights["owns_database"])
    if not may:
        raise MissingRights(f"{change.title} needs the owner of {table}; connect as that role")
    if not rights["creates_in_schema"] and not isinstance(change, AnalyzeTable | DropIndex):
        raise MissingRights(f"{change.title} needs: GRANT CREATE ON SCHEMA {table.schema} TO <role>")
