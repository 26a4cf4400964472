"""Sums and shares over the operations of a mix, from counted runs and timed pairs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from perfloop.model.outcome import HostReading, Work
from perfloop.model.workload import Operation
from perfloop.stats.work import counter_change
from perfloop.tune.samples import Block, Count, Pair

CROWDED_RATIO = 0.25
"""Others using more of the machine than this make it a crowded host."""
CROWDED_STEAL_RATIO = 0.02

_COUNTERS = ("blocks", "temp_blocks", "wal_bytes", "jit_functions")
_TOLERANCE_RATIO = 0.02
_TOLERANCE_ABS = 2.0
_WAL_TOLERANCE_BYTES = 128.0


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


def counts_differ(control: Count, treatment: Count) -> bool:
    """Whether two counted runs of the same instances show other plans, other work, or another outcome."""
    if control.error != treatment.error or plans_differ(control, treatment):
        return True
    return any(
        counter_change(
            control.mean(counter),
            treatment.mean(counter),
            tolerance_ratio=_TOLERANCE_RATIO,
            tolerance_abs=_WAL_TOLERANCE_BYTES if counter == "wal_bytes" else _TOLERANCE_ABS,
        ).changed
        for counter in _COUNTERS
    )


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
