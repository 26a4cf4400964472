"""What a statement asks of each table, read from its plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfloop.errors import UnsupportedStatement
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.target import Column, IndexKey, Table, TableName
from perfloop.model.value import Value
from perfloop.tune.advisor.conditions import Comparison, Use, columns_in, read_conditions, read_order

_CONDITIONS = ("Filter", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "TID Cond")
_ORDERS = ("Sort Key", "Group Key")
_TYPES_WITH_PARTS = frozenset({"json", "jsonb", "xml", "tsvector", "tsquery"})
"""Like arrays, they are searched for what they contain. A b-tree takes some of them, as a whole."""
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
    unserved: tuple[str, ...] = ()
    """Conditions that a b-tree cannot serve."""

    @property
    def matched(self) -> tuple[IndexKey, ...]:
        """Keys that are compared for equality, with a constant or another table."""
        return tuple(dict.fromkeys((*self.equal, *self.joined)))

    @property
    def attributes(self) -> tuple[IndexKey, ...]:
        """Every key an index could use, in the order in which keys should stand in it."""
        ordered = (IndexKey(text=key.text) for order in self.orders for key in order)
        return tuple(dict.fromkeys((*self.matched, *self.ranged, *ordered)))


def read_accesses(plan: Plan, tables: Mapping[TableName, Table]) -> tuple[Access, ...]:
    """One Access per scanned relation that is an ordinary table of `tables`, sorted by alias.

    Raises UnsupportedStatement when a condition is not understood, and where the plan was made
    without VERBOSE, so that its columns are ambiguous.
    """
    scans = _scans(plan.root, tables)
    comparisons = [each for node in plan.root.walk() for each in _comparisons(node)]
    unserved = tuple(
        each
        for node in plan.root.walk()
        for text in _texts(node, _CONDITIONS)
        for each in read_conditions(text).unserved
    )
    needed = tuple(_needed(plan.root))
    anded = tuple(_anded(plan.root))
    orders = tuple(_orders(plan.root, limited=False))
    return tuple(
        _access(alias, tables[table], comparisons, orders, needed, anded, unserved)
        for alias, table in sorted(scans.items())
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
        keys = _leading(tuple(_texts(node, (field,))))
        if keys is not None:
            yield keys[0], _forward(keys[1]), below_limit and field == "Sort Key"
    for child in node.children:
        yield from _orders(child, limited=below_limit)


def _leading(texts: tuple[str, ...]) -> tuple[str, tuple[IndexKey, ...]] | None:
    """The alias of the first key and the keys of that alias before any other."""
    keys: list[IndexKey] = []
    alias = None
    for text in texts:
        found = read_order(text)
        if found is None or (alias is not None and found[0] != alias):
            break
        alias = found[0]
        keys.append(found[1])
    return None if alias is None else (alias, tuple(keys))


def _forward(keys: tuple[IndexKey, ...]) -> tuple[IndexKey, ...]:
    """An index is read backwards as well: all keys descending ask for no more than all ascending."""
    if all(key.descending and key.nulls_first is None for key in keys):
        return tuple(IndexKey(text=key.text) for key in keys)
    return keys


def _needed(root: PlanNode) -> Iterator[tuple[str, str]]:
    """(alias, column) that nodes take from relations.

    The Output of a scan below another node may name every column of its table, because that is
    cheaper than to project, so it counts only at the top of a plan or sub-plan.
    """
    for node in root.walk():
        texts = [*_texts(node, _CONDITIONS), *_texts(node, _ORDERS)]
        top = node.fields.get("Parent Relationship") in (None, "InitPlan", "SubPlan", "Subquery")
        if top or not node.kind.endswith("Scan"):
            texts.extend(_texts(node, ("Output",)))
        for text in texts:
            yield from columns_in(text)


def _access(
    alias: str,
    table: Table,
    comparisons: list[Comparison],
    orders: tuple[tuple[str, tuple[IndexKey, ...], bool], ...],
    needed: tuple[tuple[str, str], ...],
    anded: tuple[tuple[str, tuple[str, ...]], ...],
    unserved: tuple[str, ...],
) -> Access:
    mine = [each for each in comparisons if each.alias == alias and _fits(each, table)]
    wanted = [
        (keys, limited)
        for owner, keys, limited in orders
        if owner == alias and all(can_be_key(table, key.text) for key in keys)
    ]
    return Access(
        table=table.name,
        alias=alias,
        equal=_keys(mine, Use.EQUAL),
        joined=_keys(mine, Use.JOIN),
        ranged=_keys(mine, Use.RANGE),
        orders=tuple(dict.fromkeys(keys for keys, _ in wanted)),
        limited=any(limited for _, limited in wanted),
        predicates=tuple(
            sorted({each.text for each in mine if each.use is Use.PREDICATE and not each.alternative})
        ),
        anded=next((columns for owner, columns in anded if owner == alias), ()),
        needed=tuple(sorted({column for owner, column in needed if owner == alias and table.column(column)})),
        unserved=_unserved([each for each in comparisons if each.alias == alias], unserved, table),
    )


def _keys(comparisons: list[Comparison], use: Use) -> tuple[IndexKey, ...]:
    keys = {each.key for each in comparisons if each.use is use}
    return tuple(sorted(keys, key=lambda key: (key.text, key.operator_class or "")))


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
    """Conditions on columns of this table that need another kind of index."""
    whole = {
        f"{each.key.text} = …"
        for each in comparisons
        if each.use is Use.EQUAL and (column := table.column(each.key.text)) and has_parts(column)
    }
    return tuple(sorted(whole | {each for each in texts if table.column(each.split(" ", 1)[0])}))
