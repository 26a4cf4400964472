"""How a target comes into a lab, what stops it, and what a scratch server of the user's sees of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.host import read_host
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.servers import PostgresBinaries, PostgresServer
from perfloop.errors import InvalidInput, LabRefused, MissingRights, TargetUnreachable
from perfloop.model.advice import AlterSetting, CreateIndex
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.lab.fill import copy_database, refuse_old_tools, refuse_unless_it_fits
from perfloop.tune.lab.lab import Lab
from perfloop.tune.lab.servers import ScratchServer
from perfloop.tune.lab.settings import lab_settings

TARGET_SQL = """
CREATE TABLE orders (id int PRIMARY KEY, customer int);
INSERT INTO orders SELECT g, g % 100 FROM generate_series(1, 5000) g;
CREATE TABLE secrets (id int);
ANALYZE;
CREATE EXTENSION pg_stat_statements;
CREATE ROLE blind LOGIN;
CREATE ROLE maker LOGIN CREATEDB;
GRANT SELECT ON orders TO blind;
"""
ON_CUSTOMER = CreateIndex(
    table=TableName(schema="public", name="orders"), name="oc", keys=(IndexKey(text="customer"),)
)
DEADLINE_S = 30.0


@contextlib.contextmanager
def fresh_database(dsn: str) -> Iterator[str]:
    name = f"empty_{secrets.token_hex(4)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield make_conninfo(dsn, dbname=name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def target_server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    settings = {"fsync": "off", "shared_buffers": "16MB", "shared_preload_libraries": "pg_stat_statements"}
    with PostgresServer(each_postgres_binaries, settings=settings) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        with psycopg.connect(make_conninfo(server.dsn(), dbname="shop"), autocommit=True) as connection:
            for statement in TARGET_SQL.split(";\n"):
                connection.execute(statement)
        yield server


@pytest.fixture
def target(target_server: PostgresServer) -> str:
    return make_conninfo(target_server.dsn(), dbname="shop")


@pytest.fixture
def snapshot(target: str) -> Snapshot:
    with psycopg.connect(target, autocommit=True) as connection:
        host = read_host(runs_server=True, window_s=0.01)
        return take_snapshot(connection, taken_at_s=time.time(), host=host)


@pytest.fixture(scope="module")
def scratch_server(each_postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    with PostgresServer(each_postgres_binaries, settings={"fsync": "off"}) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE ROLE maker LOGIN CREATEDB")
            connection.execute("CREATE ROLE nobody LOGIN")
        yield server


@pytest.fixture
def empty(scratch_server: PostgresServer) -> Iterator[str]:
    """An empty database to copy into."""
    with fresh_database(scratch_server.dsn()) as dsn:
        yield dsn


def databases(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


def scratch_lab(
    scratch_dsn: str, target: str, snapshot: Snapshot, binaries: PostgresBinaries, *, keep: bool = False
) -> Lab:
    settings = lab_settings(snapshot)
    return Lab(
        ScratchServer(scratch_dsn, target_dsn=target, settings=settings, keep=keep),
        settings=settings,
        snapshot=snapshot,
        target_dsn=target,
        binaries=binaries,
        tell=lambda sentence: None,
    )


@pytest.mark.parametrize("role", ["postgres", "maker"])
def test_a_scratch_server_is_left_as_it_was(
    role: str,
    scratch_server: PostgresServer,
    target: str,
    snapshot: Snapshot,
    each_postgres_binaries: PostgresBinaries,
) -> None:
    dsn = make_conninfo(scratch_server.dsn(), user=role)
    before = databases(dsn)

    with scratch_lab(dsn, target, snapshot, each_postgres_binaries) as lab:
        with lab.arms(ON_CUSTOMER) as arms:
            rows = [arm.connection.execute("SELECT count(*) FROM orders").fetchone() for arm in arms.both]
        lab.keep(ON_CUSTOMER, diverged=False)
        during = databases(dsn)
        notes = lab.notes

    assert [(5000,), (5000,)] == rows
    assert before < during
    assert before == databases(dsn)
    assert any("the lab has other values than wanted of autovacuum" in note for note in notes)


def test_a_scratch_server_is_never_restarted(
    scratch_server: PostgresServer, target: str, snapshot: Snapshot, each_postgres_binaries: PostgresBinaries
) -> None:
    change = AlterSetting(name="shared_buffers", value="32MB")

    with (
        scratch_lab(scratch_server.dsn(), target, snapshot, each_postgres_binaries) as lab,
        pytest.raises(LabRefused, match="never copied"),
        lab.arms(change),
    ):
        pass


def test_the_target_s_own_server_is_no_lab(
    target: str, snapshot: Snapshot, each_postgres_binaries: PostgresBinaries
) -> None:
    dsn = make_conninfo(target, dbname="postgres")
    before = databases(target)

    with (
        pytest.raises(LabRefused, match="the target's own server"),
        scratch_lab(dsn, target, snapshot, each_postgres_binaries),
    ):
        pass

    assert before == databases(target)


def test_a_role_that_may_not_create_databases_is_told_what_it_lacks(
    scratch_server: PostgresServer, target: str, snapshot: Snapshot, each_postgres_binaries: PostgresBinaries
) -> None:
    dsn = make_conninfo(scratch_server.dsn(), user="nobody")

    with (
        pytest.raises(LabRefused, match="CREATEDB"),
        scratch_lab(dsn, target, snapshot, each_postgres_binaries),
    ):
        pass


def test_only_leftovers_of_dead_labs_are_dropped(
    scratch_server: PostgresServer, target: str, snapshot: Snapshot, each_postgres_binaries: PostgresBinaries
) -> None:
    """Names that only look like ours stay, as do those of a lab that is alive and those kept for a look."""
    dsn = scratch_server.dsn()
    mine = {"perfloop_lab_5_mine", "perfloop_lab_77777777777_origin", "perfloop_lab_6_origin_too", "perfloop"}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in (*mine, "perfloop_lab_5_origin", "perfloop_lab_5_trial", "perfloop_lab_8_origin"):
            connection.execute(f"CREATE DATABASE {name}")
        connection.execute("ALTER DATABASE perfloop_lab_8_origin OWNER TO nobody")
    with scratch_lab(dsn, target, snapshot, each_postgres_binaries, keep=True):
        pass
    kept = {name for name in databases(dsn) if name.startswith("perfloop_kept_")}

    with scratch_lab(dsn, target, snapshot, each_postgres_binaries) as alive:
        with scratch_lab(dsn, target, snapshot, each_postgres_binaries):
            during = databases(dsn)
        ours = {name for name in during if name.startswith(alive.server.prefix)}
        after = databases(dsn)

    assert ours <= after
    assert {"perfloop_lab_5_origin", "perfloop_lab_5_trial"}.isdisjoint(after)
    assert mine | {"perfloop_lab_8_origin"} <= after
    assert len(kept) >= 2
    assert kept <= after


def test_a_role_that_may_not_read_a_table_is_told_the_grant(
    target: str, empty: str, each_postgres_binaries: PostgresBinaries
) -> None:
    blind = make_conninfo(target, user="blind")

    with pytest.raises(MissingRights, match="GRANT pg_read_all_data"):
        copy_database(blind, empty, each_postgres_binaries)


def test_the_dump_is_not_counted_as_workload(
    target: str, empty: str, each_postgres_binaries: PostgresBinaries
) -> None:
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_statements_reset()")
        copy_database(target, empty, each_postgres_binaries)
        counted = connection.execute(
            "SELECT query FROM pg_stat_statements WHERE query ILIKE '%copy%'"
        ).fetchall()

    assert [] == counted


def test_a_role_that_may_not_hide_the_dump_can_copy_all_the_same(
    target: str, empty: str, each_postgres_binaries: PostgresBinaries
) -> None:
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("GRANT pg_read_all_data TO maker")

    notes = copy_database(make_conninfo(target, user="maker"), empty, each_postgres_binaries)

    assert () == notes


def test_no_secret_stands_on_a_command_line(
    target: str, empty: str, each_postgres_binaries: PostgresBinaries, tmp_path: Path
) -> None:
    """The tools are scripts here that write down how they were called and become the real ones."""
    said = tmp_path / "said"
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("pg_dump", "pg_restore"):
        script = f'#!/bin/sh\necho "$@" >> {said}\ncat "$PGSERVICEFILE" >> {said}.file\n'
        tool = tools / name
        tool.write_text(f'{script}exec {each_postgres_binaries.bin_dir / name} "$@"\n')
        tool.chmod(0o755)
    binaries = PostgresBinaries(
        bin_dir=tools,
        version=each_postgres_binaries.version,
        origin=each_postgres_binaries.origin,
        extensions=each_postgres_binaries.extensions,
        tools=each_postgres_binaries.tools,
    )
    secret = make_conninfo(target, password="hush-1", sslpassword="hush-2")

    copy_database(secret, make_conninfo(empty, password="hush-1", sslpassword="hush-2"), binaries)

    assert "hush" not in said.read_text()
    assert "hush-2" in (tmp_path / "said.file").read_text()
    assert "hush-1" not in os.environ.values()


def test_a_secret_that_has_no_place_is_refused(
    target: str, empty: str, each_postgres_binaries: PostgresBinaries
) -> None:
    dsn = make_conninfo(target, sslpassword="hush", service="production")

    with pytest.raises(InvalidInput, match="service file"):
        copy_database(dsn, empty, each_postgres_binaries)


def test_a_copy_that_is_not_whole_refuses_the_lab(
    target: str, empty: str, each_postgres_binaries: PostgresBinaries
) -> None:
    """The function in the check finds its table only by the search path, which pg_restore empties."""
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql "
            "AS 'SELECT EXISTS (SELECT FROM orders WHERE id = $1)'"
        )
        connection.execute("CREATE TABLE lines (id int CHECK (known(id)))")
        connection.execute("INSERT INTO lines VALUES (1)")
        try:
            with pytest.raises(LabRefused, match="not whole"):
                copy_database(target, empty, each_postgres_binaries)
        finally:
            connection.execute("DROP TABLE lines")
            connection.execute("DROP FUNCTION known")


def test_a_database_above_the_limit_is_refused_with_the_way_out() -> None:
    with pytest.raises(LabRefused, match="--max-lab-size"):
        refuse_unless_it_fits(2 * 10**9, limit_bytes=10**9)


def test_a_disk_that_is_too_small_is_refused_with_the_way_out() -> None:
    with pytest.raises(LabRefused, match="TMPDIR"):
        refuse_unless_it_fits(10**15, limit_bytes=10**16)
    with pytest.raises(LabRefused, match="TMPDIR"):
        refuse_unless_it_fits(10**15, limit_bytes=None)


def test_tools_older_than_the_target_are_refused_with_the_way_out(
    postgres_binaries: PostgresBinaries,
) -> None:
    with pytest.raises(LabRefused, match="install PostgreSQL 99"):
        refuse_old_tools(postgres_binaries, 99)


@contextlib.contextmanager
def held_table(dsn: str) -> Iterator[None]:
    """A table that no dump can read until this session ends."""
    with psycopg.connect(dsn) as connection:
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        yield


def wait_for_dump(dsn: str) -> None:
    """Until a pg_dump waits for a table."""
    deadline_s = time.monotonic() + DEADLINE_S
    waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not connection.execute(waiting).fetchall():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_a_target_that_goes_away_in_the_middle_of_the_dump_is_told(
    each_postgres_binaries: PostgresBinaries, empty: str
) -> None:
    with (
        PostgresServer(each_postgres_binaries, settings={"fsync": "off"}) as server,
        contextlib.ExitStack() as held,
    ):
        dsn = server.dsn()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (id int)")
        held.enter_context(contextlib.suppress(psycopg.OperationalError))
        held.enter_context(held_table(dsn))
        errors: list[BaseException] = []

        def copy() -> None:
            try:
                copy_database(dsn, empty, each_postgres_binaries)
            except TargetUnreachable as error:
                errors.append(error)

        copying = threading.Thread(target=copy)
        copying.start()
        wait_for_dump(dsn)
        server.close()
        copying.join(DEADLINE_S)

    assert 1 == len(errors)
    assert "see whether it is up" in str(errors[0])
