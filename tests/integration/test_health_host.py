"""The machine of a server that runs here, as its own session tells where its data are."""

from __future__ import annotations

import psutil
from psycopg.conninfo import make_conninfo

from perfloop.adapters.connection import connect
from perfloop.adapters.pressure import read_target_host


def test_the_disk_of_the_data_is_read_where_the_server_runs_here(each_postgres_dsn: str) -> None:
    with connect(each_postgres_dsn, read_only=True) as connection:
        host = read_target_host(connection)

    assert host.runs_server
    assert host.disk_bytes == psutil.disk_usage("/tmp").total
    assert host.load_5m is not None


def test_a_role_that_may_not_know_the_folder_still_gets_the_rest(each_postgres_dsn: str) -> None:
    with connect(each_postgres_dsn, read_only=False) as connection:
        connection.execute("CREATE ROLE perfloop_outsider LOGIN")
    try:
        with connect(
            make_conninfo(each_postgres_dsn, user="perfloop_outsider"), read_only=True
        ) as connection:
            host = read_target_host(connection)
    finally:
        with connect(each_postgres_dsn, read_only=False) as connection:
            connection.execute("DROP ROLE perfloop_outsider")

    assert host.runs_server
    assert None is host.disk_bytes
