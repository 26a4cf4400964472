"""Targets to act on: servers of their own, because acts write settings of the whole server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from perfloop.adapters.catalog import read_fingerprint
from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.adapters.store import Journal
from perfloop.analyze.reading import findings_of_smell, read_plans
from perfloop.analyze.smells import SMELLS
from perfloop.model.advice import Change, Finding, Proposal
from perfloop.model.outcome import LabKind, Study, StudyState, TrialRecord, Verdict
from perfloop.model.plan import Plan
from perfloop.model.snapshot import Host, Snapshot, StatementPlan

TARGET_SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off", "shared_buffers": "32MB"}
TARGET_SQL = """
CREATE TABLE orders (id int PRIMARY KEY, customer int, status text);
INSERT INTO orders SELECT g, g % 100, CASE WHEN g % 50 = 0 THEN 'open' ELSE 'done' END
FROM generate_series(1, 20000) g;
CREATE INDEX orders_status ON orders (status DESC) WHERE status <> 'done';
ANALYZE orders;
CREATE EXTENSION pg_stat_statements;
"""
STATE_SQL = (
    """SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index JOIN pg_class c ON c.oid = indrelid
       WHERE relnamespace = 'public'::regnamespace ORDER BY 1""",
    "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting ORDER BY 1, 2",
    "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 1",
    "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
    """SELECT name, setting, pending_restart FROM pg_settings
       WHERE name IN ('max_wal_size', 'shared_buffers') ORDER BY 1""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActTarget:
    """A fresh database on a server whose settings may be changed."""

    dsn: str
    data_dir: Path

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True)

    def lines(self) -> list[str]:
        text = (self.data_dir / "postgresql.auto.conf").read_text()
        return sorted(line for line in text.splitlines() if line and not line.startswith("#"))

    def state(self) -> list[object]:
        """All that the acts of the tests touch, as the server and its file show it."""
        with self.connect() as connection:
            return [self.lines(), *(connection.execute(query).fetchall() for query in STATE_SQL)]


@pytest.fixture(scope="session")
def act_server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    with PostgresServer(each_postgres_binaries, settings=TARGET_SETTINGS) as server:
        yield server


@pytest.fixture
def act_target(act_server: PostgresServer) -> Iterator[ActTarget]:
    with psycopg.connect(act_server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
        dsn = make_conninfo(act_server.dsn(), dbname="shop")
        try:
            with psycopg.connect(dsn, autocommit=True) as inside:
                inside.execute(TARGET_SQL)
            yield ActTarget(dsn=dsn, data_dir=act_server.data_dir)
        finally:
            connection.execute("DROP DATABASE shop WITH (FORCE)")
            connection.execute("ALTER SYSTEM RESET ALL")
            connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite3") as opened:
        yield opened


@pytest.fixture
def study_of(act_target: ActTarget, journal: Journal) -> Callable[..., Study]:
    """Makes a study that kept the changes given, and saves it."""

    def make(*changes: Change) -> Study:
        with act_target.connect() as connection:
            study = Study(
                study_id="20261121-4f2c",
                target=act_target.dsn,
                started_at_s=0.0,
                state=StudyState.FINISHED,
                seed=1,
                fingerprint=read_fingerprint(connection),
                trials=tuple(_kept(change) for change in changes),
            )
        journal.save_study(study)
        return study

    return make


def _kept(change: Change) -> TrialRecord:
    return TrialRecord(
        proposal=Proposal(change=change, reason="a test"),
        lab=LabKind.DATABASES,
        verdict=Verdict.KEEP,
        reason="a test",
    )


@pytest.fixture(scope="session")
def read_target() -> Callable[..., Snapshot]:
    """Takes a Snapshot, as soon as it says what is waited for: counters come late."""
    host = Host(
        cpus=2,
        memory_bytes=8 * 1024**3,
        available_bytes=6 * 1024**3,
        load_1m=0.1,
        busy_ratio=0.1,
        steal_ratio=0.0,
    )

    def read(dsn: str, until: Callable[[Snapshot], object] = lambda snapshot: True) -> Snapshot:
        deadline = time.monotonic() + 20
        with connect(dsn, read_only=True) as connection:
            while True:
                snapshot = take_snapshot(connection, taken_at_s=time.time(), host=host)
                if until(snapshot):
                    return snapshot
                assert time.monotonic() < deadline, "what was waited for never came"

    return read


SMELL_SQL = """
CREATE TABLE orders (
    id int PRIMARY KEY, customer int, status text, shop int, town int, placed int, scattered int, late int,
    note text
) WITH (autovacuum_enabled = false, fillfactor = 90);
INSERT INTO orders
SELECT i, i % 300, CASE WHEN i % 100 = 0 THEN 'open' ELSE 'done' END, i % 20, i % 20, i, i * 7919 % 30000,
       30000 - i, repeat('x', 400)
FROM generate_series(1, 30000) i;
CREATE INDEX orders_customer ON orders (customer);
CREATE INDEX orders_placed ON orders (placed);
CREATE INDEX orders_scattered ON orders (scattered);
CREATE TABLE items (id int PRIMARY KEY, order_id int, amount int) WITH (autovacuum_enabled = false);
INSERT INTO items SELECT i, i * 7919 % 30000, i % 10 FROM generate_series(1, 30000) i;
CREATE INDEX items_order ON items (order_id);
CREATE TABLE tags (id int, order_id int) WITH (autovacuum_enabled = false);
INSERT INTO tags SELECT i, i FROM generate_series(1, 2000) i;
CREATE TABLE days (day date, amount int) PARTITION BY RANGE (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE days_3 PARTITION OF days FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
CREATE TABLE days_4 PARTITION OF days FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');
INSERT INTO days SELECT date '2026-01-01' + i % 120, i FROM generate_series(1, 48000) i;
"""


def _planned(
    connection: psycopg.Connection, text: str, setup: tuple[str, ...], *, executed: bool
) -> tuple[Plan, Snapshot]:
    host = Host(
        cpus=2, memory_bytes=2**33, available_bytes=2**32, load_1m=0.0, busy_ratio=0.0, steal_ratio=0.0
    )
    for command in ("SET LOCAL jit = off", *setup):  # a method that is switched off is costed as if for JIT
        connection.execute(command)
    plan = explain(connection, text, analyze=executed)
    connection.execute("RESET ALL")  # the snapshot's own queries are not under test
    connection.execute("SET LOCAL jit = off")
    return plan, take_snapshot(connection, taken_at_s=time.time(), host=host)


@pytest.fixture(scope="session")
def smell_dsn(each_postgres_server: PostgresServer) -> Iterator[str]:
    """One shop for all tests of rules over plans; nothing that they do to it is committed."""
    with psycopg.connect(each_postgres_server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE smells")
        dsn = make_conninfo(each_postgres_server.dsn(), dbname="smells")
        try:
            with psycopg.connect(dsn, autocommit=True) as inside:
                inside.execute(SMELL_SQL)
                inside.execute("VACUUM ANALYZE")
            yield dsn
        finally:
            connection.execute("DROP DATABASE smells WITH (FORCE)")


@pytest.fixture
def smells(smell_dsn: str) -> Callable[..., dict[str, Finding]]:
    """What the rules say of one statement, by their names, after what else is given ran before it.

    All in one transaction that is rolled back; with `executed=False` the statement is only planned.
    """

    def find(text: str, *setup: str, executed: bool = True) -> dict[str, Finding]:
        with psycopg.connect(smell_dsn) as connection:
            plan, snapshot = _planned(connection, text, setup, executed=executed)
            connection.rollback()
        plans = (StatementPlan(query_id="1", instance=text, plan=plan),)
        snapshot = replace(snapshot, statements=(), plans=plans)
        readings = read_plans(snapshot)
        found = (each for smell in SMELLS for each in findings_of_smell(snapshot, smell, readings))
        return {each.check: each for each in found}

    return find
