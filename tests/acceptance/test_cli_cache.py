"""`perfloop cache`: shows the SQL, asks, does all or nothing, and leaves no trace when removed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

STATE = """
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
    SELECT nspname::text FROM pg_namespace
    UNION ALL
    SELECT oid::regclass || coalesce(reloptions::text, '') || relreplident::text || relkind::text
        FROM pg_class
    UNION ALL SELECT tgname || tgrelid::regclass FROM pg_trigger
    UNION ALL SELECT oid::regprocedure::text FROM pg_proc
    UNION ALL SELECT pubname::text FROM pg_publication
) AS told (line)
"""


@pytest.fixture
def shop(postgres_dsn: str) -> str:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute('CREATE TABLE "Order Items" (id int PRIMARY KEY, customer int)')
    return postgres_dsn


def ask(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_the_outbox_is_shown_installed_and_removed_without_a_trace(perfloop: Any, shop: str) -> None:
    before = ask(shop, STATE)
    install = ("cache", "outbox", "install", shop, "--table", "Order Items:id,customer")
    shown = perfloop(*install, "--dry-run")
    refused = perfloop(*install)
    after_both = ask(shop, STATE)
    done = perfloop(*install, "--yes")
    with psycopg.connect(shop, autocommit=True) as connection:
        connection.execute('INSERT INTO "Order Items" VALUES (1, 2), (3, 4)')
    status = perfloop("cache", "outbox", "status", shop)
    removed = perfloop("cache", "outbox", "remove", shop, "--yes")

    assert [0, 3, 0, 0, 0] == [each.code for each in (shown, refused, done, status, removed)]
    assert "TRIGGER perfloop_cache_update" in shown.out
    assert "nothing was changed" in refused.err
    assert "Order Items: id, customer\nevents kept: 1" in status.out
    assert before == after_both
    assert before == ask(shop, STATE)


def test_without_an_outbox_there_is_nothing_to_show_or_remove(perfloop: Any, shop: str) -> None:
    assert "no outbox" in perfloop("cache", "outbox", "status", shop).out
    assert "nothing to remove" in perfloop("cache", "outbox", "remove", shop, "--yes").out


def test_a_server_that_does_not_log_enough_is_named_with_the_way_out(perfloop: Any, shop: str) -> None:
    told = perfloop("cache", "slot", "install", shop, "--table", "Order Items", "--yes")

    assert 3 == told.code
    assert "ALTER SYSTEM SET wal_level = logical" in told.fault
