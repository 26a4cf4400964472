"""Sessions in each other's way, planted on real servers; a server of its own where two-phase commit is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.analyze.locks import (
    blocked_sessions,
    idle_in_transaction,
    long_statements,
    prepared_transactions,
)
from perfloop.analyze.vacuum import horizon_holders, long_vacuums, vacuum_held_back
from perfloop.model.snapshot import Snapshot

Read = Callable[..., Snapshot]


@pytest.fixture(scope="module")
def two_phase_dsn(each_postgres_binaries: PostgresBinaries) -> Iterator[str]:
    settings = {"max_prepared_transactions": "5", "fsync": "off"}
    with PostgresServer(each_postgres_binaries, settings=settings) as server:
        yield server.dsn()


@contextmanager
def waiting(dsn: str, statement: str) -> Iterator[psycopg.Connection]:
    """A session whose statement waits until it is cancelled."""
    with (
        psycopg.connect(dsn, autocommit=True, application_name="waiter") as connection,
        ThreadPoolExecutor() as threads,
    ):
        running = threads.submit(connection.execute, statement)
        try:
            yield connection
        finally:
            connection.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                running.result()


def some_wait(number: int) -> Callable[[Snapshot], bool]:
    return lambda seen: sum(each.waits_s is not None for each in seen.health.sessions) >= number


@pytest.mark.finds("blocked-sessions")
def test_a_queue_for_a_lock_is_found_with_its_head(each_postgres_dsn: str, read_target: Read) -> None:
    with psycopg.connect(each_postgres_dsn, application_name="shop") as head:
        head.execute("CREATE TABLE item (id int)")
        head.commit()
        head.execute("INSERT INTO item VALUES (1)")
        with (
            waiting(each_postgres_dsn, "ALTER TABLE item ADD COLUMN note text"),
            waiting_behind(each_postgres_dsn, read_target),
        ):
            snapshot = read_target(each_postgres_dsn, until=some_wait(2))
        (finding,) = blocked_sessions(snapshot, least_s=0.0)
        pid = head.info.backend_pid

        assert finding.title.startswith("2 sessions wait for a lock (public.item)")
        assert f"behind session {pid} of postgres (shop), idle in transaction" in finding.title
        assert f"SELECT pg_terminate_backend({pid})" in finding.would_try
        assert () == blocked_sessions(snapshot, least_s=60.0)
        assert ["item"] == [table.name.name for table in snapshot.tables]
        assert () == snapshot.limitations


@contextmanager
def waiting_behind(dsn: str, read_target: Read) -> Iterator[None]:
    read_target(dsn, until=some_wait(1))
    with waiting(dsn, "SELECT count(*) FROM item"):
        yield


@pytest.mark.spares("blocked-sessions")
def test_a_session_that_waits_for_nothing_blocks_nobody(each_postgres_dsn: str, read_target: Read) -> None:
    with psycopg.connect(each_postgres_dsn) as open_one:
        open_one.execute("CREATE TABLE item (id int)")

        assert () == blocked_sessions(read_target(each_postgres_dsn), least_s=0.0)


def test_a_role_without_rights_sees_who_waits_for_whom(each_postgres_dsn: str, read_target: Read) -> None:
    with psycopg.connect(each_postgres_dsn) as head:
        head.execute("CREATE ROLE perfloop_onlooker LOGIN")
        head.execute("CREATE TABLE item (id int)")
        head.commit()
        head.execute("LOCK item")
        with waiting(each_postgres_dsn, "SELECT * FROM item"):
            onlooker = make_conninfo(each_postgres_dsn, user="perfloop_onlooker")
            snapshot = read_target(onlooker, until=some_wait(1))
        pid = head.info.backend_pid
        head.rollback()
        head.execute("DROP ROLE perfloop_onlooker")
    (finding,) = blocked_sessions(snapshot, least_s=0.0)

    assert f"behind session {pid} of postgres" in finding.title
    assert {"hidden"} == {each.value for each in finding.evidence}


@pytest.mark.finds("idle-in-transaction")
@pytest.mark.spares("idle-in-transaction")
def test_a_session_idle_in_a_transaction_is_found_once_it_is_old(
    each_postgres_dsn: str, read_target: Read
) -> None:
    with psycopg.connect(each_postgres_dsn, application_name="shop") as connection:
        connection.execute("SELECT 7 AS forgotten")
        pid = connection.info.backend_pid
        snapshot = read_target(each_postgres_dsn, until=is_read(pid))
    (finding,) = [each for each in idle_in_transaction(snapshot, least_s=0.0) if str(pid) in each.location]

    assert f"idle in transaction: shop, {pid}" == finding.location
    assert "SELECT 7 AS forgotten" in [each.value for each in finding.evidence]
    assert () == idle_in_transaction(snapshot)


def is_read(pid: int) -> Callable[[Snapshot], bool]:
    return lambda seen: any(each.pid == pid for each in seen.health.sessions)


@pytest.mark.finds("long-statement")
@pytest.mark.spares("long-statement")
def test_a_statement_that_runs_on_and_on_is_found(each_postgres_dsn: str, read_target: Read) -> None:
    with waiting(each_postgres_dsn, "SELECT pg_sleep(60)") as connection:
        pid = connection.info.backend_pid
        snapshot = read_target(each_postgres_dsn, until=is_read(pid))
    (finding,) = [each for each in long_statements(snapshot, least_s=0.0) if str(pid) in each.location]

    assert "SELECT pg_sleep(60)" in [each.value for each in finding.evidence]
    assert () == long_statements(snapshot)


@pytest.mark.finds("prepared-transactions")
@pytest.mark.spares("prepared-transactions", "vacuum-held-back")
def test_a_prepared_transaction_is_found_until_it_ends(two_phase_dsn: str, read_target: Read) -> None:
    with psycopg.connect(two_phase_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS item (id int)")
        connection.execute("BEGIN; INSERT INTO item VALUES (1); PREPARE TRANSACTION 'order-7'")
        before = read_target(two_phase_dsn)
        with waiting(two_phase_dsn, "DROP TABLE item"):
            blocked = read_target(two_phase_dsn, until=some_wait(1))
        connection.execute("ROLLBACK PREPARED 'order-7'")

    assert ["prepared transaction order-7"] == [
        each.location for each in prepared_transactions(before, least_s=0.0)
    ]
    assert () == prepared_transactions(before)
    assert ["prepared transaction order-7"] == [each.location for each in horizon_holders(before)]
    assert "behind a prepared transaction" in blocked_sessions(blocked, least_s=0.0)[0].title
    assert () == prepared_transactions(read_target(two_phase_dsn), least_s=0.0)
    assert () == vacuum_held_back(before)


@pytest.mark.finds("long-vacuum")
@pytest.mark.spares("long-vacuum")
def test_a_vacuum_that_runs_on_and_on_is_found(each_postgres_dsn: str, read_target: Read) -> None:
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE item AS SELECT i AS id FROM generate_series(1, 200000) i")
    slow = make_conninfo(each_postgres_dsn, options="-c vacuum_cost_delay=100 -c vacuum_cost_limit=1")
    with waiting(slow, "VACUUM item"):
        snapshot = read_target(each_postgres_dsn, until=lambda seen: seen.health.vacuums)
    (finding,) = long_vacuums(snapshot, least_s=0.0)

    assert "VACUUM of public.item has been running for " in finding.title
    assert () == long_vacuums(snapshot)
