"""What-if without HypoPG: every candidate is built once, for real, and hidden from the planner.

An index with `indisvalid = false` is overlooked by the planner. The wanted ones are made valid in
a transaction that is rolled back after EXPLAIN, which the relation cache follows at once (tried on
PostgreSQL 15 and 18). Editing the catalogue needs a superuser and is why this runs in a scratch
clone only: nothing may write to the database meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from perfloop.errors import ChangeFailed, LabRefused
from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.tune.advisor.planner import block, explain, refused
from perfloop.tune.advisor.what_if import PlannedCost, WhatIfStatistics
from perfloop.tune.extensions import reachable
from perfloop.tune.statements import build_statements


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """One index, or that of a partitioned table with those of its partitions."""

    oids: list[int]
    names: tuple[str, ...]
    size_bytes: int


class RealIndexes:
    """A WhatIf by real builds. The connection is a superuser's, in autocommit, to a scratch clone.

    It is not closed here. On leaving, every index that was built is dropped.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._built: dict[CreateIndex, _Built] = {}
        self._explains = 0
        self._build_s = 0.0

    def __enter__(self) -> RealIndexes:
        """Raises LabRefused when the role may not edit the catalogue."""
        row = self._connection.execute(block("is_superuser")).fetchone()
        if not (row and row[0]):
            raise LabRefused(
                "without HypoPG, indexes are tried by real builds in a scratch server, and only a superuser "
                "may hide them; install HypoPG, or let perfloop start the lab's server itself"
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection.broken:
            return
        for index in self._built:
            self._drop(index)
        self._built.clear()

    def plan(self, instance: str) -> Plan:
        self._explains += 1
        return explain(self._connection, instance)

    def cost(self, instance: str, indexes: tuple[CreateIndex, ...]) -> PlannedCost:
        self._explains += 1
        with self.shown(indexes):
            plan = explain(self._connection, instance)
        names = self.names(indexes)
        used = {names[node.index] for node in plan.root.walk() if node.index in names}
        return PlannedCost(total_cost=plan.root.total_cost, used=tuple(sorted(used)))

    def names(self, indexes: tuple[CreateIndex, ...]) -> dict[str, str]:
        """Under which names plans show these, built already, to the names that they have here."""
        return {name: index.name for index in indexes for name in self._built[index].names}

    @contextmanager
    def shown(self, indexes: tuple[CreateIndex, ...]) -> Iterator[None]:
        """Let the session's planner see these for the length of the context. Raises as `cost` does."""
        shown = [oid for index in indexes for oid in self._build(index).oids]
        with self._connection.transaction(force_rollback=True):
            if shown:
                self._connection.execute(block("show_indexes"), [shown])
            yield

    def size_bytes(self, index: CreateIndex) -> int:
        return self._build(index).size_bytes

    def statistics(self) -> WhatIfStatistics:
        return WhatIfStatistics(
            explains=self._explains,
            builds=len(self._built),
            build_s=self._build_s,
            built_bytes=sum(built.size_bytes for built in self._built.values()),
        )

    def _build(self, index: CreateIndex) -> _Built:
        if index in self._built:
            return self._built[index]
        began = time.perf_counter()
        try:
            with reachable(self._connection, index), self._connection.transaction():
                for statement in build_statements(index, concurrently=False):
                    self._connection.execute(statement)
                place = [index.table.schema, index.name]
                rows = self._connection.execute(block("built_index"), place).fetchall()
                if not rows:
                    raise ChangeFailed(f"{index.title} was built and not found; the build was rolled back")
                oids, sizes, names = zip(*rows, strict=True)
                self._connection.execute(block("hide_indexes"), [list(oids)])
        except psycopg.Error as error:
            raise refused(index, error) from error
        self._build_s += time.perf_counter() - began
        self._built[index] = _Built(oids=list(oids), names=names, size_bytes=sum(sizes))
        return self._built[index]

    def _drop(self, index: CreateIndex) -> None:
        name = sql.Identifier(index.table.schema, index.name)
        self._connection.execute(block("drop_index").format(index=name))
