"""apply.sql and undo.sql, run by psql on real servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perfloop.adapters.servers import PostgresBinaries
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    Change,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    SettingScope,
)
from perfloop.model.outcome import Study
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.report.study import apply_sql, undo_sql
from perfloop.tune.states import Standing, standing

ORDERS = TableName(schema="public", name="orders")
CHANGES: tuple[Change, ...] = (
    CreateIndex(
        table=ORDERS,
        name="perfloop_orders_customer_idx",
        keys=(IndexKey(text="customer"), IndexKey(text="id", descending=True)),
        included=("status",),
        predicate="status <> 'done'::text",
    ),
    CreateIndex(
        table=ORDERS,
        name="perfloop_orders_lower_idx",
        keys=(IndexKey(text="lower(status)", is_expression=True),),
    ),
    DropIndex(
        table=ORDERS,
        name="orders_status",
        definition="CREATE INDEX orders_status ON public.orders USING btree (status DESC)"
        " WHERE (status <> 'done'::text)",
    ),
    AlterSetting(name="work_mem", value="8MB"),
    AlterSetting(name="max_wal_size", value="2GB", scope=SettingScope.SYSTEM),
    CreateStatistics(table=ORDERS, name="perfloop_orders_stat", columns=("customer", "status")),
    AnalyzeTable(table=ORDERS),
)


@pytest.fixture
def psql(act_target, each_postgres_binaries: PostgresBinaries, tmp_path: Path) -> Callable[[str], list[str]]:
    """Runs a script as its head says, and returns the errors."""
    program = each_postgres_binaries.bin_dir / "psql"
    if not program.exists():
        pytest.skip(f"{each_postgres_binaries.version} came without psql")

    def run(script: str) -> list[str]:
        file = tmp_path / "script.sql"
        file.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [program, "--no-psqlrc", "--quiet", "--file", file, act_target.dsn],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PGCLIENTENCODING": "UTF8"},
        )
        return [line for line in done.stderr.splitlines() if "ERROR" in line]

    return run


def test_apply_sql_brings_every_kind_of_change_and_undo_sql_takes_it_back(
    act_target, study_of: Callable[..., Study], psql: Callable[[str], list[str]]
) -> None:
    study = study_of(*CHANGES)
    before = act_target.state()

    assert [] == psql(apply_sql(study))
    with act_target.connect() as connection:
        assert {Standing.IN_EFFECT} == {standing(connection, _named(each)) for each in CHANGES}
    assert before != act_target.state()
    assert [] == psql(undo_sql(study))
    assert before == act_target.state()


def test_apply_sql_stops_at_the_first_error_and_undo_sql_still_brings_all_back(
    act_target, study_of: Callable[..., Study], psql: Callable[[str], list[str]]
) -> None:
    missing = AnalyzeTable(table=TableName(schema="public", name="no_such_table"))
    study = study_of(CHANGES[0], missing, *CHANGES[2:])
    before = act_target.state()

    assert 1 == len(psql(apply_sql(study)))
    assert before != act_target.state()
    assert ["already exists"] == [line[-len("already exists") :] for line in psql(undo_sql(study))]
    assert before == act_target.state()


def test_the_scripts_of_a_study_that_kept_nothing_do_nothing(
    act_target, study_of: Callable[..., Study], psql: Callable[[str], list[str]]
) -> None:
    study = study_of()
    before = act_target.state()

    assert [] == psql(apply_sql(study)) + psql(undo_sql(study))
    assert before == act_target.state()


def _named(change: Change) -> Change:
    """With the database that psql's DBNAME means."""
    if isinstance(change, AlterSetting) and change.scope is SettingScope.DATABASE:
        return AlterSetting(name=change.name, value=change.value, scope_name="shop")
    return change
