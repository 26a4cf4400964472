"""What a service itself commits through Django: told by on_commit, never for what is rolled back.

Saving and deleting objects is told by the row, with the values before and after; where columns beside the
primary key are wanted, a save first reads the old ones. All else that writes passes a wrapper around
statements and is told for its table: update(), bulk_create(), many-to-many tables, SQL of one's own. What
cannot be made out is told for any table.

Django's signals alone would not do: they are not sent for the latter, and a save that fails sends the first
of its signals and never the last. So the two methods that send them are followed themselves.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from perfloop.errors import InvalidInput
from perfloop.model.changes import ANY_TABLE, RowTexts, TableChange, split_name, table_name

Tell = Callable[[Sequence[TableChange]], object]

_READS: Final = re.compile(
    r"\s*(?:select|show|set|begin|savepoint|release|rollback|explain|values|pragma)\b", re.IGNORECASE
)
_INTO: Final = re.compile(r"\binto\b", re.IGNORECASE)
_WRITES: Final = re.compile(
    r"\s*(?P<verb>insert|update|delete)(?:\s+or\s+\w+|\s+ignore)?(?:\s+into|\s+from)?\s+(?P<table>[\"`\w.]+)\s",
    re.IGNORECASE,
)
_SAVES: Final = frozenset({"insert", "update"})
_DELETES: Final = frozenset({"delete"})


class DjangoCommits:
    """Listens to the models and statements of a Django project, while it is open.

    Args:
        columns: Of which tables which columns are to be told; of others the primary key.
        tell: Called after each commit, in the thread that commits.
    """

    def __init__(self, columns: Mapping[str, frozenset[str]], tell: Tell) -> None:
        self._columns = columns
        self._tell = tell
        self._told = _ToldByRow()

    def open(self) -> None:
        """Begin to listen; the project's settings must be loaded.

        Raises:
            InvalidInput: Django is not installed.
        """
        try:
            from django.db import connections
            from django.db.backends.signals import connection_created
            from django.db.models import Model
            from django.db.models.deletion import Collector
        except ImportError:
            raise InvalidInput("Django is not installed; pip install 'perfloop[django]'") from None
        self._save_base = Model.save_base
        self._delete = Collector.delete
        save, delete = self._saving, self._deleting
        Model.save_base = lambda instance, *given, **named: save(instance, *given, **named)
        Collector.delete = lambda collector: delete(collector)
        connection_created.connect(self._connected, weak=False)
        for connection in connections.all(initialized_only=True):
            self._connected(connection=connection)

    def close(self) -> None:
        """Listen no longer; the connections of other threads keep a wrapper that tells nothing."""
        from django.db import connections
        from django.db.backends.signals import connection_created
        from django.db.models import Model
        from django.db.models.deletion import Collector

        Model.save_base = self._save_base
        Collector.delete = self._delete
        connection_created.disconnect(self._connected)
        self._tell = _nobody
        for connection in connections.all(initialized_only=True):
            if self._statement in connection.execute_wrappers:
                connection.execute_wrappers.remove(self._statement)

    def _connected(self, *, connection: Any, **_: object) -> None:
        if self._statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._statement)

    def _note(self, using: str, changes: Sequence[TableChange]) -> None:
        from django.db import transaction

        # Outside of a transaction it is called at once, and the statement is committed already.
        transaction.on_commit(lambda: self._tell(changes), using=using)

    def _statement(
        self, execute: Callable[..., Any], statement: str, parameters: object, many: bool, context: Any
    ) -> Any:
        result = execute(statement, parameters, many, context)
        table = self._written(statement)
        if table is not None:
            self._note(context["connection"].alias, [table])
        return result

    def _written(self, statement: str) -> TableChange | None:
        if _READS.match(statement) and not _INTO.search(statement):
            return None
        found = _WRITES.match(statement)
        if found is None:
            return ANY_TABLE
        name = _name(found["table"])
        if self._told.covers(found["verb"].lower(), name):
            return None
        return TableChange(table=name, rows=None)

    def _saving(self, instance: Any, *given: Any, **named: Any) -> None:
        from django.db import router

        model = type(instance)
        using = (given[3] if len(given) > 3 else named.get("using")) or router.db_for_write(
            model, instance=instance
        )
        is_new = instance._state.adding
        old = {each: None if is_new else self._stored(each, instance, using) for each in _tables(model)}
        with self._told.by_row(_SAVES, [_name(each._meta.db_table) for each in _tables(model)]):
            self._save_base(instance, *given, **named)
        self._note(using, [self._change(each, instance, old[each]) for each in _tables(model)])

    def _deleting(self, collector: Any) -> Any:
        found = {
            (table, instance): self._stored(table, instance, collector.using)
            for model, instances in collector.data.items()
            for instance in instances
            for table in _tables(model)
        }
        changes = [self._change(table, instance, old) for (table, instance), old in found.items()]
        told = {table for table, _ in found} - {query.model for query in collector.fast_deletes}
        with self._told.by_row(_DELETES, [_name(each._meta.db_table) for each in told]):
            result = self._delete(collector)
        self._note(collector.using, changes)
        return result

    def _wanted(self, model: Any) -> dict[str, Any]:
        """The fields of the wanted columns, by column."""
        fields = {field.column: field for field in model._meta.local_concrete_fields}
        columns = self._columns.get(_name(model._meta.db_table)) or {model._meta.pk.column}
        return {column: field for column, field in fields.items() if column in columns}

    def _stored(self, model: Any, instance: Any, using: str) -> RowTexts | None:
        """The values in the database; None where the key alone is wanted, or there is no such row."""
        wanted = self._wanted(model)
        if set(wanted) <= {model._meta.pk.column}:
            return None
        key = getattr(instance, model._meta.pk.attname)
        names = [field.attname for field in wanted.values()]
        rows = model._base_manager.using(using).filter(pk=key).values(*names)[:1]
        return next(
            ({column: _text(row[field.attname]) for column, field in wanted.items()} for row in rows), None
        )

    def _change(self, model: Any, instance: Any, old: RowTexts | None) -> TableChange:
        fields = self._wanted(model)
        new = {column: _text(getattr(instance, field.attname)) for column, field in fields.items()}
        return TableChange(table=_name(model._meta.db_table), rows=(old, new) if old else (new,))


class _ToldByRow(threading.local):
    """What this thread tells by the row just now, so that its statements need not be told for the table."""

    def __init__(self) -> None:
        self._pairs: list[tuple[frozenset[str], frozenset[str]]] = []

    @contextmanager
    def by_row(self, verbs: frozenset[str], tables: Sequence[str]) -> Iterator[None]:
        self._pairs.append((verbs, frozenset(tables)))
        try:
            yield
        finally:
            self._pairs.pop()

    def covers(self, verb: str, table: str) -> bool:
        return any(verb in verbs and table in tables for verbs, tables in self._pairs[-1:])


def _tables(model: Any) -> list[Any]:
    """The models whose tables hold a part of the model's rows; a proxy has none of its own."""
    concrete = model._meta.concrete_model
    return [concrete, *(parent for parent in concrete._meta.get_parent_list() if not parent._meta.proxy)]


def _name(db_table: str) -> str:
    """Django writes a table of another schema as `"sales"."orders"`, quoted by hand."""
    plain = db_table.replace('"', "").replace("`", "")
    return table_name(*split_name(plain)) if plain.count(".") <= 1 else plain


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _nobody(changes: Sequence[TableChange]) -> None:
    """Hears what a closed listener would have told."""
