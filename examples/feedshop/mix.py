"""The operations of feedshop, how often each is called, and where its parameters come from."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

from examples.feedshop.statements import HERE, blocks

POOL_ROWS = 500

_HEADER = re.compile(r"^-- (weight|params): (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)

Value: TypeAlias = object
Pools: TypeAlias = dict[str, list[dict[str, Value]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One statement of the service.

    `weight` counts calls among those of all operations. `params` are pairs (pool, column), in the order of
    $1, $2, …; parameters of one pool come from the same row.
    """

    name: str
    sql: str
    weight: int
    params: tuple[tuple[str, str], ...]

    @property
    def writes(self) -> bool:
        return not self.sql.startswith("SELECT")


@cache
def operations() -> tuple[Operation, ...]:
    """All operations, by name."""
    return tuple(_read(path) for path in sorted((HERE / "workload").glob("*.sql")))


def read_pools(conn: psycopg.Connection[Any], rng: random.Random) -> Pools:
    """Read what parameters are drawn from; the same database and generator give the same pools."""
    pools: Pools = {}
    for name, statement in blocks("pools.sql").items():
        cursor = psycopg.RawCursor(conn, row_factory=psycopg.rows.dict_row)
        cursor.execute(statement.encode(), ([rng.random() for _ in range(POOL_ROWS)],))
        pools[name] = cursor.fetchall()
    return pools


def draw(rng: random.Random) -> Operation:
    """The operation of the next call, by weight."""
    mix = operations()
    return rng.choices(mix, cum_weights=_cumulated(mix))[0]


def values_for(operation: Operation, pools: Pools, rng: random.Random) -> tuple[Value, ...]:
    """The values of one call, in the order of $1, $2, …."""
    rows: dict[str, dict[str, Value]] = {}
    for pool, _ in operation.params:
        if pool not in rows:
            rows[pool] = rng.choice(pools[pool])
    return tuple(rows[pool][column] for pool, column in operation.params)


@cache
def _cumulated(mix: tuple[Operation, ...]) -> tuple[int, ...]:
    return tuple(sum(operation.weight for operation in mix[: i + 1]) for i in range(len(mix)))


def _read(path: Path) -> Operation:
    text = path.read_text(encoding="utf-8")
    header = dict(_HEADER.findall(text))
    pairs = (pair.strip().split(".") for pair in header.get("params", "").split(",") if pair.strip())
    return Operation(
        name=path.stem,
        sql=_COMMENT.sub("", text).strip().removesuffix(";"),
        weight=int(header["weight"]),
        params=tuple((pool, column) for pool, column in pairs),
    )
