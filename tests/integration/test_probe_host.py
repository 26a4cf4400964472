"""The CPU time of backends on this machine, and whether a server is on it at all."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import psutil
import psycopg
import pytest

from perfloop.adapters.connection import connect
from perfloop.adapters.host import backend_cpu_s, cpu_times, neighbour_use, server_is_here
from perfloop.errors import ServerFailed

BURN = "SELECT sum(sqrt(i)) FROM generate_series(1, 2000000) i"


def test_a_backends_cpu_time_grows_with_its_work_and_not_with_its_waiting(postgres_dsn):
    with connect(postgres_dsn, read_only=True) as connection:
        pid = connection.info.backend_pid
        began_s = backend_cpu_s(pid)
        connection.execute("SELECT pg_sleep(0.3)")
        waited_s = backend_cpu_s(pid) - began_s
        connection.execute(BURN)
        worked_s = backend_cpu_s(pid) - began_s - waited_s

    assert 0 <= waited_s < 0.1 < worked_s


def test_a_backend_that_is_gone_is_told_with_what_trials_need(postgres_dsn):
    with connect(postgres_dsn, read_only=True) as connection:
        pid = connection.info.backend_pid
    with psycopg.connect(postgres_dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    # The server has forgotten the backend a moment before its process is reaped.
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=5)
    with pytest.raises(ServerFailed, match="runs on this machine"):
        backend_cpu_s(pid)


def test_a_server_of_this_machine_is_recognised(each_postgres_dsn):
    with connect(each_postgres_dsn, read_only=True) as connection:
        assert server_is_here(connection)


def test_a_backend_whose_id_belongs_to_another_process_here_is_not(postgres_dsn, monkeypatch):
    """As with a server in a container: its process ids mean other processes outside."""
    with connect(postgres_dsn, read_only=True) as connection:
        monkeypatch.setattr(type(connection.info), "backend_pid", 1)

        assert not server_is_here(connection)


def test_what_a_backend_does_for_us_is_no_neighbour_and_what_another_process_does_is(postgres_dsn):
    with connect(postgres_dsn, read_only=True) as connection:
        pid = connection.info.backend_pid
        before, began_s = cpu_times(), backend_cpu_s(pid)
        connection.execute(BURN)
        connection.execute(BURN)
        after, own_s = cpu_times(), backend_cpu_s(pid) - began_s
    honest, blind = neighbour_use(before, after, own_s=own_s), neighbour_use(before, after)

    assert honest.neighbour_ratio < blind.neighbour_ratio <= blind.busy_ratio <= 1
    before = cpu_times()
    subprocess.run([sys.executable, "-c", "sum(i * i for i in range(4_000_000))"], check=True)
    assert neighbour_use(before, cpu_times()).neighbour_ratio > 0.05
