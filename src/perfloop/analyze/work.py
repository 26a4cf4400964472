"""The work that a node did by itself: EXPLAIN prints blocks, I/O time and WAL with all below it.

Names of fields differ between versions: PostgreSQL 17 splits `I/O Read Time` by the kind of buffer. Blocks
are those of all processes together; I/O times are divided by the processes, as self times are.
"""

from __future__ import annotations

from typing import Any

from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import own_amounts
from perfloop.model.plan import PlanNode

BLOCKS = ("Shared Hit Blocks", "Shared Read Blocks", "Local Hit Blocks", "Local Read Blocks")
_TEMP_BLOCKS = ("Temp Read Blocks", "Temp Written Blocks")
_READ_TIMES = ("I/O Read Time", "Shared I/O Read Time", "Local I/O Read Time")
"""The first up to PostgreSQL 16, the others from 17 on, all in milliseconds."""


def own_blocks(reading: PlanReading) -> tuple[float, ...]:
    """Blocks of tables and indexes that each node touched, over all executions, by position."""
    return own_amounts(reading.plan, lambda node: _sum(node, BLOCKS))


def own_temp_blocks(reading: PlanReading) -> tuple[float, ...]:
    """Temporary blocks that each node wrote and read back, over all executions, by position."""
    return own_amounts(reading.plan, lambda node: _sum(node, _TEMP_BLOCKS))


def own_read_s(reading: PlanReading) -> tuple[float, ...]:
    """Seconds that a process of each node waited for blocks to be read; 0 without track_io_timing."""
    summed = own_amounts(reading.plan, lambda node: _sum(node, _READ_TIMES) / 1000)
    return tuple(each_s / each.clocks for each_s, each in zip(summed, reading.weighed.nodes, strict=True))


def own_figure(reading: PlanReading, name: str) -> tuple[float, ...]:
    """What each node has of one field that is printed with all below it, by position."""
    return own_amounts(reading.plan, lambda node: _sum(node, (name,)))


def process_fields(node: PlanNode) -> list[dict[str, Any]]:
    """The fields of the leader, and those of every worker that reports its own."""
    return [node.fields, *node.fields.get("Workers", ())]


def _sum(node: PlanNode, names: tuple[str, ...]) -> float:
    return sum(float(node.fields.get(name, 0)) for name in names)
