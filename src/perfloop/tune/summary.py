"""Sums and shares over the operations of a mix, from counted runs and timed pairs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from perfloop.model.outcome import HostReading, Work
from perfloop.model.workload import Operation, StatementKind
from perfloop.stats.work import counter_change
from perfloop.tune.samples import Block, Count, Pair

CROWDED_RATIO = 0.25
"""Others using more of the machine than this make it a crowded host."""
CROWDED_STEAL_RATIO = 0.02

_COUNTERS = ("blocks", "temp_blocks", "wal_bytes", "jit_functions")
_TOLERANCE_RATIO = 0.02
_TOLERANCE_ABS = 2.0
_WAL_TOLERANCE_BYTES = 128.0
_TRIGGERS_S = 0.0002
_TRIGGERS_RATIO = 1.5


def weighted_s(
    blocks: Mapping[str, Block], operations: Iterable[Operation], per_call_s: Callable[[Block], float]
) -> float:
    """Seconds per call of the mix that these operations take, by a figure of their blocks."""
    return sum(each.calls_share * per_call_s(blocks[each.statement.query_id]) for each in operations)


def counted_cpu_s(operations: Iterable[Operation], counts: Mapping[str, Count]) -> float:
    """CPU seconds per call of the mix that these operations take, by their counted runs."""
    return sum(each.calls_share * counts[each.statement.query_id].cpu_s for each in operations)


def work_of(counted: Count) -> Work:
    """Work per call of one operation."""
    return Work(
        blocks=counted.mean("blocks"),
        temp_blocks=counted.mean("temp_blocks"),
        wal_bytes=counted.mean("wal_bytes"),
        rows=counted.mean("rows"),
    )


def work_of_mix(operations: Iterable[Operation], counts: Mapping[str, Count]) -> Work:
    """Work per call of the mix, summed over these operations with their shares."""
    totals = {"blocks": 0.0, "temp_blocks": 0.0, "wal_bytes": 0.0, "rows": 0.0}
    for each in operations:
        for counter in totals:
            totals[counter] += each.calls_share * counts[each.statement.query_id].mean(counter)
    return Work(**totals)


def plans_differ(control: Count, treatment: Count) -> bool:
    """Whether any instance has another plan shape."""
    return [each.shape for each in control.plans] != [each.shape for each in treatment.plans]


def triggers_differ(control: Count, treatment: Count) -> bool:
    """Whether triggers took another time: a foreign key without its index shows nowhere else.

    Times are noisy, so the difference must be large; it only leads to timing.
    """
    low, high = sorted((control.triggers_s(), treatment.triggers_s()))
    return high - low > _TRIGGERS_S and high > _TRIGGERS_RATIO * low


def may_gain(operation: Operation, control: Count, treatment: Count) -> bool:
    """Whether the change may make the operation cheaper, so that only timing can tell.

    A write that merely has one more index to maintain cannot gain. One that finds its rows another way, or
    does less work, can.
    """
    if operation.statement.kind is StatementKind.READ:
        return True
    if plans_differ(control, treatment) or triggers_differ(control, treatment):
        return True
    return any(
        treatment.mean(counter) < control.mean(counter) and _counter_differs(counter, control, treatment)
        for counter in _COUNTERS
    )


def counts_differ(control: Count, treatment: Count) -> bool:
    """Whether two counted runs of the same instances show other plans, other work, or another outcome."""
    if control.error != treatment.error or plans_differ(control, treatment):
        return True
    return triggers_differ(control, treatment) or any(
        _counter_differs(counter, control, treatment) for counter in _COUNTERS
    )


def _counter_differs(counter: str, control: Count, treatment: Count) -> bool:
    return counter_change(
        control.mean(counter),
        treatment.mean(counter),
        tolerance_ratio=_TOLERANCE_RATIO,
        tolerance_abs=_WAL_TOLERANCE_BYTES if counter == "wal_bytes" else _TOLERANCE_ABS,
    ).changed


def host_of(pairs: Sequence[Pair], *, voided: int = 0) -> HostReading:
    """How much others used the machine while the pairs ran."""
    if not pairs:
        return HostReading(neighbour_ratio=0.0, steal_ratio=0.0, voided_pairs=voided)
    neighbour_ratio = mean(pair.neighbour_ratio for pair in pairs)
    steal_ratio = mean(pair.steal_ratio for pair in pairs)
    return HostReading(
        neighbour_ratio=neighbour_ratio,
        steal_ratio=steal_ratio,
        voided_pairs=voided,
        crowded=neighbour_ratio > CROWDED_RATIO or steal_ratio > CROWDED_STEAL_RATIO,
    )


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean of at least one value."""
    found = list(values)
    return sum(found) / len(found)
