"""What the arms of a Trial yield: counted runs, timed blocks, pairs. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfloop.model.plan import Plan
from perfloop.model.workload import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One counted run of every instance of an operation, as means per call; or the error it ended in."""

    plans: tuple[Plan, ...] = ()
    cpu_s: float = 0.0
    wall_s: float = 0.0
    error: str | None = None

    def mean(self, counter: str) -> float:
        """The mean per call of a counter of `PlanCounters`, by name."""
        values = [float(getattr(plan.counters, counter)) for plan in self.plans]
        return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some executions of one operation in one arm; times are sums over the executions, in seconds."""

    executions: int
    cpu_s: float
    wall_s: float
    latencies_s: tuple[float, ...] = ()

    @property
    def cpu_per_call_s(self) -> float:
        return self.cpu_s / self.executions

    @property
    def wall_per_call_s(self) -> float:
        return self.wall_s / self.executions


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One pair: the blocks of control and treatment by query_id, and how others used the machine."""

    control: Mapping[str, Block]
    treatment: Mapping[str, Block]
    neighbour_ratio: float
    steal_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An operation's part in every pair: `repeats` executions, or a standing block per arm if it is heavy."""

    operation: Operation
    repeats: int
    standing: tuple[Block, Block] | None = None
