"""Sessions on a target: limited, read-only where asked, and clear about what went wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time
import traceback
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfloop.adapters.catalog import read_role
from perfloop.adapters.connection import connect, unreachable_if_lost
from perfloop.adapters.probe import pinned
from perfloop.adapters.servers import PostgresServer
from perfloop.errors import InvalidInput, MissingRights, PerfloopError, TargetUnreachable

HANDSHAKE = struct.Struct("!II")
SECRET = "-".join(("open", "sesame"))
"""In two parts, because a traceback prints lines of this file."""


def setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return row[0] if row else ""


def told(error: BaseException) -> str:
    """All that a traceback would print."""
    return "".join(traceback.format_exception(error)) + repr(error)


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@contextlib.contextmanager
def pooler_without_options(dsn: str) -> Iterator[str]:
    """A go-between that forwards one session but drops its start-up options, as PgBouncer can be told to."""
    target = conninfo_to_dict(dsn)

    def relay(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(65536):
                sink.sendall(received)
            sink.shutdown(socket.SHUT_RDWR)

    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        behind = socket.socket(socket.AF_UNIX)
        behind.connect(f"{target['host']}/.s.PGSQL.{target['port']}")
        with client, behind:
            length, protocol = HANDSHAKE.unpack(client.recv(HANDSHAKE.size, socket.MSG_WAITALL))
            words = client.recv(length - HANDSHAKE.size, socket.MSG_WAITALL).split(b"\0")
            pairs = zip(words[::2], words[1::2], strict=False)
            kept = b"".join(
                name + b"\0" + value + b"\0" for name, value in pairs if name not in (b"", b"options")
            )
            behind.sendall(HANDSHAKE.pack(len(kept) + 1 + HANDSHAKE.size, protocol) + kept + b"\0")
            answers = threading.Thread(target=relay, args=(behind, client))
            answers.start()
            relay(client, behind)
            answers.join()

    with listening() as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        port = server.getsockname()[1]
        yield make_conninfo(
            dsn,
            host="127.0.0.1",
            port=port,
            sslmode="disable",
            gssencmode="disable",
            max_protocol_version="3.0",
        )
        thread.join()


def test_a_read_only_session_cannot_write(each_postgres_dsn):
    with (
        connect(each_postgres_dsn, read_only=True) as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("CREATE TABLE t ()")


def test_the_session_carries_its_limits(each_postgres_dsn):
    with connect(
        each_postgres_dsn, read_only=True, statement_timeout_s=1.5, lock_timeout_s=0.25
    ) as connection:
        limits = ("statement_timeout", "lock_timeout", "application_name")

        assert ["1500ms", "250ms", "perfloop"] == [setting(connection, name) for name in limits]


def test_a_probe_that_is_stopped_in_the_middle_does_not_stay_in_a_transaction(postgres_dsn):
    with connect(postgres_dsn, read_only=True) as connection, pinned(connection):
        assert "1min" == setting(connection, "idle_in_transaction_session_timeout")


def test_a_session_that_may_write_has_no_limit_but_those_given(postgres_dsn):
    with connect(postgres_dsn, read_only=False, statement_timeout_s=0) as connection:
        limits = ("statement_timeout", "idle_in_transaction_session_timeout", "default_transaction_read_only")

        assert ["0", "0", "off"] == [setting(connection, name) for name in limits]


def test_the_options_of_the_dsn_are_kept(postgres_dsn):
    dsn = make_conninfo(
        postgres_dsn, options="-c search_path=app -c statement_timeout=7", connect_timeout="3"
    )
    with connect(dsn, read_only=True, statement_timeout_s=2) as connection:
        assert ["app", "2s"] == [setting(connection, name) for name in ("search_path", "statement_timeout")]


def test_an_empty_dsn_reads_the_environment(postgres_dsn, monkeypatch):
    for name, value in conninfo_to_dict(postgres_dsn).items():
        monkeypatch.setenv({"dbname": "PGDATABASE"}.get(name, f"PG{name.upper()}"), str(value))
    monkeypatch.setenv("PGOPTIONS", "-c search_path=app")
    with connect("", read_only=True) as connection:
        assert conninfo_to_dict(postgres_dsn)["dbname"] == connection.info.dbname
        assert "app" == setting(connection, "search_path")


def test_a_pooler_that_drops_the_limits_is_refused(postgres_dsn):
    with (
        pooler_without_options(postgres_dsn) as dsn,
        pytest.raises(InvalidInput, match="address of PostgreSQL itself"),
    ):
        connect(dsn, read_only=True)


def test_a_server_that_never_answers_ends_in_the_timeout():
    with listening() as server:
        dsn = f"postgresql://ann:{SECRET}@127.0.0.1:{server.getsockname()[1]}/shop"
        began_s = time.monotonic()
        with pytest.raises(TargetUnreachable, match=r"timeout expired.*check host and port") as caught:
            connect(dsn, read_only=True, connect_timeout_s=2)

        assert time.monotonic() - began_s < 6
        assert SECRET not in told(caught.value)


def test_a_closed_port_is_unreachable():
    with listening() as server:
        port = server.getsockname()[1]
    with pytest.raises(TargetUnreachable, match=r"[Cc]onnection refused") as caught:
        connect(f"host=127.0.0.1 port={port} user=ann password={SECRET}", read_only=True)

    assert SECRET not in told(caught.value)


@pytest.mark.parametrize(
    ("changed", "way_out"),
    [({"dbname": "no such"}, "database name"), ({"user": "nobody here"}, "check the user")],
)
def test_a_database_or_role_that_is_not_there_is_invalid_input(postgres_dsn, changed, way_out):
    with pytest.raises(InvalidInput, match=way_out):
        connect(make_conninfo(postgres_dsn, **changed), read_only=True)


def test_a_wrong_password_is_told_without_the_password(postgres_binaries, monkeypatch):
    with PostgresServer(postgres_binaries) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")
            (server.data_dir / "pg_hba.conf").write_text(
                "local all postgres trust\nlocal all all scram-sha-256\n"
            )
            admin.execute("SELECT pg_reload_conf()")
            refusals: list[PerfloopError] = []
            for given in ({"password": SECRET}, {}):
                with pytest.raises(MissingRights, match="PGPASSWORD") as caught:
                    connect(make_conninfo(server.dsn(), user="ann", **given), read_only=True)
                refusals.append(caught.value)
            monkeypatch.setenv("PGPASSWORD", "right")
            with connect(make_conninfo(server.dsn(), user="ann"), read_only=True) as connection:
                assert "ann" == read_role(connection).user

        assert not [each for each in refusals if SECRET in told(each)]


def test_a_session_that_is_ended_is_unreachable(postgres_dsn):
    with connect(postgres_dsn, read_only=True) as connection, psycopg.connect(postgres_dsn) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        with pytest.raises(TargetUnreachable, match="administrator command"):
            read_role(connection)


def test_a_server_killed_while_it_answers_is_unreachable(postgres_binaries):
    with PostgresServer(postgres_binaries) as server, connect(server.dsn(), read_only=True) as connection:
        killer = threading.Timer(0.2, os.kill, (connection.info.backend_pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(TargetUnreachable, match="run perfloop again"), unreachable_if_lost(connection):
            connection.execute("SELECT pg_sleep(20)")
        killer.join()


def test_a_refusal_inside_a_living_session_is_not_taken_for_its_end(postgres_dsn):
    with (
        connect(postgres_dsn, read_only=True, statement_timeout_s=0.05) as connection,
        pytest.raises(psycopg.errors.QueryCanceled),
        unreachable_if_lost(connection),
    ):
        connection.execute("SELECT pg_sleep(20)")
