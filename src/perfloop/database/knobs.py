"""The settings that perfloop tunes, those that it never touches, and what it refuses before it acts.

Pure: limits and contexts come from the live server as a `Setting`, never from a table of our own,
because builds and versions differ in them. The catalogue says only what no server knows: how far a
search may go. Ranges are in bytes, seconds or plain numbers; sources are the PostgreSQL
documentation and the published rules of pgtune and timescaledb-tune.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from perfloop.errors import ChangeForbidden, InvalidInput
from perfloop.model.advice import SettingScope
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
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")
_MULTIPLE = re.compile(r"(\d*)([A-Za-z]+)")


class Apply(enum.Enum):
    """How a Setting takes effect on most versions; a server's own `context` has the last word."""

    SESSION = "session"
    RELOAD = "reload"
    RESTART = "restart"


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
    """One tunable: how it is applied and how far a search may go."""

    name: str
    apply: Apply
    low: Bound | None = None
    high: Bound | None = None
    note: str = ""
    """What must be kept in mind, for the report."""


def _knob(
    name: str,
    apply: Apply,
    low: float | Bound | None = None,
    high: float | Bound | None = None,
    note: str = "",
) -> Knob:
    return Knob(name=name, apply=apply, low=_bound(low), high=_bound(high), note=note)


def _bound(end: float | Bound | None) -> Bound | None:
    return Bound(fixed=end) if isinstance(end, int | float) else end


_S, _R, _X = Apply.SESSION, Apply.RELOAD, Apply.RESTART
_CPUS = Bound(fixed=64.0, cpu_ratio=1.0)
_HALF_CPUS = Bound(fixed=4.0, cpu_ratio=0.5)
_NO_LIMIT = float("inf")

KNOBS: tuple[Knob, ...] = (
    _knob(
        "shared_buffers",
        _X,
        Bound(fixed=128 * _MIB, memory_ratio=0.05),
        Bound(fixed=_NO_LIMIT, memory_ratio=0.40),
        "start at a quarter of the memory; more than the database is wasted",
    ),
    _knob(
        "effective_cache_size",
        _S,
        Bound(fixed=4 * _GIB, memory_ratio=0.25),
        Bound(fixed=_NO_LIMIT, memory_ratio=0.80),
        "tells the planner what is cached; takes no memory",
    ),
    _knob("work_mem", _S, 4 * _MIB, 256 * _MIB, "per sort or hash of every session; better per role"),
    _knob("hash_mem_multiplier", _S, 1, 4),
    _knob("maintenance_work_mem", _S, 64 * _MIB, Bound(fixed=2 * _GIB, memory_ratio=1 / 16)),
    _knob("autovacuum_work_mem", _R, 64 * _MIB, _GIB, "taken once by every autovacuum worker"),
    _knob("wal_buffers", _X, 16 * _MIB, 64 * _MIB),
    _knob("max_wal_size", _R, _GIB, 32 * _GIB, "at most half of the disk that holds the WAL"),
    _knob("min_wal_size", _R, 80 * _MIB, 8 * _GIB, "a quarter of max_wal_size"),
    _knob("checkpoint_timeout", _R, 300, 1800, "recovery after a crash takes longer"),
    _knob("checkpoint_completion_target", _R, 0.9, 0.9),
    _knob("wal_compression", _R, note="the methods depend on the build"),
    _knob("synchronous_commit", _S, note="off loses the last commits in a crash; per role only"),
    _knob("commit_delay", _R, 0, 0.001, "only where commits of many sessions are the bottleneck"),
    _knob("commit_siblings", _S, 1, 50),
    _knob("random_page_cost", _S, 1.0, 4.0, "not below seq_page_cost"),
    _knob("effective_io_concurrency", _S, 1, 256),
    _knob("maintenance_io_concurrency", _S, 10, 256),
    _knob("default_statistics_target", _S, 100, 1000, "takes effect with the next ANALYZE"),
    _knob("jit", _S),
    _knob("jit_above_cost", _S, 100_000, 5_000_000),
    _knob("max_parallel_workers_per_gather", _S, 0, _HALF_CPUS),
    _knob("max_parallel_workers", _S, 0, _CPUS),
    _knob("max_worker_processes", _X, 8, 128),
    _knob("max_parallel_maintenance_workers", _S, 0, _HALF_CPUS),
    _knob("min_parallel_table_scan_size", _S, 8 * _MIB, _GIB, "only against harmful parallelism"),
    _knob("parallel_setup_cost", _S, 1000, 100_000, "only against harmful parallelism"),
    _knob("max_connections", _X, 20, 500, "the peak in use and a reserve; a pooler allows less"),
    _knob("autovacuum_max_workers", _X, 3, 8, "takes effect without a restart from PostgreSQL 18 on"),
    _knob("autovacuum_naptime", _R, 10, 60),
    _knob("autovacuum_vacuum_scale_factor", _R, 0.005, 0.2),
    _knob("autovacuum_analyze_scale_factor", _R, 0.005, 0.2),
    _knob("autovacuum_vacuum_insert_scale_factor", _R, 0.005, 0.2),
    _knob("autovacuum_vacuum_cost_limit", _R, 200, 4000),
    _knob("autovacuum_vacuum_cost_delay", _R, 0, 0.002),
    _knob("bgwriter_delay", _R, 0.010, 0.200),
    _knob("bgwriter_lru_maxpages", _R, 100, 1000),
    _knob("bgwriter_lru_multiplier", _R, 2, 4),
    _knob("huge_pages", _X, note="needs vm.nr_hugepages on the host"),
    _knob("io_method", _X, note="PostgreSQL 18; the methods depend on the build"),
    _knob("io_workers", _R, 3, _CPUS, "PostgreSQL 18"),
    _knob("io_combine_limit", _S, 64 * _KIB, _MIB, "PostgreSQL 18"),
    _knob("plan_cache_mode", _S),
    _knob("track_io_timing", _R),
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


def in_base(setting: Setting) -> float:
    """A numeric setting's live value in bytes, seconds or a plain number."""
    value = in_unit(setting, setting.value)
    if not isinstance(value, float):
        raise InvalidInput(f"{setting.name} is no number")
    return value * (_factor(setting)[1] if setting.unit else 1.0)


def refuse_memory(settings: Iterable[Setting], name: str, value: str, memory_bytes: int) -> None:
    """Refuse a value that lets the server's own demands outgrow the memory of its machine.

    The sum is shared_buffers + 1.5 x work_mem x max_connections + autovacuum_max_workers x
    maintenance_work_mem: the worst case of a busy server, after postgresqltuner. A change that
    lessens the sum is never refused.
    """
    live = {setting.name: in_base(setting) for setting in settings if setting.name in _MEMORY}
    if name not in live or not live.keys() >= _MEMORY:
        return
    setting = next(each for each in settings if each.name == name)
    wanted = in_unit(setting, value)
    after = {**live, name: float(wanted) * (_factor(setting)[1] if setting.unit else 1.0)}
    if _memory_sum(after) > max(memory_bytes, _memory_sum(live)):
        raise InvalidInput(
            f"{name} = {value} lets the server take {_memory_sum(after) / _GIB:.1f} GiB in the worst case, "
            f"and its machine has {memory_bytes / _GIB:.1f}; choose less or lower max_connections"
        )


_MEMORY = frozenset(
    {"shared_buffers", "work_mem", "max_connections", "autovacuum_max_workers", "maintenance_work_mem"}
)


def _memory_sum(base: dict[str, float]) -> float:
    return (
        base["shared_buffers"]
        + 1.5 * base["work_mem"] * base["max_connections"]
        + base["autovacuum_max_workers"] * base["maintenance_work_mem"]
    )


def _boolean(name: str, text: str) -> str:
    word = text.strip().lower()
    if word in _TRUE:
        return "on"
    if word in _FALSE:
        return "off"
    raise InvalidInput(f"{name} = {text} is neither on nor off")


def _number(setting: Setting, text: str) -> float:
    parsed = _QUANTITY.fullmatch(text)
    if parsed is None:
        raise InvalidInput(f"{setting.name} = {text} is no number")
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
