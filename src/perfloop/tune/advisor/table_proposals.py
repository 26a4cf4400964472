"""Storage parameters of single tables: room for updates on a page, and when autovacuum comes by."""

from __future__ import annotations

from collections.abc import Iterable

from perfloop.model.advice import Finding, Proposal, Risk, SetTableOptions
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, Table
from perfloop.model.units import share_text
from perfloop.tune.advisor.objective import Considered
from perfloop.tune.advisor.writes import Write, is_held

ROOM_FILLFACTOR = 90
"""A tenth of each page for new versions: pages hold tens of rows, of which few change between two vacuums."""
FEW_HOT_RATIO = 0.5
LEAST_UPDATES = 1_000
SOON_SCALE_FACTOR = 0.02
"""Autovacuum comes after 2 % of the rows instead of 20 %."""

_VACUUM_CHECK = "vacuum-lag"
_INSERTS = ": inserts"


def propose_table_options(
    snapshot: Snapshot, findings: Iterable[Finding], statements: tuple[Considered, ...]
) -> tuple[Proposal, ...]:
    """Fillfactors for tables whose updates find no room, then autovacuum for those it neglects."""
    writes = tuple(write for each in statements for write in each.writes)
    room = (_room(table, snapshot.indexes_of(table.name), writes) for table in snapshot.tables)
    by_name = {str(table.name): table for table in snapshot.tables}
    vacuums = (_vacuum(each, by_name) for each in findings if each.check == _VACUUM_CHECK)
    return tuple(each for each in (*room, *vacuums) if each is not None)


def _room(table: Table, indexes: tuple[Index, ...], writes: tuple[Write, ...]) -> Proposal | None:
    """Only where some UPDATE of the workload changes no indexed column: no room makes the others HOT."""
    if table.is_partitioned or table.updates < LEAST_UPDATES or "fillfactor" in _options(table):
        return None
    hot_ratio = table.hot_updates / table.updates
    updates = [each for each in writes if each.table == table.name and each.operation == "Update"]
    able = [each for each in updates if not any(is_held(index, each.changed) for index in indexes)]
    if hot_ratio >= FEW_HOT_RATIO or not able:
        return None
    return Proposal(
        change=SetTableOptions(table=table.name, options=(f"fillfactor={ROOM_FILLFACTOR}",)),
        reason=(
            f"{share_text(1 - hot_ratio)} of the updates of {table.name} write all its indexes anew, "
            "though none holds what they change: their pages have no room"
        ),
        size_bytes=round(table.size_bytes * (100 / ROOM_FILLFACTOR - 1)),
        risk=Risk.LOW,
    )


def _vacuum(finding: Finding, tables: dict[str, Table]) -> Proposal | None:
    is_about_inserts = finding.location.endswith(_INSERTS)
    table = tables.get(finding.location.removesuffix(_INSERTS))
    if table is None or table.is_partitioned:
        return None
    name = "autovacuum_vacuum_insert_scale_factor" if is_about_inserts else "autovacuum_vacuum_scale_factor"
    option = f"{name}={SOON_SCALE_FACTOR:g}"
    options = _options(table)
    if options.get("autovacuum_enabled") == "false":
        option = "autovacuum_enabled=true"
    elif float(options.get(name, "1")) <= SOON_SCALE_FACTOR:
        return None
    return Proposal(
        change=SetTableOptions(table=table.name, options=(option,)),
        reason=finding.title,
        findings=(finding.identity,),
    )


def _options(table: Table) -> dict[str, str]:
    return dict(each.split("=", 1) for each in table.options if "=" in each)
