"""What a statement does, told from its text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.adapters.statements import parameter_count, statement_kind, without_prepare
from perfloop.model.workload import StatementKind

READS = [
    "select 1",
    "SELECT * FROM t WHERE note = 'for update'",
    "select $$insert into t$$, $tag$ delete from $$ t $tag$",
    'select "for" , "update" from t',
    "select e'it\\'s for update' from t",
    "select substring(a from 1 for 2) from t",
    "select update, t.delete from t",
    "/* route=/a /* nested */ */ -- hi\n select 1",
    "(select 1) union all (select 2)",
    "with a as materialized (select 1) select * from a",
    "values (1), (2)",
    "table t",
    "select '",
]
WRITES = [
    "insert into t values ($1)",
    "UPDATE t SET a = 1",
    "delete from t",
    "merge into t using s on t.id = s.id when matched then delete",
    "with gone as (delete from t returning *) select * from gone",
    "with gone as not materialized (/* now */ update t set a = 1 returning *) select * from gone",
    "with a as (select 1 as id) insert into t select id from a",
    "with a as (select 1 as id) update t set a = 1 from a",
    "select * from t for update",
    "select * from t for no key update skip locked",
    "select * from t for share of t",
    "select * from t for key share",
    "select a into copy_of_t from t",
    "select nextval('s')",
    "select pg_catalog.setval('s', 1)",
]
NEITHER = [
    "",
    "-- nothing",
    "begin",
    "commit",
    "set work_mem = '64MB'",
    "explain select 1",
    "fetch 100 from c",
    "declare c cursor for select 1",
    "copy t to stdout",
    "create index on t (a)",
    "vacuum t",
    "call p()",
]


@pytest.mark.parametrize("text", READS)
def test_a_statement_that_only_reads_is_a_read(text):
    assert statement_kind(text) is StatementKind.READ


@pytest.mark.parametrize("text", WRITES)
def test_a_statement_that_writes_or_locks_rows_is_a_write(text):
    assert statement_kind(text) is StatementKind.WRITE


@pytest.mark.parametrize("text", NEITHER)
def test_utility_statements_are_no_operations(text):
    assert statement_kind(text) is None


@given(st.text())
def test_no_text_is_too_strange(text):
    statement_kind(text)
    parameter_count(text)
    without_prepare(text)


@given(
    st.sampled_from(READS[:-1] + WRITES),
    st.text(alphabet="abc'\"$; \n"),
)
def test_comments_change_nothing(text, comment):
    commented = f"/* {comment} */ {text} -- {comment.replace(chr(10), ' ')}"

    assert statement_kind(text) == statement_kind(commented)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("select 1", 0),
        ("select $1", 1),
        ("select $2 + $10", 10),
        ("select '$3', $$ $4 $$, \"$5\" -- $6", 0),
        ("select a$1 from t", 0),
    ],
)
def test_parameters_are_counted_outside_of_literals_only(text, count):
    assert count == parameter_count(text)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("PREPARE q AS SELECT $1", "SELECT $1"),
        ('prepare "Q 1" (int, numeric(4, 2)) as select $1', "select $1"),
        ("select prepare as q from t", "select prepare as q from t"),
    ],
)
def test_a_prepared_statement_is_unwrapped(text, inside):
    assert inside == without_prepare(text)
