"""One change on one connection: it comes into effect, and its undo leaves nothing behind."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from perfloop.errors import ChangeFailed, ChangeForbidden
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    Change,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    SetTableOptions,
    SettingScope,
)
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.acts import LockPolicy, act, undo
from perfloop.tune.states import Standing, read_before, standing

ORDERS = TableName(schema="public", name="orders")
STATUS_DEFINITION = (
    "CREATE INDEX orders_status ON public.orders USING btree (status DESC) WHERE (status <> 'done'::text)"
)
CUSTOMER = CreateIndex(table=ORDERS, name="orders_customer", keys=(IndexKey(text="customer"),))
DROP_STATUS = DropIndex(table=ORDERS, name="orders_status", definition=STATUS_DEFINITION)
HASTY = LockPolicy(wait_s=0.2, concurrent_wait_s=0.2, attempts=2, pause_s=0.01)
CHANGES: list[Change] = [
    CUSTOMER,
    CreateIndex(
        table=ORDERS,
        name="Odd Name",
        keys=(IndexKey(text="lower(status)", is_expression=True), IndexKey(text="id", descending=True)),
        included=("customer",),
        predicate="status <> '{}' AND customer % 2 = 0",
    ),
    DROP_STATUS,
    AlterSetting(name="work_mem", value="64MB"),
    AlterSetting(name="work_mem", value="64MB", scope=SettingScope.ROLE),
    AlterSetting(name="max_wal_size", value="2GB", scope=SettingScope.SYSTEM),
    CreateStatistics(table=ORDERS, name="orders_together", columns=("customer", "status")),
    SetTableOptions(table=ORDERS, options=("fillfactor=90", "autovacuum_vacuum_scale_factor=0.02")),
]


@pytest.mark.parametrize("concurrently", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.title)
def test_a_change_comes_into_effect_and_its_undo_restores_everything(
    act_target: Any, change: Change, concurrently: bool
) -> None:
    earlier = act_target.state()
    with act_target.connect() as connection:
        before = read_before(connection, change)
        act(connection, change, concurrently=concurrently)
        was_in_effect = standing(connection, change) is Standing.IN_EFFECT
        undo(connection, change, before, concurrently=concurrently)
        undo(connection, change, before, concurrently=concurrently)

        assert was_in_effect
        assert standing(connection, change) is Standing.ABSENT
    assert earlier == act_target.state()


def test_earlier_storage_parameters_are_restored_and_others_left_alone(act_target: Any) -> None:
    change = SetTableOptions(table=ORDERS, options=("autovacuum_vacuum_threshold=500", "fillfactor=90"))
    with act_target.connect() as connection:
        connection.execute("ALTER TABLE orders SET (fillfactor = 70, autovacuum_enabled = false)")
        before = read_before(connection, change)
        act(connection, change, concurrently=True)
        undo(connection, change, before, concurrently=True)
        row = connection.execute("SELECT reloptions FROM pg_class WHERE relname = 'orders'").fetchone()

        assert "fillfactor=70" == before
        assert row is not None
        assert ["autovacuum_enabled=false", "fillfactor=70"] == sorted(row[0])
        connection.execute("ALTER TABLE orders RESET (fillfactor, autovacuum_enabled)")


@pytest.mark.parametrize("option", ["autovacuum_enabled=false", "parallel_workers=9", "fillfactor=1); DROP"])
def test_no_other_storage_parameter_is_set(act_target: Any, option: str) -> None:
    with act_target.connect() as connection, pytest.raises(ChangeForbidden, match="by hand"):
        act(connection, SetTableOptions(table=ORDERS, options=(option,)), concurrently=True)


def test_an_earlier_line_of_alter_system_is_restored_as_it_was_written(act_target: Any) -> None:
    change = AlterSetting(name="max_wal_size", value="2GB", scope=SettingScope.SYSTEM)
    with act_target.connect() as connection:
        connection.execute("ALTER SYSTEM SET max_wal_size = '1536 MB'")
        connection.execute("SELECT pg_reload_conf()")

        before = read_before(connection, change)
        act(connection, change, concurrently=True)
        during = act_target.lines()
        undo(connection, change, before, concurrently=True)

        assert ["max_wal_size = '2GB'"] == during
        assert ["max_wal_size = '1536 MB'"] == act_target.lines()


def test_a_setting_that_needs_a_restart_awaits_it_and_undo_takes_the_wait_away(act_target: Any) -> None:
    change = AlterSetting(name="shared_buffers", value="48MB", scope=SettingScope.SYSTEM)
    earlier = act_target.state()
    with act_target.connect() as connection:
        act(connection, change, concurrently=True)
        during = standing(connection, change)
        undo(connection, change, None, concurrently=True)

    assert during is Standing.AWAITS_RESTART
    assert earlier == act_target.state()


def test_a_setting_outranked_by_the_role_is_not_called_in_effect(act_target: Any) -> None:
    change = AlterSetting(name="work_mem", value="64MB", scope=SettingScope.SYSTEM)
    with act_target.connect() as connection:
        connection.execute("ALTER DATABASE shop SET work_mem = '5MB'")
    with act_target.connect() as connection:
        act(connection, change, concurrently=True)

        assert standing(connection, change) is Standing.PARTIAL


def test_the_invalid_index_of_a_cut_build_is_removed_before_the_next(act_target: Any) -> None:
    with act_target.connect() as blocker, act_target.connect() as connection:
        blocker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1")
        connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("CREATE INDEX CONCURRENTLY orders_customer ON orders (customer)")
        cut = standing(connection, CUSTOMER)
        blocker.execute("COMMIT")

        act(connection, CUSTOMER, concurrently=True)

        assert cut is Standing.PARTIAL
        assert standing(connection, CUSTOMER) is Standing.IN_EFFECT


def test_a_build_that_waits_too_long_for_others_gives_up_and_leaves_nothing(act_target: Any) -> None:
    earlier = act_target.state()
    with act_target.connect() as blocker, act_target.connect() as connection:
        blocker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        blocker.execute("SELECT 1")

        with pytest.raises(ChangeFailed, match="2 times; try again when no long transaction is open"):
            act(connection, CUSTOMER, concurrently=True, locks=HASTY)

    assert earlier == act_target.state()


def test_a_drop_that_was_cut_is_undone_to_a_valid_index(act_target: Any) -> None:
    earlier = act_target.state()
    with act_target.connect() as reader, act_target.connect() as connection:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM orders")
        connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("DROP INDEX CONCURRENTLY orders_status")
        cut = standing(connection, DROP_STATUS)
        reader.execute("COMMIT")

        undo(connection, DROP_STATUS, STATUS_DEFINITION, concurrently=True)

    assert cut is Standing.PARTIAL
    assert earlier == act_target.state()


def test_a_drop_is_tried_again_once_the_reader_has_gone(act_target: Any) -> None:
    patient = LockPolicy(concurrent_wait_s=0.2, attempts=50, pause_s=0.01)
    with act_target.connect() as reader, act_target.connect() as connection:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM orders")
        leaving = threading.Timer(0.5, lambda: reader.execute("COMMIT"))
        leaving.start()

        act(connection, DROP_STATUS, concurrently=True, locks=patient)
        leaving.join()

        assert standing(connection, DROP_STATUS) is Standing.IN_EFFECT


@pytest.mark.parametrize(
    ("prepare", "fact"),
    [
        ("COMMENT ON INDEX orders_status IS 'for the night job'", "it carries a comment"),
        ("ALTER TABLE orders CLUSTER ON orders_status", "marked for CLUSTER"),
        ("DROP INDEX orders_status", "there is no index orders_status"),
        ("DROP INDEX orders_status; CREATE INDEX orders_status ON orders (status)", "has changed since"),
    ],
)
def test_an_index_is_not_dropped_where_undo_could_not_restore_it(
    act_target: Any, prepare: str, fact: str
) -> None:
    change = DROP_STATUS
    with act_target.connect() as connection:
        if "CLUSTER" in prepare:
            connection.execute("DROP INDEX orders_status; CREATE INDEX orders_status ON orders (status DESC)")
            definition = "CREATE INDEX orders_status ON public.orders USING btree (status DESC)"
            change = DropIndex(table=ORDERS, name="orders_status", definition=definition)
        connection.execute(prepare)

        with pytest.raises(ChangeFailed, match=fact):
            read_before(connection, change)


def test_an_index_of_the_same_name_is_never_taken_for_our_own(act_target: Any) -> None:
    with act_target.connect() as connection:
        connection.execute("CREATE INDEX orders_customer ON orders (id)")

        with pytest.raises(ChangeFailed, match="exists already"):
            read_before(connection, CUSTOMER)


def test_what_is_never_touched_is_refused_at_the_lowest_level_too(act_target: Any) -> None:
    change = AlterSetting(name="shared_preload_libraries", value="", scope=SettingScope.SYSTEM)
    with act_target.connect() as connection, pytest.raises(ChangeForbidden):
        act(connection, change, concurrently=False)

    assert [] == act_target.lines()


def test_analyze_counts_as_done_once_there_are_statistics(act_target: Any) -> None:
    change = AnalyzeTable(table=TableName(schema="public", name="fresh"))
    with act_target.connect() as connection:
        connection.execute("CREATE TABLE fresh AS SELECT 1 AS a")
        earlier = standing(connection, change)
        act(connection, change, concurrently=True)

        assert (Standing.ABSENT, Standing.IN_EFFECT) == (earlier, standing(connection, change))
