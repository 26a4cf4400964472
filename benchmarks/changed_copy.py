"""A Study's target twice: as it was, and as a copy to which `perfloop apply` brought what the Study kept.

The copy is one of files, so that both start from the same bytes and stored settings go along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from perfloop.adapters.connection import connect, safe_dsn
from perfloop.adapters.servers import PostgresServer
from perfloop.adapters.store import Journal
from perfloop.model.advice import RewriteQuery
from perfloop.model.outcome import Study
from perfloop.tune.apply import apply_study


@contextmanager
def changed_copy(server: PostgresServer, dbname: str, study: Study, journal: Journal) -> Iterator[str]:
    """The conninfo of the changed database, on a second server; `server` stands still while it is copied."""
    with ExitStack() as stack:
        with server.stopped() as data_dir:
            second = PostgresServer(server.binaries, settings=server.settings, copy_of=data_dir)
            stack.enter_context(second)
        dsn = second.dsn(dbname)
        if any(not isinstance(trial.proposal.change, RewriteQuery) for trial in study.kept()):
            apply_study(
                study,
                lambda: connect(dsn, read_only=False, statement_timeout_s=0),
                journal,
                report=lambda line: None,
                target=safe_dsn(dsn),
            )
        yield dsn


def database_bytes(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None  # a function always yields a row
    return int(row[0])
