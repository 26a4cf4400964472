"""Servers for the tests: real ones, started once a session and shared; databases are fresh for every test.

`PERFLOOP_TEST_DSN` and `PERFLOOP_TEST_REDIS` name servers to use instead, and then their absence is a
failure; so it is under `CI=true`. Otherwise a test whose server is not installed is skipped, and the header
says so.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfloop.adapters.servers import (
    PostgresBinaries,
    PostgresServer,
    RedisServer,
    find_redis,
    installed_postgres,
    installed_redis,
)
from perfloop.errors import ServerNotFound

TESTS = Path(__file__).parent
TEST_DSN = os.environ.get("PERFLOOP_TEST_DSN")
TEST_REDIS = os.environ.get("PERFLOOP_TEST_REDIS")

# Durability is not under test; everything else is as installed.
TEST_SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "fsync": "off",
    "shared_buffers": "64MB",
    "max_connections": "50",
}

INSTALLED_POSTGRES = installed_postgres()
NONE = "none installed, so tests that need one are skipped"

StartServer = Callable[[PostgresBinaries], PostgresServer]


def pytest_configure() -> None:
    """Let Ctrl-C be heard, also where a shell put the tests in the background and so had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    postgres = [f"{one.version} ({one.origin})" for one in INSTALLED_POSTGRES]
    redis = [f"{one.flavour} {one.version} ({one.origin})" for one in installed_redis()]
    return [
        f"postgres: {', '.join(postgres) or NONE}" + (" and PERFLOOP_TEST_DSN" if TEST_DSN else ""),
        f"redis: {', '.join(redis) or NONE}" + (" and PERFLOOP_TEST_REDIS" if TEST_REDIS else ""),
    ]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, so that no process ends with one of them when the others are idle."""
    folders = ("acceptance", "integration", "statistical")
    ranks = {TESTS / folder: rank for rank, folder in enumerate(folders)}
    items.sort(key=lambda item: ranks.get(item.path.parent, len(folders)))


def missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; with CI=true a missing server is a failure", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def start_postgres() -> Iterator[StartServer]:
    """One shared server per installation, started when the first test asks for it."""
    servers: dict[PostgresBinaries, PostgresServer] = {}
    with contextlib.ExitStack() as running:

        def start(binaries: PostgresBinaries) -> PostgresServer:
            if binaries not in servers:
                server = running.enter_context(PostgresServer(binaries, settings=TEST_SETTINGS))
                with psycopg.connect(server.dsn("template1"), autocommit=True) as connection:
                    connection.execute("CREATE EXTENSION pg_stat_statements")
                servers[binaries] = server
            return servers[binaries]

        yield start


@pytest.fixture(scope="session")
def postgres_binaries() -> PostgresBinaries:
    """The preferred installation."""
    if not INSTALLED_POSTGRES:
        missing("no PostgreSQL with pg_stat_statements is installed")
    return INSTALLED_POSTGRES[0]


@pytest.fixture(scope="session")
def postgres_server(start_postgres: StartServer, postgres_binaries: PostgresBinaries) -> PostgresServer:
    """A shared server of the preferred installation; its settings are TEST_SETTINGS, leave them so."""
    return start_postgres(postgres_binaries)


@pytest.fixture(
    scope="session", params=INSTALLED_POSTGRES or [None], ids=lambda one: f"pg{one.major}" if one else "none"
)
def each_postgres_binaries(request: pytest.FixtureRequest) -> PostgresBinaries:
    """Every installation in turn."""
    if request.param is None:
        missing("no PostgreSQL with pg_stat_statements is installed")
    return request.param


@pytest.fixture(scope="session")
def each_postgres_server(
    start_postgres: StartServer, each_postgres_binaries: PostgresBinaries
) -> PostgresServer:
    """A shared server of every installation in turn."""
    return start_postgres(each_postgres_binaries)


@pytest.fixture
def postgres_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database for this test alone, with pg_stat_statements."""
    dsn = TEST_DSN or request.getfixturevalue("postgres_server").dsn()
    with fresh_database(dsn) as fresh:
        yield fresh


@pytest.fixture
def each_postgres_dsn(each_postgres_server: PostgresServer) -> Iterator[str]:
    """A database for this test alone, on every installation in turn."""
    with fresh_database(each_postgres_server.dsn()) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def templates(start_postgres: StartServer) -> Iterator[Templates]:
    """What SQL makes of a database, made once a server and copied from then on; gone before the servers."""
    with Templates() as made:
        yield made


@pytest.fixture
def each_filled_dsn(
    request: pytest.FixtureRequest, templates: Templates, each_postgres_server: PostgresServer
) -> Iterator[str]:
    """A database for this test alone, filled with the SCHEMA of its module, on every installation in turn."""
    dsn = each_postgres_server.dsn()
    with fresh_database(dsn, template=templates.of(dsn, request.module.SCHEMA)) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def each_module_dsn(request: pytest.FixtureRequest, each_postgres_server: PostgresServer) -> Iterator[str]:
    """One such database for a whole module, whose tests leave it as it was."""
    with fresh_database(each_postgres_server.dsn()) as fresh:
        with psycopg.connect(fresh, autocommit=True) as connection:
            connection.execute(request.module.SCHEMA)
        yield fresh


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A shared server of the preferred installation."""
    try:
        binary = find_redis()
    except ServerNotFound:
        missing("no Redis or Valkey is installed")
    with RedisServer(binary) as server:
        yield server


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """A server to use; keys of earlier tests may be on it, so prefix yours."""
    return TEST_REDIS or request.getfixturevalue("redis_server").url


class Templates:
    """Databases to copy, by server and by what filled them; a context manager that drops them."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], str] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Templates:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, dsn: str, schema: str) -> str:
        """The name of the database on this server that the schema has filled."""
        if (dsn, schema) not in self._made:
            filled = self._stack.enter_context(fresh_database(dsn))
            with psycopg.connect(filled, autocommit=True) as connection:
                connection.execute(schema)
            self._made[dsn, schema] = str(conninfo_to_dict(filled)["dbname"])
        return self._made[dsn, schema]


@contextlib.contextmanager
def fresh_database(dsn: str, *, template: str = "template1") -> Iterator[str]:
    name = f"perfloop_test_{secrets.token_hex(4)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        fresh = make_conninfo(dsn, dbname=name)
        try:
            with psycopg.connect(fresh, autocommit=True) as inside:
                inside.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            yield fresh
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
