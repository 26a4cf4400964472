"""Settings to try, from Findings and the Snapshot: of context `user`, so that two sessions can try them."""

from __future__ import annotations

from collections.abc import Iterable

from perfloop.model.advice import AlterSetting, Finding, Proposal
from perfloop.model.plan import Plan, PlanNode
from perfloop.model.snapshot import Snapshot
from perfloop.model.units import bytes_text, setting_bytes
from perfloop.model.value import Value

_MIB = 1024**2
_WORK_MEM_LADDER = tuple(size * _MIB for size in (8, 16, 32, 64, 128, 256))
_NODES_PER_SESSION = 3
_MEMORY_SHARE = 0.25
"""Of the memory, for sorts and hashes of all active sessions together."""
_MEMORY_PER_DISK_BYTE = 3
"""What was written to disk takes two to three times as much in memory."""
_SHARED_BUFFERS_SHARE = 0.25
"""Of the memory, by custom: how much a server that runs elsewhere has at least."""
_CACHED_RATIO = 0.99
_SSD_PAGE_COST = "1.1"
_CACHE_LOW_SHARE = 0.5
_CACHE_SHARE = 0.75
_LARGE_ROWS = 10_000


class SettingsAdvice(Value, frozen=True, kw_only=True):
    """Settings to try, and why others are not."""

    proposals: tuple[Proposal, ...]
    unexplained: tuple[str, ...] = ()


def propose_settings(
    snapshot: Snapshot, findings: tuple[Finding, ...], plans: tuple[Plan, ...]
) -> SettingsAdvice:
    """What to try, the most promising first. `plans` are those of the Workload in the lab."""
    work_mem, refused = _work_mem(snapshot, _of("sort-hash-spill", findings))
    return SettingsAdvice(
        proposals=(
            *work_mem,
            *_jit(snapshot, _of("jit-overhead", findings)),
            *_random_page_cost(snapshot, plans),
            *_effective_cache_size(snapshot),
        ),
        unexplained=refused,
    )


def _of(check: str, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(each for each in findings if each.check == check and each.query_ids)


def _work_mem(
    snapshot: Snapshot, findings: tuple[Finding, ...]
) -> tuple[tuple[Proposal, ...], tuple[str, ...]]:
    """The step of the ladder that should hold the largest spill, and the step below as the cheaper choice."""
    now = setting_bytes(snapshot.setting("work_mem"))
    if not findings or now is None:
        return (), ()
    sessions = max(1, snapshot.activity.active)
    most = _memory_bytes(snapshot) * _MEMORY_SHARE / (sessions * _NODES_PER_SESSION)
    ladder = [size for size in _WORK_MEM_LADDER if now < size <= most]
    spilled = ", ".join(each.location for each in findings[:3])
    if not ladder:
        return (), (
            f"work_mem is not raised although {spilled} spills: {sessions} active sessions with "
            f"{_NODES_PER_SESSION} sorts each may take {bytes_text(most)} a sort at most",
        )
    query_ids = tuple(query_id for each in findings for query_id in each.query_ids)
    needed = _MEMORY_PER_DISK_BYTE * max((_disk_bytes(snapshot, each) for each in query_ids), default=0)
    fit = next((place for place, size in enumerate(ladder) if size >= needed), len(ladder) - 1)
    sizes = [ladder[fit], *ladder[max(0, fit - 1) : fit]]
    return tuple(
        Proposal(
            change=AlterSetting(name="work_mem", value=f"{size // _MIB}MB"),
            reason=f"{spilled} spills to disk; {bytes_text(size)} may hold it in memory",
            findings=tuple(each.identity for each in findings),
        )
        for size in sizes
    ), ()


def _disk_bytes(snapshot: Snapshot, query_id: str) -> int:
    counted = (
        each.temp_blocks * snapshot.fingerprint.block_bytes // (2 * each.calls)
        for each in snapshot.statements
        if each.statement.query_id == query_id and each.calls
    )
    planned = (
        _node_disk_bytes(node)
        for each in snapshot.plans
        if each.query_id == query_id
        for node in each.plan.root.walk()
    )
    return max((*counted, *planned), default=0)


def _node_disk_bytes(node: PlanNode) -> int:
    fields = node.fields
    if fields.get("Sort Space Type") == "Disk":
        return 1024 * int(fields.get("Sort Space Used", 0))
    batches = int(fields.get("Hash Batches", 1))
    if batches > 1:
        return 1024 * batches * int(fields.get("Peak Memory Usage", 0))
    return 1024 * int(fields.get("Disk Usage", 0))


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


def _random_page_cost(snapshot: Snapshot, plans: tuple[Plan, ...]) -> tuple[Proposal, ...]:
    """4 says that a random block is four times dearer than the next one, which holds for turning disks."""
    setting = snapshot.setting("random_page_cost")
    blocks = snapshot.activity.hit_blocks + snapshot.activity.read_blocks
    if setting is None or float(setting.value) <= float(_SSD_PAGE_COST) or blocks == 0:
        return ()
    cached = snapshot.activity.hit_blocks / blocks
    scans = any(_reads_all(node, snapshot) for plan in plans for node in plan.root.walk())
    if cached < _CACHED_RATIO or not scans:
        return ()
    return (
        Proposal(
            change=AlterSetting(name="random_page_cost", value=_SSD_PAGE_COST),
            reason=f"{cached:.1%} of the blocks come from memory, and {setting.value} is for turning disks",
        ),
    )


def _reads_all(node: PlanNode, snapshot: Snapshot) -> bool:
    large = {table.name.name for table in snapshot.tables if table.rows >= _LARGE_ROWS}
    return node.kind == "Seq Scan" and node.relation in large


def _effective_cache_size(snapshot: Snapshot) -> tuple[Proposal, ...]:
    """It takes no memory: it tells the planner how much of the data it finds cached."""
    now = setting_bytes(snapshot.setting("effective_cache_size"))
    memory = snapshot.host.memory_bytes
    if now is None or not snapshot.host.runs_server or now >= _CACHE_LOW_SHARE * memory:
        return ()
    size = int(_CACHE_SHARE * memory) // _MIB
    return (
        Proposal(
            change=AlterSetting(name="effective_cache_size", value=f"{size}MB"),
            reason=f"the planner expects {bytes_text(now)} of cache on a machine with {bytes_text(memory)}",
        ),
    )
