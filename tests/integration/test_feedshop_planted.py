"""What is planted in feedshop is true: measured with plain SQL on full-sized data, without perfloop's loop.

Two databases are cloned from one load; the fix is applied to one. Both run the same calls in turn, and
pg_stat_statements counts what the server spent on them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

import psycopg
import pytest
from examples.feedshop import traffic
from examples.feedshop.load import DATABASE_SETTINGS, Loaded, load
from examples.feedshop.mix import Operation, operations, read_pools, values_for
from examples.feedshop.planted import PLANTED, TRAPS, Planted, Trap, Yardstick
from examples.feedshop.service import Connection, connect
from psycopg.conninfo import make_conninfo

from perfloop.adapters.servers import PostgresServer

pytestmark = pytest.mark.slow

Record = Callable[[str, object], None]

ROUNDS = 5
CALLS_PER_ROUND = 12

SPENT = """
    SELECT sum(total_exec_time), sum(wal_records) FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND toplevel AND query !~ 'pg_stat_statements'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A loaded server: `template` is never written to, `untouched` is its clone without any fix."""

    server: PostgresServer
    loaded: Loaded

    def dsn(self, name: str) -> str:
        settings = " ".join(f"-c {key}={value}" for key, value in DATABASE_SETTINGS.items())
        return make_conninfo(self.server.dsn(), dbname=name, options=settings)

    def clone(self, name: str) -> str:
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE feedshop_template")
        return self.dsn(name)


@pytest.fixture(scope="module")
def shop(each_postgres_server: PostgresServer) -> Iterator[Shop]:
    dsn = each_postgres_server.dsn()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE feedshop_template")
        try:
            template = make_conninfo(dsn, dbname="feedshop_template")
            with psycopg.connect(template, autocommit=True) as inside:
                inside.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            loaded_shop = Shop(server=each_postgres_server, loaded=load(template))
            loaded_shop.clone("feedshop_untouched")
            yield loaded_shop
        finally:
            for name in ("feedshop_template", "feedshop_untouched", "feedshop_busy", "feedshop_changed"):
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def operation_named(name: str) -> Operation:
    return next(each for each in operations() if each.name == name)


def spent(
    connection: Connection, operation: Operation, values: list[tuple[object, ...]]
) -> tuple[float, float]:
    """Milliseconds of execution and WAL records per call."""
    connection.execute("SELECT pg_stat_statements_reset()")
    for each in values:
        connection.execute(operation.sql.encode(), each)
    row = connection.execute(SPENT.encode()).fetchone()
    assert row is not None
    return float(str(row[0])) / len(values), float(str(row[1])) / len(values)


def both_arms(
    shop: Shop, fix: str, before: tuple[str, ...], names: tuple[str, ...], rewritten: str | None = None
) -> dict[str, list[tuple[float, float]]]:
    """By operation: (control, treatment) of time, then of WAL records; medians over interleaved rounds."""
    changed = shop.clone("feedshop_changed")
    with connect(shop.dsn("feedshop_untouched")) as control, connect(changed) as treatment:
        for connection in (control, treatment):
            for statement in before:
                connection.execute(statement.encode())
        if rewritten is None:
            treatment.execute(fix.encode())
        rng = random.Random(5)
        pools = read_pools(control, rng)
        result = {}
        for operation in map(operation_named, names):
            rounds: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
            for _ in range(ROUNDS):
                values = [values_for(operation, pools, rng) for _ in range(CALLS_PER_ROUND)]
                arms = [(0, control), (1, treatment)]
                rng.shuffle(arms)
                for arm, connection in arms:
                    asked = operation if arm == 0 or rewritten is None else replace(operation, sql=rewritten)
                    rounds[arm].append(spent(connection, asked, values))
            result[operation.name] = [
                (median(each[n] for each in rounds[0]), median(each[n] for each in rounds[1])) for n in (0, 1)
            ]
    return result


def has_jit(shop: Shop) -> bool:
    with psycopg.connect(shop.server.dsn()) as connection:
        row = connection.execute("SELECT pg_jit_available()").fetchone()
    return row == (True,)


def test_a_full_load_has_a_million_rows_and_stays_small(shop: Shop) -> None:
    assert shop.loaded.rows >= 1_000_000
    assert shop.loaded.size_bytes <= 350_000_000


@pytest.mark.parametrize("problem", PLANTED, ids=lambda each: each.id)
def test_mending_a_planted_problem_gains_what_it_states(
    shop: Shop, problem: Planted, record_property: Record
) -> None:
    if problem.needs_jit and not has_jit(shop):
        pytest.skip("this build of PostgreSQL has no JIT")
    rewritten = problem.fix if problem.change == "rewrite-query" else None
    measured = both_arms(shop, problem.fix, (), (problem.operation,), rewritten)
    control, treatment = measured[problem.operation][problem.yardstick is Yardstick.WAL]
    record_property("control", control)
    record_property("treatment", treatment)

    assert control / treatment >= problem.gain


@pytest.mark.parametrize("trap", TRAPS, ids=lambda each: each.id)
def test_a_trap_costs_what_it_states(shop: Shop, trap: Trap, record_property: Record) -> None:
    measured = both_arms(shop, trap.fix, trap.before, trap.operations)
    weights = {name: operation_named(name).weight for name in trap.operations}
    control = sum(weights[name] * measured[name][0][0] for name in weights)
    treatment = sum(weights[name] * measured[name][0][1] for name in weights)
    record_property("measured", measured)

    assert treatment / control >= trap.cost


def test_all_fixes_together_make_the_service_several_times_faster(
    shop: Shop, record_property: Record
) -> None:
    control = shop.clone("feedshop_busy")
    treatment = shop.clone("feedshop_changed")
    settings = [each.fix.removeprefix("SET ") for each in PLANTED if each.fix.startswith("SET ")]
    with psycopg.connect(treatment, autocommit=True) as connection:
        for each in PLANTED:
            if not each.fix.startswith(("SET ", "SELECT ")):
                connection.execute(each.fix.encode())
    better = make_conninfo(
        shop.server.dsn(),
        dbname="feedshop_changed",
        options=" ".join(f"-c {each.replace(' ', '').replace(chr(39), '')}" for each in settings),
    )
    slow = traffic.run_traffic(control, operations=1500)
    fast = traffic.run_traffic(better, operations=1500)
    record_property("mean_ms", (slow.mean_s * 1000, fast.mean_s * 1000))

    assert fast.mean_s <= 0.4 * slow.mean_s
    assert fast.rate_per_s >= 2.5 * slow.rate_per_s
