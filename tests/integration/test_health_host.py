"""The machine of a server that runs here, as its own session tells where its data are."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from perfloop.adapters.connection import connect
from perfloop.adapters.pressure import read_target_host
from perfloop.analyze.host import host_pressure
from perfloop.model.snapshot import Snapshot


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


@pytest.mark.finds("host-pressure")
@pytest.mark.spares("host-pressure")
def test_memory_that_is_nearly_used_up_is_found_where_the_server_runs_here(
    each_postgres_dsn: str, read_target: Callable[[str], Snapshot]
) -> None:
    """The memory is the machine's; what is left of it is set, for no test may use it up."""
    with connect(each_postgres_dsn, read_only=True) as connection:
        host = read_target_host(connection)
    snapshot = read_target(each_postgres_dsn)
    roomy = replace(snapshot.host, memory_bytes=host.memory_bytes, available_bytes=host.memory_bytes // 2)
    tight = replace(roomy, available_bytes=host.memory_bytes // 20, runs_server=host.runs_server)
    found = host_pressure(replace(snapshot, host=tight))

    assert ["host: memory"] == [each.location for each in found]
    assert () == host_pressure(replace(snapshot, host=replace(roomy, runs_server=host.runs_server)))
    assert () == host_pressure(replace(snapshot, host=replace(tight, runs_server=False)))
