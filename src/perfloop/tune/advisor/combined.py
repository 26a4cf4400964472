"""What-if by both means at once: b-trees are hypothetical, and what HypoPG does not know is built for real.

HypoPG knows no GIN, GiST or SP-GiST. Few candidates are of those kinds, so a real build of each is
affordable, and one statement is planned with both sorts of index in sight.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

import psycopg

from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.model.target import Table, TableName
from perfloop.tune.advisor.hypothetical import HypotheticalIndexes
from perfloop.tune.advisor.real_builds import RealIndexes
from perfloop.tune.advisor.what_if import PlannedCost, WhatIfStatistics


class CombinedIndexes:
    """A WhatIf. The connection is a superuser's, in autocommit, to a scratch clone; it is not closed here."""

    def __init__(self, connection: psycopg.Connection[Any], tables: Mapping[TableName, Table]) -> None:
        self._hypothetical = HypotheticalIndexes(connection, tables)
        self._real = RealIndexes(connection)
        self._tables = tables
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Raises LabRefused when the role may not edit the catalogue."""
        with ExitStack() as stack:
            stack.enter_context(self._hypothetical)
            stack.enter_context(self._real)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def real(self) -> RealIndexes:
        """What builds the indexes that are not hypothetical."""
        return self._real

    def plan(self, instance: str) -> Plan:
        return self._hypothetical.plan(instance)

    def cost(self, instance: str, indexes: tuple[CreateIndex, ...]) -> PlannedCost:
        real = tuple(index for index in indexes if not self._is_hypothetical(index))
        hypothetical = tuple(index for index in indexes if index not in real)
        if not real:
            return self._hypothetical.cost(instance, hypothetical)
        with self._real.shown(real):
            return self._hypothetical.cost(instance, hypothetical, beside=self._real.names(real))

    def size_bytes(self, index: CreateIndex) -> int:
        if self._is_hypothetical(index):
            return self._hypothetical.size_bytes(index)
        return self._real.size_bytes(index)

    def statistics(self) -> WhatIfStatistics:
        hypothetical, real = self._hypothetical.statistics(), self._real.statistics()
        return WhatIfStatistics(
            explains=hypothetical.explains + real.explains,
            builds=hypothetical.builds + real.builds,
            build_s=hypothetical.build_s + real.build_s,
            built_bytes=real.built_bytes,
        )

    def _is_hypothetical(self, index: CreateIndex) -> bool:
        """HypoPG accepts no partitioned table."""
        return index.method == "btree" and not self._tables[index.table].is_partitioned
