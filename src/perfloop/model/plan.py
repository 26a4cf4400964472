"""A query plan as a value, read from EXPLAIN (FORMAT JSON) of any server version.

Fields are looked up tolerantly: what a version does not print is None or zero. The
document of every node is kept, so that a check can read a field that has no name here.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from perfloop.errors import InvalidInput
from perfloop.model.value import Value


class PlanNode(Value, frozen=True, kw_only=True):
    """One node. Actual figures are per loop, as EXPLAIN prints them, and None without ANALYZE."""

    kind: str
    """The node type, as "Seq Scan"."""
    fields: dict[str, Any]
    """All fields of the document but the child plans."""
    children: tuple[PlanNode, ...] = ()

    @property
    def schema(self) -> str | None:
        return self.fields.get("Schema")

    @property
    def relation(self) -> str | None:
        return self.fields.get("Relation Name")

    @property
    def alias(self) -> str | None:
        return self.fields.get("Alias")

    @property
    def index(self) -> str | None:
        return self.fields.get("Index Name")

    @property
    def planned_rows(self) -> float:
        return float(self.fields.get("Plan Rows", 0))

    @property
    def actual_rows(self) -> float | None:
        rows = self.fields.get("Actual Rows")
        return None if rows is None else float(rows)

    @property
    def loops(self) -> float:
        return float(self.fields.get("Actual Loops", 1))

    @property
    def total_cost(self) -> float:
        return float(self.fields.get("Total Cost", 0.0))

    @property
    def total_s(self) -> float | None:
        """Seconds in this node and below it, over all loops; None without timing."""
        total_ms = self.fields.get("Actual Total Time")
        return None if total_ms is None else float(total_ms) * self.loops / 1000

    def walk(self) -> Iterator[PlanNode]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


class Plan(Value, frozen=True, kw_only=True):
    """A whole plan with its totals."""

    root: PlanNode
    planning_s: float | None = None
    execution_s: float | None = None
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    """The top level of the document without the plan: Settings, JIT, Triggers, Planning."""

    @property
    def shape(self) -> str:
        """A short digest of node types, relations and indexes: equal exactly where the plans do the same."""
        return hashlib.blake2b("\n".join(_shape(self.root, 0)).encode(), digest_size=8).hexdigest()

    @property
    def relations(self) -> frozenset[tuple[str, str]]:
        """(schema, table) of every relation read or written; needs VERBOSE for the schema."""
        return frozenset(
            (node.schema or "public", node.relation) for node in self.root.walk() if node.relation is not None
        )

    @property
    def counters(self) -> PlanCounters:
        """The work of the execution. All zero without ANALYZE and BUFFERS."""
        top = self.root.fields
        jit = self.fields.get("JIT", {})
        return PlanCounters(
            hit_blocks=int(top.get("Shared Hit Blocks", 0)),
            read_blocks=int(top.get("Shared Read Blocks", 0)),
            temp_blocks=int(top.get("Temp Read Blocks", 0)) + int(top.get("Temp Written Blocks", 0)),
            wal_bytes=int(top.get("WAL Bytes", 0)),
            rows=float(top.get("Actual Rows", 0)),
            jit_functions=int(jit.get("Functions", 0)),
        )


class PlanCounters(Value, frozen=True, kw_only=True):
    """Work that does not depend on the neighbours: blocks of the server's size, bytes, rows."""

    hit_blocks: int = 0
    read_blocks: int = 0
    temp_blocks: int = 0
    """Read plus written."""
    wal_bytes: int = 0
    rows: float = 0.0
    jit_functions: int = 0

    @property
    def blocks(self) -> int:
        """Blocks touched, wherever they were."""
        return self.hit_blocks + self.read_blocks


def _shape(node: PlanNode, depth: int) -> Iterator[str]:
    named = (depth, node.kind, node.relation, node.alias, node.index)
    told = (node.fields.get(key) for key in ("Join Type", "Strategy", "Scan Direction", "Operation"))
    yield "|".join("" if fact is None else str(fact) for fact in (*named, *told))
    for child in node.children:
        yield from _shape(child, depth + 1)


def read_plan(document: Any) -> Plan:
    """Read what EXPLAIN (FORMAT JSON) returned, as parsed JSON.

    Raises InvalidInput where it is not that: without a Plan, with a field of another type than servers
    print, or nested deeper than any server would plan.
    """
    top = document[0] if isinstance(document, list) and document else document
    if not isinstance(top, dict) or not isinstance(top.get("Plan"), dict):
        raise InvalidInput("this is not the output of EXPLAIN (FORMAT JSON): it has no Plan")
    _check(top, depth=0)
    return Plan(
        root=_read_node(top["Plan"]),
        planning_s=_seconds(top.get("Planning Time")),
        execution_s=_seconds(top.get("Execution Time")),
        fields={key: value for key, value in top.items() if key != "Plan"},
    )


def _check(document: dict[str, Any], *, depth: int) -> None:
    """Look whether the fields that have names here are what servers print; others may be anything."""
    if depth > _DEEPEST:
        raise InvalidInput(f"this plan is nested more than {_DEEPEST} deep, as no server's is")
    for name, value in document.items():
        if not _is_as_printed(name, value):
            raise InvalidInput(
                f"this is not the output of EXPLAIN (FORMAT JSON): {name} is {str(value)[:40]!r}"
            )
        parts = value if isinstance(value, list) else [value]
        for part in parts if name in _NESTED else ():
            _check(part, depth=depth + 1)


def _is_as_printed(name: str, value: Any) -> bool:
    if name in _NESTED:
        parts = value if name in _NESTED_LISTS else [value]
        return isinstance(parts, list) and all(isinstance(part, dict) for part in parts)
    if name in _TEXT_LISTS:
        parts = value if isinstance(value, list) else [value]
        return all(isinstance(part, str) for part in parts)
    if name in _TEXTS:
        return isinstance(value, str)
    if _NUMBER.search(name):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and 0 <= value < _LARGEST
    return True


_DEEPEST = 150
_LARGEST = 1e30
_NESTED_LISTS = frozenset({"Plans", "Workers", "Triggers", "Target Tables", "Grouping Sets"})
_NESTED = _NESTED_LISTS | {"Plan", "Planning", "JIT", "Timing", "Full-sort Groups", "Pre-sorted Groups"}
_TEXT_LISTS = frozenset(
    {"Sort Key", "Presorted Key", "Group Key", "Output", "Sort Methods Used", "Conflict Arbiter Indexes"}
)
_TEXTS = frozenset(
    {
        *(
            "Node Type",
            "Parent Relationship",
            "Subplan Name",
            "Schema",
            "Relation Name",
            "Alias",
            "Index Name",
        ),
        *(
            "Filter",
            "Join Filter",
            "One-Time Filter",
            "Index Cond",
            "Recheck Cond",
            "Hash Cond",
            "Merge Cond",
        ),
        *("TID Cond", "Order By", "Join Type", "Scan Direction", "Strategy", "Partial Mode", "Operation"),
        *("CTE Name", "Function Name", "Function Call", "Sort Method", "Sort Space Type", "Cache Key"),
        *("Cache Mode", "Remote SQL", "Command", "Trigger Name", "Relation", "Constraint Name"),
    }
)
_NUMBER = re.compile(
    r"(Rows|Cost|Time|Loops|Width|Blocks|Bytes|Batches|Buckets|Usage|Used|Fetches|Hits|Misses|Evictions"
    r"|Overflows|Functions|Records|FPI|Launched|Workers Planned|Partitions|Searches|Tuples|Removed|Calls"
    r"|Total)$|^Rows Removed"
)


def _read_node(document: dict[str, Any]) -> PlanNode:
    return PlanNode(
        kind=str(document.get("Node Type", "Unknown")),
        fields={key: value for key, value in document.items() if key != "Plans"},
        children=tuple(_read_node(child) for child in document.get("Plans", ())),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000
