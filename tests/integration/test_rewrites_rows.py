"""On real servers: whatever the tables hold, a rewritten statement yields the rows of the original."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfloop.adapters import catalog
from perfloop.model.advice import Proposal, RewriteQuery
from perfloop.model.workload import Operation, Statement, StatementKind
from perfloop.tune.lab.arms import Arm
from perfloop.tune.rewrites import texts
from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.proposals import Rewriting, propose_rewrites
from perfloop.tune.rewrites.rules import RULES
from perfloop.tune.row_digests import difference, digest, read_order
from perfloop.tune.same_rows import compare_rows, is_planned_alike, refusal

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text, seen timestamptz, born date);
CREATE TABLE orders (id int PRIMARY KEY, user_id bigint NOT NULL, voucher bigint, cents int NOT NULL,
                     price numeric(10,2), placed timestamp, ref uuid, "Note" text);
"""
ID = st.integers(1, 5)
WORD = st.none() | st.sampled_from(["", "a", "b"])
MOMENT = st.none() | st.sampled_from(
    [
        "2025-12-31 23:59:59.999999",
        "2026-01-01 00:00:00",
        "2026-01-31 12:00:00",
        "2026-02-01 00:00:00",
        "infinity",
        "-infinity",
    ]
)
DAY = st.none() | st.sampled_from(["2025-12-31", "2026-01-01", "2026-12-31", "2027-01-01"])
REF = st.none() | st.sampled_from([f"00000000-0000-0000-0000-00000000000{n}" for n in "12"])
PRICE = st.none() | st.sampled_from(["1", "1.00", "2.5"])
USERS = st.lists(st.tuples(ID, WORD, MOMENT, DAY), max_size=5, unique_by=lambda row: row[0])
ORDERS = st.lists(
    st.tuples(ID, ID, st.none() | ID, st.integers(-2, 3), PRICE, MOMENT, REF, WORD),
    max_size=5,
    unique_by=lambda row: row[0],
)

STATEMENTS = {
    "not-in": (
        "SELECT u.id FROM users u WHERE u.id NOT IN (SELECT o.user_id FROM orders o WHERE o.cents > 0)",
        "SELECT id FROM users WHERE id NOT IN (SELECT voucher FROM orders) AND name = 'a'",
        "SELECT id FROM users u WHERE id NOT IN (SELECT voucher FROM orders o WHERE o.cents = 1 OR"
        " u.name = 'a')",
    ),
    "count-exists": (
        "SELECT id FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) > 0",
        "SELECT id FROM users u WHERE (SELECT count(1) FROM orders o WHERE o.voucher = u.id) = 0"
        " OR name = 'a'",
    ),
    "grouped-subquery": (
        "SELECT u.id, (SELECT count(*) FROM orders o WHERE o.user_id = u.id AND o.cents > 0) FROM users u",
        "SELECT o.id, (SELECT sum(p.price) FROM orders p WHERE p.voucher = o.voucher AND p.user_id"
        " = o.id) AS s,"
        " (SELECT min(u.name) FROM users u WHERE u.id = o.voucher) FROM orders o",
        "SELECT o.id FROM orders o WHERE o.cents > (SELECT avg(p.cents) FROM orders p WHERE"
        " p.user_id = o.user_id)",
    ),
    "date-range": (
        "SELECT id FROM orders WHERE date(placed) = '2026-01-01'",
        "SELECT id FROM orders WHERE placed::date BETWEEN '2026-01-01' AND '2026-01-31' OR cents = 1",
        "SELECT id FROM orders WHERE date_trunc('month', placed) = '2026-01-01'",
        "SELECT id FROM orders WHERE date_trunc('month', placed) = '2026-01-31'",
        "SELECT id FROM orders WHERE placed::date > '2025-12-31' AND '2026-01-31' >= date(placed)",
        "SELECT id FROM users WHERE extract(year FROM born) = 2026 AND seen::date < '2026-02-01'",
    ),
    "cast-column": (
        "SELECT id FROM orders WHERE cents::text = '-1' OR cents::text = '01'",
        "SELECT id FROM orders WHERE voucher::text = 'a' OR voucher::text = '3'",
        "SELECT id FROM orders WHERE cents::bigint >= 1",
        "SELECT id FROM orders WHERE ref::text = '00000000-0000-0000-0000-000000000001'",
    ),
    "column-arithmetic": (
        "SELECT id FROM orders WHERE cents + 1 > 2 OR 2 + cents = 1",
        "SELECT id FROM orders WHERE cents - 2147483640 <> -2147483639 AND cents - 1 < 1",
    ),
    "distinct-join": (
        "SELECT DISTINCT u.id, u.name FROM users u JOIN orders o ON o.user_id = u.id WHERE o.cents"
        " > 0 ORDER BY u.id",
        "SELECT DISTINCT name FROM users u JOIN orders o ON o.user_id = u.id JOIN orders p ON p.id"
        " = o.voucher",
    ),
    "needless-distinct": ("SELECT DISTINCT name, id FROM users WHERE name = 'a'",),
    "disjoint-union": ("SELECT 'u' AS kind, id FROM users UNION SELECT 'o', id FROM orders",),
    "inlined-cte": (
        'WITH o AS MATERIALIZED (SELECT id, "Note" AS note FROM orders) SELECT * FROM o WHERE id = 2',
        "WITH o AS (SELECT * FROM orders) SELECT o.id FROM o JOIN o AS p ON p.voucher = o.voucher",
    ),
    "deferred-page": ("SELECT id, name AS title FROM users ORDER BY name DESC, id LIMIT 2 OFFSET 1",),
    "or-across": (
        "SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id WHERE u.name = 'a' OR"
        " o.voucher = 2",
        "SELECT voucher FROM orders WHERE voucher IN (SELECT id FROM users) OR \"Note\" = 'a'",
        "SELECT u.name FROM users u LEFT JOIN orders o ON o.voucher = u.id WHERE o.cents > 0 OR u.name = 'b'",
    ),
}


@pytest.fixture
def connection(each_module_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session on empty tables."""
    with psycopg.connect(each_module_dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("TRUNCATE users, orders")
        yield connection


@pytest.fixture(scope="module")
def catalogue(each_module_dsn: str) -> Catalogue:
    with psycopg.connect(each_module_dsn, autocommit=True) as connection:
        tables = catalog.read_tables(connection)
        return Catalogue(
            tables=catalog.with_columns(tables, catalog.read_columns(connection, tables)),
            indexes=catalog.read_indexes(connection, tables),
            is_utc=True,
        )


def rewriting_of(name: str, text: str, catalogue: Catalogue) -> str:
    rule = next(each for each in RULES if each.name == name)
    tree = texts.read(text)
    made = None if tree is None else rule.rewrite(tree, catalogue)
    assert made is not None, f"{name} does not fire"
    return texts.write(made.tree)


def fill(connection: psycopg.Connection[Any], users: list[Any], orders: list[Any]) -> None:
    cursor = connection.cursor()
    cursor.execute("DELETE FROM users; DELETE FROM orders")
    for row in users:
        cursor.execute("INSERT INTO users VALUES (%s, %s, %s::timestamptz, %s::date)", row)
    for row in orders:
        cursor.execute(
            "INSERT INTO orders VALUES (%s, %s, %s, %s, %s::numeric, %s::timestamp, %s::uuid, %s)", row
        )


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_rewritten_statement_yields_the_rows_of_the_original_whatever_the_tables_hold(
    name: str, connection: psycopg.Connection[Any], catalogue: Catalogue
) -> None:
    pairs = [(text, rewriting_of(name, text, catalogue)) for text in STATEMENTS[name]]

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    @given(users=USERS, orders=ORDERS)
    def hold(users: list[Any], orders: list[Any]) -> None:
        with connection.transaction(force_rollback=True):
            fill(connection, users, orders)
            for text, rewritten in pairs:
                order = read_order(text)
                before = digest(connection, text, order)

                assert difference(before, digest(connection, rewritten, order), order) is None, rewritten

    hold()


DIFFERING = {
    "NULL is not the empty string": (
        "SELECT NULL::text AS a",
        "SELECT '' AS a",
        "its 1 rows are not the same",
    ),
    "the scale of a numeric counts": ("SELECT 1.0 AS a", "SELECT 1.00 AS a", "its 1 rows are not the same"),
    "minus zero is not zero": (
        "SELECT '0'::float8 AS a",
        "SELECT '-0'::float8 AS a",
        "its 1 rows are not the same",
    ),
    "a float counts to its last bit": (
        "SELECT 0.1::float8 + 0.2::float8 AS a",
        "SELECT 0.3::float8 AS a",
        "its 1 rows are not the same",
    ),
    "a row more is a difference": (
        "SELECT 1 AS a",
        "SELECT 1 AS a UNION ALL SELECT 1",
        "it returns 2 rows instead of 1",
    ),
    "how often a row comes counts": (
        "SELECT * FROM (VALUES (1), (1), (2)) AS v (a)",
        "SELECT * FROM (VALUES (1), (2), (2)) AS v (a)",
        "its 3 rows are not the same",
    ),
    "a column's name counts": ("SELECT 1 AS a", "SELECT 1 AS b", "its columns are named b instead of a"),
    "a column's type counts": ("SELECT 1 AS a", "SELECT 1::bigint AS a", "its column a has another type"),
    "order counts where it is asked for": (
        "SELECT v.a FROM (VALUES (1), (2)) AS v (a) ORDER BY v.a",
        "SELECT v.a FROM (VALUES (1), (2)) AS v (a) ORDER BY v.a DESC",
        "its rows come in another order",
    ),
    "and where its key is not shown": (
        "SELECT v.b FROM (VALUES (1, 5), (2, 6)) AS v (a, b) ORDER BY v.a",
        "SELECT v.b FROM (VALUES (1, 5), (2, 6)) AS v (a, b) ORDER BY v.a DESC",
        "its rows come in another order",
    ),
}
EQUAL = {
    "without ORDER BY any order will do": (
        "SELECT * FROM (VALUES (1), (2)) AS v (a)",
        "SELECT * FROM (VALUES (2), (1)) AS v (a)",
    ),
    "rows with equal keys may change places": (
        "SELECT v.a, v.b FROM (VALUES (1, 5), (1, 6)) AS v (a, b) ORDER BY v.a",
        "SELECT v.a, v.b FROM (VALUES (1, 6), (1, 5)) AS v (a, b) ORDER BY v.a",
    ),
    "two columns of one name are compared, too": ("SELECT 1 AS a, 2 AS a", "SELECT 1 AS a, 2 AS a -- so"),
    "NaN is the same as NaN": ("SELECT 'NaN'::float8 AS a", "SELECT 'nan'::float8 AS a;"),
}


def compared(connection: psycopg.Connection[Any], one: str, other: str) -> str | None:
    order = read_order(one)
    return difference(digest(connection, one, order), digest(connection, other, order), order)


@pytest.mark.parametrize(("one", "other", "told"), DIFFERING.values(), ids=list(DIFFERING))
def test_a_difference_of_rows_is_seen(
    one: str, other: str, told: str, connection: psycopg.Connection[Any]
) -> None:
    actual = compared(connection, one, other)

    assert told == actual


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=list(EQUAL))
def test_rows_are_the_same_where(one: str, other: str, connection: psycopg.Connection[Any]) -> None:
    assert compared(connection, one, other) is None


def rewriting(text: str, rewritten: str) -> Rewriting:
    change = RewriteQuery(query_id="1", rule="by-hand", before=text, after=rewritten, label="it")
    return Rewriting(proposal=Proposal(change=change, reason=""), change=change, wording={text: rewritten})


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        (
            "SELECT id FROM users WHERE id NOT IN (SELECT voucher FROM orders)",
            "SELECT id FROM users WHERE NOT EXISTS (SELECT FROM orders WHERE voucher = users.id)",
        ),
        (
            "SELECT DISTINCT name FROM public.users",
            "SELECT name FROM public.users",
        ),
        (
            "SELECT u.id, o.id AS n FROM users AS u LEFT JOIN orders AS o ON o.user_id = u.id",
            "SELECT u.id, o.id AS n FROM users AS u JOIN orders AS o ON o.user_id = u.id",
        ),
        (
            "SELECT id FROM orders WHERE placed::date = '2026-01-01'",
            "SELECT id FROM orders WHERE placed BETWEEN '2026-01-01' AND '2026-01-02'",
        ),
        (
            "SELECT u.id, (SELECT count(*) FROM orders AS o WHERE o.user_id = u.id) AS n FROM users AS u",
            "SELECT u.id, count(*) AS n FROM users AS u LEFT JOIN orders AS o ON o.user_id = u.id"
            " GROUP BY u.id",
        ),
    ],
)
def test_what_is_equal_on_kind_rows_only_is_seen_on_made_up_ones(
    text: str, rewritten: str, connection: psycopg.Connection[Any], catalogue: Catalogue
) -> None:
    connection.execute("INSERT INTO users VALUES (1, 'a', now(), now())")
    connection.execute("INSERT INTO orders (id, user_id, voucher, cents) VALUES (1, 1, 1, 1)")
    arm = Arm(name="control", connection=connection)
    found = compare_rows(arm, rewriting(text, rewritten), catalogue, limit_s=1.0, seed=3)

    assert found.difference is not None
    assert "made-up rows" in found.difference
    left = connection.execute("SELECT count(*) FROM users, orders").fetchone()
    assert (1,) == left


def test_a_statement_that_calls_a_volatile_function_is_left_alone(
    connection: psycopg.Connection[Any],
) -> None:
    text = "SELECT id FROM users WHERE random() < 0.5"

    assert "it calls random(), which may give something else with every call" == refusal(
        connection, rewriting(text, text)
    )


def test_what_the_planner_does_by_itself_is_not_tried(connection: psycopg.Connection[Any]) -> None:
    text = "SELECT u.id FROM users AS u LEFT JOIN orders AS o ON o.user_id = u.id WHERE o.cents = 1"
    same = {text: text.replace("LEFT JOIN", "JOIN")}
    other = {"SELECT id FROM users WHERE id + 0 = 1": "SELECT id FROM users WHERE id = 1"}

    assert is_planned_alike(connection, same)
    assert not is_planned_alike(connection, other)


def test_every_rule_is_held_to_rows() -> None:
    assert {rule.name for rule in RULES} == set(STATEMENTS)


def test_rules_that_fire_together_are_tried_together_first(catalogue: Catalogue) -> None:
    text = (
        "SELECT DISTINCT id, name FROM users AS u "
        "WHERE u.id NOT IN (SELECT user_id FROM orders WHERE cents + 1 > 5)"
    )
    statement = Statement(query_id="7", text=text, kind=StatementKind.READ)
    operation = Operation(statement=statement, calls_share=1.0, instances=(text,))
    found = propose_rewrites([operation], {"7": 1.0}, catalogue, RULES)

    assert [
        "column-arithmetic+not-in+needless-distinct",
        "column-arithmetic",
        "not-in",
        "needless-distinct",
    ] == [each.change.rule for each in found]
    assert () == propose_rewrites([operation], {"7": 0.001}, catalogue, RULES)
