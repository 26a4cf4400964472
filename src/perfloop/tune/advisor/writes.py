"""What keeping indexes up to date costs, in the planner's units.

EXPLAIN charges an INSERT 0.01 a row however many indexes there are. Here a row written to the heap
costs 2 and an entry in an index 1: with the indexes of TPC-H's lineitem that gives the growth
measured there (primary key only 290 bytes of WAL a row, six more indexes 861, sixteen 1,584, so an
entry is about a third of a row that has one index). It is a model for ranking, and the trial decides.

Other methods write more for each row, or less. WAL per inserted row beyond that of the bare table, and CPU,
with 200,000 rows there and 20,000 added (PostgreSQL 15, pending list cleaned at the end, no full pages):

| index | bytes | CPU in µs |
|---|---|---|
| b-tree on an integer or a text, mean of three | 106 | 3.4 |
| GIN jsonb_path_ops, two keys a document | 218 | 1.2 |
| GIN jsonb_ops, the same documents | 271 | 3.8 |
| GIN on arrays of three | 239 | 1.2 |
| GIN gin_trgm_ops, texts of 26 characters | 1,795 | 18 |
| GIN gin_trgm_ops, texts of 210 characters | 4,150 | 84 |
| GIN on to_tsvector, texts of 30 words | 3,439 | 96 |
| GIN gin_trgm_ops, 26 characters, fastupdate off | 36,236 | 260 |
| BRIN | 2 | 2.2 |

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
_METHOD_COSTS = {"gin": 2.5, "brin": 0.3}
"""Of an entry, by the index's method; 1 for the others."""
_TEXT_COST = 25.0
"""A GIN index on a text holds its words or pieces: dozens of keys a row."""
_UNBUFFERED_COST = 20.0
"""Times as much, where every key is put into its place at once."""


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


def _entries(write: Write, existing: tuple[Index, ...], added: tuple[CreateIndex, ...]) -> float:
    """How many entries of a b-tree the writing of one row is worth."""
    if write.operation == "Delete":
        return 0.0
    indexes: list[Index | CreateIndex] = [*existing, *added]
    if write.operation == "Update" and not any(is_held(each, write.changed) for each in indexes):
        return 0.0
    return sum(_entry_cost(each) for each in indexes)


def _entry_cost(index: Index | CreateIndex) -> float:
    cost = _METHOD_COSTS.get(index.method, 1.0)
    if index.method != "gin":
        return cost
    if any(key.operator_class == "gin_trgm_ops" or "tsvector" in key.text for key in index.keys):
        cost = _TEXT_COST
    is_unbuffered = isinstance(index, Index) and "fastupdate='off'" in index.definition.replace(" ", "")
    return cost * _UNBUFFERED_COST if is_unbuffered else cost


def is_held(index: Index | CreateIndex, changed: tuple[str, ...] | None) -> bool:
    """Whether the index holds a changed column, in a key, an expression or its predicate."""
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
