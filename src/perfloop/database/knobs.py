"""The settings that perfloop tunes, those that it never touches, and what it refuses before it acts.

Pure: limits and contexts come from the live server as a `Setting`, never from a table of our own,
because builds and versions differ in them. The catalogue says only what no server knows: how far a
search may go. Ranges are in bytes, seconds or plain numbers; sources are the PostgreSQL
documentation and the published rules of pgtune and timescaledb-tune.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from perfloop.errors import ChangeForbidden, InvalidInput
from perfloop.model.advice import SettingScope
from perfloop.model.memory import MEMORY_SETTINGS, memory_sum_bytes
from perfloop.model.target import Setting

FORBIDDEN = frozenset(
    """
    allow_in_place_tablespaces data_checksums fsync full_page_writes hot_standby
    ignore_checksum_failure ignore_invalid_pages ignore_system_indexes local_preload_libraries
    max_slot_wal_keep_size primary_conninfo primary_slot_name promote_trigger_file
    recovery_end_command restore_command search_path session_preload_libraries
    shared_preload_libraries synchronous_standby_names temp_tablespaces unix_socket_directories
    wal_level wal_sync_method zero_damaged_pages
    """.split()  # noqa: SIM905  # a list literal would take a line a name
)
"""Durability, recovery and replication; and lists, which ALTER SYSTEM quotes wrongly: an emptied
shared_preload_libraries is written as '""' and the server does not start again (seen on 15.20)."""

_FORBIDDEN_PREFIXES = ("archive_", "recovery_", "enable_", "debug_", "ssl")

_FALSE = frozenset({"off", "false", "no", "0", "f", "n"})
_TRUE = frozenset({"on", "true", "yes", "1", "t", "y"})
_KIB, _MIB, _GIB = 1024.0, 1024.0**2, 1024.0**3
_UNITS = {
    "B": ("bytes", 1.0),
    "kB": ("bytes", _KIB),
    "MB": ("bytes", _MIB),
    "GB": ("bytes", _GIB),
    "TB": ("bytes", 1024 * _GIB),
    "us": ("time", 1e-6),
    "ms": ("time", 1e-3),
    "s": ("time", 1.0),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "d": ("time", 86400.0),
}
_SHOWN = 80
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?:\s*([A-Za-z]+))?")
_MULTIPLE = re.compile(r"(\d*)([A-Za-z]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """An end of a search range: the fixed value, or less where the machine is small."""

    fixed: float
    memory_ratio: float | None = None
    """Share of the server's memory in bytes, which takes the place of `fixed` if it is less."""
    cpu_ratio: float | None = None
    """The same in processors."""

    def at(self, memory_bytes: int | None, cpus: int | None) -> float:
        """The bound on a machine of that size; facts that are not known do not narrow it."""
        ends = [self.fixed]
        if self.memory_ratio is not None and memory_bytes is not None:
            ends.append(self.memory_ratio * memory_bytes)
        if self.cpu_ratio is not None and cpus is not None:
            ends.append(max(1.0, self.cpu_ratio * cpus))
        return min(ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One tunable and how far a search may go."""

    name: str
    low: Bound | None = None
    high: Bound | None = None


def _knob(name: str, low: float | Bound | None = None, high: float | Bound | None = None) -> Knob:
    return Knob(name=name, low=_bound(low), high=_bound(high))


def _bound(end: float | Bound | None) -> Bound | None:
    return Bound(fixed=end) if isinstance(end, int | float) else end


_CPUS = Bound(fixed=64.0, cpu_ratio=1.0)
_HALF_CPUS = Bound(fixed=4.0, cpu_ratio=0.5)
_NO_LIMIT = float("inf")

KNOBS: tuple[Knob, ...] = (
    _knob(
        "shared_buffers",
        Bound(fixed=128 * _MIB, memory_ratio=0.05),
        Bound(fixed=_NO_LIMIT, memory_ratio=0.40),
    ),
    _knob(
        "effective_cache_size",
        Bound(fixed=4 * _GIB, memory_ratio=0.25),
        Bound(fixed=_NO_LIMIT, memory_ratio=0.80),
    ),
    _knob("work_mem", 4 * _MIB, 256 * _MIB),
    _knob("hash_mem_multiplier", 1, 4),
    _knob("maintenance_work_mem", 64 * _MIB, Bound(fixed=2 * _GIB, memory_ratio=1 / 16)),
    _knob("autovacuum_work_mem", 64 * _MIB, _GIB),
    _knob("wal_buffers", 16 * _MIB, 64 * _MIB),
    _knob("max_wal_size", _GIB, 32 * _GIB),
    _knob("min_wal_size", 80 * _MIB, 8 * _GIB),
    _knob("checkpoint_timeout", 300, 1800),
    _knob("checkpoint_completion_target", 0.9, 0.9),
    _knob("wal_compression"),
    _knob("synchronous_commit"),
    _knob("commit_delay", 0, 0.001),
    _knob("commit_siblings", 1, 50),
    _knob("random_page_cost", 1.0, 4.0),
    _knob("effective_io_concurrency", 1, 256),
    _knob("maintenance_io_concurrency", 10, 256),
    _knob("default_statistics_target", 100, 1000),
    _knob("jit"),
    _knob("jit_above_cost", 100_000, 5_000_000),
    _knob("max_parallel_workers_per_gather", 0, _HALF_CPUS),
    _knob("max_parallel_workers", 0, _CPUS),
    _knob("max_worker_processes", 8, 128),
    _knob("max_parallel_maintenance_workers", 0, _HALF_CPUS),
    _knob("min_parallel_table_scan_size", 8 * _MIB, _GIB),
    _knob("parallel_setup_cost", 1000, 100_000),
    _knob("max_connections", 20, 500),
    _knob("autovacuum_max_workers", 3, 8),
    _knob("autovacuum_naptime", 10, 60),
    _knob("autovacuum_vacuum_scale_factor", 0.005, 0.2),
    _knob("autovacuum_analyze_scale_factor", 0.005, 0.2),
    _knob("autovacuum_vacuum_insert_scale_factor", 0.005, 0.2),
    _knob("autovacuum_vacuum_cost_limit", 200, 4000),
    _knob("autovacuum_vacuum_cost_delay", 0, 0.002),
    _knob("bgwriter_delay", 0.010, 0.200),
    _knob("bgwriter_lru_maxpages", 100, 1000),
    _knob("bgwriter_lru_multiplier", 2, 4),
    _knob("huge_pages"),
    _knob("io_method"),
    _knob("io_workers", 3, _CPUS),
    _knob("io_combine_limit", 64 * _KIB, _MIB),
    _knob("plan_cache_mode"),
    _knob("track_io_timing"),
)
_BY_NAME = {knob.name: knob for knob in KNOBS}


def knob(name: str) -> Knob | None:
    """The Knob of that name, or None where perfloop does not tune it."""
    return _BY_NAME.get(name.lower())


def safe_range(name: str, *, memory_bytes: int | None, cpus: int | None) -> tuple[float, float] | None:
    """How far a search may go on a server of that size, in bytes, seconds or numbers. None: no range."""
    found = knob(name)
    if found is None or found.low is None or found.high is None:
        return None
    low, high = found.low.at(memory_bytes, cpus), found.high.at(memory_bytes, cpus)
    return min(low, high), high


def forbid(name: str, value: str, scope: SettingScope) -> None:
    """Raise ChangeForbidden for what perfloop never stores on any server, lab or target."""
    lowered = name.lower()
    if lowered in FORBIDDEN or lowered.startswith(_FORBIDDEN_PREFIXES):
        raise ChangeForbidden(
            f"{name} is never touched by perfloop: it guards data, recovery or plans; set it by hand"
        )
    if lowered in {"autovacuum", "track_counts"} and value.strip().lower() in _FALSE:
        raise ChangeForbidden(f"perfloop never turns {name} off: dead rows and wraparound need it")
    if lowered == "synchronous_commit" and scope is not SettingScope.ROLE:
        raise ChangeForbidden(
            "synchronous_commit is never changed for a whole server or database: a crash would lose "
            "commits; give it to one role"
        )


def refuse(name: str, value: str, scope: SettingScope, setting: Setting | None) -> None:
    """Refuse what this server would not take, or take only in part.

    `setting` is the live row of pg_settings, None where the server has none of that name.

    Raises:
        ChangeForbidden: never touched, or not one of the knobs.
        InvalidInput: outside the server's limits, or of another scope; the message names them.
    """
    forbid(name, value, scope)
    if knob(name) is None:
        raise ChangeForbidden(f"perfloop does not tune {name}: it knows no safe range for it")
    if setting is None:
        raise InvalidInput(f"this server has no setting {name}; its version or build lacks it")
    if setting.context == "internal":
        raise ChangeForbidden(f"{name} is fixed in this server's build")
    if scope is not SettingScope.SYSTEM and setting.context in {"sighup", "postmaster"}:
        raise InvalidInput(f"{name} belongs to the whole server; set it with scope system")
    _refuse_value(setting, value)


def _refuse_value(setting: Setting, text: str) -> None:
    value = in_unit(setting, text)
    if setting.kind == "enum" and value not in {choice.lower() for choice in setting.choices}:
        raise InvalidInput(
            f"{setting.name} = {text} is not one of {', '.join(setting.choices)} on this server"
        )
    if not isinstance(value, float):
        return
    unit = f" {setting.unit}" if setting.unit else ""
    if setting.minimum is not None and value < setting.minimum:
        raise InvalidInput(
            f"{setting.name} = {text} lies below this server's minimum {setting.minimum:g}{unit}"
        )
    if setting.maximum is not None and value > setting.maximum:
        raise InvalidInput(
            f"{setting.name} = {text} lies above this server's maximum {setting.maximum:g}{unit}"
        )


def in_unit(setting: Setting, text: str) -> float | str:
    """A value as SET takes it, in the form of `setting.value`: a number in its unit, on or off, or a word.

    Raises InvalidInput for what the server would not read.
    """
    if setting.kind == "bool":
        return _boolean(setting.name, text)
    if setting.kind in {"integer", "real"}:
        number = _number(setting, text)
        return float(round(number)) if setting.kind == "integer" else number
    return text.strip().lower() if setting.kind == "enum" else text


def same_value(setting: Setting, text: str) -> bool:
    """Whether the live setting has that value, however it is spelt: 65536 in kB is 64MB.

    >>> work_mem = Setting(name="work_mem", value="65536", unit="kB", context="user", kind="integer")
    >>> same_value(work_mem, "64MB")
    True
    """
    return in_unit(setting, text) == in_unit(setting, setting.value)


def refuse_memory(settings: Iterable[Setting], name: str, value: str, memory_bytes: int) -> None:
    """Refuse a value that lets the server's own demands outgrow the memory of its machine.

    The sum is that of `model.memory`. A change that lessens it is never refused.
    """
    if name not in MEMORY_SETTINGS:
        return
    live = tuple(settings)
    before = memory_sum_bytes(live)
    after = memory_sum_bytes(_with_value(each, value) if each.name == name else each for each in live)
    if before is not None and after is not None and after > max(memory_bytes, before):
        raise InvalidInput(
            f"{name} = {value} lets the server take {after / _GIB:.1f} GiB in the worst case, "
            f"and its machine has {memory_bytes / _GIB:.1f}; choose less or lower max_connections"
        )


def _with_value(setting: Setting, text: str) -> Setting:
    number = in_unit(setting, text)
    return replace(setting, value=f"{number:.0f}" if isinstance(number, float) else number)


def _boolean(name: str, text: str) -> str:
    word = text.strip().lower()
    if word in _TRUE:
        return "on"
    if word in _FALSE:
        return "off"
    raise InvalidInput(f"{name} = {text} is neither on nor off")


def _number(setting: Setting, text: str) -> float:
    parsed = _QUANTITY.fullmatch(text.strip())
    if parsed is None or not math.isfinite(float(parsed[1])):
        raise InvalidInput(f"{setting.name} = {text[:_SHOWN]} is no number")
    number, unit = float(parsed[1]), parsed[2]
    if not unit:
        return number
    kind, factor = _UNITS.get(unit, ("", 0.0))
    own_kind, own_factor = _factor(setting)
    if kind != own_kind or not kind:
        takes = ", ".join(name for name, (each, _) in _UNITS.items() if each == own_kind) or "no unit"
        raise InvalidInput(f"{setting.name} = {text}: the unit is not known here; it takes {takes}")
    return number * factor / own_factor


def _factor(setting: Setting) -> tuple[str, float]:
    """The kind and size of the setting's own unit, as 8kB: ("bytes", 8192.0)."""
    parsed = _MULTIPLE.fullmatch(setting.unit or "")
    if parsed is None:
        return "", 1.0
    kind, factor = _UNITS[parsed[2]]
    return kind, factor * float(parsed[1] or 1)
