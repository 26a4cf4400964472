"""Both kinds of WhatIf, on every installed server that can have them, against the same duties."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from perfloop.adapters.postgres import take_snapshot
from perfloop.errors import ChangeFailed, LabRefused, UnsupportedStatement
from perfloop.model.advice import CreateIndex
from perfloop.model.snapshot import Host
from perfloop.model.target import IndexKey, Table, TableName
from perfloop.tune.advisor.combined import CombinedIndexes
from perfloop.tune.advisor.hypothetical import HypotheticalIndexes
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.advisor.naming import new_index
from perfloop.tune.advisor.planner import block
from perfloop.tune.advisor.real_builds import RealIndexes
from perfloop.tune.advisor.what_if import WhatIf

ORDERS = TableName(schema="public", name="orders")
BY_CUSTOMER = "SELECT * FROM orders WHERE customer_id = 17"
BY_NOTE = "SELECT * FROM orders WHERE note = 'note 17'"
HOST = Host(cpus=2, memory_bytes=2**32, available_bytes=2**31, load_1m=0.1, busy_ratio=0.1, steal_ratio=0.0)

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id integer NOT NULL, region_id integer NOT NULL,
                     status text NOT NULL, note text, created_at timestamptz NOT NULL);
INSERT INTO orders SELECT i, i % 2000, i % 2000 / 10, CASE WHEN i % 50 = 0 THEN 'open' ELSE 'done' END,
                          'note ' || i, '2026-01-01'::timestamptz + i * interval '1 minute'
FROM generate_series(1, 40000) AS i;
ANALYZE orders;
"""


def index(*columns: str) -> CreateIndex:
    return new_index(ORDERS, tuple(IndexKey(text=column) for column in columns))


@pytest.fixture
def lab(each_module_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(each_module_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def tables(each_module_dsn: str) -> tuple[Table, ...]:
    with psycopg.connect(each_module_dsn, autocommit=True) as connection:
        return take_snapshot(connection, taken_at_s=0.0, host=HOST).tables


@pytest.fixture(params=["hypothetical", "real", "combined"])
def what_if(
    request: pytest.FixtureRequest, lab: psycopg.Connection, tables: tuple[Table, ...]
) -> Iterator[WhatIf]:
    if request.param == "real":
        with RealIndexes(lab) as real:
            yield real
        return
    row = lab.execute(block("has_hypopg")).fetchone()
    if row is None or not row[0]:
        pytest.skip("this server has no HypoPG")
    kind = HypotheticalIndexes if request.param == "hypothetical" else CombinedIndexes
    with kind(lab, {table.name: table for table in tables}) as opened:
        yield opened


def test_an_index_that_fits_makes_the_statement_cheaper_and_is_named(what_if: WhatIf) -> None:
    bare = what_if.cost(BY_CUSTOMER, ())
    with_index = what_if.cost(BY_CUSTOMER, (index("customer_id"),))

    assert () == bare.used
    assert ("perfloop_orders_customer_id_idx",) == with_index.used
    assert with_index.total_cost < bare.total_cost / 5


def test_only_the_indexes_of_the_call_are_seen(what_if: WhatIf) -> None:
    bare = what_if.cost(BY_CUSTOMER, ())
    what_if.cost(BY_CUSTOMER, (index("customer_id"),))
    with_other = what_if.cost(BY_CUSTOMER, (index("note"),))

    assert bare == with_other


def test_the_order_of_calls_changes_no_answer(what_if: WhatIf) -> None:
    sets = [(), (index("customer_id"),), (index("note"), index("customer_id")), (index("note"),)]
    forwards = [what_if.cost(text, each) for each in sets for text in (BY_CUSTOMER, BY_NOTE)]
    backwards = [what_if.cost(text, each) for each in reversed(sets) for text in (BY_NOTE, BY_CUSTOMER)]

    assert forwards == list(reversed(backwards))


def test_the_plan_is_without_candidates_and_has_qualified_columns(what_if: WhatIf) -> None:
    what_if.cost(BY_CUSTOMER, (index("customer_id"),))
    plan = what_if.plan(BY_CUSTOMER)

    assert "Seq Scan" == plan.root.kind
    assert "(orders.customer_id = 17)" == plan.root.fields["Filter"]


def test_a_statement_that_cannot_be_planned_says_why(what_if: WhatIf) -> None:
    with pytest.raises(UnsupportedStatement, match="does not exist"):
        what_if.plan("SELECT * FROM nowhere")


def test_nothing_behind_a_semicolon_is_run(what_if: WhatIf, lab: psycopg.Connection) -> None:
    with pytest.raises(UnsupportedStatement, match="multiple commands"):
        what_if.plan("SELECT 1; DROP TABLE orders")

    assert [(40000,)] == lab.execute("SELECT count(*) FROM orders").fetchall()


def test_a_write_is_planned_and_not_run(what_if: WhatIf, lab: psycopg.Connection) -> None:
    cost = what_if.cost("DELETE FROM orders WHERE customer_id = 17", (index("customer_id"),))

    assert ("perfloop_orders_customer_id_idx",) == cost.used
    assert [(40000,)] == lab.execute("SELECT count(*) FROM orders").fetchall()


def test_an_expression_that_is_not_immutable_is_refused_with_the_reason(what_if: WhatIf) -> None:
    by_day = new_index(ORDERS, (IndexKey(text="date_trunc('day', created_at)", is_expression=True),))

    with pytest.raises(ChangeFailed, match="IMMUTABLE"):
        what_if.size_bytes(by_day)

    assert what_if.cost(BY_CUSTOMER, (index("customer_id"),)).used


@pytest.mark.parametrize(
    "columns", [("customer_id",), ("id",), ("note",), ("status", "customer_id"), ("customer_id", "region_id")]
)
def test_the_size_is_that_of_a_real_index(
    what_if: WhatIf, lab: psycopg.Connection, columns: tuple[str, ...]
) -> None:
    """The pairs have one key for every value of the first column; only a sample knows that."""
    expected = what_if.size_bytes(index(*columns))
    with lab.transaction(force_rollback=True):
        lab.execute(f"CREATE INDEX probe ON orders ({', '.join(columns)})")
        row = lab.execute("SELECT pg_relation_size('probe')").fetchone()

    assert row is not None
    assert row[0] / 1.25 < expected < row[0] * 1.25


def test_nothing_is_left_behind(lab: psycopg.Connection, tables: tuple[Table, ...]) -> None:
    with open_what_if(lab, tables) as what_if:
        what_if.cost(BY_CUSTOMER, (index("customer_id"), index("status", "customer_id")))

    assert [("orders_pkey", True)] == lab.execute(
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 'orders'::regclass"
    ).fetchall()
    assert [] == lab.execute("SELECT relname FROM pg_class WHERE relname LIKE 'perfloop%'").fetchall()
    plan = lab.execute(f"EXPLAIN {BY_CUSTOMER}").fetchall()
    assert "Seq Scan" in str(plan[0])


def test_hypothetical_costs_come_close_to_those_of_real_indexes(
    lab: psycopg.Connection, tables: tuple[Table, ...]
) -> None:
    """A nested loop with thousands of descents, which HypoPG alone makes a third too cheap."""
    row = lab.execute(block("has_hypopg")).fetchone()
    if row is None or not row[0]:
        pytest.skip("this server has no HypoPG")
    lab.execute("SET random_page_cost = 1.1; SET enable_hashjoin = off; SET enable_mergejoin = off")
    text = "SELECT count(*) FROM orders a JOIN orders b ON b.note = a.note"
    with HypotheticalIndexes(lab, {table.name: table for table in tables}) as hypothetical:
        expected = hypothetical.cost(text, (index("note"),))
    with RealIndexes(lab) as real:
        actual = real.cost(text, (index("note"),))

    assert expected.used == actual.used
    assert actual.total_cost / 1.1 < expected.total_cost < actual.total_cost * 1.1


def test_real_builds_are_refused_to_a_role_that_may_not_hide_them(lab: psycopg.Connection) -> None:
    lab.execute("SET ROLE pg_monitor")
    with pytest.raises(LabRefused, match="superuser"), RealIndexes(lab):
        pass


def test_a_statement_is_planned_with_a_hypothetical_and_a_real_index_at_once(
    lab: psycopg.Connection, tables: tuple[Table, ...]
) -> None:
    trigrams = new_index(
        ORDERS,
        (IndexKey(text="note", operator_class="gin_trgm_ops"),),
        method="gin",
        requires_extension="pg_trgm",
    )
    both = (index("customer_id"), trigrams)
    text = "SELECT * FROM orders a JOIN orders b USING (customer_id) WHERE a.note LIKE '%note 39999%'"
    with open_what_if(lab, tables) as what_if:
        alone = what_if.cost(text, both[:1])
        together = what_if.cost(text, both)
        again = what_if.cost(text, both[:1])
        size_bytes = what_if.size_bytes(trigrams)

    assert tuple(sorted(each.name for each in both)) == together.used
    assert together.total_cost < alone.total_cost / 2
    assert alone == again
    assert size_bytes > 8192
