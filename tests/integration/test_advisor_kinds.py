"""From a statement to the index of the kind it needs, on every installed server; and near misses."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from msgspec.structs import replace

from perfloop.adapters.postgres import take_snapshot
from perfloop.adapters.servers import PostgresServer
from perfloop.model.advice import CreateIndex
from perfloop.model.snapshot import Host, Snapshot
from perfloop.model.workload import Operation, Statement, StatementKind, Workload
from perfloop.tune.advisor.advice import Advice, propose
from perfloop.tune.advisor.lab_what_if import open_what_if

HOST = Host(cpus=2, memory_bytes=2**32, available_bytes=2**31, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0)

SCHEMA = """
CREATE TABLE notes (id bigint PRIMARY KEY, owner integer NOT NULL, attrs jsonb NOT NULL,
                    tags integer[] NOT NULL, words tsvector NOT NULL, title text NOT NULL,
                    code character(12) NOT NULL,
                    status text NOT NULL, hidden boolean NOT NULL, done_at timestamptz,
                    made timestamp NOT NULL, seen timestamptz NOT NULL, score integer,
                    during int4range NOT NULL);
INSERT INTO notes
SELECT i, i % 700, jsonb_build_object('campaign', i % 900, 'tags', jsonb_build_array(i % 800)),
       ARRAY[i % 600, i % 601 + 1000], to_tsvector('simple', 'word' || i % 500 || ' all'),
       md5((i % 5000)::text) || ' ' || md5(i::text), 'C' || lpad((i % 4000)::text, 6, '0'),
       CASE WHEN i % 40 = 0 THEN 'pending' WHEN i % 2 = 0 THEN 'paid' ELSE 'sent' END, i % 50 = 0,
       CASE WHEN i % 30 > 0 THEN '2026-02-01'::timestamptz END,
       '2026-01-01'::timestamp + i * interval '1 hour',
       '2026-01-01'::timestamptz + i * interval '1 hour', nullif(i * 7919 % 20011, 0), int4range(i, i + 5)
FROM generate_series(1, 20000) AS i;
VACUUM ANALYZE notes;
"""


@pytest.fixture(scope="module")
def notes_dsn(each_postgres_server: PostgresServer) -> Iterator[str]:
    """One database for all tests here: a WhatIf leaves nothing behind."""
    name = f"perfloop_kinds_{secrets.token_hex(4)}"
    with psycopg.connect(each_postgres_server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        dsn = each_postgres_server.dsn(name)
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in SCHEMA.split(";\n")[:-1]:
                connection.execute(statement)
        yield dsn
        admin.execute(f"DROP DATABASE {name} (FORCE)")


@pytest.fixture
def lab(notes_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(notes_dsn, autocommit=True) as connection:
        connection.execute("SET random_page_cost = 1.1; SET jit = off")
        connection.execute("SET max_parallel_workers_per_gather = 0")
        yield connection


@pytest.fixture(scope="module")
def snapshot(notes_dsn: str) -> Snapshot:
    with psycopg.connect(notes_dsn, autocommit=True) as connection:
        return take_snapshot(connection, taken_at_s=0.0, host=HOST)


def read(*instances: str, text: str | None = None) -> Operation:
    statement = Statement(
        query_id=text or instances[0], text=text or instances[0], kind=StatementKind.READ, name="read"
    )
    return Operation(statement=statement, calls_share=0.1, instances=instances)


def advise(lab: psycopg.Connection, snapshot: Snapshot, *operations: Operation) -> Advice:
    workload = Workload(origin="test", operations=operations)
    with open_what_if(lab, snapshot.tables) as what_if:
        return propose(snapshot, (), workload, what_if)


def indexes(advice: Advice) -> list[str]:
    return [
        each.change.title.removeprefix("create index on notes ")
        for each in advice.proposals
        if isinstance(each.change, CreateIndex)
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("""attrs @> '{"campaign": 17}'""", "using gin (attrs jsonb_path_ops)"),
        ("attrs @? '$.campaign ? (@ == 17)'", "using gin (attrs jsonb_path_ops)"),
        ("attrs -> 'tags' @> '[17]'", "using gin (attrs -> 'tags' jsonb_path_ops)"),
        ("attrs ? 'rare'", "using gin (attrs)"),
        ("attrs ?| '{rare,odd}'", "using gin (attrs)"),
        ("attrs ?& '{rare,odd}'", "using gin (attrs)"),
        ("tags @> '{17}'", "using gin (tags)"),
        ("tags && '{17,18}'", "using gin (tags)"),
        ("words @@ to_tsquery('simple', 'word17')", "using gin (words)"),
        (
            "to_tsvector('simple', title) @@ to_tsquery('simple', 'none')",
            "using gin (to_tsvector(CAST('simple' AS REGCONFIG), title))",
        ),
        ("title LIKE '%4a8a08f09d37b%'", "using gin (title gin_trgm_ops)"),
        ("title ILIKE '%4A8A08F09D37B%'", "using gin (title gin_trgm_ops)"),
        ("title ~ '4a8a08f0[89]d37b'", "using gin (title gin_trgm_ops)"),
        ("lower(title) LIKE '%4a8a08f09d37b%'", "using gin (lower(title) gin_trgm_ops)"),
        ("during && '[500,502)'", "using gist (during)"),
    ],
)
def test_a_search_inside_values_gets_an_index_of_their_parts(
    lab: psycopg.Connection, snapshot: Snapshot, condition: str, expected: str
) -> None:
    advice = advise(lab, snapshot, read(f"SELECT id, owner FROM notes WHERE {condition}"))

    assert expected in indexes(advice)[:2]


@pytest.mark.parametrize(
    "condition",
    [
        "17 = ANY (tags)",
        "NOT attrs @> '{\"campaign\": 17}'",
        "title NOT LIKE '%4a8a08f09d37b%'",
        "title LIKE '%a%'",
        "words @@ to_tsquery('simple', 'all')",
        "attrs ? 'campaign'",
    ],
)
def test_a_search_that_such_an_index_would_not_speed_up_gets_none(
    lab: psycopg.Connection, snapshot: Snapshot, condition: str
) -> None:
    advice = advise(lab, snapshot, read(f"SELECT id, owner FROM notes WHERE {condition}"))

    assert [] == indexes(advice)


def test_a_search_among_elements_that_no_index_serves_is_told(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    advice = advise(lab, snapshot, read("SELECT id FROM notes WHERE 17 = ANY (tags)"))

    assert "read asks for tags = ANY (…) where @> ARRAY[…] could use one" in advice.unexplained[0]


def test_what_a_gin_index_serves_already_is_not_proposed_again(lab: psycopg.Connection) -> None:
    lab.execute("CREATE INDEX notes_attrs ON notes USING gin (attrs)")
    try:
        snapshot = take_snapshot(lab, taken_at_s=0.0, host=HOST)
        advice = advise(lab, snapshot, read("""SELECT id FROM notes WHERE attrs @> '{"campaign": 17}'"""))
    finally:
        lab.execute("DROP INDEX notes_attrs")

    assert [] == indexes(advice)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "SELECT id FROM notes WHERE status = 'pending' ORDER BY made LIMIT 9",
            "(made) where status = 'pending'",
        ),
        ("SELECT * FROM notes WHERE hidden AND owner = 17", "(owner) where hidden"),
        ("SELECT * FROM notes WHERE done_at IS NULL ORDER BY made LIMIT 9", "(made) where done_at IS NULL"),
    ],
)
def test_what_the_text_says_of_few_rows_becomes_a_predicate(
    lab: psycopg.Connection, snapshot: Snapshot, statement: str, expected: str
) -> None:
    advice = advise(lab, snapshot, read(statement))

    assert [] != [each for each in indexes(advice)[:3] if each == expected]


@pytest.mark.parametrize(
    ("text", "instance"),
    [
        (
            "SELECT id FROM notes WHERE status = $1 ORDER BY made LIMIT 9",
            "status = 'pending' ORDER BY made LIMIT 9",
        ),
        ("SELECT id FROM notes WHERE hidden = $1 AND owner = $2", "hidden = true AND owner = 17"),
        ("SELECT id FROM notes WHERE status = %s AND owner = %s", "status = 'pending' AND owner = 17"),
        (
            "SELECT id FROM notes WHERE status IN ($1, $2) AND owner = 3",
            "status IN ('pending') AND owner = 3",
        ),
    ],
)
def test_a_parameter_never_becomes_a_predicate_even_if_all_draws_agree(
    lab: psycopg.Connection, snapshot: Snapshot, text: str, instance: str
) -> None:
    advice = advise(lab, snapshot, read(f"SELECT id FROM notes WHERE {instance}", text=text))

    assert [] != indexes(advice)
    assert [] == [each for each in indexes(advice) if " where " in each]


def test_instances_that_differ_agree_on_no_predicate(lab: psycopg.Connection, snapshot: Snapshot) -> None:
    texts = [
        f"SELECT id FROM notes WHERE status = '{each}' AND owner < 3 ORDER BY made LIMIT 9"
        for each in ("pending", "paid")
    ]

    advice = advise(lab, snapshot, read(*texts))

    assert [] == [each for each in indexes(advice) if " where " in each]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT id FROM notes WHERE made::date = '2026-03-01'", "(CAST(made AS DATE))"),
        ("SELECT id FROM notes WHERE date_trunc('day', made) = '2026-03-01'", "(date_trunc('day', made))"),
        ("SELECT id FROM notes WHERE attrs ->> 'campaign' = '17'", "(attrs ->> 'campaign')"),
        ("SELECT id FROM notes WHERE score + owner = 19000", "(score + owner)"),
        (
            "SELECT id FROM notes WHERE (attrs ->> 'campaign')::int = 17",
            "(CAST(((attrs ->> 'campaign')) AS INT))",
        ),
        ("SELECT id FROM notes ORDER BY lower(title) LIMIT 5", "(lower(title))"),
    ],
)
def test_a_compared_expression_gets_an_index_that_the_planner_uses(
    lab: psycopg.Connection, snapshot: Snapshot, statement: str, expected: str
) -> None:
    advice = advise(lab, snapshot, read(statement))

    assert expected in indexes(advice)[:1]


def test_a_cast_that_hangs_on_the_time_zone_gets_none_and_the_reason(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    advice = advise(lab, snapshot, read("SELECT id FROM notes WHERE seen::date = '2026-03-01'"))

    assert [] == indexes(advice)
    assert "IMMUTABLE" in "\n".join(advice.unexplained)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("owner, made DESC", "(owner, made desc)"),
        ("score DESC NULLS LAST", "(score desc)"),
    ],
)
def test_an_order_gets_its_directions_and_the_place_of_nulls(
    lab: psycopg.Connection, snapshot: Snapshot, order: str, expected: str
) -> None:
    advice = advise(lab, snapshot, read(f"SELECT * FROM notes ORDER BY {order} LIMIT 5"))
    first = advice.proposals[0].change

    assert isinstance(first, CreateIndex)
    assert expected in first.title
    assert ("NULLS LAST" in order) is (first.keys[0].nulls_first is False)


@pytest.mark.parametrize(
    ("condition", "operators"),
    [("title LIKE 'a87ff679a2f%'", "text_pattern_ops"), ("code LIKE 'C0000%'", "bpchar_pattern_ops")],
)
def test_a_prefix_in_another_collation_than_c_gets_pattern_operators(
    lab: psycopg.Connection, snapshot: Snapshot, condition: str, operators: str
) -> None:
    advice = advise(lab, snapshot, read(f"SELECT id FROM notes WHERE {condition}"))
    changes = [each.change for each in advice.proposals if isinstance(each.change, CreateIndex)]

    assert operators in [each.keys[0].operator_class for each in changes]


def test_what_a_statement_takes_is_included_where_it_spares_the_table(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    advice = advise(lab, snapshot, read("SELECT sum(score) FROM notes WHERE owner BETWEEN 10 AND 40"))

    assert "(owner) include (score)" in indexes(advice)[:1]


def test_without_the_extension_no_index_of_it_is_proposed_and_that_is_told(
    lab: psycopg.Connection, snapshot: Snapshot
) -> None:
    extensions = tuple(each for each in snapshot.fingerprint.extensions if each != "pg_trgm")
    poorer = replace(snapshot, fingerprint=replace(snapshot.fingerprint, extensions=extensions))

    advice = advise(lab, poorer, read("SELECT id FROM notes WHERE title LIKE '%4a8a08f09d37b%'"))

    assert [] == indexes(advice)
    assert "read could use an index of pg_trgm, which the server does not offer" in advice.unexplained[0]
