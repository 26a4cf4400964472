"""Sorts and hashes that did not fit into work_mem and went through temporary files."""

from __future__ import annotations

from collections.abc import Iterator

from perfloop.analyze.self_time import WeighedNode
from perfloop.analyze.sites import label_of, severity_of_time, statement_shares, weighed_plans
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot, StatementCounters
from perfloop.model.units import bytes_text, count_text, seconds_text, setting_bytes, share_text
from perfloop.model.value import Value

CHECK = "sort-hash-spill"
MEMORY_PER_DISK_BYTE = 3
"""Sorted in memory, rows take two to three times what they take in the tapes on disk."""
MIB = 1024**2


class _Spill(Value, frozen=True, kw_only=True):
    """One node that spilled when its plan was executed."""

    what: str
    disk_bytes: int
    share: float


def sort_and_hash_spills(snapshot: Snapshot) -> tuple[Finding, ...]:
    """One Finding per statement that wrote temporary files, by its counters or by an executed plan."""
    counted = {each.statement.query_id: each for each in snapshot.statements if each.temp_blocks > 0}
    spilled = _spills(snapshot)
    found = [
        _finding(snapshot, query_id, counted.get(query_id), spilled.get(query_id, ()))
        for query_id in sorted({*counted, *spilled})
    ]
    if not found and not snapshot.statements:
        return _from_database_counters(snapshot)
    return tuple(each for each in found if each is not None)


def _spills(snapshot: Snapshot) -> dict[str, tuple[_Spill, ...]]:
    """What spilled, by query_id, of the instance that spilled most."""
    worst: dict[str, tuple[_Spill, ...]] = {}
    for plan, weighed in weighed_plans(snapshot):
        spills = tuple(spill for each in weighed.nodes for spill in _spills_of(each))
        if sum(each.disk_bytes for each in spills) > sum(
            each.disk_bytes for each in worst.get(plan.query_id, ())
        ):
            worst[plan.query_id] = spills
    return worst


def _spills_of(each: WeighedNode) -> Iterator[_Spill]:
    """A parallel node reports its leader on itself and every worker in Workers."""
    parts = [each.node.fields, *each.node.fields.get("Workers", ())]
    sorts = [part for part in parts if str(part.get("Sort Method", "")).startswith("external")]
    if sorts:
        disk = 1024 * sum(int(part.get("Sort Space Used", 0)) for part in sorts)
        yield _Spill(what="a sort on disk", disk_bytes=disk, share=each.share)
    aggregates = [part for part in parts if int(part.get("Disk Usage", 0)) > 0]
    if aggregates:
        disk = 1024 * sum(int(part["Disk Usage"]) for part in aggregates)
        yield _Spill(what="a hash aggregate on disk", disk_bytes=disk, share=each.share)
    batches = max(int(part.get("Hash Batches", 1)) for part in parts)
    if batches > 1:
        disk = 1024 * batches * max(int(part.get("Peak Memory Usage", 0)) for part in parts)
        yield _Spill(what=f"a hash in {batches} batches", disk_bytes=disk, share=each.share)


def _finding(
    snapshot: Snapshot, query_id: str, counters: StatementCounters | None, spills: tuple[_Spill, ...]
) -> Finding | None:
    share = statement_shares(snapshot).get(query_id)
    severity = Severity.MEDIUM if share is None else severity_of_time(share)
    if severity is None:
        return None
    disk_bytes = sum(each.disk_bytes for each in spills)
    if counters is not None and counters.calls:
        disk_bytes = max(disk_bytes, _written_bytes(snapshot, counters))
    label = label_of(snapshot, query_id)
    return Finding(
        check=CHECK,
        severity=severity,
        title=f"{label} spills about {bytes_text(disk_bytes)} to temporary files per execution",
        location=label,
        evidence=(
            *_counter_evidence(snapshot, counters),
            *(Evidence(label="in its plan", value=each.what) for each in spills),
            Evidence(label="work_mem", value=_work_mem_text(snapshot)),
        ),
        would_try=_remedy(snapshot, max((each.disk_bytes for each in spills), default=disk_bytes)),
        query_ids=(query_id,),
        time_share=share,
    )


def _written_bytes(snapshot: Snapshot, counters: StatementCounters) -> int:
    """What one call writes: the counter holds what was written and what was read back."""
    return counters.temp_blocks * snapshot.fingerprint.block_bytes // (2 * counters.calls)


def _counter_evidence(snapshot: Snapshot, counters: StatementCounters | None) -> tuple[Evidence, ...]:
    if counters is None:
        return ()
    whole = share_text(statement_shares(snapshot).get(counters.statement.query_id, 0.0))
    calls = f"{count_text(counters.calls)} calls of {seconds_text(counters.mean_s)}"
    return (Evidence(label="statement", value=f"{calls}, {whole} of all statement time"),)


def _work_mem_text(snapshot: Snapshot) -> str:
    work_mem = setting_bytes(snapshot.setting("work_mem"))
    return "unknown" if work_mem is None else bytes_text(work_mem)


def _remedy(snapshot: Snapshot, disk_bytes: int) -> str:
    """The next power of two that should hold it, above what there is."""
    work_mem = setting_bytes(snapshot.setting("work_mem")) or 0
    needed = max(MEMORY_PER_DISK_BYTE * disk_bytes, 2 * work_mem, MIB)
    size = 1 << (needed - 1).bit_length()
    return f"work_mem of {bytes_text(size)}, if the memory allows it for all sessions; else a smaller one"


def _from_database_counters(snapshot: Snapshot) -> tuple[Finding, ...]:
    activity = snapshot.activity
    if activity.temp_files == 0:
        return ()
    each_bytes = activity.temp_bytes / activity.temp_files
    return (
        Finding(
            check=CHECK,
            severity=Severity.LOW,
            title=f"Queries have written {bytes_text(activity.temp_bytes)} to temporary files",
            location="work_mem",
            evidence=(
                Evidence(
                    label="files", value=f"{activity.temp_files:,} of {bytes_text(each_bytes)} on average"
                ),
                Evidence(label="work_mem", value=_work_mem_text(snapshot)),
            ),
            would_try="nothing yet: which statement spills can only be said with pg_stat_statements",
        ),
    )
