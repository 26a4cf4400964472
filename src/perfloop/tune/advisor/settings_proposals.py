"""Settings to try, from Findings and the Snapshot: of context `user`, so that two sessions can try them."""

from __future__ import annotations

from collections.abc import Iterable

from perfloop.analyze.spills import MEMORY_PER_DISK_BYTE, spilled_bytes
from perfloop.database.knobs import safe_range
from perfloop.model.advice import AlterSetting, Finding, Proposal, SettingScope
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import bytes_text, setting_bytes
from perfloop.model.value import Value

_MIB = 1024**2
_NAMED_SPILLS = 3
_NODES_PER_SESSION = 3
_MEMORY_SHARE = 0.25
"""Of the memory, for sorts and hashes of all active sessions together."""
_MUCH_MORE = 8
"""One further value, far enough up to tell: the service may have heavier parameters than those drawn."""
_SHARED_BUFFERS_SHARE = 0.25
"""Of the memory, by custom: how much a server that runs elsewhere has at least."""
_CACHED_RATIO = 0.99
_DISK_PAGE_COST, _SSD_PAGE_COST = 4.0, "1.1"
_CACHE_LOW_SHARE = 0.5
_CACHE_SHARE = 0.75


class SettingsAdvice(Value, frozen=True, kw_only=True):
    """Settings to try, and why others are not."""

    proposals: tuple[Proposal, ...]
    unexplained: tuple[str, ...] = ()


def propose_settings(snapshot: Snapshot, findings: tuple[Finding, ...]) -> SettingsAdvice:
    """What to try, the most promising first."""
    work_mem, refused = _work_mem(snapshot, _of("sort-hash-spill", findings))
    return SettingsAdvice(
        proposals=(
            *work_mem,
            *_jit(snapshot, _of("jit-overhead", findings)),
            *_random_page_cost(snapshot),
            *_effective_cache_size(snapshot),
            *_max_wal_size(snapshot, findings),
        ),
        unexplained=refused,
    )


def _max_wal_size(snapshot: Snapshot, findings: Iterable[Finding]) -> tuple[Proposal, ...]:
    """Room for the WAL of one checkpoint_timeout, twice over, since the server begins at about a half."""
    found = [each for each in findings if each.check == "requested-checkpoints"]
    now = setting_bytes(snapshot.setting("max_wal_size"))
    wal, timeout = snapshot.health.wal, snapshot.setting("checkpoint_timeout")
    if not found or now is None:
        return ()
    size = 2 * now
    if wal is not None and wal.counted_for_s and timeout is not None:
        size = max(size, round(2 * wal.size_bytes / wal.counted_for_s * float(timeout.value)))
    safe = safe_range("max_wal_size", memory_bytes=None, cpus=None)
    size = min(size, int(safe[1])) if safe else size
    if size <= now:
        return ()
    value = f"{1 << (size // _MIB - 1).bit_length()}MB"
    return (
        Proposal(
            change=AlterSetting(name="max_wal_size", value=value, scope=SettingScope.SYSTEM),
            reason=found[0].title,
            findings=tuple(each.identity for each in found),
        ),
    )


def _of(check: str, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(each for each in findings if each.check == check and each.query_ids)


def _work_mem(
    snapshot: Snapshot, findings: tuple[Finding, ...]
) -> tuple[tuple[Proposal, ...], tuple[str, ...]]:
    """The power of two that should hold the largest spill, and one much larger in case it does not."""
    now = setting_bytes(snapshot.setting("work_mem"))
    if not findings or now is None:
        return (), ()
    query_ids = tuple(query_id for each in findings for query_id in each.query_ids)
    largest = max((spilled_bytes(snapshot, each) for each in query_ids), default=0)
    most = _most_work_mem(snapshot)
    fit = min(_power_of_two(max(MEMORY_PER_DISK_BYTE * largest, 2 * now)), most)
    named = " and ".join(each.location for each in findings[:_NAMED_SPILLS])
    if fit <= now:
        return (), (
            f"work_mem is not raised for the temporary files of {named}: {max(1, snapshot.activity.active)} "
            f"active sessions with {_NODES_PER_SESSION} sorts each may take {bytes_text(most)} a sort",
        )
    reasons = {
        min(_MUCH_MORE * fit, most): f"in case {bytes_text(fit)} hold too little of it",
        fit: f"{bytes_text(fit)} should hold in memory what goes to temporary files for {named}",
    }
    return tuple(
        Proposal(
            change=AlterSetting(
                name="work_mem", value=f"{size // 1024}kB" if size % _MIB else f"{size // _MIB}MB"
            ),
            reason=reasons[size],
            findings=tuple(each.identity for each in findings),
        )
        for size in sorted(reasons)
    ), ()


def _most_work_mem(snapshot: Snapshot) -> int:
    """The largest power of two that all active sessions may take, and within the safe range of a search."""
    memory = _memory_bytes(snapshot)
    share = memory * _MEMORY_SHARE / (max(1, snapshot.activity.active) * _NODES_PER_SESSION)
    safe = safe_range("work_mem", memory_bytes=int(memory), cpus=None)
    most = int(min(share, safe[1])) if safe else int(share)
    return 1 << (most.bit_length() - 1)


def _power_of_two(size: int) -> int:
    """The next one at or above, and no less than 1 MB."""
    return 1 << (max(size, _MIB) - 1).bit_length()


def _memory_bytes(snapshot: Snapshot) -> float:
    if snapshot.host.runs_server:
        return snapshot.host.memory_bytes
    buffers = setting_bytes(snapshot.setting("shared_buffers")) or 128 * _MIB
    return buffers / _SHARED_BUFFERS_SHARE


def _jit(snapshot: Snapshot, findings: tuple[Finding, ...]) -> tuple[Proposal, ...]:
    setting = snapshot.setting("jit")
    if not findings or setting is None or setting.value != "on":
        return ()
    return (
        Proposal(
            change=AlterSetting(name="jit", value="off"),
            reason=findings[0].title,
            findings=tuple(each.identity for each in findings),
        ),
    )


def _random_page_cost(snapshot: Snapshot) -> tuple[Proposal, ...]:
    """4 says that a random block is four times dearer than the next one, which holds for turning disks.

    1.1 is what nearly every guide advises. Where blocks come from memory it is right about their cost
    and may still be wrong for a plan, which the trial finds out.
    """
    setting = snapshot.setting("random_page_cost")
    if setting is None or float(setting.value) != _DISK_PAGE_COST:
        return ()
    activity = snapshot.activity
    cached = activity.hit_blocks / max(1, activity.hit_blocks + activity.read_blocks)
    if activity.database_bytes <= _memory_bytes(snapshot):
        reason = f"the database's {bytes_text(activity.database_bytes)} fit into memory"
    elif cached >= _CACHED_RATIO:
        reason = f"{cached:.1%} of the blocks come from memory"
    else:
        return ()
    return (
        Proposal(
            change=AlterSetting(name="random_page_cost", value=_SSD_PAGE_COST),
            reason=f"{reason}, and {setting.value} is for turning disks",
        ),
    )


def _effective_cache_size(snapshot: Snapshot) -> tuple[Proposal, ...]:
    """It takes no memory: it tells the planner how much of the data it finds cached.

    The planner's estimate of the blocks that an index scan fetches depends on it only while the tables
    and indexes of the statement are larger (Mackert and Lohman's formula in index_pages_fetched()).
    """
    now = setting_bytes(snapshot.setting("effective_cache_size"))
    memory = snapshot.host.memory_bytes
    if now is None or not snapshot.host.runs_server or now >= _CACHE_LOW_SHARE * memory:
        return ()
    if snapshot.activity.database_bytes <= now:
        return ()
    size = int(_CACHE_SHARE * memory) // _MIB
    return (
        Proposal(
            change=AlterSetting(name="effective_cache_size", value=f"{size}MB"),
            reason=f"the planner expects {bytes_text(now)} of cache on a machine with {bytes_text(memory)}",
        ),
    )
