"""The statements that the report prints are the ones that are run."""

from __future__ import annotations

import pytest

from perfloop.errors import InvalidInput
from perfloop.model.advice import (
    AlterSetting,
    AnalyzeTable,
    Change,
    CreateIndex,
    CreateStatistics,
    DropIndex,
    SettingScope,
)
from perfloop.model.target import IndexKey, TableName
from perfloop.tune.statements import apply_sql, undo_sql

T = TableName(schema="shop", name='Or"ders')
DEFINITION = "CREATE UNIQUE INDEX i ON shop.orders USING btree (a) WHERE (b = '{x}'::text)"
KEYS = (
    IndexKey(text="a", collation="C", operator_class="text_pattern_ops", descending=True, nulls_first=False),
    IndexKey(text="lower(b)", is_expression=True),
)


@pytest.mark.parametrize(
    ("change", "before", "forth", "back"),
    [
        (
            CreateIndex(table=T, name="i", keys=KEYS, included=("c",), predicate="d > 0"),
            None,
            'CREATE INDEX CONCURRENTLY "i" ON "shop"."Or""ders" USING btree '
            '("a" COLLATE "C" "text_pattern_ops" DESC NULLS LAST, (lower(b))) INCLUDE ("c") WHERE d > 0;\n'
            'ANALYZE "shop"."Or""ders";\n',
            'DROP INDEX CONCURRENTLY IF EXISTS "shop"."i";\n',
        ),
        (
            DropIndex(table=T, name="i", definition=DEFINITION),
            DEFINITION,
            'DROP INDEX CONCURRENTLY IF EXISTS "shop"."i";\n',
            DEFINITION.replace("INDEX", "INDEX CONCURRENTLY") + ";\n",
        ),
        (
            DropIndex(table=T, name="i", definition=DEFINITION, was_valid=False),
            DEFINITION,
            'DROP INDEX CONCURRENTLY IF EXISTS "shop"."i";\n',
            "-- i was invalid and of no use: it is not built again\n",
        ),
        (
            AlterSetting(name="max_wal_size", value="4GB", scope=SettingScope.SYSTEM),
            "1536 MB",
            "ALTER SYSTEM SET \"max_wal_size\" = '4GB';\nSELECT pg_reload_conf();\n",
            "ALTER SYSTEM SET \"max_wal_size\" = '1536 MB';\nSELECT pg_reload_conf();\n",
        ),
        (
            AlterSetting(name="work_mem", value="64MB"),
            None,
            'ALTER DATABASE :"DBNAME" SET "work_mem" = \'64MB\';\n',
            'ALTER DATABASE :"DBNAME" RESET "work_mem";\n',
        ),
        (
            AlterSetting(name="work_mem", value="64MB", scope=SettingScope.ROLE, scope_name="O'Hara"),
            "5MB",
            'ALTER ROLE "O\'Hara" SET "work_mem" = \'64MB\';\n',
            'ALTER ROLE "O\'Hara" SET "work_mem" = \'5MB\';\n',
        ),
        (
            CreateIndex(
                table=T,
                name="i",
                keys=(IndexKey(text="a", operator_class="gin_trgm_ops"),),
                method="gin",
                requires_extension="pg_trgm",
            ),
            None,
            'CREATE EXTENSION IF NOT EXISTS "pg_trgm";\n'
            'CREATE INDEX CONCURRENTLY "i" ON "shop"."Or""ders" USING gin ("a" "gin_trgm_ops");\n',
            'DROP INDEX CONCURRENTLY IF EXISTS "shop"."i";\n',
        ),
        (
            CreateIndex(table=T, name="i", keys=(IndexKey(text="a"),), is_partitioned=True),
            None,
            "-- This blocks writes while it runs; perfloop apply builds it partition by partition instead.\n"
            'CREATE INDEX "i" ON "shop"."Or""ders" USING btree ("a");\n',
            'DROP INDEX IF EXISTS "shop"."i";\n',
        ),
        (
            CreateStatistics(table=T, name="s", columns=("a", "b"), kinds=("mcv",)),
            None,
            'CREATE STATISTICS IF NOT EXISTS "shop"."s" (mcv) ON "a", "b" FROM "shop"."Or""ders";\n'
            'ANALYZE "shop"."Or""ders";\n',
            'DROP STATISTICS IF EXISTS "shop"."s";\n',
        ),
        (
            AnalyzeTable(table=T),
            None,
            'ANALYZE "shop"."Or""ders";\n',
            "-- ANALYZE has no undo: statistics only age\n",
        ),
    ],
    ids=lambda each: each.title if hasattr(each, "title") else "",
)
def test_a_change_and_its_undo_read_so(change: Change, before: str | None, forth: str, back: str) -> None:
    assert (forth, back) == (apply_sql(change), undo_sql(change, before))


@pytest.mark.parametrize(
    "change",
    [
        CreateIndex(table=T, name="i", keys=KEYS, method="btree) --"),
        CreateStatistics(table=T, name="s", columns=("a", "b"), kinds=("mcv) --",)),
    ],
)
def test_a_word_that_is_no_method_or_kind_is_refused(change: Change) -> None:
    with pytest.raises(InvalidInput, match="is no "):
        apply_sql(change)


def test_a_definition_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not an index definition"):
        undo_sql(DropIndex(table=T, name="i", definition="DROP TABLE x"), None)
