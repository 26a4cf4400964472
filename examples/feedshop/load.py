"""Fills a database with feedshop: seeded rows, and indexes and settings as the years left them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import psycopg
from psycopg import sql

from examples.feedshop.statements import blocks

DEFAULT_SEED = 7

# What the database itself carries. An owner may set all of them without being superuser.
# work_mem and the jit costs are an operator's mistakes; the last two keep plans the same from host to host.
DATABASE_SETTINGS = {
    "work_mem": "512kB",
    "jit_above_cost": "6500",
    "jit_inline_above_cost": "6500",
    "jit_optimize_above_cost": "6500",
    "max_parallel_workers_per_gather": "0",
    "default_statistics_target": "100",
    "TimeZone": "UTC",
}

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Rows by table. `early` of the classifications exist when their table is last analysed."""

    tenants: int
    users: int
    feeds: int
    posts: int
    orders: int
    items: int
    classifications: int
    early: int
    canary: int

    @classmethod
    def at(cls, scale: float) -> Sizes:
        """The sizes at a scale; 1.0 makes 1.16 million rows, and 0.01 is the smallest that is useful."""

        def rows(full: int) -> int:
            return max(int(full * scale), 100)

        return cls(
            tenants=200,
            users=rows(50_000),
            feeds=rows(12_000),
            posts=rows(200_000),
            orders=rows(150_000),
            items=rows(350_000),
            classifications=rows(400_000),
            early=rows(20_000),
            canary=rows(6_000),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a load made."""

    rows: int
    size_bytes: int
    elapsed_s: float


def load(
    dsn: str, *, seed: int = DEFAULT_SEED, scale: float = 1.0, progress: Progress | None = None
) -> Loaded:
    """Replace feedshop in the database of `dsn`.

    `progress` is told each step's name as it begins and the seconds since the start. The same seed and
    scale make the same rows on every PostgreSQL from 14 on. Needs the rights of the database's owner.
    """
    started_s = time.perf_counter()
    tell = progress or (lambda step, elapsed_s: None)
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as conn:
        conn.execute("SET synchronous_commit = off")
        conn.execute("SET maintenance_work_mem = '128MB'")
        conn.execute("SET max_parallel_maintenance_workers = 0")
        conn.execute("SET client_min_messages = warning")
        for step, statement, values in _steps(Sizes.at(scale), seed):
            tell(step, time.perf_counter() - started_s)
            conn.execute(statement, values)
        tell("failed_index", time.perf_counter() - started_s)
        _leave_failed_index(conn)
        _configure(conn)
        rows, size_bytes = _measure(conn)
    return Loaded(rows=rows, size_bytes=size_bytes, elapsed_s=time.perf_counter() - started_s)


def checksum(dsn: str) -> int:
    """One number over every row; equal numbers mean equal rows. Reads everything once."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET timezone = 'UTC'")
        conn.execute("SET datestyle = 'ISO'")
        row = conn.execute(blocks("generate.sql")["checksum"].encode()).fetchone()
    assert row is not None  # an aggregate always yields a row
    return int(row[0])


def _steps(sizes: Sizes, seed: int) -> Iterator[tuple[str, bytes, dict[str, int] | None]]:
    schema, rows = blocks("schema.sql"), blocks("generate.sql")
    values = {**asdict(sizes), "seed": seed, "first": 1, "last": sizes.early}
    for step in ("drop", "tables"):
        yield step, schema[step].encode(), None
    for step in ("functions", "tenants", "users", "feeds", "posts", "orders", "items", "classifications"):
        yield step, rows[step].encode(), values
    yield "analyze", b"ANALYZE classifications", None
    rest = {**values, "first": sizes.early + 1, "last": sizes.classifications}
    yield "classifications", rows["classifications"].encode(), rest
    for step in ("keys", "indexes", "foreign_keys", "analyze"):
        yield step, schema[step].encode(), None


def _leave_failed_index(conn: psycopg.Connection) -> None:
    try:
        conn.execute(blocks("schema.sql")["failed_index"].encode())
    except psycopg.errors.UniqueViolation:
        return
    raise AssertionError("the unique index was built: the generator no longer repeats session tokens")


def _configure(conn: psycopg.Connection) -> None:
    for name, value in DATABASE_SETTINGS.items():
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(conn.info.dbname), sql.Identifier(name), sql.Literal(value)
            )
        )


def _measure(conn: psycopg.Connection) -> tuple[int, int]:
    row = conn.execute(blocks("generate.sql")["measure"].encode()).fetchone()
    assert row is not None  # an aggregate always yields a row
    return int(row[0]), int(row[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.feedshop.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m examples.feedshop.load 'postgresql:///feedshop' --scale 0.1",
    )
    parser.add_argument("dsn", help="the database to fill; what feedshop left there before is replaced")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="another seed, other rows (default 7)")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 makes 1.16 million rows (default 1.0)")
    options = parser.parse_args()
    loaded = load(
        options.dsn,
        seed=options.seed,
        scale=options.scale,
        progress=lambda step, elapsed_s: print(f"{elapsed_s:6.1f} s  {step}", flush=True),
    )
    print(f"{loaded.rows:,} rows, {loaded.size_bytes / 1e6:.0f} MB, {loaded.elapsed_s:.1f} s")


if __name__ == "__main__":
    main()
