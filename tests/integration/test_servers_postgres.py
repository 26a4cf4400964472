"""A PostgreSQL server of our own: it answers, keeps to itself, and leaves nothing behind."""

from __future__ import annotations

import psycopg
from psycopg.rows import scalar_row

from perfloop.adapters.servers import PostgresBinaries, PostgresServer


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, row_factory=scalar_row) as connection:
        return connection.execute(query).fetchone()


def test_a_server_of_every_installation_answers(each_postgres_server: PostgresServer) -> None:
    version = ask(each_postgres_server.dsn(), "SHOW server_version")

    assert str(version).startswith(each_postgres_server.binaries.version)


def test_a_test_database_is_fresh_and_has_statement_statistics(each_postgres_dsn: str) -> None:
    names = ask(each_postgres_dsn, "SELECT array_agg(extname ORDER BY extname) FROM pg_extension")

    assert ["pg_stat_statements", "plpgsql"] == names


def test_a_closed_server_leaves_no_folder(postgres_binaries: PostgresBinaries) -> None:
    with PostgresServer(postgres_binaries) as server:
        folder = server.data_dir.parent.parent

        assert folder.exists()

    assert not folder.exists()
