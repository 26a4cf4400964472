"""With which parameters a statement is called, by a log and by the statistics of its columns."""

from __future__ import annotations

import msgspec
import pytest

from perfloop.cache.advice import DrawnKeys, RecordedKeys
from perfloop.model.snapshot import Activity, Host, Snapshot
from perfloop.model.target import Column, ColumnStatistics, Fingerprint, Table, TableName
from perfloop.model.workload import Statement, StatementKind
from perfloop.tune.cache_advice_keys import LEAST_RECORDED, LogKeys, keys_of
from perfloop.tune.cache_advice_values import KeysFrom
from perfloop.validate.executions import Execution, Parameter

ORDERS = TableName(schema="public", name="orders")
BY_STATUS = "SELECT id FROM orders WHERE status = $1"


def statement(text: str) -> Statement:
    return Statement(query_id="1", text=text, kind=StatementKind.READ)


def column(name: str, distinct: float, common: dict[str, float] | None = None) -> Column:
    statistics = ColumnStatistics(
        null_ratio=0.0,
        distinct=distinct,
        width_bytes=4,
        common_values=tuple(common or ()),
        common_ratios=tuple((common or {}).values()),
    )
    return Column(name=name, type_name="text", not_null=True, statistics=statistics)


TABLE = Table(
    name=ORDERS,
    rows=1_000,
    size_bytes=0,
    columns=(
        column("id", -1.0),
        column("status", 3, {"paid": 0.7, "open": 0.2}),
        column("region_id", 10),
        msgspec.structs.replace(column("note", 1), statistics=None),
    ),
    live_rows=1_000,
    dead_rows=0,
    modified_since_analyze=0,
    analyzed_ago_s=None,
    sequential_scans=0,
    sequential_rows=0,
    index_scans=0,
    inserts=0,
    updates=0,
    hot_updates=0,
    deletes=0,
)
SNAPSHOT = Snapshot(
    taken_at_s=0.0,
    database="shop",
    user="shop",
    fingerprint=Fingerprint(
        server_version=150000,
        server_text="",
        block_bytes=8192,
        data_checksums=False,
        jit_available=False,
        wal_compressions=(),
        io_methods=(),
        extensions=(),
    ),
    settings=(),
    tables=(TABLE,),
    indexes=(),
    activity=Activity(
        connections=1,
        active=1,
        idle_in_transaction=0,
        hit_blocks=0,
        read_blocks=0,
        temp_bytes=0,
        temp_files=0,
        database_bytes=0,
        counted_for_s=None,
    ),
    host=Host(cpus=1, memory_bytes=1, available_bytes=1, load_1m=0, busy_ratio=0, steal_ratio=0),
)


def drawn(text: str) -> DrawnKeys:
    found = keys_of(statement(text), SNAPSHOT, None)
    assert KeysFrom.STATISTICS is found.origin, found.why_unknown
    assert isinstance(found.keys, DrawnKeys)
    return found.keys


def test_common_values_have_their_shares_and_the_others_the_rest() -> None:
    keys = drawn(BY_STATUS)

    assert pytest.approx((0.7, 0.2, 0.1)) == keys.shares
    assert 0 == keys.others


def test_a_key_is_as_many_as_there_are_rows() -> None:
    assert 1_000 == drawn("SELECT status FROM orders WHERE id = $1").count


def test_parameters_that_are_drawn_each_by_itself_make_every_pair() -> None:
    keys = drawn("SELECT id FROM orders WHERE status = $1 AND region_id = $2 LIMIT $3")

    assert 30 == keys.count
    assert keys.shares[0] == pytest.approx(0.07)


def test_ids_of_one_name_are_one_parameter() -> None:
    text = "SELECT a.id FROM orders a JOIN orders b USING (id) WHERE a.region_id = $1 AND b.region_id = $2"

    assert 10 == drawn(text).count


def test_a_statement_without_parameters_has_one_key() -> None:
    found = keys_of(statement("SELECT count(*) FROM orders"), SNAPSHOT, None)

    assert KeysFrom.NONE is found.origin
    assert found.keys is not None
    assert 1 == found.keys.count


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT id FROM orders WHERE note = $1", "there are no statistics of orders.note"),
        ("SELECT id FROM orders WHERE id > $1", "nothing tells which values $1 takes"),
        ("SELECT id FROM orders WHERE id = ANY($1)", "nothing tells which values $1 takes"),
        ("SELECT id FROM orders ORDER BY id LIMIT $1 OFFSET $2", "nothing tells which values $2 takes"),
    ],
)
def test_what_nobody_can_know_is_said_so(text: str, why: str) -> None:
    found = keys_of(statement(text), SNAPSHOT, None)

    assert KeysFrom.UNKNOWN is found.origin
    assert why == found.why_unknown


def executed(value: str) -> Execution:
    parameters = (Parameter(number=1, sql=value),)
    return Execution(session="1", text=BY_STATUS, parameters=parameters, duration_s=0.001)


def test_a_log_goes_before_the_statistics_and_keeps_the_order() -> None:
    asked_for = statement("SELECT id\n  FROM orders WHERE status = $1")
    log = LogKeys([asked_for])
    asked = ["'paid'", "'open'", "'paid'", "'lost'"] * (LEAST_RECORDED // 4)
    for value in asked:
        log.hear(executed(value))
    found = keys_of(asked_for, SNAPSHOT, log)

    assert KeysFrom.LOG is found.origin
    assert RecordedKeys(keys=(0, 1, 0, 2) * (LEAST_RECORDED // 4)) == found.keys


def test_values_in_the_text_are_told_apart_as_bound_ones_are() -> None:
    log = LogKeys([statement(BY_STATUS)])
    for number in range(LEAST_RECORDED):
        text = BY_STATUS.replace("$1", f"'{number % 7}'")
        log.hear(Execution(session="1", text=text, duration_s=0.001))
    found = log.find(statement(BY_STATUS))

    assert found is not None
    assert 7 == found.count


def test_too_few_calls_in_a_log_say_nothing() -> None:
    log = LogKeys([statement(BY_STATUS)])
    for _ in range(LEAST_RECORDED - 1):
        log.hear(executed("'paid'"))

    assert KeysFrom.STATISTICS is keys_of(statement(BY_STATUS), SNAPSHOT, log).origin
