"""What keeping indexes up to date costs, in the planner's units.

EXPLAIN charges an INSERT 0.01 a row however many indexes there are. Here a row written to the heap
costs 2 and an entry in an index 1: with the indexes of TPC-H's lineitem that gives the growth
measured there (primary key only 290 bytes of WAL a row, six more indexes 861, sixteen 1,584, so an
entry is about a third of a row that has one index). It is a model for ranking, and the trial decides.

An UPDATE writes no index entries while no index holds a changed column (a heap-only tuple); with the
first that does, every index of the table gets an entry. A DELETE leaves the entries to vacuum.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.target import Index, TableName
from perfloop.model.value import Value
from perfloop.tune.advisor.conditions import DIALECT

HEAP_ROW_COST = 2.0
INDEX_ENTRY_COST = 1.0


class Write(Value, frozen=True, kw_only=True):
    """What one call of a statement writes to one table."""

    table: TableName
    operation: str
    """Insert, Update, Delete or Merge, as EXPLAIN names it."""
    rows: float
    """Per call, as the planner expects."""
    changed: tuple[str, ...] | None = None
    """Columns that an UPDATE sets; None where they are unknown, which counts as all of them."""


def read_writes(plan: Plan, instance: str) -> tuple[Write, ...]:
    """What the statement writes, in the order of its plan."""
    changed = _changed_columns(instance)
    return tuple(
        Write(
            table=TableName(schema=node.schema or "public", name=node.relation),
            operation=str(node.fields.get("Operation", "Insert")),
            rows=max((child.planned_rows for child in node.children), default=1.0),
            changed=changed,
        )
        for node in _modifications(plan.root)
        if node.relation is not None
    )


def maintenance_cost(write: Write, existing: tuple[Index, ...], added: tuple[CreateIndex, ...]) -> float:
    """The cost of one call's writing. `existing` and `added` are indexes of the write's table."""
    return write.rows * (HEAP_ROW_COST + INDEX_ENTRY_COST * _entries(write, existing, added))


def _entries(write: Write, existing: tuple[Index, ...], added: tuple[CreateIndex, ...]) -> int:
    if write.operation == "Delete":
        return 0
    indexes: list[Index | CreateIndex] = [*existing, *added]
    if write.operation == "Update" and not any(_holds(each, write.changed) for each in indexes):
        return 0
    return len(existing) + len(added)


def _holds(index: Index | CreateIndex, changed: tuple[str, ...] | None) -> bool:
    if changed is None:
        return True
    text = " ".join(key.text for key in index.keys if key.is_expression) + f" {index.predicate or ''}"
    plain = {key.text for key in index.keys if not key.is_expression} | set(index.included)
    return any(column in plain or column in text for column in changed)


def _modifications(root: PlanNode) -> Iterator[PlanNode]:
    return (node for node in root.walk() if node.kind == "ModifyTable")


def _changed_columns(instance: str) -> tuple[str, ...] | None:
    try:
        tree = sqlglot.parse_one(instance, dialect=DIALECT)
    except SqlglotError:
        return None
    if tree.find(exp.Merge):
        return None
    columns = {
        assignment.this.name
        for node in tree.find_all(exp.Update, exp.OnConflict)
        for assignment in node.expressions
        if isinstance(assignment, exp.EQ)
    }
    return tuple(sorted(columns))
