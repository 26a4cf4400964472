"""Which tags a change of a table invalidates, as templates over its columns.

`{"orders": ("order-{id}", "orders-of-{customer_id}", "orders")}` says: a change of a row clears the tags
of that row, made from its values before and after, so that a row which moves from one customer to another
clears both; and every change of the table clears `orders`. A table without templates has `orders:id=7`,
of its watched columns in the order of their names. Every change of a table also clears `table:orders`, which
results of statements carry where no template says otherwise: a map that one side was not given, or that has
templates for rows only, leaves nothing that is never cleared.

It is not always known which rows changed: a TRUNCATE, a statement over very many rows, a gap in what was
heard. Then `every:orders` is cleared, too. An entry made from some rows of a table therefore carries it
beside the rows' tags; `row_tags` gives both.

A table or column that is mapped and not watched would be silent for ever: `check` refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Final

from perfloop.errors import InvalidInput
from perfloop.model.changes import TableChange, WatchedTable, split_name, table_name
from perfloop.model.value import Value

NOTHING: Final[Mapping[str, Sequence[str]]] = {}


class TableTags(Value, frozen=True, kw_only=True):
    """The templates of one table, told apart by whether they have columns in them."""

    row: Mapping[str, frozenset[str]]
    """Those with columns, and which."""

    table: tuple[str, ...]
    columns: frozenset[str]


class TagMap:
    """What the changes of a database invalidate; made once, from Python or from a table of a TOML file.

    Raises:
        InvalidInput: A table's name or a template cannot be read.
    """

    def __init__(self, tables: Mapping[str, Sequence[str]] = NOTHING) -> None:
        self._tables = {
            table_name(*split_name(table)): _table_tags(table, templates)
            for table, templates in tables.items()
        }
        self._watched: Mapping[str, frozenset[str]] = {}

    @property
    def tables(self) -> Mapping[str, TableTags]:
        return self._tables

    def check(self, watched: Sequence[WatchedTable], install_command: str) -> None:
        """Compare with what a source tells of, which is known from now on.

        Raises:
            InvalidInput: Templates need a table or columns that are not watched.
        """
        told = {each.table: frozenset(each.columns) for each in watched}
        self._watched = {**self._watched, **told}
        missing = {
            name: found.columns - told.get(name, frozenset())
            for name, found in self._tables.items()
            if name not in told or not found.columns <= told[name]
        }
        if missing:
            facts = "; ".join(
                f"{name} is not watched{' with ' * bool(columns)}{', '.join(sorted(columns))}"
                for name, columns in missing.items()
            )
            options = " ".join(f"--table {self._named(name, told)}" for name in missing)
            raise InvalidInput(
                f"{facts}, so that its changes would clear nothing: `{install_command} {options}`"
            )

    def _named(self, table: str, told: Mapping[str, frozenset[str]]) -> str:
        columns = sorted(self._tables[table].columns | told.get(table, frozenset()))
        return f"{table}:{','.join(columns)}" if columns else table

    def tags_of(self, change: TableChange) -> Iterable[str]:
        """The tags to invalidate; the same tag may come more than once."""
        if change.table is None:
            return [tag for table in self._tables for tag in self._all_of(table)]
        if change.rows is None:
            return self._all_of(change.table)
        found = self._tables.get(change.table)
        if found is None:
            needed = self._watched.get(change.table, frozenset())
            made = [_default_tag(change.table, row) for row in change.rows]
        else:
            needed = found.columns
            made = [
                *found.table,
                *(
                    template.format_map(row)
                    for row in change.rows
                    for template, columns in found.row.items()
                    if columns <= row.keys()
                ),
            ]
        if all(needed <= row.keys() for row in change.rows):
            return [_whole(change.table), *made]
        # A column that is not told: what cannot be named is cleared as a whole.
        return [f"every:{change.table}", _whole(change.table), *made]

    def row_tags(self, table: str, **columns: object) -> tuple[str, ...]:
        """The tags for an entry made from rows of `table` with these values; for templates that they fill.

        Raises:
            InvalidInput: They fill none; or they are not all watched columns of a table without templates.
        """
        name = table_name(*split_name(table))
        found = self._tables.get(name)
        if found is None:
            watched = self._watched.get(name)
            if watched is not None and watched != columns.keys():
                raise InvalidInput(f"{name} is watched with {', '.join(sorted(watched))}; give all of them")
            made = [_default_tag(name, columns)]
        else:
            made = [each.format_map(columns) for each, names in found.row.items() if names <= columns.keys()]
        if not made or not columns:
            raise InvalidInput(f"no template of {name} is made of {', '.join(columns) or 'nothing'}")
        return (*made, f"every:{name}")

    def table_tags(self, tables: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """The tags that every change of these tables clears, given by schema and relation."""
        tags: list[str] = []
        for schema, relation in tables:
            name = table_name(schema, relation)
            found = self._tables.get(name)
            tags += found.table if found is not None and found.table else (_whole(name),)
        return tuple(dict.fromkeys(tags))

    def _all_of(self, table: str) -> list[str]:
        found = self._tables.get(table)
        return [f"every:{table}", _whole(table), *(found.table if found else ())]


def _table_tags(table: str, templates: Sequence[str]) -> TableTags:
    if isinstance(templates, str):
        raise InvalidInput(f'the tags of {table} are a list of templates; write ["{templates}"]')
    fields = {template: _fields(template) for template in templates}
    return TableTags(
        row={template: names for template, names in fields.items() if names},
        # Braces that stand for themselves are doubled in every template.
        table=tuple(template.format() for template, names in fields.items() if not names),
        columns=frozenset().union(*fields.values()),
    )


def _fields(template: str) -> frozenset[str]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidInput(f"the template {template!r} cannot be read: {error}") from None
    names = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    for name, spec, conversion in names:
        if not name.isidentifier() or spec or conversion:
            raise InvalidInput(f"the template {template!r} may hold columns only, as in order-{{id}}")
    return frozenset(name for name, _, _ in names)


def _whole(table: str) -> str:
    """The tag that every change of a table clears, whatever its templates."""
    return f"table:{table}"


def _default_tag(table: str, row: Mapping[str, object]) -> str:
    return ":".join((table, *(f"{column}={row[column]}" for column in sorted(row))))
