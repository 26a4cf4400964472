"""The seam between the index search and a planner: what would a statement cost if these indexes existed?"""

from __future__ import annotations

from typing import Protocol

from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.model.value import Value


class PlannedCost(Value, frozen=True, kw_only=True):
    """What the planner expects of one statement under one set of indexes."""

    total_cost: float
    """In the planner's units."""
    used: tuple[str, ...]
    """Names of the asked-for indexes that the plan uses, sorted."""


class WhatIfStatistics(Value, frozen=True, kw_only=True):
    """What a WhatIf has done so far."""

    explains: int = 0
    builds: int = 0
    """Indexes created, hypothetical or real."""
    build_s: float = 0.0
    built_bytes: int = 0
    """What real indexes take on the lab's disk; 0 for hypothetical ones."""


class WhatIf(Protocol):
    """The planner of a lab, never of a target.

    Duties of every implementation:

    - Indexes that were there before are always visible; of those it was ever given, only the ones
      in the call. The order of calls changes no answer.
    - The statement is planned, never run.
    - The same call gives the same answer, as long as nobody else writes to the lab.
    """

    def plan(self, instance: str) -> Plan:
        """The plan, with qualified columns, under the indexes that were there before.

        Raises UnsupportedStatement with the server's reason when it cannot be planned.
        """
        ...

    def cost(self, instance: str, indexes: tuple[CreateIndex, ...]) -> PlannedCost:
        """The cost with exactly these indexes added.

        Raises ChangeFailed with the server's reason when one of them cannot be built, and
        UnsupportedStatement when the statement cannot be planned.
        """
        ...

    def size_bytes(self, index: CreateIndex) -> int:
        """What the index would take, or takes, on disk. Raises ChangeFailed as `cost` does."""
        ...

    def statistics(self) -> WhatIfStatistics:
        """What was done so far."""
        ...
