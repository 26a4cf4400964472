"""Sorts, hashes and kept rows that did not fit into work_mem and went through temporary files."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from perfloop.analyze.reading import PlanReading, read_plans
from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import Site, label_of, severity_of_time, statement_shares
from perfloop.analyze.work import own_temp_blocks, process_fields
from perfloop.model.advice import Evidence, Finding
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.units import bytes_text, count_text, seconds_text, setting_bytes, share_text
from perfloop.model.value import Value
from perfloop.model.workload import StatementKind

CHECK = "sort-hash-spill"
MEMORY_PER_DISK_BYTE = 3
"""Sorted in memory, rows take two to three times what they take in the tapes on disk."""
SPILL_BYTES_PER_S = 60_000_000
"""Temporary files written and read. Statements that only sort or hash handle 60 to 100 MB a second (TPC-H's
lineitem on PostgreSQL 15, files in the page cache), so a spill takes no more of the time than this says."""
MIB = 1024**2
_KEEPS_ROWS = ("Materialize", "CTE Scan", "WindowAgg", "Function Scan", "Table Function Scan", "SetOp")
"""Kinds that keep rows by themselves, and say so only by the temporary blocks that they write."""


class _Spill(Value, frozen=True, kw_only=True):
    """What one node sent to disk when its plan was executed."""

    what: str
    disk_bytes: int


def sort_and_hash_spills(reading: PlanReading) -> Iterator[Site]:
    """The nodes of an executed plan that used temporary files; all of a statement are one Finding."""
    spills = list(_spills(reading))
    total = bytes_text(sum(spill.disk_bytes for _, spill in spills))
    for each, spill in spills:
        yield Site(
            location=reading.label,
            query_id=reading.query_id,
            plan_share=each.share,
            title=f"{reading.label} spills about {total} to temporary files, most by {spill.what}",
            evidence=(
                Evidence(
                    label="in its plan", value=", ".join(dict.fromkeys(spill.what for _, spill in spills))
                ),
                Evidence(label="work_mem", value=_work_mem_text(reading.snapshot)),
            ),
            would_try=_remedy(reading.snapshot, max(spill.disk_bytes for _, spill in spills)),
            positions=(each.position,),
        )


def _spills(reading: PlanReading) -> Iterator[tuple[WeighedNode, _Spill]]:
    temp_blocks = own_temp_blocks(reading)
    block_bytes = reading.snapshot.fingerprint.block_bytes
    for each in reading.weighed.nodes:
        for spill in _spills_of(each, temp_blocks[each.position] * block_bytes):
            yield each, spill


def _spills_of(each: WeighedNode, temp_bytes: float) -> Iterator[_Spill]:
    """A parallel node reports its leader on itself and every worker in Workers."""
    parts = process_fields(each.node)
    sorts = [part for part in parts if str(part.get("Sort Method", "")).startswith("external")]
    aggregates = [part for part in parts if int(part.get("Disk Usage", 0)) > 0]
    batches = max(int(part.get("Hash Batches", 1)) for part in parts)
    if sorts:
        disk = 1024 * sum(int(part.get("Sort Space Used", 0)) for part in sorts)
        yield _Spill(what="a sort on disk", disk_bytes=disk)
    elif _grouped_sort_kb(each) and temp_bytes:
        yield _Spill(what="an incremental sort on disk", disk_bytes=1024 * _grouped_sort_kb(each))
    elif aggregates:
        disk = 1024 * sum(int(part["Disk Usage"]) for part in aggregates)
        yield _Spill(what="a hash aggregate on disk", disk_bytes=disk)
    elif batches > 1:
        grown = max(batches // max(1, int(part.get("Original Hash Batches", 1))) for part in parts)
        planned = ", more than planned" if grown > 1 else ""
        disk = 1024 * batches * max(int(part.get("Peak Memory Usage", 0)) for part in parts)
        yield _Spill(what=f"a hash in {batches} batches{planned}", disk_bytes=disk)
    elif temp_bytes and each.node.kind in _KEEPS_ROWS:
        yield _Spill(what=f"rows kept by a {each.node.kind}", disk_bytes=int(temp_bytes / 2))


def _grouped_sort_kb(each: WeighedNode) -> int:
    """The largest of the sorts of an Incremental Sort that went to disk."""
    groups = (each.node.fields.get(key, {}) for key in ("Full-sort Groups", "Pre-sorted Groups"))
    return max(int(group.get("Sort Space Disk", {}).get("Peak Sort Space Used", 0)) for group in groups)


def spilled_bytes(snapshot: Snapshot, query_id: str) -> int:
    """What one sort or hash of a statement sends to disk: the most that was counted or seen in a plan."""
    counted = (
        _disk_bytes(snapshot, each)
        for each in snapshot.statements
        if each.statement.query_id == query_id and each.calls
    )
    readings = read_plans(
        replace(snapshot, plans=tuple(each for each in snapshot.plans if each.query_id == query_id))
    )
    planned = (spill.disk_bytes for reading in readings for _, spill in _spills(reading))
    return max((*counted, *planned), default=0)


def is_one_off(counters: StatementCounters) -> bool:
    """Whether it is a load rather than a part of the service: a write that ran once since the reset."""
    return counters.calls == 1 and counters.statement.kind is StatementKind.WRITE


def loaded_bytes(snapshot: Snapshot) -> int:
    """What loads and DDL wrote to temporary files, whose memory is not work_mem or is not asked for again."""
    once = sum(each.temp_blocks for each in snapshot.statements if is_one_off(each))
    return (once + snapshot.utility_temp_blocks) * snapshot.fingerprint.block_bytes // 2


def _disk_bytes(snapshot: Snapshot, counters: StatementCounters) -> int:
    """Per call; the counter holds what was written and what was read back."""
    return counters.temp_blocks * snapshot.fingerprint.block_bytes // (2 * counters.calls)


def counted_spills(snapshot: Snapshot) -> tuple[Finding, ...]:
    """One Finding per statement that wrote temporary files, by the counters of pg_stat_statements."""
    counted = (_counted(snapshot, each) for each in snapshot.statements if each.temp_blocks > 0)
    return tuple(each for each in counted if each is not None)


def _counted(snapshot: Snapshot, counters: StatementCounters) -> Finding | None:
    """Its time is that of the temporary files alone: a statement may do much besides."""
    if not counters.calls or not counters.total_s or is_one_off(counters):
        return None
    query_id = counters.statement.query_id
    share = statement_shares(snapshot).get(query_id, 0.0)
    temp_s = counters.temp_blocks * snapshot.fingerprint.block_bytes / SPILL_BYTES_PER_S
    time_share = share * min(1.0, temp_s / counters.total_s)
    severity = severity_of_time(time_share)
    if severity is None:
        return None
    disk_bytes = _disk_bytes(snapshot, counters)
    label = label_of(snapshot, query_id)
    calls = f"{count_text(counters.calls)} call{'' if counters.calls == 1 else 's'}"
    times = f"{calls} of {seconds_text(counters.mean_s)}"
    return Finding(
        check=CHECK,
        severity=severity,
        title=f"{label} spills about {bytes_text(disk_bytes)} to temporary files per execution",
        location=label,
        evidence=(
            Evidence(label="statement", value=f"{times}, {share_text(share)} of all statement time"),
            Evidence(label="work_mem", value=_work_mem_text(snapshot)),
        ),
        would_try=_remedy(snapshot, disk_bytes),
        query_ids=(query_id,),
        time_share=time_share,
    )


def _work_mem_text(snapshot: Snapshot) -> str:
    work_mem = setting_bytes(snapshot.setting("work_mem"))
    return "unknown" if work_mem is None else bytes_text(work_mem)


def _remedy(snapshot: Snapshot, disk_bytes: int) -> str:
    """The next power of two that should hold it, above what there is."""
    work_mem = setting_bytes(snapshot.setting("work_mem")) or 0
    needed = max(MEMORY_PER_DISK_BYTE * disk_bytes, 2 * work_mem, MIB)
    size = 1 << (needed - 1).bit_length()
    return f"work_mem of {bytes_text(size)}, if the memory allows it for all sessions; else a smaller one"
