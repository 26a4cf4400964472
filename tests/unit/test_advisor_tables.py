"""Storage parameters of tables and settings of checkpoints, from counters and Findings."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from perfloop.model.advice import AlterSetting, Finding, SetTableOptions, SettingScope, Severity
from perfloop.model.health import Health, WalCounters
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Index, IndexKey, Setting, Table, TableName
from perfloop.model.value import from_json
from perfloop.tune.advisor.objective import Considered
from perfloop.tune.advisor.settings_proposals import propose_settings
from perfloop.tune.advisor.table_proposals import propose_table_options
from perfloop.tune.advisor.writes import Write

SNAPSHOT = from_json((Path(__file__).parent / "data" / "snapshot.json").read_text(), Snapshot)
QUEUE = TableName(schema="public", name="queue")
TABLE = Table(
    name=QUEUE,
    rows=50_000,
    size_bytes=9_000_000,
    columns=(),
    live_rows=50_000,
    dead_rows=0,
    modified_since_analyze=0,
    analyzed_ago_s=60.0,
    sequential_scans=0,
    sequential_rows=0,
    index_scans=0,
    inserts=0,
    updates=20_000,
    hot_updates=3_000,
    deletes=0,
)
ON_STATE = Index(
    table=QUEUE,
    name="queue_state",
    method="btree",
    keys=(IndexKey(text="state"),),
    definition="CREATE INDEX queue_state ON public.queue USING btree (state)",
    size_bytes=1_000_000,
    scans=9,
)
TOUCH = Write(table=QUEUE, operation="Update", rows=1.0, changed=("seen_at",))
MOVE = Write(table=QUEUE, operation="Update", rows=1.0, changed=("seen_at", "state"))


def target(table: Table) -> Snapshot:
    return replace(SNAPSHOT, tables=(table,), indexes=(ON_STATE,))


def statement(write: Write) -> Considered:
    return Considered(
        query_id="1",
        label="touch",
        instances=("UPDATE",),
        weights=(1,),
        base_costs=(1.0,),
        accesses=(),
        writes=(write,),
        time_share=0.5,
    )


def lag(location: str) -> Finding:
    return Finding(
        check="vacuum-lag",
        severity=Severity.LOW,
        title="queue has 40,000 dead rows",
        location=location,
        evidence=(),
        would_try="",
    )


def options(table: Table, write: Write | None = None, finding: Finding | None = None) -> list[str]:
    proposals = propose_table_options(
        target(table),
        () if finding is None else (finding,),
        () if write is None else (statement(write),),
    )
    changes = [each.change for each in proposals]
    return [each for change in changes if isinstance(change, SetTableOptions) for each in change.options]


def test_updates_that_find_no_room_get_some() -> None:
    assert ["fillfactor=90"] == options(TABLE, TOUCH)


@pytest.mark.parametrize(
    ("table", "write"),
    [
        pytest.param(TABLE, MOVE, id="an index holds what they change"),
        pytest.param(TABLE, None, id="no update in the workload"),
        pytest.param(replace(TABLE, hot_updates=15_000), TOUCH, id="they find room"),
        pytest.param(replace(TABLE, updates=900, hot_updates=0), TOUCH, id="too few to tell"),
        pytest.param(replace(TABLE, options=("fillfactor=80",)), TOUCH, id="somebody has chosen"),
        pytest.param(replace(TABLE, is_partitioned=True), TOUCH, id="partitioned"),
    ],
)
def test_room_is_not_proposed_where_it_would_not_help(table: Table, write: Write | None) -> None:
    assert [] == options(table, write)


def test_autovacuum_comes_sooner_to_a_table_that_it_neglects() -> None:
    assert ["autovacuum_vacuum_scale_factor=0.02"] == options(TABLE, finding=lag("queue"))
    assert ["autovacuum_vacuum_insert_scale_factor=0.02"] == options(TABLE, finding=lag("queue: inserts"))


def test_autovacuum_is_switched_on_again_before_anything_else() -> None:
    table = replace(TABLE, options=("autovacuum_enabled=false",))

    assert ["autovacuum_enabled=true"] == options(table, finding=lag("queue"))


def test_a_table_that_autovacuum_visits_soon_already_is_left_alone() -> None:
    table = replace(TABLE, options=("autovacuum_vacuum_scale_factor=0.01",))

    assert [] == options(table, finding=lag("queue"))


@pytest.mark.parametrize(
    ("wal_bytes_per_s", "expected"),
    [
        pytest.param(0, "2048MB", id="twice what there is, where nobody counted"),
        pytest.param(10_000_000, "8192MB", id="twice the WAL of checkpoint_timeout"),
        pytest.param(10**9, "32768MB", id="never more than is safe"),
    ],
)
def test_room_for_wal_follows_from_how_much_is_written(wal_bytes_per_s: int, expected: str) -> None:
    found = replace(lag("max_wal_size"), check="requested-checkpoints")
    counted = WalCounters(
        size_bytes=1000 * wal_bytes_per_s, full_page_images=0, buffers_full=0, counted_for_s=1000.0
    )
    snapshot = replace(
        SNAPSHOT,
        settings=(
            Setting(name="max_wal_size", value="1024", unit="MB", context="sighup", kind="integer"),
            Setting(name="checkpoint_timeout", value="300", unit="s", context="sighup", kind="integer"),
        ),
        health=Health(wal=counted if wal_bytes_per_s else None),
    )

    changes = [each.change for each in propose_settings(snapshot, (found,)).proposals]

    assert [AlterSetting(name="max_wal_size", value=expected, scope=SettingScope.SYSTEM)] == changes
