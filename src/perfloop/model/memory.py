"""What the settings of a server let it take of its machine's memory, in the worst case of a busy server.

shared_buffers + 1.5 x work_mem x max_connections + autovacuum_max_workers x what each of them may take.
The 1.5 is postgresqltuner's mean number of work_mem that a busy connection uses; it stands for hashes too.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfloop.model.target import Setting
from perfloop.model.units import setting_bytes
from perfloop.model.value import Value

WORK_MEM_PER_CONNECTION = 1.5
MEMORY_SETTINGS = frozenset(
    {
        "shared_buffers",
        "work_mem",
        "max_connections",
        "autovacuum_max_workers",
        "autovacuum_work_mem",
        "maintenance_work_mem",
    }
)
"""The settings that the sum depends on."""


class MemoryPart(Value, frozen=True, kw_only=True):
    """One summand, ready to print."""

    label: str
    size_bytes: float


def memory_parts(settings: Iterable[Setting]) -> tuple[MemoryPart, ...]:
    """The summands; none where a setting that they depend on is missing."""
    live = {each.name: each for each in settings}
    shared = setting_bytes(live.get("shared_buffers"))
    work_mem = setting_bytes(live.get("work_mem"))
    each_worker = setting_bytes(live.get("autovacuum_work_mem"))
    if each_worker is None:
        each_worker = setting_bytes(live.get("maintenance_work_mem"))
    connections = _number(live.get("max_connections"))
    workers = _number(live.get("autovacuum_max_workers"))
    if shared is None or work_mem is None or each_worker is None or connections == 0:
        return ()
    return (
        MemoryPart(label="shared_buffers", size_bytes=shared),
        MemoryPart(
            label=f"{WORK_MEM_PER_CONNECTION} x work_mem x {connections} connections",
            size_bytes=WORK_MEM_PER_CONNECTION * work_mem * connections,
        ),
        MemoryPart(label=f"{workers} autovacuum workers", size_bytes=workers * each_worker),
    )


def memory_sum_bytes(settings: Iterable[Setting]) -> float | None:
    """All of them together; None where a setting that they depend on is missing."""
    parts = memory_parts(settings)
    return sum(each.size_bytes for each in parts) if parts else None


def _number(setting: Setting | None) -> int:
    return 0 if setting is None else int(setting.value)
