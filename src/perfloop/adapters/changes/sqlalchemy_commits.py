"""What a service itself commits through SQLAlchemy 2: told after the commit, never for what is undone.

Rows that a session flushes are told with their values before and after. Any other statement that writes is
told for its table, and a text that is not clearly a read for any table. The database's own acts, as cascades
and triggers, are not seen here; the outbox and the log see them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from enum import Enum
from typing import Any, Final

from perfloop.errors import InvalidInput
from perfloop.model.changes import ANY_TABLE, PUBLIC, TableChange, table_name

Tell = Callable[[Sequence[TableChange]], object]

_READS: Final = re.compile(
    r"\s*(?:select|show|set|begin|start|savepoint|release|rollback|commit|explain|values)\b", re.IGNORECASE
)
_INTO: Final = re.compile(r"\binto\b", re.IGNORECASE)
_flushing: ContextVar[bool] = ContextVar("perfloop_cache_flushing", default=False)


class _NotKnown(Exception):
    """The value that the database has for one of Python's."""


class _Noted:
    """What one transaction has written so far, and how much of it each savepoint would keep."""

    def __init__(self) -> None:
        self.changes: list[TableChange] = []
        self.marks: dict[str, int] = {}


class SqlalchemyCommits:
    """Listens to an engine, and to the mappers and sessions that use it, while it is open.

    Args:
        engine: An Engine; of an AsyncEngine its `sync_engine`.
        columns: Of which tables which columns are to be told; of others the primary key.
        tell: Called after each commit, in the thread or greenlet that commits.
    """

    def __init__(self, engine: Any, columns: Mapping[str, frozenset[str]], tell: Tell) -> None:
        self._engine = engine
        self._columns = columns
        self._tell = tell
        self._key = f"perfloop_cache_{id(self)}"
        self._listeners: list[tuple[Any, str, Callable[..., None]]] = []

    def open(self) -> None:
        """Begin to listen.

        Raises:
            InvalidInput: SQLAlchemy is not installed.
        """
        try:
            from sqlalchemy import event
            from sqlalchemy.orm import Mapper, Session
        except ImportError:
            raise InvalidInput("SQLAlchemy is not installed; pip install 'perfloop[sqlalchemy]'") from None
        self._listeners = [
            (self._engine, "after_cursor_execute", self._statement),
            (self._engine, "rollback_savepoint", self._rollback_savepoint),
            (self._engine, "rollback", self._rollback),
            (Mapper, "after_insert", self._inserted),
            (Mapper, "after_update", self._updated),
            (Mapper, "after_delete", self._deleted),
            (Session, "before_flush", self._flush_begins),
            (Session, "after_flush", self._flush_ends),
            (Session, "after_soft_rollback", self._flush_ends),
        ]
        for target, name, listener in self._listeners:
            event.listen(target, name, listener)
        # The engine's own event comes before the commit, and who loads then loads what is old.
        dialect = self._engine.dialect
        self._do_commit = dialect.do_commit
        self._do_commit_twophase = dialect.do_commit_twophase
        dialect.do_commit = self._commit
        dialect.do_commit_twophase = self._commit_twophase

    def close(self) -> None:
        """Listen no longer."""
        from sqlalchemy import event

        for target, name, listener in self._listeners:
            event.remove(target, name, listener)
        self._listeners.clear()
        dialect = self._engine.dialect
        if dialect.do_commit == self._commit:
            dialect.do_commit = self._do_commit
            dialect.do_commit_twophase = self._do_commit_twophase
        # Otherwise another hook came after us and calls us still, to no effect.

    def _commit(self, connection: Any) -> None:
        try:
            self._do_commit(connection)
        finally:
            # A commit that failed may have happened all the same, if only its answer was lost.
            self._tell_noted(connection.info)

    def _commit_twophase(self, connection: Any, *arguments: Any, **options: Any) -> None:
        try:
            self._do_commit_twophase(connection, *arguments, **options)
        finally:
            self._tell_noted(connection.info)

    def _tell_noted(self, info: dict[str, Any]) -> None:
        noted: _Noted | None = info.pop(self._key, None)
        if noted is not None and noted.changes:
            self._tell(noted.changes)

    def _note(self, connection: Any, changes: Sequence[TableChange]) -> None:
        noted: _Noted = connection.info.setdefault(self._key, _Noted())
        noted.changes.extend(changes)
        if getattr(connection.connection.dbapi_connection, "autocommit", False) is True:
            self._tell_noted(connection.info)

    def _rollback_savepoint(self, connection: Any, name: str, context: object) -> None:
        noted: _Noted | None = connection.info.get(self._key)
        if noted is not None and name in noted.marks:
            del noted.changes[noted.marks[name] :]

    def _rollback(self, connection: Any) -> None:
        connection.info.pop(self._key, None)

    def _statement(
        self, connection: Any, cursor: object, statement: str, parameters: object, context: Any, many: bool
    ) -> None:
        from sqlalchemy.sql.elements import SavepointClause

        compiled = context.compiled
        if compiled is None or context.is_text:
            if not _READS.match(statement) or _INTO.search(statement):
                self._note(connection, [ANY_TABLE])
            return
        if _flushing.get() and "compiled_cache" in context.execution_options:
            # A flush, of which the mappers tell row by row.
            return
        if isinstance(compiled.statement, SavepointClause):
            # The engine's own event does not know the name yet.
            noted: _Noted = connection.info.setdefault(self._key, _Noted())
            noted.marks[compiled.statement.ident] = len(noted.changes)
        tables = list(_written(compiled))
        if tables:
            self._note(connection, [TableChange(table=table, rows=None) for table in tables])

    def _flush_begins(self, *_: object) -> None:
        _flushing.set(True)

    def _flush_ends(self, *_: object) -> None:
        _flushing.set(False)

    def _inserted(self, mapper: Any, connection: Any, target: object) -> None:
        self._row(mapper, connection, target, has_old=False)

    def _updated(self, mapper: Any, connection: Any, target: object) -> None:
        self._row(mapper, connection, target, has_old=True)

    def _deleted(self, mapper: Any, connection: Any, target: object) -> None:
        self._row(mapper, connection, target, has_old=True)

    def _row(self, mapper: Any, connection: Any, target: object, *, has_old: bool) -> None:
        if connection.dialect is self._engine.dialect:
            changes = [self._change(mapper, table, target, has_old=has_old) for table in mapper.tables]
            self._note(connection, changes)

    def _change(self, mapper: Any, table: Any, target: object, *, has_old: bool) -> TableChange:
        from sqlalchemy import inspect

        name = _name(table)
        wanted = self._columns.get(name) or {column.name for column in table.primary_key}
        attributes = inspect(target).attrs
        old: dict[str, str | None] = {}
        new: dict[str, str | None] = {}
        for column in (column for column in table.columns if column.name in wanted):
            attribute = attributes[mapper.get_property_by_column(column).key]
            history = attribute.history
            if has_old and history.added and not history.deleted:
                # The old value was never loaded.
                return TableChange(table=name, rows=None)
            before = history.deleted[0] if history.deleted else attribute.value
            try:
                new[column.name] = _text(attribute.value, column, self._engine.dialect)
                old[column.name] = _text(before, column, self._engine.dialect)
            except _NotKnown:
                return TableChange(table=name, rows=None)
        rows = (new,) if old == new else (old, new)
        return TableChange(table=name, rows=rows)


def _written(compiled: Any) -> Iterator[str]:
    """The tables that a compiled statement writes, its common table expressions included."""
    from sqlalchemy.sql.expression import UpdateBase

    expressions = [compiled.statement, *(cte.element for cte in getattr(compiled, "ctes", None) or ())]
    for expression in expressions:
        if isinstance(expression, UpdateBase):
            yield _name(expression.table)


def _name(table: Any) -> str:
    # An alias stands for the table that it is made of.
    table = getattr(table, "element", table)
    return table_name(table.schema or PUBLIC, table.name)


def _text(value: object, column: Any, dialect: Any) -> str | None:
    """The value as PostgreSQL writes it.

    Raises:
        _NotKnown: It is an enumeration's, and of which text stands for it there only the driver knows.
    """
    if isinstance(value, Enum):
        process = column.type.dialect_impl(dialect).bind_processor(dialect)
        value = value if process is None else process(value)
        if isinstance(value, Enum):
            value = value.value if isinstance(value, str | int) else value
        if not isinstance(value, str | int):
            raise _NotKnown
    return None if value is None else str(value)
