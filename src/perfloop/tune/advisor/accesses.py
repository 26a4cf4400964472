"""What a statement asks of each table, read from its plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.target import Column, IndexKey, Table, TableName
from perfloop.model.value import Value
from perfloop.tune.advisor.conditions import Comparison, Use, columns_in, read_conditions, read_order
from perfloop.tune.advisor.parts import PartCondition, part_condition
from perfloop.tune.advisor.predicates import Written, may_be_predicate

_CONDITIONS = ("Filter", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "TID Cond")
_ORDERS = ("Sort Key", "Group Key")
_TYPES_WITH_PARTS = frozenset({"json", "jsonb", "xml", "tsvector", "tsquery"})
"""Like arrays, they are searched for what they contain. A b-tree takes some of them, as a whole."""
_NUMBERED = re.compile(r"_\d+$")
_WIDEST_KEY_BYTES = 200
"""Wider values make an index as big as its table, and near 2,700 bytes none at all."""


class Access(Value, frozen=True, kw_only=True):
    """One relation of one statement's plan: what an index on it could serve. All tuples are sorted."""

    table: TableName
    alias: str
    equal: tuple[IndexKey, ...] = ()
    joined: tuple[IndexKey, ...] = ()
    ranged: tuple[IndexKey, ...] = ()
    orders: tuple[tuple[IndexKey, ...], ...] = ()
    """Wanted orders, each from its first column on."""
    limited: bool = False
    """Whether a LIMIT stands above one of the orders."""
    predicates: tuple[str, ...] = ()
    """Tests of the row that hold for every row wanted: deleted_at IS NULL."""
    anded: tuple[str, ...] = ()
    """Columns with a constant each, AND-ed in one Filter; at least two, or none."""
    needed: tuple[str, ...] = ()
    """Every column that the plan takes from the relation."""
    parts: tuple[PartCondition, ...] = ()
    """Searches for what a value contains: each a key of an index that is no b-tree."""
    unserved: tuple[str, ...] = ()
    """Conditions that no index serves as they are written."""

    @property
    def matched(self) -> tuple[IndexKey, ...]:
        """Keys that are compared for equality, with a constant or another table."""
        return tuple(dict.fromkeys((*self.equal, *self.joined)))

    @property
    def attributes(self) -> tuple[IndexKey, ...]:
        """Every key an index could use, in the order in which keys should stand in it."""
        ordered = (
            IndexKey(text=key.text, is_expression=key.is_expression) for order in self.orders for key in order
        )
        return tuple(dict.fromkeys((*self.matched, *self.ranged, *ordered)))


def read_accesses(
    plan: Plan, tables: Mapping[TableName, Table], written: Written | None = None
) -> tuple[Access, ...]:
    """One Access per scanned relation that is one of `tables`, sorted by alias.

    `written` is what the statement's own text says; without it, no predicate is certain.

    Raises UnsupportedStatement when a condition is not understood, and where the plan was made
    without VERBOSE, so that its columns are ambiguous.
    """
    found = _scans(plan.root, tables)
    alias_of = {alias: _whole(alias, name, tables) for alias, name in found.items()}
    scans = {alias_of[alias]: tables[name].partition_of or name for alias, name in found.items()}
    comparisons = [
        msgspec.structs.replace(each, alias=alias_of.get(each.alias, each.alias))
        for node in plan.root.walk()
        for each in _comparisons(node)
    ]
    unserved = tuple(
        each
        for node in plan.root.walk()
        for text in _texts(node, _CONDITIONS)
        for each in read_conditions(text).unserved
    )
    needed = tuple((alias_of.get(alias, alias), column) for alias, column in _needed(plan.root, scans))
    anded = tuple((alias_of.get(alias, alias), columns) for alias, columns in _anded(plan.root))
    orders = tuple(
        (alias_of.get(alias, alias), keys, limited)
        for alias, keys, limited in _orders(plan.root, limited=False)
    )
    return tuple(
        _access(alias, tables[table], comparisons, orders, needed, anded, unserved, written or Written())
        for alias, table in sorted(scans.items())
        if table in tables
    )


def _scans(root: PlanNode, tables: Mapping[TableName, Table]) -> dict[str, TableName]:
    found = {}
    for node in root.walk():
        if node.relation is None or node.alias is None or not node.kind.endswith("Scan"):
            continue
        if node.schema is None:
            raise UnsupportedStatement("the plan names no schemas; it has to be made with VERBOSE")
        name = TableName(schema=node.schema, name=node.relation)
        if name in tables:
            found[node.alias] = name
    return found


def _whole(alias: str, name: TableName, tables: Mapping[TableName, Table]) -> str:
    """The name that the statement has for a table; the server numbers its partitions: events_1, events_2."""
    return alias if tables[name].partition_of is None else _NUMBERED.sub("", alias)


def _texts(node: PlanNode, fields: tuple[str, ...]) -> Iterator[str]:
    for field in fields:
        value = node.fields.get(field)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (str(each) for each in value)


def _comparisons(node: PlanNode) -> Iterator[Comparison]:
    for text in _texts(node, _CONDITIONS):
        yield from read_conditions(text).comparisons


def _anded(root: PlanNode) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(alias, columns) of every scan that compares two columns or more with constants."""
    for node in root.walk():
        if node.alias is None:
            continue
        columns = {
            column
            for each in _comparisons(node)
            if each.use is Use.EQUAL and not each.alternative and not each.key.is_expression
            for column in each.columns
            if each.alias == node.alias
        }
        if len(columns) >= 2:
            yield node.alias, tuple(sorted(columns))


def _orders(node: PlanNode, *, limited: bool) -> Iterator[tuple[str, tuple[IndexKey, ...], bool]]:
    """(alias, keys, under a LIMIT) of every order that one relation could give."""
    below_limit = node.kind == "Limit" or (limited and node.kind not in ("Hash", "Aggregate"))
    for field in _ORDERS:
        is_limited = below_limit and field == "Sort Key"
        keys = _leading(tuple(_texts(node, (field,))), expressions=is_limited)
        if keys is not None:
            yield keys[0], _forward(keys[1]), is_limited
    for child in node.children:
        yield from _orders(child, limited=below_limit)


def _leading(texts: tuple[str, ...], *, expressions: bool) -> tuple[str, tuple[IndexKey, ...]] | None:
    """The alias of the first key and the keys of that alias before any other.

    To have an expression in order pays where a LIMIT ends the walk.
    """
    keys: list[IndexKey] = []
    alias = None
    for text in texts:
        found = read_order(text)
        if found is None or (alias is not None and found[0] != alias):
            break
        if found[1].is_expression and not expressions:
            break
        alias = found[0]
        keys.append(found[1])
    return None if alias is None else (alias, tuple(keys))


def _forward(keys: tuple[IndexKey, ...]) -> tuple[IndexKey, ...]:
    """An index is read backwards as well: all keys descending ask for no more than all ascending."""
    if all(key.descending and key.nulls_first is None for key in keys):
        return tuple(IndexKey(text=key.text, is_expression=key.is_expression) for key in keys)
    return keys


def _needed(root: PlanNode, scans: Mapping[str, TableName]) -> Iterator[tuple[str, str]]:
    """(alias, column) that nodes take from relations.

    The Output of a scan below another node may name every column of its table, because that is
    cheaper than to project, so it counts only at the top of a plan or sub-plan.
    """
    only = next(iter(scans)) if len(scans) == 1 else ""
    for node in root.walk():
        texts = [*_texts(node, _CONDITIONS), *_texts(node, _ORDERS)]
        top = node.fields.get("Parent Relationship") in (None, "InitPlan", "SubPlan", "Subquery")
        if top or not node.kind.endswith("Scan"):
            texts.extend(_texts(node, ("Output",)))
        for text in texts:
            for alias, column in columns_in(text):
                yield (alias or only), column


def _access(
    alias: str,
    table: Table,
    comparisons: list[Comparison],
    orders: tuple[tuple[str, tuple[IndexKey, ...], bool], ...],
    needed: tuple[tuple[str, str], ...],
    anded: tuple[tuple[str, tuple[str, ...]], ...],
    unserved: tuple[str, ...],
    written: Written,
) -> Access:
    mine = [each for each in comparisons if each.alias == alias and _fits(each, table)]
    wanted = [
        (keys, limited)
        for owner, keys, limited in orders
        if owner == alias and all(key.is_expression or can_be_key(table, key.text) for key in keys)
    ]
    return Access(
        table=table.name,
        alias=alias,
        equal=_keys(mine, Use.EQUAL, table),
        joined=_keys(mine, Use.JOIN, table),
        ranged=_keys(mine, Use.RANGE, table),
        orders=tuple(dict.fromkeys(keys for keys, _ in wanted)),
        limited=any(limited for _, limited in wanted),
        predicates=tuple(sorted({each.text for each in mine if may_be_predicate(each, written, table)})),
        anded=next((columns for owner, columns in anded if owner == alias), ()),
        needed=tuple(sorted({column for owner, column in needed if owner == alias and table.column(column)})),
        parts=_parts([each for each in comparisons if each.alias == alias], table),
        unserved=_unserved([each for each in comparisons if each.alias == alias], unserved, table),
    )


def _parts(comparisons: list[Comparison], table: Table) -> tuple[PartCondition, ...]:
    found = {
        part
        for each in comparisons
        if each.use is Use.PART and (part := part_condition(each, table)) is not None
    }
    return tuple(sorted(found, key=repr))


def _keys(comparisons: list[Comparison], use: Use, table: Table) -> tuple[IndexKey, ...]:
    keys = {_fitting(each.key, table) for each in comparisons if each.use is use}
    return tuple(sorted(keys, key=lambda key: (key.text, key.operator_class or "")))


def _fitting(key: IndexKey, table: Table) -> IndexKey:
    """The key with the operator class of its column's type: char(n) has pattern operators of its own."""
    column = table.column(key.text)
    if key.operator_class == "text_pattern_ops" and column and column.type_name.startswith("character("):
        return msgspec.structs.replace(key, operator_class="bpchar_pattern_ops")
    return key


def can_be_key(table: Table, name: str) -> bool:
    """Whether the table has that column and it is worth a place among a b-tree's keys."""
    column = table.column(name)
    if column is None or has_parts(column):
        return False
    return column.statistics is None or column.statistics.width_bytes <= _WIDEST_KEY_BYTES


def has_parts(column: Column) -> bool:
    """Whether conditions look into the column's values, as into jsonb, and not at them as a whole."""
    return column.type_name in _TYPES_WITH_PARTS or column.type_name.endswith("[]")


def _fits(comparison: Comparison, table: Table) -> bool:
    """Whether an index could hold what is compared. An expression over jsonb is as a rule a short text."""
    return all(
        can_be_key(table, name)
        or (comparison.key.is_expression and (column := table.column(name)) and has_parts(column))
        for name in comparison.columns
    )


def _unserved(comparisons: list[Comparison], texts: tuple[str, ...], table: Table) -> tuple[str, ...]:
    """Conditions on columns of this table that look into values, and that no index serves as written."""
    whole = {
        f"{each.key.text} = …"
        for each in comparisons
        if each.use is Use.EQUAL and (column := table.column(each.key.text)) and has_parts(column)
    }
    other = {
        f"{each.key.text} {each.operator} …"
        for each in comparisons
        if each.use is Use.PART and part_condition(each, table) is None
    }
    return tuple(sorted(whole | other | {each for each in texts if table.column(each.split(" ", 1)[0])}))
