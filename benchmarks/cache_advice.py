"""What `perfloop cache advise` predicts, beside what a QueryCache then does on the same kind of traffic.

    python -m benchmarks.cache_advice [--requests 100000] [--capacity 10000] [--rate 20] [--markdown]

A shop on a server of its own gets requests one after the other, at the moments of a clock that is only
counted: an hour of traffic takes a minute. Counters, log and tables are real, and so are the cache, its
clock aside, the statements behind its misses and the writes, after each of which its tags are cleared as a
listener does. The first run, of one seed, is what the advice is made from: once with pg_stats alone, once
with the server's log. The second, of another seed, is measured in its second half: each way to keep a
statement in a cache of its own, as the advice simulates it, and then the proposed ones in one cache.

An answer is counted as old if the server answers otherwise at that moment.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg

from benchmarks.page import host_line, table
from perfloop.adapters.connection import connect
from perfloop.adapters.servers import PostgresServer, installed_postgres
from perfloop.cache import QueryCache, TieredCache
from perfloop.cache.invalidation import TagMap
from perfloop.model.changes import TableChange
from perfloop.tune.cache_advice import AdviceOptions, advise_on
from perfloop.tune.cache_advice_traffic import Traffic, read_traffic
from perfloop.tune.cache_advice_values import CacheAdvice, Kept, StatementAdvice, Until
from perfloop.tune.observer import Silence

SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "log_directory": "log",
    "log_filename": "server.log",
    "log_min_duration_statement": "0",
    "log_line_prefix": "%m [%p] %q%u@%d %Q ",
}
SCHEMA = """
CREATE EXTENSION pg_stat_statements;
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, visits int NOT NULL DEFAULT 0);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, total int NOT NULL);
CREATE TABLE products (id int PRIMARY KEY, category text NOT NULL, price int NOT NULL);
CREATE TABLE stock (product_id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO customers SELECT g, 'customer ' || g FROM generate_series(1, 5000) g;
INSERT INTO products SELECT g, 'category ' || g % 40, g % 100 FROM generate_series(1, 2000) g;
INSERT INTO stock SELECT g, g % 17 FROM generate_series(1, 2000) g;
"""
CUSTOMERS, ORDERS, PRODUCTS = 5_000, 60_000, 2_000
TUNING_SEED, SCORING_SEED = 1, 2
LOG = "the log"
TAGS = TagMap(
    {
        "orders": ("orders:customer_id={customer_id}", "table:orders"),
        "customers": ("customers:id={id}", "table:customers"),
        "products": ("products:category={category}", "table:products"),
        "stock": ("stock:product_id={product_id}", "table:stock"),
    }
)


@dataclass(frozen=True)
class Read:
    """A statement of the shop, and which part of the requests is for it."""

    name: str
    share: float
    text: str
    table: str
    column: str = ""


READS = (
    Read("orders of a customer", 0.3, "SELECT id, total FROM orders WHERE customer_id = %s ORDER BY id DESC",
         "orders", "customer_id"),
    Read("a customer", 0.3, "SELECT name FROM customers WHERE id = %s", "customers", "id"),
    Read("products of a category", 0.15,
         "SELECT id, price FROM products WHERE category = %s ORDER BY price, id", "products", "category"),
    Read("stock of a product", 0.15, "SELECT amount FROM stock WHERE product_id = %s", "stock", "product_id"),
    Read("sum of all orders", 0.05, "SELECT count(*), sum(total) FROM orders", "orders"),
    Read("dearest products", 0.05, "SELECT id, price FROM products ORDER BY price DESC, id LIMIT 10",
         "products"),
)  # fmt: skip
WRITES_PER_READ = {"orders": 0.01, "customers": 0.005, "products": 0.0005, "stock": 0.1}


class Shop:
    """Requests and writes of one seed, at the moments of a clock that is counted."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int, rate_per_s: float) -> None:
        self.connection = connection
        self.now_s = 0.0
        self._random = random.Random(seed)
        self._rate_per_s = rate_per_s
        self._zipf = list(itertools.accumulate(1 / rank**0.9 for rank in range(1, CUSTOMERS + 1)))
        self._numbers = itertools.count(seed * 10_000_000)

    def run(self, requests: int) -> Iterator[tuple[int, Read, tuple[Any, ...]] | TableChange]:
        """Each request, to be answered by whoever asks, and each write, which is done."""
        weights = [read.share for read in READS]
        for number in range(requests):
            self.now_s += self._random.expovariate(self._rate_per_s)
            for written, per_read in WRITES_PER_READ.items():
                if self._random.random() < per_read:
                    yield self._write(written)
            (read,) = self._random.choices(READS, weights)
            yield number, read, self._params(read)

    def _params(self, read: Read) -> tuple[Any, ...]:
        match read.column:
            case "customer_id" | "id":
                return (self._customer(),)
            case "category":
                return (f"category {self._random.randrange(40)}",)
            case "product_id":
                return (self._random.randint(1, PRODUCTS),)
        return ()

    def _customer(self) -> int:
        return bisect.bisect(self._zipf, self._random.random() * self._zipf[-1]) + 1

    def fill(self) -> None:
        rows = [(number, self._customer(), number % 90) for number in range(ORDERS)]
        with self.connection.cursor().copy("COPY orders FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        self.connection.execute("CREATE INDEX ON orders (customer_id)")
        self.connection.execute("CREATE INDEX ON products (category)")
        self.connection.execute("VACUUM ANALYZE")

    def _write(self, table: str) -> TableChange:
        product = self._random.randint(1, PRODUCTS)
        match table:
            case "orders":
                row: dict[str, Any] = {"customer_id": self._customer()}
                values = (next(self._numbers), row["customer_id"], 7)
                self.connection.execute("INSERT INTO orders VALUES (%s, %s, %s)", values)
            case "customers":
                row = {"id": self._random.randint(1, CUSTOMERS)}
                self.connection.execute("UPDATE customers SET name = name || '.' WHERE id = %s", (row["id"],))
            case "products":
                row = {"category": f"category {product % 40}"}
                self.connection.execute("UPDATE products SET price = price + 1 WHERE id = %s", (product,))
            case _:
                row = {"product_id": product}
                self.connection.execute(
                    "UPDATE stock SET amount = amount + 1 WHERE product_id = %s", (product,)
                )
        texts = {name: str(value) for name, value in row.items()}
        return TableChange(table=table, rows=(texts,))


@dataclass
class Arm:
    """One cache, and which statements it keeps how."""

    ways: dict[str, Kept]
    cache: TieredCache
    queries: QueryCache
    loads: list[int]
    hits: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    old: Counter[str] = field(default_factory=Counter)

    def ask(self, shop: Shop, read: Read, params: tuple[Any, ...], now: Sequence[Any] | None) -> None:
        """Ask as a service would; count it where the answer of now is given."""
        way = self.ways[read.name]
        tags: Sequence[str] | None = None
        if way.until is Until.TIME:
            tags = ()
        elif way.until is Until.ROWS_CHANGE:
            tags = TAGS.row_tags(read.table, **{read.column: params[0]})
        self.loads.clear()
        rows = self.queries.fetch_all(shop.connection, read.text, params or None, ttl_s=way.ttl_s, tags=tags)
        if now is None:
            return
        self.asked[read.name] += 1
        if not self.loads:
            self.hits[read.name] += 1
            self.old[read.name] += [tuple(row) for row in rows] != now


def arm(ways: dict[str, Kept], shop: Shop, capacity: int) -> Arm:
    loads: list[int] = []
    cache = TieredCache(
        capacity=capacity,
        clock=lambda: shop.now_s,
        on_event=lambda event: loads.append(1) if type(event).__name__ == "LoadEnded" else None,
    )
    return Arm(ways, cache, QueryCache(cache, identity="bench", tags=TAGS, clock=lambda: 0.0), loads)


def advised(server: PostgresServer, shop: Shop, options: argparse.Namespace) -> dict[str, CacheAdvice]:
    """The advice of one run, with pg_stats and with the log."""
    with connect(server.dsn(), read_only=True) as reader:
        for each in shop.run(options.requests):
            if not isinstance(each, TableChange):
                shop.connection.execute(each[1].text, each[2] or None).fetchall()
        traffic = as_counted(read_traffic(reader, Silence(), window_s=None), shop.now_s)
        common = AdviceOptions(capacity=options.capacity)
        logged = msgspec.structs.replace(common, log=str(server.data_dir / "log" / "server.json"))
        return {
            "pg_stats": advise_on(reader, traffic, common, Silence()),
            LOG: advise_on(reader, traffic, logged, Silence()),
        }


def as_counted(traffic: Traffic, over_s: float) -> Traffic:
    """Rates by the counted clock in place of the server's; none of it was there before the first request."""
    ratio = traffic.over_s / over_s
    changes = {
        name: msgspec.structs.replace(
            each, rows_per_s=each.rows_per_s * ratio, statements_per_s=each.statements_per_s * ratio
        )
        for name, each in traffic.changes.items()
    }
    return msgspec.structs.replace(traffic, over_s=over_s, changes=changes)


def of_read(advice: CacheAdvice, read: Read) -> StatementAdvice:
    start = read.text.partition("%s")[0].partition(" LIMIT")[0]
    return next(each for each in advice.statements if each.text.startswith(start))


def measured(shop: Shop, arms: dict[str, list[Arm]], requests: int) -> None:
    for each in shop.run(requests):
        if isinstance(each, TableChange):
            tags = tuple(TAGS.tags_of(each))
            for one in {id(one): one for ones in arms.values() for one in ones}.values():
                one.cache.invalidate_tag(*tags)
            continue
        number, read, params = each
        is_counted = number >= requests // 2
        now = shop.connection.execute(read.text, params or None).fetchall() if is_counted else None
        for one in arms[read.name]:
            one.ask(shop, read, params, now)


def main() -> None:
    parser = argparse.ArgumentParser(description="predicted and measured hits")
    parser.add_argument("--requests", type=int, default=100_000, help="of each run")
    parser.add_argument("--capacity", type=int, default=10_000, help="entries of each cache")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second of the counted clock")
    parser.add_argument("--markdown", action="store_true", help="print a table for docs/benchmarks.md")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(LoggingServer(installed_postgres()[0], settings=SETTINGS))
        connection = stack.enter_context(psycopg.connect(server.dsn(), autocommit=True))
        connection.execute(SCHEMA)
        tuning = Shop(connection, TUNING_SEED, options.rate)
        tuning.fill()
        connection.execute("SELECT pg_stat_force_next_flush()")
        connection.execute("SELECT pg_stat_statements_reset(), pg_stat_reset()")
        began_s = time.perf_counter()
        advice = advised(server, tuning, options)
        print(f"traffic of {tuning.now_s:.0f} s and advice took {time.perf_counter() - began_s:.0f} s")
        connection.execute("SET log_min_duration_statement = -1")
        scoring = Shop(connection, SCORING_SEED, options.rate)
        arms, alone = made_arms(advice[LOG], scoring, options.capacity)
        measured(scoring, arms, options.requests)
    show(list(compared(advice, alone, arms)), markdown=options.markdown)


class LoggingServer(PostgresServer):
    """One that collects its log in a file."""

    def _command(self) -> list[str]:
        return [*super()._command(), "-c", "logging_collector=on", "-c", "log_destination=jsonlog"]


def made_arms(
    advice: CacheAdvice, shop: Shop, capacity: int
) -> tuple[dict[str, list[Arm]], dict[tuple[str, str, float], Arm]]:
    """A cache for each way of each statement, and one for all that are proposed, each as it is proposed."""
    alone = {
        (read.name, way.until.value, way.ttl_s): arm({read.name: way}, shop, capacity)
        for read in READS
        for way in of_read(advice, read).ways
    }
    chosen = {read.name: found for read in READS if (found := of_read(advice, read).chosen) is not None}
    shared = arm(chosen, shop, capacity)
    own = {read.name: [one for (name, _, _), one in alone.items() if name == read.name] for read in READS}
    return {name: [*arms, shared] if name in chosen else arms for name, arms in own.items()}, alone


def compared(
    advice: dict[str, CacheAdvice], alone: dict[tuple[str, str, float], Arm], arms: dict[str, list[Arm]]
) -> Iterator[dict[str, Any]]:
    for (name, until, ttl_s), one in alone.items():
        read = next(each for each in READS if each.name == name)
        predicted = {origin: way_of(of_read(each, read), until, ttl_s) for origin, each in advice.items()}
        yield figure_of(name, until if until != Until.TIME.value else f"{ttl_s:g} s", one, name, predicted)
    for read in READS:
        found = of_read(advice[LOG], read).chosen
        if found is not None:
            shared, way = arms[read.name][-1], f"together, until {found.until.value}"
            yield figure_of(read.name, way, shared, read.name, {LOG: found})


def way_of(advice: StatementAdvice, until: str, ttl_s: float) -> Kept:
    return next(way for way in advice.ways if (way.until.value, way.ttl_s) == (until, ttl_s))


def figure_of(name: str, way: str, one: Arm, read: str, predicted: dict[str, Kept]) -> dict[str, Any]:
    asked = max(1, one.asked[read])
    return {
        "statement": name,
        "way": way,
        "hits": one.hits[read] / asked,
        "old": one.old[read] / asked,
        "asked": one.asked[read],
        **{f"hits by {origin}": each.hit_ratio for origin, each in predicted.items()},
        **{f"old by {origin}": each.stale_ratio for origin, each in predicted.items()},
    }


def show(figures: Sequence[dict[str, Any]], *, markdown: bool) -> None:
    columns = [f"{what}{by}" for what in ("hits", "old") for by in ("", " by pg_stats", " by the log")]
    head = ("statement", "kept", "hits %", "by pg_stats", "by the log", "old %", "by pg_stats", "by the log")
    rows = [
        (
            each["statement"],
            each["way"],
            *(f"{100 * each[one]:.1f}" if one in each else "" for one in columns),
        )
        for each in figures
    ]
    if markdown:
        print(host_line(), table(head, rows), sep="\n\n", end="\n\n")
    for row in [] if markdown else [head, *rows]:
        print(f"{row[0]:<24}{row[1]:<36}" + "".join(f"{cell:>12}" for cell in row[2:]))
    for origin in ("pg_stats", LOG):
        pairs = [(each["hits"], each.get(f"hits by {origin}")) for each in figures]
        errors = sorted(100 * abs(hits - told) for hits, told in pairs if told is not None)
        middle, worst = errors[len(errors) // 2], errors[-1]
        print(f"hits predicted by {origin}: off by {middle:.1f} points (median), {worst:.1f} (worst)")


if __name__ == "__main__":
    main()
