"""Rules on joins, subqueries, sorts and memory, planted on real servers of every version."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from perfloop.model.advice import Finding

Smells = Callable[..., dict[str, Finding]]

ONLY_NESTED = (
    "SET LOCAL enable_hashjoin = off",
    "SET LOCAL enable_mergejoin = off",
    "SET LOCAL enable_material = off",
)
NO_MEMOIZE = "SET LOCAL enable_memoize = off"
ONLY_HASH = ("SET LOCAL enable_nestloop = off", "SET LOCAL enable_mergejoin = off")
SMALL_MEMORY = "SET LOCAL work_mem = '64kB'"
LARGE_MEMORY = "SET LOCAL work_mem = '64MB'"
GROUPED = "SELECT scattered, count(*) FROM orders GROUP BY scattered"
HASHED = "SELECT max(o.id + p.id) FROM orders o JOIN orders p ON o.late = p.placed"
KEPT = "WITH kept AS MATERIALIZED (SELECT * FROM orders) SELECT max(id) FROM kept"
SORTED = "SELECT id FROM orders ORDER BY note, late"
LOOKUPS = "SELECT max(i.amount) FROM orders o JOIN items i ON i.order_id = o.id"
REPEATED = "SELECT (SELECT count(*) FROM {} x WHERE x.order_id = o.id) FROM orders o WHERE o.id <= {}"
FENCED = "WITH fenced AS MATERIALIZED (SELECT * FROM orders) SELECT * FROM fenced WHERE id <= {}"
KEYS = (
    "CREATE TABLE keys (k int)",
    "INSERT INTO keys SELECT 1 FROM generate_series(1, 5000)",
    "ANALYZE keys",
    "SET LOCAL enable_seqscan = off",
)
"""Of which the planner believes that they are all the same."""
OF_KEYS = "SELECT max(o.late) FROM keys JOIN orders o ON o.id = k"

PLANTED = [
    ("sort-hash-spill", "query 1", SORTED, (SMALL_MEMORY,)),
    ("sort-hash-spill", "query 1", HASHED, (*ONLY_HASH, SMALL_MEMORY)),
    (
        "sort-hash-spill",
        "query 1",
        GROUPED,
        (
            "SET LOCAL enable_sort = off",
            "SET LOCAL enable_indexscan = off",
            "SET LOCAL enable_indexonlyscan = off",
            SMALL_MEMORY,
        ),
    ),
    ("sort-hash-spill", "query 1", KEPT, (SMALL_MEMORY,)),
    ("nested-loop-lookups", "items(order_id)", LOOKUPS, (*ONLY_NESTED, NO_MEMOIZE)),
    (
        "join-product",
        "items and tags",
        "SELECT count(*) FROM tags t JOIN items i ON i.amount > t.id WHERE i.id <= 100",
        (),
    ),
    ("join-product", "items and tags", "SELECT count(*) FROM tags t, items i WHERE i.id <= 100", ()),
    (
        "memoize-thrash",
        "orders",
        OF_KEYS,
        (
            *KEYS,
            "DELETE FROM keys",
            "INSERT INTO keys SELECT i FROM generate_series(1, 5000) i",
            *ONLY_NESTED,
        ),
    ),
    ("correlated-subplan", "query 1: SubPlan 1", REPEATED.format("items", 3000), ()),
    ("cte-fence", "query 1: CTE fenced", FENCED.format(7), ()),
    ("avoidable-sort", "orders(note, late)", SORTED, (LARGE_MEMORY,)),
    ("deep-offset", "query 1: OFFSET", "SELECT * FROM orders ORDER BY id LIMIT 10 OFFSET 20000", ()),
]
NEAR_MISSES = [
    ("sort-hash-spill", SORTED, (LARGE_MEMORY,)),
    ("sort-hash-spill", HASHED, (*ONLY_HASH, LARGE_MEMORY)),
    ("sort-hash-spill", GROUPED, (LARGE_MEMORY,)),
    ("sort-hash-spill", KEPT, (LARGE_MEMORY,)),
    ("nested-loop-lookups", LOOKUPS + " WHERE o.id <= 500", (*ONLY_NESTED, NO_MEMOIZE)),
    ("nested-loop-lookups", LOOKUPS, ONLY_HASH),
    ("join-product", "SELECT count(*) FROM tags t JOIN items i ON i.id = t.id AND i.amount < t.id", ()),
    ("join-product", "SELECT count(*) FROM tags t, generate_series(1, 10 + t.id % 2) n", ()),
    ("join-product", "SELECT count(*) FROM tags t, items i WHERE i.id <= 3", ()),
    ("memoize-thrash", OF_KEYS, (*KEYS, *ONLY_NESTED)),
    ("correlated-subplan", REPEATED.format("items", 50), ()),
    ("correlated-subplan", "SELECT id, id IN (SELECT order_id FROM tags) FROM orders", ()),
    ("cte-fence", FENCED.format(15000), ()),
    ("cte-fence", FENCED.format(7).replace("MATERIALIZED ", ""), ()),
    (
        "avoidable-sort",
        "SELECT id FROM orders ORDER BY placed",
        ("SET LOCAL enable_indexscan = off", "SET LOCAL enable_indexonlyscan = off"),
    ),
    ("avoidable-sort", SORTED + " LIMIT 5", (LARGE_MEMORY,)),
    ("avoidable-sort", SORTED, (SMALL_MEMORY,)),
    ("deep-offset", "SELECT * FROM orders ORDER BY id LIMIT 10 OFFSET 500", ()),
    ("deep-offset", "SELECT * FROM orders ORDER BY id LIMIT 10000 OFFSET 2000", ()),
]


@pytest.mark.finds(*{case[0] for case in PLANTED})
@pytest.mark.parametrize(("check", "location", "statement", "setup"), PLANTED)
def test_a_planted_statement_smells(
    smells: Smells, check: str, location: str, statement: str, setup: tuple[str, ...]
) -> None:
    found = smells(statement, *setup)

    assert location == (found[check].location if check in found else sorted(found))


@pytest.mark.spares(*{case[0] for case in NEAR_MISSES})
@pytest.mark.parametrize(("check", "statement", "setup"), NEAR_MISSES)
def test_a_statement_that_nearly_smells_does_not(
    smells: Smells, check: str, statement: str, setup: tuple[str, ...]
) -> None:
    assert check not in smells(statement, *setup)


@pytest.mark.parametrize(("check", "location", "statement", "setup"), PLANTED)
def test_what_only_an_execution_shows_is_not_guessed(
    smells: Smells, check: str, location: str, statement: str, setup: tuple[str, ...]
) -> None:
    """Structure and the planner's own count of repetitions are enough for three of the rules."""
    found = smells(statement, *setup, executed=False)

    assert not {
        "sort-hash-spill",
        "nested-loop-lookups",
        "memoize-thrash",
        "cte-fence",
        "avoidable-sort",
        "row-misestimate",
    } & set(found)


PAGE = "SELECT * FROM orders ORDER BY id LIMIT 10 OFFSET {}"


def test_an_offset_that_the_text_has_as_a_number_needs_no_execution(smells: Smells) -> None:
    assert "query 1 reads 10,010 rows to skip 10,000 of them by OFFSET" == (
        smells(PAGE.format(10_000), executed=False)["deep-offset"].title
    )


@pytest.mark.parametrize(
    "statement",
    [
        PAGE.format(500),
        PAGE.format("10000 * 1"),
        PAGE.format("(SELECT 10000)"),
        PAGE.format(10_000).replace("orders", "orders WHERE id < 50"),
        f"({PAGE.format(10_000)}) UNION ALL ({PAGE.format(10).replace('10 OFF', '20 OFF')})",
        "SELECT * FROM orders ORDER BY id LIMIT 10000 OFFSET 2000",
    ],
    ids=["shallow", "computed", "asked", "few rows", "one of two", "mostly returned"],
)
def test_an_offset_of_which_too_little_is_known_is_not_guessed(smells: Smells, statement: str) -> None:
    assert "deep-offset" not in smells(statement, executed=False)


@pytest.mark.parametrize("executed", [False, True], ids=["planned", "executed"])
@pytest.mark.parametrize("case", [6, 8], ids=["product", "subplan"])
def test_what_a_plan_shows_by_its_structure_needs_no_execution(
    smells: Smells, case: int, executed: bool
) -> None:
    check, location, statement, setup = PLANTED[case]

    assert location == smells(statement, *setup, executed=executed)[check].location


def test_lookups_that_follow_from_a_wrong_estimate_are_told_as_that(smells: Smells) -> None:
    found = smells(LOOKUPS + " WHERE o.shop = 7 AND o.town = 7 AND o.late % 1 = 0", *ONLY_NESTED, NO_MEMOIZE)

    assert "row-misestimate" in found
    assert "nested-loop-lookups" not in found


def test_a_subquery_without_an_index_is_told_as_that(smells: Smells) -> None:
    found = smells(REPEATED.format("tags", 1500))

    assert "tags(order_id)" == found["missing-index"].location
    assert "correlated-subplan" not in found


def test_a_wrong_guess_about_a_cte_is_told_as_the_fence(smells: Smells) -> None:
    found = smells(FENCED.format(7))

    assert "row-misestimate" not in found


def test_a_wrong_guess_about_a_product_is_told_as_the_product(smells: Smells) -> None:
    found = smells("SELECT count(*) FROM tags t JOIN items i ON i.amount > t.id WHERE i.id <= 100")

    assert {"join-product"} == set(found) & {"join-product", "row-misestimate"}


def test_pairs_that_follow_from_a_wrong_estimate_are_told_as_that(smells: Smells) -> None:
    """The planner expects a twentieth of the orders, for which a loop over a few tags would be cheap."""
    found = smells(
        "SELECT count(*) FROM orders o JOIN tags t ON t.order_id = o.late WHERE o.shop = 7 AND o.town = 7",
        *ONLY_NESTED[:2],
    )

    assert {"row-misestimate"} == set(found) & {"join-product", "row-misestimate"}


def test_all_that_spills_in_a_statement_is_one_finding(smells: Smells) -> None:
    found = smells(
        "SELECT o.note, p.id FROM orders o JOIN orders p ON o.late = p.placed ORDER BY o.note, p.late",
        *ONLY_HASH,
        SMALL_MEMORY,
    )
    (plan,) = (each.value for each in found["sort-hash-spill"].evidence if each.label == "in its plan")

    assert "a sort on disk" in plan
    assert "a hash in " in plan


@pytest.mark.finds("jit-overhead")
@pytest.mark.spares("jit-overhead")
def test_compiling_that_takes_longer_than_it_saves_smells(smells: Smells, smell_dsn: str) -> None:
    with psycopg.connect(smell_dsn) as connection:
        (is_available,) = connection.execute("SELECT pg_jit_available()").fetchone() or (False,)
    if not is_available:
        pytest.skip("this build of PostgreSQL has no JIT")
    eager = ("SET LOCAL jit_above_cost = 0", "SET LOCAL jit_optimize_above_cost = 0")
    found = smells("SELECT max(late) FROM orders WHERE shop = 7", "SET LOCAL jit = on", *eager)
    spared = smells("SELECT max(late) FROM orders WHERE shop = 7", "SET LOCAL jit = on")

    assert "jit_above_cost" == found["jit-overhead"].location
    assert "jit-overhead" not in spared
