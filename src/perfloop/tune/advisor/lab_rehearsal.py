"""The rehearsal in a clone of the lab: real indexes seen by one transaction, CPU time of its backend."""

from __future__ import annotations

import math
import time
from typing import Any

import psycopg
from psycopg import sql

from perfloop.adapters.host import backend_cpu_s, server_is_here
from perfloop.adapters.statements import statement_kind
from perfloop.model.advice import CreateIndex
from perfloop.model.plan import Plan
from perfloop.model.workload import StatementKind
from perfloop.tune.advisor.combined import CombinedIndexes
from perfloop.tune.advisor.planner import block, explain
from perfloop.tune.advisor.real_builds import RealIndexes
from perfloop.tune.advisor.rehearsal import Rehearsed
from perfloop.tune.advisor.what_if import PlannedCost, WhatIf

HEAVY_S = 2.0
"""A statement known to take longer is not run without the indexes: what is known has to do."""
MOST_S = 30.0
"""CPU time of all runs together; then plans alone speak."""
_CLEARLY_FASTER_RATIO = 0.85
_HARDLY_SLOWER_RATIO = 1.03
_MORE_RUNS = 3
"""On each side, alternating, of what is not clearly faster after a run on each; one where that acquits it."""
_WARMED_BELOW_S = 0.02
"""Above, the caches of the catalogue that building the plan fills are no part of the time that matters."""
_SLACK_S = 0.25
"""Beside five times what it took, a statement may take so long with the indexes before it is ended."""
_MOST_STRETCH = 10.0
"""The time that may pass for a second of CPU time; a crowded or throttled host takes no longer."""
_LEAST_S = 1e-4
"""Shorter than what a timer and the neighbours of a processor add to a single run."""


def rehearsal_beside(connection: psycopg.Connection[Any], what_if: WhatIf) -> LabRehearsal | None:
    """A rehearsal by the real builds of the what-if; None where the session may not hide indexes."""
    real = what_if if isinstance(what_if, RealIndexes) else None
    if isinstance(what_if, CombinedIndexes):
        real = what_if.real
    return None if real is None else LabRehearsal(connection, what_if, real)


class LabRehearsal:
    """A Rehearsal over the connection of a `what_if`, which has to be a superuser's and in autocommit.

    `real` builds the indexes, and drops them when it is left. Not for a target.
    """

    def __init__(self, connection: psycopg.Connection[Any], what_if: WhatIf, real: RealIndexes) -> None:
        self._connection = connection
        self._what_if = what_if
        self._real = real
        self._is_here = server_is_here(connection)
        self._before_s: dict[str, float | None] = {}
        self._spent_running_s = 0.0
        self._stretch_ratio = 1.0
        self.explains = 0
        """How often the planner was asked beside the what-if."""

    def size_bytes(self, index: CreateIndex) -> int:
        return self._real.size_bytes(index)

    def rehearse(self, instance: str, indexes: tuple[CreateIndex, ...], *, known_s: float) -> Rehearsed:
        before = self._what_if.plan(instance)  # leaves no hypothetical index in sight
        with self._real.shown(indexes):
            after = self._plan(instance)
        names = self._real.names(indexes)
        used = {names[node.index] for node in after.root.walk() if node.index in names}
        cost = PlannedCost(total_cost=after.root.total_cost, used=tuple(sorted(used)))
        if before.shape == after.shape:
            return Rehearsed(cost=cost, slowdown_ratio=1.0)
        if statement_kind(instance) is StatementKind.WRITE:
            return Rehearsed(cost=cost)
        return Rehearsed(cost=cost, slowdown_ratio=self._slowdown(instance, indexes, known_s))

    def _slowdown(self, instance: str, indexes: tuple[CreateIndex, ...], known_s: float) -> float | None:
        """Least time with over least time without; None where it takes too long to be run at all."""
        before_s = self._before(instance, known_s)
        if before_s is None or self._spent_running_s > MOST_S:
            return None
        limit_s = max(2 * before_s, min(HEAVY_S, 5 * before_s + _SLACK_S))
        is_short = before_s < _WARMED_BELOW_S
        after_s = self._run(instance, indexes, limit_s, warm=is_short)
        most = _MORE_RUNS if _CLEARLY_FASTER_RATIO * before_s < after_s < math.inf else 0
        for _ in range(most if before_s < HEAVY_S else 0):
            before_s = min(before_s, self._run(instance, (), limit_s, warm=is_short))
            after_s = min(after_s, self._run(instance, indexes, limit_s, warm=is_short))
            if after_s <= _HARDLY_SLOWER_RATIO * before_s:
                break
        return max(after_s, _LEAST_S) / max(before_s, _LEAST_S)

    def _before(self, instance: str, known_s: float) -> float | None:
        if known_s >= HEAVY_S:
            return known_s
        if instance not in self._before_s:
            took_s = self._run(instance, (), HEAVY_S, warm=True)
            self._before_s[instance] = took_s if math.isfinite(took_s) else None
        return self._before_s[instance]

    def _run(self, instance: str, indexes: tuple[CreateIndex, ...], limit_s: float, *, warm: bool) -> float:
        """What one run takes in seconds; infinite where it takes longer than the limit, or fails."""
        started_s = self._spent_s()
        try:
            with self._real.shown(indexes):
                self._connection.execute(block("end_after"), [f"{limit_s * self._stretch_ratio * 1000:.0f}"])
                if warm:
                    self._plan(instance)  # fills the caches that the other indexes emptied
                began_s, passed_s = self._spent_s(), time.perf_counter()
                self._connection.execute(sql.SQL(instance))
                took_s = self._spent_s() - began_s
                self._stretch(time.perf_counter() - passed_s, took_s)
        except psycopg.Error:
            if self._connection.broken:
                raise
            took_s = math.inf
        self._spent_running_s += self._spent_s() - started_s
        return took_s

    def _stretch(self, passed_s: float, took_s: float) -> None:
        """Learn how much longer than its CPU time a statement takes here; a clock holds the limit."""
        if took_s >= _WARMED_BELOW_S:
            self._stretch_ratio = min(max(passed_s / took_s, 1.0), _MOST_STRETCH)

    def _plan(self, instance: str) -> Plan:
        self.explains += 1
        return explain(self._connection, instance)

    def _spent_s(self) -> float:
        """CPU time of the backend; on another machine, the time that passed."""
        if self._is_here:
            return backend_cpu_s(self._connection.info.backend_pid)
        return time.perf_counter()
