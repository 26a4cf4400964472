"""A server that stops answering is told of in time, and one that is only slow is waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from perfloop.adapters.connection import connect
from perfloop.adapters.patience import is_silent
from perfloop.adapters.probe import read_rows
from perfloop.adapters.queries import query
from perfloop.adapters.servers import PostgresServer
from perfloop.errors import TargetUnreachable


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def all_of(server: PostgresServer) -> list[int]:
    """Its processes, the one that would start new ones first."""
    return [server.pid, *(each.pid for each in psutil.Process(server.pid).children(recursive=True))]


def test_an_answer_is_waited_for_a_little_longer_than_the_server_may_take(postgres_dsn):
    with (
        connect(postgres_dsn, read_only=True, statement_timeout_s=3) as limited,
        connect(postgres_dsn, read_only=False, statement_timeout_s=0) as unlimited,
    ):
        assert (8.0, None) == (limited.answer_limit_s, unlimited.answer_limit_s)


def test_a_backend_that_freezes_is_given_up_and_leaves_no_open_connection(postgres_dsn):
    with connect(postgres_dsn, read_only=True, statement_timeout_s=3) as connection:
        connection.answer_limit_s = 0.3
        began_s = time.monotonic()
        with (
            frozen(connection.info.backend_pid),
            pytest.raises(TargetUnreachable, match=r"not answered for 0 s.*run perfloop again"),
        ):
            read_rows(connection, query("read_role"))

        assert time.monotonic() - began_s < 2
        assert connection.closed


def test_a_server_that_freezes_under_an_act_without_a_limit_is_given_up(postgres_binaries):
    with PostgresServer(postgres_binaries) as server:
        with connect(server.dsn(), read_only=False, statement_timeout_s=0) as connection:
            connection.look_after_s, connection.look_limit_s = 0.2, 2
            with frozen(*all_of(server)), pytest.raises(TargetUnreachable, match="paused"):
                connection.execute("SELECT 1")

        assert not is_silent(server.dsn(), limit_s=2)


def test_a_slow_act_without_a_limit_is_waited_for(postgres_dsn):
    with connect(postgres_dsn, read_only=False, statement_timeout_s=0) as connection:
        connection.look_after_s = 0.2

        assert (7,) == connection.execute("SELECT 7 FROM pg_sleep(0.7)").fetchone()


@pytest.mark.parametrize("statement_timeout_s", [0, 10])
def test_an_interrupt_leaves_a_session_that_can_go_on_or_none(postgres_dsn, statement_timeout_s):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with connect(postgres_dsn, read_only=False, statement_timeout_s=statement_timeout_s) as connection:
            signal.setitimer(signal.ITIMER_REAL, 0.15)
            with pytest.raises(KeyboardInterrupt):
                connection.execute("SELECT pg_sleep(20)")

            assert connection.closed or (1,) == connection.execute("SELECT 1").fetchone()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_server_s_own_limit_comes_first(postgres_dsn):
    with (
        connect(postgres_dsn, read_only=True, statement_timeout_s=0.2) as connection,
        pytest.raises(psycopg.errors.QueryCanceled),
    ):
        connection.execute("SELECT pg_sleep(20)")


def test_a_server_that_refuses_newcomers_is_not_silent(postgres_dsn):
    assert not is_silent("host=127.0.0.1 port=1", limit_s=2)
