"""What each rewriting rule makes of a statement, and what it leaves alone since it cannot prove the rows."""

from __future__ import annotations

import pytest

from perfloop.model.target import Column, Index, IndexKey, Table, TableName
from perfloop.tune.rewrites import texts
from perfloop.tune.rewrites.catalogue import Catalogue
from perfloop.tune.rewrites.rule import Rule
from perfloop.tune.rewrites.rules import RULES

USERS = ("id! bigint", "name text", "seen timestamp with time zone", "born date")
ORDERS = (
    "id! bigint",
    "user_id! bigint",
    "voucher bigint",
    "cents! integer",
    "rate double precision",
    "price numeric(10,2)",
    "placed timestamp without time zone",
    "ref uuid",
)


def table(name: str, columns: tuple[str, ...]) -> Table:
    parts = [each.partition(" ") for each in columns]
    return Table(
        name=TableName(schema="public", name=name),
        rows=1,
        size_bytes=8192,
        columns=tuple(
            Column(name=column.rstrip("!"), type_name=kind, not_null=column.endswith("!"))
            for column, _, kind in parts
        ),
        live_rows=1,
        dead_rows=0,
        modified_since_analyze=0,
        analyzed_ago_s=None,
        sequential_scans=0,
        sequential_rows=0,
        index_scans=0,
        inserts=0,
        updates=0,
        hot_updates=0,
        deletes=0,
    )


def primary_key(name: str) -> Index:
    return Index(
        table=TableName(schema="public", name=name),
        name=f"{name}_pkey",
        method="btree",
        keys=(IndexKey(text="id"),),
        is_unique=True,
        is_primary=True,
        definition="",
        size_bytes=8192,
        scans=0,
    )


def shop(*, is_utc: bool = False) -> Catalogue:
    return Catalogue(
        tables=(table("users", USERS), table("orders", ORDERS)),
        indexes=(primary_key("users"), primary_key("orders")),
        is_utc=is_utc,
    )


def rule_named(name: str) -> Rule:
    return next(each for each in RULES if each.name == name)


def rewritten(name: str, text: str, *, is_utc: bool = False) -> tuple[str, tuple[str, ...]] | None:
    tree = texts.read(text)
    assert tree is not None, "the text cannot be read"
    made = rule_named(name).rewrite(tree, shop(is_utc=is_utc))
    return None if made is None else (" ".join(texts.write(made.tree).split()), made.assumes)


FIRING = [
    (
        "not-in",
        "SELECT u.id FROM users u WHERE u.name = $1 AND u.id NOT IN (SELECT o.user_id FROM orders "
        "o WHERE o.cents > $2)",
        "SELECT u.id FROM users AS u WHERE u.name = $1 AND NOT EXISTS( SELECT 1 FROM orders AS o "
        "WHERE o.cents > $2 AND u.id = o.user_id )",
        (),
    ),
    (
        "not-in",
        "SELECT id FROM users WHERE id NOT IN (SELECT voucher FROM orders)",
        "SELECT id FROM users WHERE NOT EXISTS( SELECT 1 FROM orders WHERE users.id = voucher ) "
        "AND NOT EXISTS( SELECT 1 FROM orders WHERE voucher IS NULL )",
        (),
    ),
    (
        "count-exists",
        "SELECT id FROM users u WHERE 0 < (SELECT count(*) FROM orders o WHERE o.user_id = u.id)",
        "SELECT id FROM users AS u WHERE EXISTS( SELECT 1 FROM orders AS o WHERE o.user_id = u.id )",
        (),
    ),
    (
        "count-exists",
        "SELECT id FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) = 0",
        "SELECT id FROM users AS u WHERE NOT EXISTS( SELECT 1 FROM orders AS o WHERE o.user_id = u.id )",
        (),
    ),
    (
        "grouped-subquery",
        "SELECT u.id, (SELECT count(*) FROM orders o WHERE o.user_id = u.id AND o.cents > $1) AS n "
        "FROM users u",
        "SELECT u.id, COALESCE(perfloop_grouped.value, 0) AS n FROM users AS u LEFT JOIN ( "
        "SELECT o.user_id AS key_1, COUNT(*) AS value FROM orders AS o WHERE o.cents > $1 GROUP BY "
        "o.user_id ) "
        "AS perfloop_grouped ON perfloop_grouped.key_1 = u.id",
        (),
    ),
    (
        "grouped-subquery",
        "SELECT id FROM orders o WHERE cents > (SELECT avg(p.cents) FROM orders p WHERE p.user_id "
        "= o.user_id)",
        "SELECT id FROM orders AS o LEFT JOIN ( SELECT p.user_id AS key_1, AVG(p.cents) AS value "
        "FROM orders AS p GROUP BY p.user_id ) AS perfloop_grouped ON perfloop_grouped.key_1 = o.user_id "
        "WHERE cents > perfloop_grouped.value",
        (),
    ),
    (
        "date-range",
        "SELECT id FROM orders WHERE date(placed) = $1",
        "SELECT id FROM orders WHERE placed >= CAST($1 AS DATE) AND placed < CAST($1 AS DATE) + 1",
        ("$1 is a finite day",),
    ),
    (
        "date-range",
        "SELECT id FROM orders WHERE placed::date BETWEEN '2026-01-01' AND '2026-01-31' OR cents = 1",
        "SELECT id FROM orders WHERE ( placed >= CAST('2026-01-01' AS DATE) "
        "AND placed < CAST('2026-01-31' AS DATE) + 1 ) OR cents = 1",
        (),
    ),
    (
        "date-range",
        "SELECT id FROM users WHERE extract(year FROM born) = 2020",
        "SELECT id FROM users WHERE born >= MAKE_DATE(2020, 1, 1) AND born < MAKE_DATE(2020 + 1, 1, 1)",
        (),
    ),
    (
        "cast-column",
        "SELECT id FROM orders WHERE cents::bigint > $1",
        "SELECT id FROM orders WHERE cents > CAST($1 AS BIGINT)",
        ("$1 is an integer",),
    ),
    (
        "cast-column",
        "SELECT id FROM orders WHERE cents::text = '5'",
        "SELECT id FROM orders WHERE cents = CASE WHEN CAST('5' AS TEXT) ~ '^(0|-?[1-9][0-9]{0,17})$' "
        "THEN CAST(CAST('5' AS TEXT) AS BIGINT) END",
        (),
    ),
    (
        "column-arithmetic",
        "SELECT id FROM orders WHERE cents + $1 > 100",
        "SELECT id FROM orders WHERE cents > CAST(100 AS BIGINT) - CAST($1 AS BIGINT)",
        ("$1 is an integer",),
    ),
    (
        "distinct-join",
        "SELECT DISTINCT u.id, u.name FROM users u JOIN orders o ON o.user_id = u.id WHERE o.cents "
        "> $1 ORDER BY u.id",
        "SELECT u.id, u.name FROM users AS u WHERE EXISTS( SELECT 1 FROM orders AS o WHERE o.cents > $1 "
        "AND o.user_id = u.id ) ORDER BY u.id",
        (),
    ),
    (
        "distinct-join",
        "SELECT DISTINCT u.name FROM users u JOIN orders o ON o.user_id = u.id",
        "SELECT DISTINCT u.name FROM users AS u WHERE EXISTS( SELECT 1 FROM orders AS o WHERE "
        "o.user_id = u.id )",
        (),
    ),
    ("needless-distinct", "SELECT DISTINCT id, name FROM users", "SELECT id, name FROM users", ()),
    (
        "disjoint-union",
        "SELECT 'user' AS kind, id FROM users UNION SELECT 'order', id FROM orders",
        "SELECT 'user' AS kind, id FROM users UNION ALL SELECT 'order', id FROM orders",
        (),
    ),
    (
        "inlined-cte",
        "WITH o AS MATERIALIZED (SELECT * FROM orders) SELECT * FROM o WHERE id = $1",
        "WITH o AS NOT MATERIALIZED ( SELECT * FROM orders ) SELECT * FROM o WHERE id = $1",
        (),
    ),
    (
        "deferred-page",
        "SELECT id, name FROM users ORDER BY name, id LIMIT $1 OFFSET $2",
        "SELECT users.id, users.name FROM ( SELECT users.id FROM users ORDER BY name, id LIMIT $1 "
        "OFFSET $2 ) "
        "AS perfloop_page JOIN users ON perfloop_page.id = users.id ORDER BY users.name, users.id",
        (),
    ),
    (
        "or-across",
        "SELECT o.id FROM users u JOIN orders o ON o.user_id = u.id WHERE u.name = $1 OR o.voucher = $2",
        "SELECT o.id FROM users AS u JOIN orders AS o ON o.user_id = u.id WHERE u.name = $1 UNION ALL "
        "SELECT o.id FROM users AS u JOIN orders AS o ON o.user_id = u.id WHERE o.voucher = $2 "
        "AND NOT ( u.name = $1 ) IS TRUE",
        (),
    ),
]

SILENT = {
    "a tested column may be NULL": (
        "not-in",
        "SELECT id FROM orders WHERE voucher NOT IN (SELECT id FROM users)",
    ),
    "an outer join fills the column with NULLs": (
        "not-in",
        "SELECT 1 FROM users u LEFT JOIN orders o ON o.id = u.id WHERE o.user_id NOT IN (SELECT id "
        "FROM users)",
    ),
    "the subquery's alias hides the outer one": (
        "not-in",
        "SELECT id FROM users u WHERE u.id NOT IN (SELECT u.user_id FROM orders u)",
    ),
    "a view or a CTE tells no NOT NULL": (
        "not-in",
        "WITH orders AS (SELECT NULL::bigint AS user_id) "
        "SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM orders)",
    ),
    "NOT IN stands under an OR": (
        "not-in",
        "SELECT id FROM users WHERE name = 'a' OR id NOT IN (SELECT user_id FROM orders)",
    ),
    "the subquery is limited": (
        "not-in",
        "SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM orders LIMIT 3)",
    ),
    "a column is counted that may be NULL": (
        "count-exists",
        "SELECT id FROM users u WHERE (SELECT count(o.voucher) FROM orders o) > 0",
    ),
    "more than one row is asked for": (
        "count-exists",
        "SELECT id FROM users u WHERE (SELECT count(*) FROM orders o) > 1",
    ),
    "groups are counted": (
        "count-exists",
        "SELECT id FROM users u WHERE (SELECT count(*) FROM orders o GROUP BY o.cents) > 0",
    ),
    "a sum of floats depends on its order": (
        "grouped-subquery",
        "SELECT id, (SELECT sum(o.rate) FROM orders o WHERE o.user_id = u.id) FROM users u",
    ),
    "equal numerics are written differently": (
        "grouped-subquery",
        "SELECT id, (SELECT max(o.price) FROM orders o WHERE o.user_id = u.id) FROM users u",
    ),
    "what no row asks for could fail": (
        "grouped-subquery",
        "SELECT id, (SELECT count(*) FROM orders o WHERE o.user_id = u.id AND 1 / o.cents > 0) FROM users u",
    ),
    "the correlation is no equality": (
        "grouped-subquery",
        "SELECT id, (SELECT count(*) FROM orders o WHERE o.user_id < u.id) FROM users u",
    ),
    "the outer query groups": (
        "grouped-subquery",
        "SELECT u.id, (SELECT count(*) FROM orders o WHERE o.user_id = u.id) FROM users u GROUP BY u.id",
    ),
    "a day has two pieces where clocks are set back": (
        "date-range",
        "SELECT id FROM users WHERE date(seen) = $1",
    ),
    "a moment is no day": ("date-range", "SELECT id FROM orders WHERE placed::date = $1::timestamp"),
    "NULL is not false under NOT": (
        "date-range",
        "SELECT id FROM orders WHERE NOT date_trunc('day', placed) = '2026-01-01'",
    ),
    "numbers would be rounded": ("cast-column", "SELECT id FROM orders WHERE cents::bigint = 5.5"),
    "bigint has nothing wider": ("column-arithmetic", "SELECT id FROM orders WHERE user_id + 1 = 5"),
    "the other table is shown": (
        "distinct-join",
        "SELECT DISTINCT u.id, o.cents FROM users u JOIN orders o ON o.user_id = u.id",
    ),
    "the join is an outer one": (
        "distinct-join",
        "SELECT DISTINCT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id",
    ),
    "no key is shown": ("needless-distinct", "SELECT DISTINCT name FROM users"),
    "DISTINCT ON picks": ("needless-distinct", "SELECT DISTINCT ON (name) id FROM users ORDER BY name, id"),
    "arms may share rows": ("disjoint-union", "SELECT id FROM users UNION SELECT id FROM orders"),
    "an arm repeats itself": (
        "disjoint-union",
        "SELECT 'user' AS kind, name FROM users UNION SELECT 'order', name FROM users",
    ),
    "LIMIT may give other rows the second time": (
        "inlined-cte",
        "WITH o AS (SELECT * FROM orders LIMIT 3) SELECT * FROM o JOIN o AS p USING (id)",
    ),
    "the order settles no page": ("deferred-page", "SELECT id FROM users ORDER BY name LIMIT 5 OFFSET 9"),
    "one table's indexes are combined anyway": (
        "or-across",
        "SELECT id FROM orders WHERE voucher = 1 OR cents = 2",
    ),
    "sorted rows would come unsorted": (
        "or-across",
        "SELECT o.id FROM users u JOIN orders o ON o.user_id = u.id WHERE u.name = $1 OR o.cents = "
        "1 ORDER BY 1",
    ),
}


@pytest.mark.parametrize(("name", "before", "after", "assumes"), FIRING)
def test_a_rule_says_the_same_in_other_words(
    name: str, before: str, after: str, assumes: tuple[str, ...]
) -> None:
    made = rewritten(name, before)

    assert (after, assumes) == made


@pytest.mark.parametrize(("name", "text"), SILENT.values(), ids=list(SILENT))
def test_a_rule_is_silent_where(name: str, text: str) -> None:
    assert rewritten(name, text) is None


def test_days_of_moments_with_a_zone_are_ranges_where_sessions_count_in_utc() -> None:
    made = rewritten("date-range", "SELECT id FROM users WHERE seen::date >= $1", is_utc=True)

    assert made is not None
    assert "SELECT id FROM users WHERE seen >= CAST($1 AS DATE)" == made[0]
    assert ("sessions have TimeZone UTC, as the database has it",) == made[1]


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE users SET name = 'a' WHERE id NOT IN (SELECT user_id FROM orders)",
        "SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM orders) FOR UPDATE",
        "/*+ SeqScan(users) */ SELECT id FROM users",
        "SELECT id FROM users; SELECT 1",
        "SELECT id FROM users WHERE ((((",
        "WITH gone AS (DELETE FROM users RETURNING id) SELECT id FROM gone",
    ],
)
def test_only_single_reading_statements_without_hints_are_read(text: str) -> None:
    assert texts.read(text) is None


def test_every_rule_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    names = {rule.name for rule in RULES}

    assert names == {name for name, *_ in FIRING}
    assert names == {name for name, _ in SILENT.values()}
