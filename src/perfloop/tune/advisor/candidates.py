"""Which indexes are worth a look: the single keys to begin with, and how to widen what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from perfloop.model.advice import CreateIndex
from perfloop.model.target import ForeignKey, Index, IndexKey, Table, TableName
from perfloop.tune.advisor.accesses import Access
from perfloop.tune.advisor.naming import covers, covers_part, new_index
from perfloop.tune.advisor.predicates import held_share

_SMALLEST_TABLE_BYTES = 2 * 8192
"""Below this the planner reads the table sooner than an index."""
_RARE_RATIO = 0.2
"""Of a table's rows: an index under a predicate that holds for more is found by widening alone."""
_MOST_INCLUDED = 5
_WIDEST_INCLUDED_BYTES = 64


class Candidates:
    """The indexes that could serve these Accesses and are not there yet, always in the same order."""

    def __init__(
        self,
        accesses: Iterable[Access],
        tables: Mapping[TableName, Table],
        indexes: tuple[Index, ...],
        foreign_keys: tuple[ForeignKey, ...] = (),
        *,
        extensions: tuple[str, ...] = (),
        max_keys: int = 4,
    ) -> None:
        """`extensions` are those that the server could create: some kinds of index need one."""
        self._accesses: dict[TableName, list[Access]] = {}
        for access in accesses:
            if tables[access.table].size_bytes > _SMALLEST_TABLE_BYTES:
                self._accesses.setdefault(access.table, []).append(access)
        self._tables = tables
        self._indexes = indexes
        self._foreign_keys = foreign_keys
        self._extensions = frozenset(extensions)
        self._max_keys = max_keys
        self._taken = frozenset(index.name for index in indexes)

    def of(self, accesses: Iterable[Access], *, max_keys: int) -> Candidates:
        """The candidates for these accesses alone, without foreign keys that nothing reads by."""
        extensions = tuple(sorted(self._extensions))
        return Candidates(accesses, self._tables, self._indexes, extensions=extensions, max_keys=max_keys)

    def first(self) -> tuple[CreateIndex, ...]:
        """Indexes on one key, on a wanted order, on few rows, on parts of values, and on a foreign key."""
        found: dict[CreateIndex, None] = {}
        for table in sorted(self._accesses):
            for keys in self._first_keys(table):
                if len(keys) <= self._max_keys and not self._is_there(table, keys):
                    found[self._index(table, keys)] = None
            found.update(dict.fromkeys(self._partial(table)))
            found.update(dict.fromkeys(self._of_parts(table)))
        for foreign_key in self._foreign_keys:
            keys = tuple(IndexKey(text=name) for name in foreign_key.columns)
            if foreign_key.table in self._accesses and not self._is_there(foreign_key.table, keys):
                found[self._index(foreign_key.table, keys)] = None
        return tuple(found)

    def wider(self, index: CreateIndex) -> tuple[CreateIndex, ...]:
        """The index with one thing more: a key, the rest of an order, included columns, or a predicate."""
        if index.included or index.table not in self._accesses or index.method != "btree":
            return ()
        together = [each for each in self._accesses[index.table] if _serves(each, index)]
        found: dict[CreateIndex, None] = {}
        for access in together:
            for keys in self._wider_keys(index, access):
                if len(keys) <= self._max_keys and not self._is_there(index.table, keys):
                    found[self._index(index.table, keys, predicate=index.predicate)] = None
            included = self._coverage(index, access)
            if included:
                found[self._index(index.table, index.keys, included=included, predicate=index.predicate)] = (
                    None
                )
        for predicate in _common_predicates(together):
            if index.predicate is None and predicate:
                found[self._index(index.table, index.keys, predicate=predicate)] = None
        return tuple(found)

    def _index(
        self,
        table: TableName,
        keys: tuple[IndexKey, ...],
        *,
        included: tuple[str, ...] = (),
        predicate: str | None = None,
    ) -> CreateIndex:
        return new_index(
            table,
            keys,
            included=included,
            predicate=predicate,
            is_partitioned=self._tables[table].is_partitioned,
            taken=self._taken,
        )

    def _first_keys(self, table: TableName) -> Iterator[tuple[IndexKey, ...]]:
        accesses = self._accesses[table]
        for access in accesses:
            for key in access.attributes:
                yield (key,)
        for access in accesses:
            for order in access.orders:
                yield order
                if access.limited and access.equal:
                    yield _append(access.equal, order)

    def _partial(self, table: TableName) -> Iterator[CreateIndex]:
        """Under the rarest predicate of an access, what else it asks for; so it holds no row in vain."""
        for access in self._accesses[table]:
            rarest = self._rarest(access)
            if rarest is None:
                continue
            kept = tuple(key for key in access.matched if not rarest.startswith(_spelt(key.text)))
            orders = [_append(kept, order) for order in access.orders] if access.limited else []
            for keys in (*((key,) for key in access.attributes), *orders):
                if len(keys) <= self._max_keys and not self._is_there(table, keys, rarest):
                    yield self._index(table, keys, predicate=rarest)

    def _rarest(self, access: Access) -> str | None:
        shares = [(held_share(each, self._tables[access.table]), each) for each in access.predicates]
        known = [(share, each) for share, each in shares if share is not None and share <= _RARE_RATIO]
        return min(known)[1] if known else None

    def _of_parts(self, table: TableName) -> Iterator[CreateIndex]:
        for access in self._accesses[table]:
            for part in access.parts:
                extension = part.requires_extension
                is_there = any(
                    covers_part(each, part.method, part.key) for each in self._indexes if each.table == table
                )
                if not is_there and (extension is None or extension in self._extensions):
                    yield new_index(
                        table,
                        (part.key,),
                        method=part.method,
                        requires_extension=extension,
                        is_partitioned=self._tables[table].is_partitioned,
                        taken=self._taken,
                    )

    def _wider_keys(self, index: CreateIndex, access: Access) -> Iterator[tuple[IndexKey, ...]]:
        present = {key.text for key in index.keys}
        for key in access.attributes:
            if key.text in present:
                continue
            yield (*index.keys, key)
            later = [place for place, each in enumerate(index.keys) if each not in access.matched]
            if key in access.matched and later:
                yield (*index.keys[: later[0]], key, *index.keys[later[0] :])
        for order in access.orders:
            if len(order) > 1 and not present & {key.text for key in order}:
                yield _append(index.keys, order)

    def _coverage(self, index: CreateIndex, access: Access) -> tuple[str, ...]:
        """The columns that would spare the visit of the heap, if they are few and narrow."""
        if any(key.is_expression for key in index.keys):
            return ()
        present = {key.text for key in index.keys}
        missing = tuple(name for name in access.needed if name not in present)
        width = sum(self._width(index.table, name) for name in missing)
        return missing if len(missing) <= _MOST_INCLUDED and width <= _WIDEST_INCLUDED_BYTES else ()

    def _width(self, table: TableName, name: str) -> int:
        column = self._tables[table].column(name)
        statistics = column.statistics if column else None
        return statistics.width_bytes if statistics else _WIDEST_INCLUDED_BYTES

    def _is_there(self, table: TableName, keys: tuple[IndexKey, ...], predicate: str | None = None) -> bool:
        return any(covers(each, keys, predicate) for each in self._indexes if each.table == table)


def may_use(access: Access, index: CreateIndex) -> bool:
    """Whether the planner could use the index for this Access at all.

    An index whose first key the statement does not compare or sort by is only of use when it
    holds all columns needed.
    """
    if access.table != index.table:
        return False
    if index.predicate is not None and index.predicate not in access.predicates:
        return False
    if index.method != "btree":
        return index.keys[0] in (part.key for part in access.parts)
    texts = {key.text for key in access.attributes}
    held = {key.text for key in index.keys} | set(index.included)
    return index.keys[0].text in texts or (bool(access.needed) and set(access.needed) <= held)


def _serves(access: Access, index: CreateIndex) -> bool:
    """Whether the access has a use for every key of the index."""
    texts = {key.text for key in access.attributes}
    return all(key.text in texts for key in index.keys)


def _spelt(name: str) -> str:
    """How a predicate of equality on the column begins."""
    return f"{name} = "


def _append(keys: tuple[IndexKey, ...], order: tuple[IndexKey, ...]) -> tuple[IndexKey, ...]:
    present = {key.text for key in keys}
    return (*keys, *(key for key in order if key.text not in present))


def _common_predicates(accesses: list[Access]) -> tuple[str, ...]:
    """Predicates that every one of these accesses has: an index under one of them serves them all."""
    if not accesses:
        return ()
    shared = set(accesses[0].predicates).intersection(*(each.predicates for each in accesses[1:]))
    return tuple(sorted(shared))
