"""Statements and conditions as trees, or without one: no text ends an analysis."""

from __future__ import annotations

import pytest

from perfloop.analyze.nulls import is_false_for_nulls
from perfloop.analyze.syntax import (
    PARSED_CHARACTERS,
    longest_list,
    parse_condition,
    parse_statement,
)

NESTED = "SELECT " + "(" * 5000 + "1" + ")" * 5000
LONG = f"SELECT 1 WHERE 1 IN ({', '.join('1' for _ in range(PARSED_CHARACTERS))})"


@pytest.mark.parametrize(
    "text",
    ["", "SELECT (((", "VACUUM t", "COPY t TO STDOUT", "\x00", "SELECT 'a", "WITH", NESTED, LONG],
    ids=["empty", "open", "vacuum", "copy", "nul", "quote", "with", "nested", "long"],
)
def test_a_text_that_is_not_understood_has_no_tree(text: str) -> None:
    assert parse_statement(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT $1::jsonb @> $2 FROM t, LATERAL (SELECT 1) x WHERE a = ANY ($3)",
        "/* who asks */ -- and why\nSELECT 1",
        "INSERT INTO t VALUES ($1) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING c",
        "UPDATE ONLY t SET a = a + 1 WHERE id = $1",
        "((SELECT 1) UNION ALL (SELECT 2))",
    ],
)
def test_a_statement_of_a_service_has_a_tree(text: str) -> None:
    assert parse_statement(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "(NOT (ANY (c.id = (hashed SubPlan 1).col1)))",
        "(NOT (SubPlan 1))",
        "(EXISTS(SubPlan 2) OR (c.name !~~ '%x'::text))",
        "(c.total > $0)",
        "((c.a !~* 'x'::text) AND (c.b = ANY ('{1,2}'::integer[])))",
        "(NOT c.gone)",
    ],
)
def test_a_condition_of_a_plan_has_a_tree(text: str) -> None:
    assert parse_condition(text) is not None


def test_a_list_is_counted_in_a_text_too_long_to_be_parsed() -> None:
    assert PARSED_CHARACTERS == longest_list(LONG)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("SELECT ARRAY[1, 2, 3]", 3),
        ("SELECT 1 FROM t WHERE (a, b) IN ((1, 2), (3, 4))", 2),
        ("SELECT 1 FROM t WHERE a IN ('x, y', 'it''s', $3 /* , */)", 3),
        ("WITH v (a) AS (VALUES (1), (2), (3)) SELECT 1", 3),
        ("SELECT coalesce(a, b, c), f(1, 2, 3, 4)", 0),
        ("SELECT 1 WHERE a = ANY ('{1,2,3}')", 0),
        (")))", 0),
    ],
)
def test_only_lists_of_values_are_counted(text: str, length: int) -> None:
    assert length == longest_list(text)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("(COALESCE(c.a, 'x'::text) = 'y'::text)", True),
        ("(COALESCE(c.a, 'x'::text) = 'x'::text)", False),
        ("(COALESCE(c.a, 0) <> 0)", True),
        ("(COALESCE(c.a, '0'::numeric) = 0.0)", False),
        ("(COALESCE(c.a, o.b) = 1)", False),
        ("((COALESCE(c.a, 1) = 2) OR (o.b = 3))", False),
        ("((COALESCE(c.a, 1) = 2) OR (c.b IS NOT NULL))", True),
        ("(c.a IS NULL)", False),
        ("(NOT (COALESCE(c.a, 1) = 1))", True),
        ("(some_function(c.a) = 1)", False),
        ("(COALESCE(c.a, 'x'::citext) = 'X'::citext)", False),
    ],
)
def test_a_condition_on_nulls_is_false_only_where_that_is_certain(condition: str, expected: bool) -> None:
    tree = parse_condition(condition)

    assert tree is not None
    assert expected == is_false_for_nulls(tree, frozenset({"c"}))
