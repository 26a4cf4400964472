"""Which of the target's settings the lab takes over, so that its plans are the target's plans. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from perfloop.database.knobs import same_value
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Setting

_CARRIED = frozenset(
    {
        "constraint_exclusion",
        "cpu_index_tuple_cost",
        "cpu_operator_cost",
        "cpu_tuple_cost",
        "cursor_tuple_fraction",
        "default_statistics_target",
        "default_toast_compression",
        "effective_cache_size",
        "effective_io_concurrency",
        "from_collapse_limit",
        "geqo",
        "geqo_threshold",
        "hash_mem_multiplier",
        "jit",
        "jit_above_cost",
        "jit_inline_above_cost",
        "jit_optimize_above_cost",
        "join_collapse_limit",
        "maintenance_work_mem",
        "plan_cache_mode",
        "random_page_cost",
        "search_path",
        "seq_page_cost",
        "temp_buffers",
        "TimeZone",
        "wal_compression",
        "work_mem",
    }
)

# The lab's own: nothing that runs by itself may fall into one arm of a pair. Commits are not measured,
# since every write is rolled back, so fsync changes no figure and is left out for a quick fill. Full page
# images depend on when the last checkpoint was, not on the statement: WAL bytes are counted without them.
_OWN: Mapping[str, str] = MappingProxyType(
    {
        "autovacuum": "off",
        "checkpoint_timeout": "1h",
        "fsync": "off",
        "full_page_writes": "off",
        "huge_pages": "off",
        "max_parallel_workers_per_gather": "0",
        "max_wal_size": "16GB",
        "shared_preload_libraries": "pg_stat_statements",
        "synchronous_commit": "off",
        "track_io_timing": "on",
    }
)

_MEMORY_SHARE = 0.25


def lab_settings(snapshot: Snapshot) -> dict[str, str]:
    """The settings to start a lab server with.

    Parallel query is off in both arms: the CPU time of parallel workers cannot be read per statement, and
    a plan's work is what is compared. The target's shared_buffers are kept up to a quarter of the memory.
    """
    carried = {
        each.name: each.value
        for each in snapshot.settings
        if (each.name in _CARRIED or each.name.startswith("enable_")) and each.value != each.boot_value
    }
    return {**carried, **_OWN, "shared_buffers": f"{_shared_buffers_kb(snapshot)}kB"}


def unlike(wanted: Mapping[str, str], lab: tuple[Setting, ...]) -> tuple[str, ...]:
    """Names of settings that the lab does not have, or has with another value, in order."""
    live = {each.name: each for each in lab}
    return tuple(
        sorted(
            name for name, value in wanted.items() if name not in live or not same_value(live[name], value)
        )
    )


def _shared_buffers_kb(snapshot: Snapshot) -> int:
    setting = snapshot.setting("shared_buffers")
    wanted_kb = int(setting.value) * 8 if setting is not None else 128 * 1024
    return max(1024, min(wanted_kb, int(snapshot.host.memory_bytes * _MEMORY_SHARE / 1024)))
