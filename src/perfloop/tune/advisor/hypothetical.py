"""What-if by HypoPG: indexes that exist for the planner of one session only.

HypoPG 1.3.1 to 1.4 sets the height of a tree to -1, so that each descent is about 50 operators a
level too cheap. With nested loops that is much (seen on TPC-H: a promise of 54.5 % where real
indexes gave 61.3 %). `correction` adds what is missing. The planner has chosen its plan without
it, so a corrected cost can exceed the cost without the index.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import psycopg

from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.target import Table, TableName
from perfloop.tune.advisor.index_size import estimated_size_bytes, tree_height
from perfloop.tune.advisor.planner import block, explain, refused
from perfloop.tune.advisor.sampling import KeySamples, is_sampled
from perfloop.tune.advisor.what_if import PlannedCost, WhatIfStatistics
from perfloop.tune.statements import build_statements

_OPERATORS_PER_LEVEL = 50
"""DEFAULT_PAGE_CPU_MULTIPLIER of the server's btcostestimate()."""
_RUN_ONCE = frozenset({"Materialize", "Sort", "Hash", "CTE Scan"})
"""Nodes that keep their rows, so that what is below them runs once however often they are asked."""

_NONE: Mapping[str, str] = MappingProxyType({})


class HypotheticalIndexes:
    """A WhatIf over HypoPG. The connection is in autocommit and nobody else's; it is not closed here."""

    def __init__(self, connection: psycopg.Connection[Any], tables: Mapping[TableName, Table]) -> None:
        self._connection = connection
        self._tables = tables
        self._created: dict[CreateIndex, tuple[int, str]] = {}
        self._accepted: dict[CreateIndex, int] = {}
        self._texts: dict[CreateIndex, str] = {}
        self._samples = KeySamples(connection)
        self._operator_cost = 0.0
        self._explains = 0
        self._builds = 0
        self._build_s = 0.0

    def __enter__(self) -> HypotheticalIndexes:
        self._connection.execute(block("create_hypopg"))
        self._connection.execute(block("reset_hypothetical"))
        row = self._connection.execute(block("cpu_operator_cost")).fetchone()
        self._operator_cost = float(row[0]) if row else 0.0
        return self

    def __exit__(self, *_: object) -> None:
        if not self._connection.broken:
            self._connection.execute(block("reset_hypothetical"))
            self._samples.close()
        self._created.clear()

    def plan(self, instance: str) -> Plan:
        self._show(())
        self._explains += 1
        return explain(self._connection, instance)

    def cost(
        self, instance: str, indexes: tuple[CreateIndex, ...], *, beside: Mapping[str, str] = _NONE
    ) -> PlannedCost:
        """As `WhatIf.cost`; `beside` are real indexes in sight already, by the names that plans have."""
        self._show(indexes)
        self._explains += 1
        plan = explain(self._connection, instance)
        by_name = {self._created[index][1]: index for index in indexes}
        names = {**beside, **{name: index.name for name, index in by_name.items()}}
        used = {names[node.index] for node in plan.root.walk() if node.index in names}
        heights = {name: self._height(index) for name, index in by_name.items()}
        extra = correction(plan, heights, self._operator_cost)
        return PlannedCost(total_cost=plan.root.total_cost + extra, used=tuple(sorted(used)))

    def size_bytes(self, index: CreateIndex) -> int:
        if index not in self._accepted:
            self._show((index,))
            table = self._tables[index.table]
            self._accepted[index] = estimated_size_bytes(index, table, distinct=self._distinct(index, table))
        return self._accepted[index]

    def statistics(self) -> WhatIfStatistics:
        return WhatIfStatistics(explains=self._explains, builds=self._builds, build_s=self._build_s)

    def _distinct(self, index: CreateIndex, table: Table) -> float | None:
        columns = tuple(key.text for key in index.keys)
        if len(columns) < 2 or index.included or not all(is_sampled(table, name) for name in columns):
            return None
        return self._samples.distinct(table, columns)

    def _height(self, index: CreateIndex) -> int:
        return tree_height(index, self._tables[index.table], self.size_bytes(index))

    def _show(self, indexes: tuple[CreateIndex, ...]) -> None:
        """Let the session's planner see exactly these; all that changes goes in one round trip."""
        gone = [self._created.pop(each)[0] for each in list(self._created) if each not in indexes]
        new = [each for each in indexes if each not in self._created]
        if not gone and not new:
            return
        began_s = time.perf_counter()
        try:
            with self._connection.pipeline():
                if gone:
                    self._connection.execute(block("drop_hypothetical"), [gone])
                made = [
                    self._connection.execute(block("create_hypothetical"), [self._text(index)])
                    for index in new
                ]
        except psycopg.Error as error:
            if self._connection.broken:
                raise
            self._connection.execute(block("reset_hypothetical"))
            self._created.clear()
            raise refused(new[0], error) from error
        for index, cursor in zip(new, made, strict=True):
            oid, name = cursor.fetchone() or (0, "")
            self._created[index] = int(oid), str(name)
        self._builds += len(new)
        self._build_s += time.perf_counter() - began_s

    def _text(self, index: CreateIndex) -> str:
        if index not in self._texts:
            (statement,) = build_statements(index, concurrently=False)
            self._texts[index] = statement.as_string(self._connection)
        return self._texts[index]


def correction(plan: Plan, heights: Mapping[str, int], operator_cost: float) -> float:
    """What HypoPG leaves out of a plan's cost, for hypothetical indexes of these `heights`."""
    return sum(
        (heights[node.index] + 1) * _OPERATORS_PER_LEVEL * operator_cost * loops
        for node, loops in _with_loops(plan.root, 1.0)
        if node.index is not None and node.index in heights
    )


def _with_loops(node: PlanNode, loops: float) -> Iterator[tuple[PlanNode, float]]:
    """Every node with how often the planner expects it to start."""
    yield node, loops
    for child in node.children:
        yield from _with_loops(child, loops * _starts(node, child))


def _starts(parent: PlanNode, child: PlanNode) -> float:
    """How often the `child` starts for one start of its `parent`.

    A plan without ANALYZE does not print it. For the inner side of a nested loop it is the number
    of outer rows, or less below a Memoize; for a sub-plan it is what the parent's cost leaves over.
    """
    relationship = child.fields.get("Parent Relationship")
    others = sum(each.total_cost for each in parent.children if each is not child and not _is_sub_plan(each))
    over = max(1.0, (parent.total_cost - others) / max(child.total_cost, 1e-6))
    if relationship == "SubPlan":
        return 1.0 if "hashed" in str(parent.fields.get("Filter", "")) else over
    if relationship == "Inner" and parent.kind == "Nested Loop" and child.kind not in _RUN_ONCE:
        outer = next(each for each in parent.children if each is not child)
        return min(max(1.0, outer.planned_rows), over)
    return 1.0


def _is_sub_plan(node: PlanNode) -> bool:
    return node.fields.get("Parent Relationship") in ("SubPlan", "InitPlan")
