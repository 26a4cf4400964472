"""Takes a Snapshot of a PostgreSQL target: every probe once, each on its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from perfloop.adapters import catalog
from perfloop.adapters.activity import read_activity
from perfloop.adapters.health import read_health
from perfloop.adapters.jobs.procrastinate import read_procrastinate
from perfloop.adapters.probe import ProbeLog, grant_monitor, quoted
from perfloop.adapters.statement_counters import (
    SUBJECT,
    StatementReading,
    read_statements,
    statement_difference,
)
from perfloop.model.snapshot import Host, Limitation, Snapshot
from perfloop.model.target import TableName

_TABLES_TO_NAME = 5


def take_snapshot(
    connection: psycopg.Connection[Any],
    *,
    taken_at_s: float,
    host: Host,
    earlier: StatementReading | None = None,
) -> Snapshot:
    """Read the target once.

    Args:
        connection: From `connect(…, read_only=True)`.
        taken_at_s: Unix time.
        host: From `read_host`.
        earlier: A first reading of the statements; the Snapshot then has what was counted since.

    Raises:
        TargetUnreachable: The server went away. What it merely refuses becomes a Limitation.
    """
    role = catalog.read_role(connection)
    log = ProbeLog(role.user)
    statements = log.read(SUBJECT, partial(_statements, connection, role, earlier), StatementReading())
    log.limitations.extend(statements.limitations)
    tables = log.read("tables", partial(catalog.read_tables, connection), catalog.Tables(rows={}))
    columns = log.read("columns", partial(catalog.read_columns, connection, tables), catalog.TableColumns())
    log.limitations.extend(_hidden_parts(role, tables, columns))

    def of_tables(
        subject: str, probe: Callable[..., tuple[catalog.OfTableT, ...]]
    ) -> tuple[catalog.OfTableT, ...]:
        return log.read(subject, partial(probe, connection, tables), ())

    return Snapshot(
        taken_at_s=taken_at_s,
        database=role.database,
        user=role.user,
        fingerprint=catalog.read_fingerprint(connection),
        settings=log.read("pg_settings", partial(catalog.read_settings, connection), ()),
        tables=catalog.with_columns(tables, columns),
        indexes=of_tables("indexes", catalog.read_indexes),
        foreign_keys=of_tables("foreign keys", catalog.read_foreign_keys),
        extended_statistics=of_tables("extended statistics", catalog.read_extended_statistics),
        statements=statements.counters,
        utility_temp_blocks=statements.utility_temp_blocks,
        activity=read_activity(connection, log, role.user),
        host=host,
        health=read_health(connection, log, role, tables),
        jobs=read_procrastinate(connection, log),
        limitations=tuple(log.limitations),
    )


def _statements(
    connection: psycopg.Connection[Any], role: catalog.Role, earlier: StatementReading | None
) -> StatementReading:
    now = read_statements(connection, role=role.user)
    return now if earlier is None else statement_difference(earlier, now)


def _hidden_parts(
    role: catalog.Role, tables: catalog.Tables, columns: catalog.TableColumns
) -> list[Limitation]:
    told = []
    if not role.reads_settings:
        reason = "settings that only privileged roles may see are missing, as shared_preload_libraries"
        told.append(Limitation(subject="pg_settings", reason=reason, remedy=grant_monitor(role.user)))
    hidden = "so parameters cannot be drawn from their values"
    if columns.not_granted:
        names = [tables.name(oid) for oid in columns.not_granted]
        reason = f"{_listed(names)} may not be read, {hidden}"
        told.append(Limitation(subject="pg_stats", reason=reason, remedy=_grant_select(names, role.user)))
    if columns.row_secured:
        names = [tables.name(oid) for oid in columns.row_secured]
        reason = f"row-level security holds on {_listed(names)}, {hidden}"
        remedy = f"ALTER ROLE {quoted(role.user)} BYPASSRLS;"
        told.append(Limitation(subject="pg_stats", reason=reason, remedy=remedy))
    return told


def _listed(names: list[TableName]) -> str:
    more = f" and {len(names) - _TABLES_TO_NAME} more" if len(names) > _TABLES_TO_NAME else ""
    return ", ".join(str(name) for name in names[:_TABLES_TO_NAME]) + more


def _grant_select(names: list[TableName], role: str) -> str:
    """Grants by schema: they stay short with a thousand tables, and the next parameter needs the rest too."""
    return "\n".join(
        f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)};\n"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {quoted(schema)} TO {quoted(role)};"
        for schema in sorted({name.schema for name in names})
    )
