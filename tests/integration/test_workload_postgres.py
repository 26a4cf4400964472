"""Workloads of real servers: nearly every statement becomes an operation, and every instance runs."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
from examples.feedshop import load, mix, traffic

from perfloop.adapters.connection import connect
from perfloop.adapters.explain import explain
from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.statements import statement_kind
from perfloop.errors import UnsupportedStatement
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.workload import Statement, StatementKind, Workload
from perfloop.validate.literals import quoted
from perfloop.validate.operations import Counted, Drawing, operations
from perfloop.validate.sampling import parameter_types, sampler
from perfloop.validate.tokens import TokenKind, tokens, with_parameters
from perfloop.validate.workload import read_workload

HOST = Host(cpus=1, memory_bytes=1, available_bytes=1, load_1m=0.0, busy_ratio=0.0, steal_ratio=0.0)
HERE = Path(__file__).parent
ODD_TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE SCHEMA app;
CREATE TABLE app.account (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(80) NOT NULL UNIQUE, tenant_id int NOT NULL,
    tags text[] NOT NULL, m mood NOT NULL, active boolean NOT NULL, doc jsonb NOT NULL, secret bytea,
    balance numeric(12,2) NOT NULL, born date, made timestamptz NOT NULL, t time, score real,
    ip inet, r int4range
);
INSERT INTO app.account (email, tenant_id, tags, m, active, doc, secret, balance, born, made, t, score, ip, r)
SELECT 'it''s ' || i || '@x.org', i % 50, ARRAY['t' || i % 7, 'u' || i % 11],
    (ARRAY['sad', 'ok', 'happy'])[1 + i % 3]::mood, i % 4 = 0,
    jsonb_build_object('k', i % 100, 'name', 'n' || i),
    decode(md5(i::text), 'hex'), i * 1.5, date '1970-01-01' + i,
    timestamptz '2026-01-01' + i * interval '1 hour',
    time '10:00' + i * interval '1 s', i / 7.0, ('10.0.' || i % 255 || '.1')::inet, int4range(i, i + 10)
FROM generate_series(1, 3000) i;
CREATE TABLE log (
    id bigserial PRIMARY KEY, account uuid REFERENCES app.account, at timestamp NOT NULL,
    level smallint NOT NULL,
    body text, n bigint
);
INSERT INTO log (account, at, level, body, n)
SELECT id, timestamp '2026-01-01' + i * interval '1 min', i % 5, 'message ' || md5(i::text), i
FROM (SELECT id, row_number() OVER (ORDER BY email) AS i FROM app.account) a;
CREATE TABLE "Weird Name" ("Some Col" int PRIMARY KEY, "select" text);
INSERT INTO "Weird Name" SELECT i, 'v' || i FROM generate_series(1, 100) i;
CREATE VIEW recent AS SELECT id, level AS lvl, at FROM log WHERE at > '2026-01-02';
CREATE TABLE never (a int, b text, c timestamptz) WITH (autovacuum_enabled = off);
INSERT INTO never SELECT i, 'b' || i, now() FROM generate_series(1, 100) i;
CREATE TABLE part (id bigint, d date, v int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
INSERT INTO part SELECT i, date '2026-01-01' + i % 30, i % 10 FROM generate_series(1, 1000) i;
ANALYZE app.account, log, "Weird Name", part;
"""
BROKEN = {
    "SELECT * FROM nowhere WHERE a = $1": 'relation "nowhere" does not exist',
    "SELECT unknown_function($1) FROM log": "does not exist",
    "SELECT broken FROM WHERE $1": "parameters cannot be found",
    "SELECT * FROM log WHERE body = 'open": "does not end",
    "SELECT (((( $1": "parameters cannot be found",
    "SELECT " + "(" * 3000 + "$1" + ")" * 3000: "nested too deeply",
    "SELECT * FROM log WHERE body = $1 AND n IN (" + "1," * 500_000 + "2)": "more than 200,000 are not read",
    "SELECT pg_sleep($1)": "touches no table",
    "SELECT * FROM pg_class WHERE relname = $1": "system catalogue",
    "SELECT 1; DROP TABLE log": "cannot insert multiple commands",
}


@contextmanager
def reading(dsn: str) -> Iterator[tuple[psycopg.Connection, Snapshot]]:
    with connect(dsn, read_only=True) as connection:
        yield connection, take_snapshot(connection, taken_at_s=0.0, host=HOST)


def workload_of(dsn: str, source: str | None = None) -> Workload:
    with reading(dsn) as (connection, snapshot):
        return read_workload(
            source,
            snapshot,
            partial(explain, connection),
            seed=1,
            most=100,
            sample=sampler(connection),
            types=parameter_types(connection),
        )


def faults(dsn: str, workload: Workload) -> list[str]:
    """The errors of running every instance; nothing of it stays."""
    found = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for text in (text for each in workload.operations for text in each.instances):
            try:
                explain(connection, text, analyze=True)
            except UnsupportedStatement as error:
                found.append(f"{error}: {text}")
    return found


def drawn(dsn: str, texts: list[str]) -> Workload:
    counted = [
        Counted(
            statement=Statement(
                query_id=str(number), text=text, kind=statement_kind(text) or StatementKind.READ
            ),
            calls=1,
        )
        for number, text in enumerate(texts)
    ]
    with reading(dsn) as (connection, snapshot):
        drawing = Drawing(
            snapshot=snapshot,
            plans=partial(explain, connection),
            seed=1,
            sample=sampler(connection),
            types=parameter_types(connection),
        )
        made, skipped = operations(counted, drawing)
    return Workload(origin="test", operations=made, skipped=skipped)


def test_odd_statements_become_operations_that_run(each_postgres_dsn: str) -> None:
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        connection.execute(ODD_TABLES)
    texts = [
        line
        for line in (HERE / "odd_statements.sql").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("--")
    ]
    workload = drawn(each_postgres_dsn, texts)

    assert [] == [(each.reason, each.statement.text) for each in workload.skipped]
    assert len(texts) == len(workload.operations)
    assert [] == faults(each_postgres_dsn, workload)


def test_broken_statements_are_listed_and_stop_nothing(each_postgres_dsn: str) -> None:
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        connection.execute(ODD_TABLES)
    workload = drawn(each_postgres_dsn, [*BROKEN, "SELECT * FROM log WHERE n = $1"])
    reasons = {each.statement.text: each.reason for each in workload.skipped}

    assert 1 == len(workload.operations)
    assert dict.fromkeys(BROKEN, True) == {text: BROKEN[text] in reasons[text] for text in BROKEN}


def test_feedshop_is_read_from_its_counters_with_plans_like_the_real_ones(each_postgres_dsn: str) -> None:
    load.load(each_postgres_dsn, scale=0.05)
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_statements_reset()")
    traffic.run_traffic(each_postgres_dsn, operations=600)
    workload = workload_of(each_postgres_dsn)
    expected = ("rarely called", "touches no table")
    refused = [each for each in workload.skipped if not any(part in each.reason for part in expected)]
    like_real, compared = likeness(each_postgres_dsn, workload)

    assert [] == refused
    assert [] == faults(each_postgres_dsn, workload)
    assert 1.0 == pytest.approx(sum(each.calls_share for each in workload.operations))
    assert compared >= 80
    assert like_real / compared >= 0.9


def without_constants(text: str) -> tuple[str, ...]:
    constants = (TokenKind.NUMBER, TokenKind.STRING, TokenKind.PARAMETER)
    found = (token for token in tokens(text) if token.kind is not TokenKind.SPACE)
    return tuple("?" if token.kind in constants else token.text for token in found)


def likeness(dsn: str, workload: Workload) -> tuple[int, int]:
    """How many instances have a plan that real parameters lead to, of how many that can be compared."""
    like_real = compared = 0
    texts = {without_constants(each.statement.text): each for each in workload.operations}
    with psycopg.connect(dsn, autocommit=True) as connection:
        pools = mix.read_pools(connection, random.Random(3))
        for real in mix.operations():
            operation = texts.get(without_constants(real.sql))
            if operation is None:
                continue
            shapes = set()
            for seed in range(10):
                rng = random.Random(seed)
                rows = {pool: rng.choice(pools[pool]) for pool, _ in real.params}
                values = {
                    number: quoted(str(rows[pool][column]))
                    for number, (pool, column) in enumerate(real.params, start=1)
                }
                shapes.add(explain(connection, with_parameters(real.sql, values)).shape)
            compared += len(operation.instances)
            like_real += sum(explain(connection, text).shape in shapes for text in operation.instances)
    return like_real, compared


def test_the_workload_folder_of_feedshop_is_read_whole(postgres_dsn: str) -> None:
    load.load(postgres_dsn, scale=0.01)
    folder = Path(mix.__file__).parent / "workload"
    workload = workload_of(postgres_dsn, str(folder))

    assert [] == list(workload.skipped)
    assert len(list(folder.glob("*.sql"))) == len(workload.operations)
    assert [] == faults(postgres_dsn, workload)


def test_all_tpch_queries_are_read_raw_and_normalised(each_postgres_dsn: str, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    extension = pytest.importorskip("duckdb_extension_tpch")
    generator = Path(sys.executable).parent / "tpchgen-cli"
    if shutil.which(str(generator)) is None:
        pytest.skip("tpchgen-cli is not installed")
    subprocess.run(
        [generator, "csv", "-s", "0.01", f"--output-dir={tmp_path / 'rows'}"], check=True, capture_output=True
    )
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as source:
        source.execute(f"LOAD '{next(Path(extension.__file__).parent.rglob('*.duckdb_extension'))}'")
        source.execute("CALL dbgen(sf = 0)")
        tables = source.execute("SELECT table_name, sql FROM duckdb_tables()").fetchall()
        queries = source.execute("SELECT query_nr, query FROM tpch_queries()").fetchall()
    with psycopg.connect(each_postgres_dsn, autocommit=True) as connection:
        for name, definition in tables:
            connection.execute(definition)
            with connection.cursor().copy(f"COPY {name} FROM STDIN CSV HEADER") as copy:
                copy.write((tmp_path / "rows" / f"{name}.csv").read_bytes())
        connection.execute("CREATE INDEX ON lineitem (l_orderkey); CREATE INDEX ON partsupp (ps_partkey)")
        connection.execute("CREATE INDEX ON lineitem (l_partkey)")
        connection.execute("ANALYZE")
        connection.execute("SELECT pg_stat_statements_reset()")
        (tmp_path / "queries").mkdir()
        for number, query in queries:
            (tmp_path / "queries" / f"q{number:02}.sql").write_text(query, encoding="utf-8")
            connection.execute(query.strip().rstrip(";"))
    raw = workload_of(each_postgres_dsn, str(tmp_path / "queries"))
    normalised = workload_of(each_postgres_dsn)
    expected = ("rarely called", "touches no table")
    refused = [each for each in normalised.skipped if not any(part in each.reason for part in expected)]

    assert (22, ()) == (len(raw.operations), raw.skipped)
    assert [] == refused
    assert len(normalised.operations) >= 15
