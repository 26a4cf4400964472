"""Reads what the server says about its own health; each probe on its own, none needs a superuser."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from perfloop.adapters.catalog import Role, Tables
from perfloop.adapters.probe import ProbeLog, grant_monitor, quoted, read_rows
from perfloop.adapters.queries import load_blocks
from perfloop.model.health import (
    CheckpointCounters,
    Health,
    PreparedTransaction,
    Recovery,
    ReplicationSlot,
    Sequence,
    Session,
    Standby,
    TransactionAge,
    UnvalidatedConstraint,
    VacuumProgress,
    WalCounters,
)
from perfloop.model.snapshot import Limitation
from perfloop.model.value import Value

ValueT = TypeVar("ValueT", bound=Value)

OLD_TRANSACTION_S = 0.5
"""Leaves out the crowd of a busy server; what is too old is for the checks to say."""
OLD_HORIZON = 100_000
"""Transactions; a session that keeps rows of an older moment is read however short it has been open."""


def health_query(name: str) -> sql.SQL:
    """The block of that name in health.sql."""
    return load_blocks("perfloop.adapters", "health.sql")[name]


class _Probes:
    """Reads blocks into values; what is refused is empty, and the log says so."""

    def __init__(self, connection: psycopg.Connection[Any], log: ProbeLog) -> None:
        self.connection = connection
        self.log = log

    def rows(self, subject: str, block: str, *parameters: object) -> list[DictRow]:
        read: Callable[[], list[DictRow]] = partial(
            read_rows, self.connection, health_query(block), parameters or None
        )
        return self.log.read(subject, read, [])

    def all(
        self, subject: str, block: str, kind: type[ValueT], parameters: tuple[object, ...] = ()
    ) -> tuple[ValueT, ...]:
        return tuple(msgspec.convert(row, kind) for row in self.rows(subject, block, *parameters))

    def one(self, subject: str, block: str, kind: type[ValueT]) -> ValueT | None:
        return next(iter(self.all(subject, block, kind)), None)


def read_health(connection: psycopg.Connection[Any], log: ProbeLog, role: Role, tables: Tables) -> Health:
    """All probes of health, once each."""
    probes = _Probes(connection, log)
    recovery = next(iter(probes.rows("recovery", "read_recovery")), {"is_standby": False})
    looks_back = (OLD_TRANSACTION_S, OLD_HORIZON)
    return Health(
        is_standby=recovery["is_standby"],
        recovery=msgspec.convert(recovery, Recovery) if recovery["is_standby"] else None,
        ages=probes.all("pg_database", "read_transaction_ages", TransactionAge),
        sequences=_sequences(probes, role),
        sessions=probes.all("pg_locks", "read_sessions_in_the_way", Session, looks_back),
        prepared=probes.all("pg_prepared_xacts", "read_prepared", PreparedTransaction),
        slots=probes.all("pg_replication_slots", "read_slots", ReplicationSlot),
        standbys=_standbys(probes, role),
        vacuums=probes.all("pg_stat_progress_vacuum", "read_vacuums", VacuumProgress),
        checkpoints=_checkpoints(probes),
        wal=probes.one("pg_stat_wal", "read_wal_counters", WalCounters),
        unvalidated=_unvalidated(probes, tables),
    )


def _sequences(probes: _Probes, role: Role) -> tuple[Sequence, ...]:
    rows = probes.rows("sequences", "read_sequences")
    hidden = sorted({row["schema"] for row in rows if not row["readable"]})
    if hidden:
        count = sum(not row["readable"] for row in rows)
        sequences = "1 sequence" if count == 1 else f"{count} sequences"
        probes.log.limitations.append(
            Limitation(
                subject="sequences",
                reason=f"the last value of {sequences} may not be read, so their end may come unseen",
                remedy="\n".join(
                    f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role.user)};\n"
                    f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {quoted(schema)} TO {quoted(role.user)};"
                    for schema in hidden
                ),
            )
        )
    return tuple(msgspec.convert(row, Sequence) for row in rows)


def _standbys(probes: _Probes, role: Role) -> tuple[Standby, ...]:
    standbys = probes.all("pg_stat_replication", "read_standbys", Standby)
    if standbys and not role.reads_statistics:
        probes.log.limitations.append(
            Limitation(
                subject="pg_stat_replication",
                reason=f"how far {len(standbys)} receivers of WAL are behind is hidden",
                remedy=grant_monitor(role.user),
            )
        )
    return standbys


def _checkpoints(probes: _Probes) -> CheckpointCounters | None:
    """Up to 15 no view tells bulk writes of the sessions apart, so their share would accuse COPY."""
    version = probes.connection.info.server_version
    block = "read_checkpoints_from_17" if version >= 170_000 else "read_checkpoints_until_16"
    rows = probes.rows("checkpoints", block)
    writes = probes.rows("pg_stat_io", "read_backend_writes_from_16") if version >= 160_000 else []
    backend_buffers = writes[0]["backend_buffers"] if writes else None
    return (
        msgspec.convert({**rows[0], "backend_buffers": backend_buffers}, CheckpointCounters) if rows else None
    )


def _unvalidated(probes: _Probes, tables: Tables) -> tuple[UnvalidatedConstraint, ...]:
    rows = probes.rows("constraints", "read_unvalidated_constraints", tables.oids)
    return tuple(
        msgspec.convert({**row, "table": tables.name(row["table_oid"])}, UnvalidatedConstraint)
        for row in rows
    )
