"""`perfloop cache advise`: names what to keep and why the rest is not worth it, on a real server."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfloop.cache.usage import TemplateUsage, UsageProfile
from perfloop.cache.usage_files import write_usage
from perfloop.errors import InvalidInput
from perfloop.tune.cache_advice import AdviceOptions, advise
from perfloop.tune.observer import Silence

SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, total int NOT NULL);
INSERT INTO orders SELECT g, g % 50, g FROM generate_series(1, 20000) g;
CREATE TABLE stock (product_id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO stock SELECT g, g % 17 FROM generate_series(1, 20000) g;
ANALYZE;
"""
FORGET = """
SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()
"""
BY_CUSTOMER = "SELECT count(*), sum(total) FROM orders WHERE customer_id = $1"
TOTALS = "SELECT sum(amount) FROM stock"
LATEST = "SELECT count(*) FROM orders WHERE now() > '2026-01-01'"


@pytest.fixture
def busy_dsn(postgres_dsn: str) -> str:
    """A service that asks for the orders of a few customers, and whose stock is written to all the time."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(FORGET)
        for number in range(200):
            connection.execute(BY_CUSTOMER.replace("$1", "%s"), (number % 50,))
            connection.execute("UPDATE stock SET amount = amount + 1 WHERE product_id = %s", (number,))
            if number % 10 == 0:
                connection.execute(TOTALS)
                connection.execute(LATEST)
    return postgres_dsn


@pytest.fixture
def stranger_dsn(busy_dsn: str) -> Iterator[str]:
    """The same as a role that may connect, and no more."""
    name = f"perfloop_test_{secrets.token_hex(4)}"
    role = sql.Identifier(name)
    with psycopg.connect(busy_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'stranger'").format(role))
        yield make_conninfo(busy_dsn, user=name, password="stranger")
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_what_to_keep_comes_with_its_line_and_the_rest_with_its_reason(perfloop: Any, busy_dsn: str) -> None:
    told = perfloop("cache", "advise", busy_dsn, COLUMNS="80")

    assert 0 == told.code, told.err
    assert "worth keeping: 1" in told.out
    assert "queries.fetch_all(connection, STATEMENT, (customer_id,), ttl_s=3600)" in told.out
    assert "perfloop cache outbox install DSN --table orders\n" in told.out
    assert "now() tells of the moment" in told.out
    assert "writes to its tables come every" in told.out
    assert [] == [line for line in told.out.splitlines() if len(line) > 80 and "fetch_all" not in line]


def test_the_json_has_every_statement_with_every_way(perfloop: Any, busy_dsn: str) -> None:
    told = json.loads(perfloop("cache", "advise", busy_dsn, "--json").out)
    statements = {each["text"]: each for each in told["database"]["statements"]}
    proposed = statements[BY_CUSTOMER]

    assert "perfloop-cache-advice-1" == told["format"]
    assert proposed["is_proposed"]
    assert 50 == proposed["different"]
    assert ["orders"] == proposed["tables"]
    assert proposed["chosen"]["hit_ratio"] > 0.5
    assert {"its tables change", "its time is over"} == {way["until"] for way in proposed["ways"]}
    assert not statements[TOTALS]["is_proposed"]


def test_the_parameters_of_a_log_go_before_those_of_the_statistics(
    perfloop: Any, busy_dsn: str, tmp_path: Path
) -> None:
    records = (
        {
            "error_severity": "LOG",
            "session_id": "1",
            "message": f"duration: 0.100 ms  execute <unnamed>: {BY_CUSTOMER}",
            "detail": f"Parameters: $1 = '{number % 3}'",
        }
        for number in range(300)
    )
    log = tmp_path / "server.json"
    log.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    told = perfloop("cache", "advise", busy_dsn, "--log", log)

    assert 0 == told.code, told.err
    assert "3 different calls in the log" in told.out


def test_a_window_in_which_nothing_is_called_says_so(busy_dsn: str) -> None:
    with pytest.raises(InvalidInput, match="no statement was called; let the service run"):
        advise(busy_dsn, AdviceOptions(window_s=0.1), Silence())


def test_a_role_without_rights_is_told_the_grant(perfloop: Any, stranger_dsn: str) -> None:
    told = perfloop("cache", "advise", stranger_dsn)

    assert 3 == told.code
    assert "statements of other roles are hidden" in told.fault
    assert "GRANT pg_monitor TO" in told.fault


def test_a_role_that_sees_counters_and_no_tables_is_told_what_it_may_not_read(
    busy_dsn: str, stranger_dsn: str
) -> None:
    user = conninfo_to_dict(stranger_dsn)["user"]
    with psycopg.connect(busy_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(str(user))))
    advice = advise(stranger_dsn, AdviceOptions(), Silence())
    reasons = {each.text: each.reason for each in advice.statements}

    assert not advice.proposed
    assert reasons[BY_CUSTOMER].startswith("there are no statistics of orders.customer_id")
    assert any("may not be read" in each.reason for each in advice.limitations)


def test_counters_without_calls_tell_the_way_out(postgres_dsn: str) -> None:
    with pytest.raises(InvalidInput, match="it has counted no statement; let the service run"):
        advise(postgres_dsn, AdviceOptions(), Silence())


def test_a_database_without_the_extension_is_told_how_to_get_it(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("DROP EXTENSION pg_stat_statements")
    with pytest.raises(InvalidInput, match="CREATE EXTENSION pg_stat_statements;"):
        advise(postgres_dsn, AdviceOptions(), Silence())


def test_profiles_of_a_running_cache_are_shown_as_one(perfloop: Any, tmp_path: Path) -> None:
    usage = TemplateUsage(
        template="user:{user_id}", hits=900, misses=100, loads=100, loaded_keys=100, load_s=2.0, ttl_s=60
    )
    profile = UsageProfile(
        cache="shop",
        observed_s=60,
        saved_unix_s=1.8e9,
        capacity=1_000,
        by_bytes=False,
        has_shared_tier=False,
        templates=(usage,),
    )
    paths = [tmp_path / name for name in ("one.json", "two.json")]
    for path in paths:
        write_usage(path, profile)
    told = perfloop("cache", "advise", *(f"--usage={path}" for path in paths), DATABASE_URL="")

    assert 0 == told.code, told.err
    assert "cache shop  2 processes" in told.out
    assert "user:{user_id}" in told.out
    assert "90 % hits" in told.out


def test_without_a_database_or_a_profile_the_command_is_not_understood(perfloop: Any) -> None:
    told = perfloop("cache", "advise", DATABASE_URL="")

    assert 2 == told.code
    assert "--usage" in told.err
