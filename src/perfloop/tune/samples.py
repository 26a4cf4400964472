"""What the arms of a Trial yield: counted runs, timed blocks, pairs. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    is_priced: bool = False
    """Whether the times are of runs by themselves, without EXPLAIN ANALYZE, which adds to each row."""

    def mean(self, counter: str) -> float:
        """The mean per call of a counter of `PlanCounters`, by name."""
        values = [float(getattr(plan.counters, counter)) for plan in self.plans]
        return sum(values) / len(values) if values else 0.0

    def triggers_s(self) -> float:
        """The mean time per call that triggers took, foreign keys among them; no counter has their work."""
        took_ms = [each.get("Time", 0.0) for plan in self.plans for each in plan.fields.get("Triggers", ())]
        return sum(took_ms) / 1000 / len(self.plans) if self.plans else 0.0


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


def joined(blocks: Iterable[Block]) -> Block:
    """Several blocks of one operation in one arm, as one."""
    found = list(blocks)
    return Block(
        executions=sum(each.executions for each in found),
        cpu_s=sum(each.cpu_s for each in found),
        wall_s=sum(each.wall_s for each in found),
        latencies_s=tuple(latency_s for each in found for latency_s in each.latencies_s),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One pair: the blocks of control and treatment by query_id, and how others used the machine."""

    control: Mapping[str, Block]
    treatment: Mapping[str, Block]
    neighbour_ratio: float
    steal_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPair:
    """A pair that is void because a statement failed in one of the arms."""

    arm: str
    label: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An operation's part in every pair: all its instances, `sets` times; or a standing block per arm."""

    operation: Operation
    sets: int
    standing: tuple[Block, Block] | None = None

    def sets_in_round(self, number: int, rounds: int) -> int:
        """How many of the sets fall into that round, of so many: as evenly as whole numbers go."""
        return self.sets * (number + 1) // rounds - self.sets * number // rounds
