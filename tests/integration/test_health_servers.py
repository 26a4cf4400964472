"""Health of whole servers, planted on servers of our own: their settings, files and standbys are at stake."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.analyze.checkpoints import backend_writes, requested_checkpoints
from perfloop.analyze.configuration import pending_restart, small_shared_buffers, unsafe_settings
from perfloop.analyze.counters import checksum_failures
from perfloop.analyze.replication import replication_lag, replication_slots
from perfloop.analyze.server import cache_hit_ratio
from perfloop.analyze.vacuum import vacuum_held_back
from perfloop.analyze.wraparound import wraparound
from perfloop.model.advice import Finding, Severity
from perfloop.model.snapshot import Snapshot

Read = Callable[..., Snapshot]
SMALL = {
    "fsync": "off",
    "shared_buffers": "1MB",
    "max_wal_size": "32MB",
    "min_wal_size": "32MB",
    "autovacuum": "off",
    "max_prepared_transactions": "2",
}
"""Small enough that little work plants what takes a service hours."""
SOUND = {"shared_buffers": "32MB"}
XIDS_PER_FILE = 2**20
"""Of pg_xact: 32 pages of 8 kB with 2 bits for each transaction."""


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def locations(findings: tuple[Finding, ...]) -> list[str]:
    return [each.location for each in findings]


@pytest.fixture(scope="module")
def small_server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    with PostgresServer(each_postgres_binaries, settings=SMALL) as server:
        checkpoints = "checkpointer" if each_postgres_binaries.major >= 17 else "bgwriter"
        run(server.dsn(), *(f"SELECT pg_stat_reset_shared('{name}')" for name in (checkpoints, "wal")))
        yield server


@pytest.fixture(scope="module")
def sound_server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    with PostgresServer(each_postgres_binaries, settings=SOUND, checksums=True) as server:
        yield server


@pytest.mark.finds("unsafe-setting")
@pytest.mark.spares("unsafe-setting")
def test_settings_that_must_be_on_are_found(
    small_server: PostgresServer, sound_server: PostgresServer, read_target: Read
) -> None:
    found = unsafe_settings(read_target(small_server.dsn()))

    assert ["autovacuum", "fsync"] == locations(found)
    assert {Severity.HIGH} == {each.severity for each in found}
    assert () == unsafe_settings(read_target(sound_server.dsn()))


@pytest.mark.finds("pending-restart")
@pytest.mark.spares("pending-restart")
def test_settings_that_wait_for_a_restart_are_found(sound_server: PostgresServer, read_target: Read) -> None:
    before = read_target(sound_server.dsn())
    run(sound_server.dsn(), "ALTER SYSTEM SET max_worker_processes = 9", "SELECT pg_reload_conf()")
    waiting = read_target(sound_server.dsn(), until=lambda seen: pending_restart(seen))
    run(sound_server.dsn(), "ALTER SYSTEM RESET max_worker_processes", "SELECT pg_reload_conf()")

    assert () == pending_restart(before)
    assert "configuration changed: max_worker_processes" in pending_restart(waiting)[0].title


@pytest.mark.finds("small-shared-buffers")
@pytest.mark.spares("small-shared-buffers")
def test_a_tiny_cache_under_a_large_database_is_found(
    small_server: PostgresServer, sound_server: PostgresServer, read_target: Read
) -> None:
    def here(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, host=replace(snapshot.host, runs_server=True))

    small, sound = read_target(small_server.dsn()), read_target(sound_server.dsn())

    assert ["shared_buffers: size"] == locations(small_shared_buffers(here(small)))
    assert () == small_shared_buffers(small)
    assert () == small_shared_buffers(here(sound))


@pytest.mark.finds("cache-hit-ratio")
@pytest.mark.spares("cache-hit-ratio")
def test_a_cache_that_seldom_holds_what_is_asked_for_is_found(
    small_server: PostgresServer, sound_server: PostgresServer, read_target: Read
) -> None:
    """6 MB are read two hundred times: into 1 MB of buffers, and into 32."""
    for server in (small_server, sound_server):
        run(
            server.dsn(),
            "SET max_parallel_workers_per_gather = 0",
            "CREATE TABLE pages AS SELECT repeat('x', 800) AS note FROM generate_series(1, 6500)",
            *["SELECT count(*) FROM pages"] * 200,
        )
    small, sound = (
        read_target(
            server.dsn(), until=lambda seen: seen.activity.hit_blocks + seen.activity.read_blocks > 140_000
        )
        for server in (small_server, sound_server)
    )

    assert ["shared_buffers"] == locations(cache_hit_ratio(small))
    assert () == cache_hit_ratio(sound)


@pytest.mark.finds("requested-checkpoints")
def test_checkpoints_that_wal_forces_are_found(
    small_server: PostgresServer, sound_server: PostgresServer, read_target: Read
) -> None:
    run(small_server.dsn(), "CREATE TABLE IF NOT EXISTS wide (note text)")
    deadline = time.monotonic() + 60
    while not requested_checkpoints(snapshot := read_target(small_server.dsn())):
        assert time.monotonic() < deadline, snapshot.health.checkpoints
        run(small_server.dsn(), "INSERT INTO wide SELECT repeat('x', 1000) FROM generate_series(1, 16000)")
    finding = requested_checkpoints(snapshot)[0]

    assert ("max_wal_size", Severity.MEDIUM) == (finding.location, finding.severity)
    assert "32 MB" in [each.value for each in finding.evidence]


@pytest.mark.spares("requested-checkpoints")
def test_checkpoints_asked_for_by_hand_are_not_found(sound_server: PostgresServer, read_target: Read) -> None:
    for _ in range(6):
        run(sound_server.dsn(), "CREATE TEMPORARY TABLE t AS SELECT 1", "CHECKPOINT")
    snapshot = read_target(
        sound_server.dsn(),
        until=lambda seen: seen.health.checkpoints and seen.health.checkpoints.requested >= 5,
    )

    assert () == requested_checkpoints(snapshot)


@pytest.mark.finds("backend-writes")
@pytest.mark.spares("backend-writes")
def test_sessions_that_write_out_buffers_are_found(
    small_server: PostgresServer, sound_server: PostgresServer, read_target: Read
) -> None:
    if small_server.binaries.major < 16:
        snapshot = read_target(small_server.dsn())
        assert snapshot.health.checkpoints is not None
        assert None is snapshot.health.checkpoints.backend_buffers
        return
    run(
        small_server.dsn(),
        "CREATE TABLE changed AS SELECT i AS id, repeat('x', 800) AS note FROM generate_series(1, 20000) i",
        *["UPDATE changed SET id = id + 1"] * 6,
    )
    snapshot = read_target(small_server.dsn(), until=lambda seen: backend_writes(seen))

    assert ["shared_buffers: writes"] == locations(backend_writes(snapshot))
    assert () == backend_writes(read_target(sound_server.dsn()))


@pytest.mark.finds("replication-slot")
@pytest.mark.spares("replication-slot")
def test_a_slot_that_keeps_wal_for_nobody_is_found_until_it_is_gone(
    small_server: PostgresServer, read_target: Read
) -> None:
    dsn = small_server.dsn()
    run(dsn, "SELECT pg_create_physical_replication_slot('old_standby', true)")
    fresh = replication_slots(read_target(dsn))
    for _ in range(9):
        run(dsn, "CREATE TABLE IF NOT EXISTS stamp (at timestamptz)", "INSERT INTO stamp VALUES (now())")
        run(dsn, "SELECT pg_switch_wal()")
    held = replication_slots(read_target(dsn))
    run(dsn, "SELECT pg_drop_replication_slot('old_standby')")

    assert () == fresh
    assert [("replication slot old_standby", Severity.HIGH)] == [
        (each.location, each.severity) for each in held
    ]
    assert "is inactive and keeps" in held[0].title
    assert () == replication_slots(read_target(dsn))


@dataclass(frozen=True)
class Pair:
    primary: str
    standby: str


@pytest.fixture(scope="module")
def pair(
    each_postgres_binaries: PostgresBinaries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A primary with a standby that streams from it."""
    settings = {"fsync": "off", "max_wal_senders": "4", "hot_standby": "on", "autovacuum": "off"}
    with PostgresServer(each_postgres_binaries, settings=settings) as primary:
        open_to_the_standby(primary)
        with primary.stopped() as data_dir:
            copy = tmp_path_factory.mktemp("standby") / "data"
            shutil.copytree(data_dir, copy)
        (copy / "standby.signal").touch()
        with (copy / "postgresql.auto.conf").open("a") as file:
            file.write(f"primary_conninfo = '{primary.dsn()}'\n")
        with PostgresServer(each_postgres_binaries, settings=settings, copy_of=copy) as standby:
            yield Pair(primary=primary.dsn(), standby=standby.dsn())


def open_to_the_standby(primary: PostgresServer) -> None:
    """Servers of ours cannot enter each other's folders."""
    primary.data_dir.parents[1].chmod(0o711)


def is_streaming(snapshot: Snapshot) -> bool:
    return any(each.state == "streaming" and each.lag_bytes == 0 for each in snapshot.health.standbys)


@pytest.mark.finds("replication-lag")
@pytest.mark.spares("replication-lag")
def test_a_standby_that_does_not_replay_is_found_on_both_sides(pair: Pair, read_target: Read) -> None:
    in_step = read_target(pair.primary, until=is_streaming)
    run(pair.standby, "SELECT pg_wal_replay_pause()")
    run(pair.primary, "CREATE TABLE stamp (at timestamptz)")
    for _ in range(7):
        run(pair.primary, "INSERT INTO stamp VALUES (now())", "SELECT pg_switch_wal()")
    behind = read_target(pair.primary, until=lambda seen: replication_lag(seen))
    itself = read_target(pair.standby, until=lambda seen: replication_lag(seen))
    run(pair.standby, "SELECT pg_wal_replay_resume()")
    caught_up = read_target(pair.primary, until=is_streaming)

    assert () == replication_lag(in_step)
    assert ["replication: Standby walreceiver"] == locations(replication_lag(behind))
    assert itself.health.is_standby
    assert ["replication: This server, a standby,"] == locations(replication_lag(itself))
    assert () == replication_lag(caught_up)


@pytest.fixture
def aged_server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    """A server whose rows are 1.7 billion transactions old, and that no autovacuum saves meanwhile."""
    patient = {"autovacuum_freeze_max_age": "2000000000"}
    with PostgresServer(each_postgres_binaries, settings=SMALL | patient) as server:
        run(server.dsn(), "CREATE TABLE ledger (id int)", "INSERT INTO ledger VALUES (1)")
        age(server, 1650)
        yield server


def age(server: PostgresServer, files: int) -> None:
    """Jump ahead by so many files of pg_xact, each of about a million transactions."""
    with server.stopped() as data_dir:
        reset_ids(server, data_dir, files * XIDS_PER_FILE)


def reset_ids(server: PostgresServer, data_dir: Path, xid: int) -> None:
    empty = data_dir / "pg_xact" / f"{xid // XIDS_PER_FILE:04X}"
    empty.write_bytes(bytes(2**18))
    uid, gid = data_dir.stat().st_uid, data_dir.parent.stat().st_gid
    os.chown(empty, uid, gid)
    program = server.binaries.bin_dir / "pg_resetwal"
    command = [program, "-x", str(xid), "-D", data_dir]
    subprocess.run(command, check=True, capture_output=True, user=uid, group=gid)


@pytest.mark.finds("wraparound", "vacuum-held-back")
@pytest.mark.spares("wraparound")
def test_rows_that_are_too_old_are_found_and_what_keeps_vacuum_from_them(
    aged_server: PostgresServer, sound_server: PostgresServer, read_target: Read
) -> None:
    dsn = aged_server.dsn()
    run(dsn, "BEGIN; INSERT INTO ledger VALUES (2); PREPARE TRANSACTION 'order-7'")
    age(aged_server, 1652)
    aged = read_target(dsn)
    found = {each.location: each for each in wraparound(aged)}
    held = vacuum_held_back(aged)
    run(dsn, "ROLLBACK PREPARED 'order-7'", "VACUUM (FREEZE)")

    assert Severity.HIGH is found["postgres: transactions"].severity
    assert "has 41" in found["postgres: transactions"].title
    assert "ledger" in [each.label for each in found["postgres: transactions"].evidence]
    assert ["prepared transaction order-7"] == locations(held)
    assert "postgres: transactions" not in locations(wraparound(read_target(dsn)))
    assert () == wraparound(read_target(sound_server.dsn()))


@pytest.mark.finds("checksum-failures")
@pytest.mark.spares("checksum-failures")
def test_damaged_pages_are_found(each_postgres_binaries: PostgresBinaries, read_target: Read) -> None:
    with PostgresServer(each_postgres_binaries, settings=SOUND, checksums=True) as server:
        run(server.dsn(), "CREATE TABLE item AS SELECT i AS id FROM generate_series(1, 500) i", "CHECKPOINT")
        with psycopg.connect(server.dsn()) as connection:
            path = connection.execute("SELECT pg_relation_filepath('item')").fetchone()[0]
        before = checksum_failures(read_target(server.dsn()))
        with server.stopped() as data_dir, (data_dir / path).open("r+b") as file:
            file.seek(4000)
            file.write(b"not what was written")
        with pytest.raises(psycopg.errors.DataCorrupted):
            run(server.dsn(), "SELECT * FROM item")
        snapshot = read_target(server.dsn(), until=lambda seen: seen.activity.checksum_failures)

    assert () == before
    assert Severity.HIGH is checksum_failures(snapshot)[0].severity
