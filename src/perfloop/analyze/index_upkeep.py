"""Indexes that cost writes and space and give nothing back: unused, redundant, invalid.

What must stay is never named: whatever enforces uniqueness or a constraint, identifies rows
for replication, or is the only index that keeps the deletes of a referenced table fast.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfloop.analyze.foreign_keys import supports
from perfloop.model.advice import Evidence, Finding, Severity
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import ForeignKey, Index, IndexKey, TableName
from perfloop.model.units import bytes_text, seconds_text

LARGE_INDEX_BYTES = 100 * 1024**2
"""PgHero and postgres-mcp speak up about an index's wasted space from 100 MB on."""
YOUNG_COUNTERS_S = 7 * 86_400
"""Weekly jobs show only after a week."""


def unused_indexes(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Indexes that no query has used since the counters started; a redundant one is named as that.

    None on a standby: its counters hold nothing of what the primary does, where an index would be dropped.
    """
    if snapshot.health.is_standby:
        return ()
    planned = {node.index for each in snapshot.plans for node in each.plan.root.walk()}
    partitioned = {table.name for table in snapshot.tables if table.is_partitioned}
    beside = _by_table(snapshot)
    return tuple(
        _unused(snapshot, index)
        for index in snapshot.indexes
        if index.scans == 0
        and index.is_valid
        and not _is_needed(index)
        and index.name not in planned
        and index.table not in partitioned
        and not _is_sole_support(snapshot.foreign_keys, index, beside[index.table])
        and not _keepers(beside[index.table], index)
    )


def is_young(age_s: float | None) -> bool:
    """Whether counters of this age may have missed a weekly job; of unknown age they may have."""
    return age_s is None or age_s < YOUNG_COUNTERS_S


def _unused(snapshot: Snapshot, index: Index) -> Finding:
    age_s = snapshot.activity.counted_for_s
    young = is_young(age_s)
    age = None if age_s is None else seconds_text(age_s)
    unused_for = f"for {age}, as long as" if age else "since"
    severity = Severity.MEDIUM if index.size_bytes >= LARGE_INDEX_BYTES and not young else Severity.LOW
    wait = "; the counters are young: look again after a full week" if young else ""
    return Finding(
        check="unused-index",
        severity=severity,
        title=f"No query has used index {index.name} on {index.table} {unused_for} the counters run",
        location=f"{index.table}: {index.name}",
        evidence=(
            Evidence(label="size", value=bytes_text(index.size_bytes)),
            Evidence(
                label="counters started", value=f"{age} ago" if age else "not known; a crash starts them anew"
            ),
            Evidence(label="writes to the table", value=f"{_writes(snapshot, index):,}"),
        ),
        would_try=f"drop it; a replica has its own counters, so look there first{wait}",
        space_bytes=index.size_bytes,
    )


def _writes(snapshot: Snapshot, index: Index) -> int:
    table = snapshot.table(index.table)
    return 0 if table is None else table.inserts + table.updates + table.deletes


def _is_needed(index: Index) -> bool:
    return (
        index.is_unique
        or index.is_primary
        or index.backs_constraint
        or index.is_replica_identity
        or index.is_attached
    )


def _by_table(snapshot: Snapshot) -> dict[TableName, list[Index]]:
    """Looking through all indexes for each of them takes seconds with thousands."""
    indexes: dict[TableName, list[Index]] = {}
    for index in snapshot.indexes:
        indexes.setdefault(index.table, []).append(index)
    return indexes


def _is_sole_support(keys: Iterable[ForeignKey], index: Index, beside: Iterable[Index]) -> bool:
    """Whether a foreign key would stand without an index if this one went."""
    others = [each for each in beside if each.name != index.name]
    return any(
        supports(index, key) and not any(supports(other, key) for other in others)
        for key in keys
        if key.table == index.table
    )


def duplicate_indexes(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Indexes that another index of the table makes redundant: equal ones, and prefixes of a wider one."""
    beside = _by_table(snapshot)

    def rank(other: Index) -> tuple[bool, int]:
        return bool(_keepers(beside[other.table], other)), other.size_bytes

    return tuple(
        _redundant(index, min(those, key=rank))
        for index in snapshot.indexes
        if (those := _keepers(beside[index.table], index))
    )


def _keepers(beside: Iterable[Index], index: Index) -> tuple[Index, ...]:
    return tuple(other for other in beside if other.name != index.name and _replaces(other, index))


def _redundant(index: Index, keeper: Index) -> Finding:
    is_equal = len(index.keys) == len(keeper.keys)
    return Finding(
        check="duplicate-index",
        severity=Severity.MEDIUM if index.size_bytes >= LARGE_INDEX_BYTES else Severity.LOW,
        title=(
            f"Index {index.name} on {index.table} does nothing that {keeper.name} does not"
            if is_equal
            else f"Index {index.name} on {index.table} is a prefix of {keeper.name}"
        ),
        location=f"{index.table}: {index.name}",
        evidence=(
            Evidence(label="redundant", value=f"{index.name} ({', '.join(index.columns)})"),
            Evidence(label="stays", value=f"{keeper.name} ({', '.join(keeper.columns)})"),
            Evidence(label="size", value=bytes_text(index.size_bytes)),
            Evidence(label="its scans", value=f"{index.scans:,}"),
        ),
        would_try=(
            f"drop {index.name}"
            if is_equal
            else f"drop {index.name}; {keeper.name} is wider, so its scans may read somewhat more"
        ),
        space_bytes=index.size_bytes,
    )


def _replaces(keeper: Index, index: Index) -> bool:
    """Whether every query and constraint that `index` serves is as well served by `keeper`."""
    if not (keeper.is_valid and index.is_valid) or not _are_of_a_kind(keeper, index):
        return False
    if not set(index.included) <= {*keeper.included, *keeper.columns}:
        return False
    if len(keeper.keys) == len(index.keys):
        return _agree(keeper.keys, index.keys, index.method) and _outranks(keeper, index)
    if index.method != "btree" or _is_needed(index):
        return False
    return len(keeper.keys) > len(index.keys) and _agree(keeper.keys, index.keys, index.method)


def _are_of_a_kind(keeper: Index, index: Index) -> bool:
    return keeper.method == index.method and keeper.predicate == index.predicate


def _agree(wide: tuple[IndexKey, ...], narrow: tuple[IndexKey, ...], method: str) -> bool:
    """Whether `narrow` is a prefix of `wide`, read forwards or, as a b-tree can be, backwards."""
    pairs = list(zip(wide, narrow, strict=False))
    if any(_meaning(a) != _meaning(b) for a, b in pairs):
        return False
    forwards = all(_order(a) == _order(b) for a, b in pairs)
    backwards = all(_order(a) == tuple(not part for part in _order(b)) for a, b in pairs)
    return forwards or (method == "btree" and backwards)


def _meaning(key: IndexKey) -> tuple[str, str | None, str | None]:
    return key.text, key.operator_class, key.collation


def _order(key: IndexKey) -> tuple[bool, bool]:
    nulls_first = key.descending if key.nulls_first is None else key.nulls_first
    return key.descending, nulls_first


def _outranks(keeper: Index, index: Index) -> bool:
    """Of two equal indexes the one with more duties stays; then the more used, then the first by name."""
    if index.is_primary or index.backs_constraint or index.is_replica_identity or index.is_attached:
        return False
    if index.is_unique and not (keeper.is_unique and _refuses_nulls(keeper) >= _refuses_nulls(index)):
        return False
    return _rank(keeper) < _rank(index)


def _refuses_nulls(index: Index) -> bool:
    """Whether it allows one NULL only, which the catalogue tells in the definition alone."""
    return "NULLS NOT DISTINCT" in index.definition


def _rank(index: Index) -> tuple[bool, bool, bool, bool, int, int, str]:
    return (
        not index.is_primary,
        not index.backs_constraint,
        not index.is_replica_identity,
        not index.is_unique,
        -len(index.included),
        -index.scans,
        index.name,
    )


def invalid_indexes(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Indexes that a failed concurrent build left behind: never read, and in the way of writes."""
    partitioned = {table.name for table in snapshot.tables if table.is_partitioned}
    return tuple(
        Finding(
            check="invalid-index",
            severity=Severity.HIGH if index.size_bytes >= LARGE_INDEX_BYTES else Severity.MEDIUM,
            title=f"Index {index.name} on {index.table} is invalid: no query uses it, and {_burden(index)}",
            location=f"{index.table}: {index.name}",
            evidence=(
                Evidence(label="size", value=bytes_text(index.size_bytes)),
                Evidence(label="definition", value=index.definition),
            ),
            would_try="drop it, unless CREATE INDEX CONCURRENTLY is still at work on it",
            space_bytes=index.size_bytes,
        )
        for index in snapshot.indexes
        if not index.is_valid and not index.is_attached and index.table not in partitioned
    )


def _burden(index: Index) -> str:
    """What it costs writes. One that they do not maintain still keeps updates of its columns from HOT."""
    return "writes maintain it" if index.is_ready else "updates of its columns cannot be HOT"
