"""A Change made, and taken back, in one of the lab's copies."""

from __future__ import annotations

import time

from perfloop.model.advice import (
    AnalyzeTable,
    Change,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    ServerChange,
    SetTableOptions,
)
from perfloop.model.snapshot import Snapshot
from perfloop.tune.acts import act, undo
from perfloop.tune.lab.carry import carry_statistics
from perfloop.tune.lab.copies import Copies, database_bytes
from perfloop.tune.statements import has_expression

# ANALYZE draws a new sample each time, what undoes a dropped index is a new, compact one without the
# statistics of its expressions, and a table's options are tried on pages written anew. Only a clone is the
# exact state.
_ClonedOnly = AnalyzeTable | CreateStatistics | DropIndex | SetTableOptions


def is_cloned_only(change: Change) -> bool:
    """Whether act and undo may not give the exact state; an index on an expression ends with an ANALYZE."""
    return isinstance(change, _ClonedOnly) or (isinstance(change, CreateIndex) and has_expression(change))


def act_in(copies: Copies, database: str, change: ServerChange) -> tuple[float, int]:
    """Make the change; returns the seconds it took and the bytes it takes."""
    with copies.connect(database) as connection:
        before_bytes = database_bytes(connection)
        started_s = time.monotonic()
        act(connection, change, concurrently=False)
        _rewrite(copies, database, change)
        return time.monotonic() - started_s, database_bytes(connection) - before_bytes


def undo_in(copies: Copies, database: str, change: ServerChange, snapshot: Snapshot) -> None:
    """The lab's undo: statistics that the change made fresh become the target's stale ones again."""
    with copies.connect(database) as connection:
        undo(connection, change, None, concurrently=False)
        if isinstance(change, AnalyzeTable | CreateStatistics):
            carry_statistics(connection, snapshot, only=change.table)
        _rewrite(copies, database, change)


def _rewrite(copies: Copies, database: str, change: ServerChange) -> None:
    """Let a fillfactor act at once; on a target it does as rows come and pages are rewritten."""
    if isinstance(change, SetTableOptions) and "fillfactor" in change.names:
        copies.rewrite(database, change.table)
