"""Counts different keys of several columns in a sample of a lab's table.

The statistics of single columns do not tell that (part, supplier) has 80,000 pairs and not 20
million, and the size of an index hangs on that.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from perfloop.model.target import Table, TableName
from perfloop.tune.advisor.planner import block

_SAMPLED_ROWS = 30_000
"""As many as ANALYZE takes at the default statistics target."""
_WIDEST_BYTES = 200
"""Of a column; wider ones are no keys."""


class KeySamples:
    """One sample a table, drawn when first asked for. `close` removes them."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._drawn: dict[TableName, sql.Identifier] = {}

    def distinct(self, table: Table, columns: tuple[str, ...]) -> float:
        """How many different keys the table has, by the estimator that ANALYZE uses.

        Haas and Stokes' Duj1, IBM Research Report RJ 10025, 1996: n·d / (n - f1 + f1·n/N) for d keys
        in n of N rows, f1 of them seen once. It guesses low when most keys are rare.
        """
        statement = block("count_keys").format(
            sample=self._sample(table), columns=sql.SQL(", ").join(sql.Identifier(name) for name in columns)
        )
        row = self._connection.execute(statement).fetchone()
        keys, once, rows = (float(each) for each in row) if row else (0.0, 0.0, 0.0)
        if rows == 0:
            return 1.0
        return rows * keys / (rows - once + once * rows / max(rows, table.rows))

    def close(self) -> None:
        """Remove the samples."""
        for sample in self._drawn.values():
            self._connection.execute(block("drop_sample").format(sample=sample))
        self._drawn.clear()

    def _sample(self, table: Table) -> sql.Identifier:
        if table.name not in self._drawn:
            sample = sql.Identifier("pg_temp", f"perfloop_sample_{len(self._drawn)}")
            names = [column.name for column in table.columns if is_sampled(table, column.name)]
            percent = min(100.0, 100 * _SAMPLED_ROWS / max(1.0, table.rows))
            self._connection.execute(
                block("sample_rows").format(
                    sample=sample,
                    columns=sql.SQL(", ").join(sql.Identifier(name) for name in names),
                    table=sql.Identifier(table.name.schema, table.name.name),
                    percent=sql.Literal(percent),
                )
            )
            self._drawn[table.name] = sample
        return self._drawn[table.name]


def is_sampled(table: Table, name: str) -> bool:
    """Whether samples hold the column: one that exists and is narrow enough for a key."""
    column = table.column(name)
    statistics = column.statistics if column else None
    return statistics is not None and statistics.width_bytes <= _WIDEST_BYTES
