"""The two kinds of connections that results are read through, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from perfloop.adapters.queries import load_blocks
from perfloop.adapters.reads.core import AsyncCoreConnection, is_of
from perfloop.errors import InvalidInput

Rows = tuple[tuple[str, ...], Sequence[tuple[Any, ...]]]
"""The names of the columns, and the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A statement as the connection would send it."""

    text: str
    """With psycopg's placeholders."""
    params: Any
    form: tuple[str, ...] = ()
    """What the columns are made into, where the statement itself says so."""


class AsyncReads(Protocol):
    """What is asked of a connection; nothing in it commits, or ends a transaction."""

    kind: str
    """Values of the two kinds may be of different types."""

    @property
    def is_idle(self) -> bool:
        """Whether it is known, without asking, that no transaction is open."""

    def written(self, statement: Any, params: Any) -> Written:
        """What the connection would send.

        Raises:
            InvalidInput: The connection takes no such statement.
        """

    async def ask(self, block: str, **params: Any) -> Sequence[tuple[Any, ...]]:
        """The rows of a block of reads.sql."""

    async def fetch(self, statement: Any, params: Any) -> Rows:
        """What the statement returns."""


class AsyncPsycopgReads:
    """Through a connection of psycopg 3; its row factory is left aside."""

    kind = "psycopg"

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    @property
    def is_idle(self) -> bool:
        return self._connection.info.transaction_status is TransactionStatus.IDLE

    def written(self, statement: Any, params: Any) -> Written:
        if isinstance(statement, sql.Composable):
            statement = statement.as_string(self._connection)
        if not isinstance(statement, str):
            raise InvalidInput(
                "a connection of psycopg takes text, or what psycopg.sql composes; for a select of SQLAlchemy"
                " give a connection of its engine"
            )
        return Written(text=statement, params=params)

    async def ask(self, block: str, **params: Any) -> Sequence[tuple[Any, ...]]:
        async with psycopg.AsyncCursor(self._connection, row_factory=tuple_row) as cursor:
            await cursor.execute(_block(block), params)
            return await cursor.fetchall()

    async def fetch(self, statement: Any, params: Any) -> Rows:
        async with psycopg.AsyncCursor(self._connection, row_factory=tuple_row) as cursor:
            await cursor.execute(statement, params)
            return tuple(column.name for column in cursor.description or ()), await cursor.fetchall()


class AsyncSqlalchemyReads:
    """Through a Core connection of SQLAlchemy 2 with psycopg below."""

    kind = "sqlalchemy"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def is_idle(self) -> bool:
        return not self._connection.in_transaction()

    def written(self, statement: Any, params: Any) -> Written:
        from sqlalchemy import ClauseElement

        dialect = self._connection.dialect
        if dialect.name != "postgresql" or dialect.paramstyle != "pyformat":
            raise InvalidInput(f"results through {dialect.driver} are not kept; use postgresql+psycopg://")
        if not isinstance(statement, ClauseElement):
            raise InvalidInput("a connection of SQLAlchemy takes select(…) or text(…)")
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        try:
            values = dict(compiled.construct_params(params or {}) or {})
        except ValueError as error:  # a parameter that is not bound
            raise InvalidInput(f"the statement cannot be compiled: {error}") from None
        types = [column.type for column in getattr(statement, "selected_columns", ())]
        form = tuple(f"{type(each).__module__}.{type(each).__qualname__} {each!r}" for each in types)
        return Written(text=str(compiled), params=values, form=form)

    async def ask(self, block: str, **params: Any) -> Sequence[tuple[Any, ...]]:
        from sqlalchemy import text

        statement = _block(block).as_string(None)
        for name in params:
            statement = statement.replace(f"%({name})s", f":{name}")
        return [tuple(row) for row in (await self._connection.execute(text(statement), params)).all()]

    async def fetch(self, statement: Any, params: Any) -> Rows:
        result = await self._connection.execute(statement, params)
        return tuple(result.keys()), [tuple(row) for row in result.all()]


def reads_through(connection: Any) -> AsyncReads:
    """The reads through a connection.

    Raises:
        InvalidInput: It is of neither kind.
    """
    if isinstance(connection, psycopg.AsyncConnection):
        return AsyncPsycopgReads(connection)
    if is_of(connection, AsyncCoreConnection):
        return AsyncSqlalchemyReads(connection)
    raise InvalidInput(
        f"results are read through a psycopg.AsyncConnection or a Core connection of SQLAlchemy, not through"
        f" {type(connection).__qualname__}; of an ORM session give session.connection()"
    )


def _block(name: str) -> sql.SQL:
    return load_blocks("perfloop.adapters.reads", "reads.sql")[name]
