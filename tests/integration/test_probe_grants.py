"""docs/how-to/grants.md does what it says: its blocks are run here, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.servers import PostgresServer
from perfloop.model.snapshot import Host, Snapshot

PAGE = Path(__file__).parents[2] / "docs/how-to/grants.md"
HOST = Host(cpus=2, memory_bytes=1, available_bytes=1, load_1m=0.0, busy_ratio=0.0, steal_ratio=0.0)
SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off"}
JOINED = {("public", "item"), ("public", "later")}
SHOP = (
    "SET ROLE shop_owner",
    "CREATE TABLE item (id int PRIMARY KEY, note text)",
    "INSERT INTO item SELECT i, 'x' FROM generate_series(1, 100) i",
    "ANALYZE item",
    "RESET ROLE",
)


def blocks() -> tuple[str, ...]:
    """The SQL of the page: server, database, row security, owner, settings, loading, taking back."""
    return tuple(re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def read(dsn: str) -> Snapshot:
    with connect(dsn, read_only=True) as connection:
        return take_snapshot(connection, taken_at_s=1.0, host=HOST)


@pytest.fixture
def shop_dsn(each_postgres_binaries) -> Iterator[str]:
    """The page's shop, on a server of its own, because roles are the server's."""
    with PostgresServer(each_postgres_binaries, settings=SETTINGS) as server:
        run(server.dsn(), "CREATE ROLE shop_owner LOGIN", "CREATE DATABASE shop OWNER shop_owner")
        run(server.dsn("shop"), *SHOP)
        yield server.dsn("shop")


def test_the_grants_to_analyse_leave_no_limitation(shop_dsn):
    server, database, *_ = blocks()
    run(shop_dsn, server, database)
    run(
        make_conninfo(shop_dsn, user="shop_owner"),
        "CREATE TABLE later (id int)",
        "SELECT note FROM item WHERE id = 7",
    )
    dsn = make_conninfo(shop_dsn, user="perfloop")
    snapshot = read(dsn)

    assert () == snapshot.limitations
    assert "SELECT note FROM item WHERE id = $1" in [each.statement.text for each in snapshot.statements]
    assert all(column.statistics for column in snapshot.tables[0].columns)
    with connect(dsn, read_only=True) as connection:
        assert explain(connection, "SELECT * FROM item JOIN later USING (id)").relations == JOINED
    with connect(dsn, read_only=False) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM item")


def test_row_level_security_is_passed_with_its_grant(shop_dsn):
    server, database, row_security, *_ = blocks()
    run(shop_dsn, server, database, "ALTER TABLE item ENABLE ROW LEVEL SECURITY")
    dsn = make_conninfo(shop_dsn, user="perfloop")

    assert ["pg_stats"] == [each.subject for each in read(dsn).limitations if each.subject == "pg_stats"]
    run(shop_dsn, row_security)
    assert [] == [each for each in read(dsn).limitations if each.subject == "pg_stats"]


def test_the_grants_to_apply_are_enough_to_act_and_to_undo(shop_dsn):
    server, database, _, owner, settings, loading, back = blocks()
    run(shop_dsn, server, database, owner, loading)
    dsn = make_conninfo(shop_dsn, user="perfloop")
    run(
        dsn,
        "CREATE INDEX CONCURRENTLY by_note ON item (note)",
        "CREATE STATISTICS together ON id, note FROM item",
        "ANALYZE item",
        "ALTER DATABASE shop SET work_mem = '8MB'",
        "DROP INDEX CONCURRENTLY by_note",
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.info.server_version >= 150_000:
            run(shop_dsn, settings)
            connection.execute("ALTER SYSTEM SET random_page_cost = 1.1")
            connection.execute("SELECT pg_reload_conf()")
        assert connection.execute("SELECT count(*) >= 0 FROM pg_file_settings").fetchone() == (True,)
    run(shop_dsn, back)
    with psycopg.connect(shop_dsn) as connection:
        assert (0,) == connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname = 'perfloop'"
        ).fetchone()
