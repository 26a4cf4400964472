"""What the rules may rely on: types, NOT NULL and unique keys, as the target's catalogue has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlglot import exp

from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, Table

_UTC = frozenset({"utc", "etc/utc", "gmt", "etc/gmt", "uct", "etc/uct", "zulu", "etc/zulu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The tables with their unique indexes, and whether sessions count their days in UTC."""

    tables: tuple[Table, ...]
    indexes: tuple[Index, ...]
    is_utc: bool = False

    @classmethod
    def of(cls, snapshot: Snapshot) -> Catalogue:
        """The catalogue of a target."""
        zone = snapshot.setting("TimeZone")
        return cls(
            tables=snapshot.tables,
            indexes=snapshot.indexes,
            is_utc=zone is not None and zone.value.lower() in _UTC,
        )

    def table(self, written: exp.Table) -> Table | None:
        """The table that a name in a statement means; None where that is not certain."""
        if written.args.get("catalog") or not isinstance(written.this, exp.Identifier):
            return None
        name = folded(written.this)
        schema = written.args.get("db")
        found = [
            each
            for each in self.tables
            if each.name.name == name and (schema is None or each.name.schema == folded(schema))
        ]
        return found[0] if len(found) == 1 else None

    def has_key(self, table: Table, columns: Iterable[str]) -> bool:
        """Whether no two rows of the table have the same values, none of them NULL, in these columns."""
        given = set(columns)
        return any(_is_key(table, index) and given.issuperset(index.columns) for index in self.indexes)

    def keys(self, table: Table) -> tuple[tuple[str, ...], ...]:
        """The keys of the table, the primary one first."""
        found = [index for index in self.indexes if _is_key(table, index)]
        return tuple(index.columns for index in sorted(found, key=lambda each: not each.is_primary))


def folded(name: exp.Identifier) -> str:
    """An identifier as the catalogue has it: lower case, unless it was quoted."""
    return str(name.this) if name.args.get("quoted") else str(name.this).lower()


def _is_key(table: Table, index: Index) -> bool:
    if index.table != table.name or not index.is_unique or not index.is_valid or index.predicate is not None:
        return False
    columns = [None if key.is_expression else table.column(key.text) for key in index.keys]
    return all(column is not None and column.not_null for column in columns)
