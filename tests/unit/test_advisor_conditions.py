from __future__ import annotations

import pytest

from perfloop.errors import UnsupportedStatement
from perfloop.model.target import IndexKey
from perfloop.tune.advisor.conditions import Use, canonical, columns_in, read_conditions, read_order


def told(text: str) -> list[tuple[str, str, Use]]:
    return [(each.alias, each.key.text, each.use) for each in read_conditions(text).comparisons]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(o.status = 'open'::text)", [("o", "status", Use.EQUAL)]),
        ("((o.status)::text = 'open'::text)", [("o", "status", Use.EQUAL)]),
        ("(o.kind = ANY ('{1,2}'::integer[]))", [("o", "kind", Use.EQUAL)]),
        ("(o.total = $1)", [("o", "total", Use.EQUAL)]),
        ("((SubPlan 1) = o.total)", [("o", "total", Use.EQUAL)]),
        ("(o.total = (InitPlan 2).col1)", [("o", "total", Use.EQUAL)]),
        ("(5 < o.total)", [("o", "total", Use.RANGE)]),
        ("(o.made > (now() - '7 days'::interval))", [("o", "made", Use.RANGE)]),
        ("(o.gone IS NULL)", [("o", "gone", Use.PREDICATE)]),
        ("(NOT o.paid)", [("o", "paid", Use.PREDICATE)]),
        ('(o."Odd Name" = 1)', [("o", "Odd Name", Use.EQUAL)]),
        ("(o.a = c.b)", [("o", "a", Use.JOIN), ("c", "b", Use.JOIN)]),
        ("(ROW(o.made, o.id) < ROW($1, $2))", [("o", "made", Use.RANGE), ("o", "id", Use.RANGE)]),
    ],
)
def test_a_comparison_names_the_column_and_its_use(text: str, expected: list[tuple[str, str, Use]]) -> None:
    assert expected == told(text)


@pytest.mark.parametrize(
    "text",
    [
        "(o.a < o.b)",
        "(o.a <> 5)",
        "((o.name)::text !~~ '%x%'::text)",
        "(NOT (hashed SubPlan 1))",
        "(NOT (ANY (o.a = (hashed SubPlan 1).col1)))",
        "EXISTS(SubPlan 1)",
        "(sum((o.a * (o.b)::numeric)) > $0)",
        "((o.quantity)::numeric > $1)",
    ],
)
def test_what_no_index_serves_is_no_comparison(text: str) -> None:
    assert [] == told(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(lower(u.email) = 'x'::text)", "lower(email)"),
        ("((u.data ->> 'kind'::text) = 'a'::text)", "data ->> 'kind'"),
    ],
)
def test_a_compared_expression_is_a_key_without_the_alias(text: str, expected: str) -> None:
    keys = [each.key for each in read_conditions(text).comparisons]

    assert [IndexKey(text=expected, is_expression=True)] == keys


def test_comparisons_below_an_or_are_alternatives() -> None:
    conditions = read_conditions("((o.a = 1) AND ((o.b = 2) OR (o.c = 3)))")

    assert [("a", False), ("b", True), ("c", True)] == [
        (each.key.text, each.alternative) for each in conditions.comparisons
    ]


def test_a_pattern_with_a_beginning_asks_for_pattern_operators() -> None:
    keys = [each.key for each in read_conditions("((u.name)::text ~~ 'forest%'::text)").comparisons]

    assert IndexKey(text="name", operator_class="text_pattern_ops") in keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("((u.name)::text ~~ '%green%'::text)", ("name", "LIKE", "text")),
        ("(u.data @> '{\"a\": 1}'::jsonb)", ("data", "@>", "jsonb")),
        ("(u.data ? 'a'::text)", ("data", "?", "text")),
        ("(u.data ?| '{a,b}'::text[])", ("data", "?|", "text[]")),
        ("(u.data ?& '{a,b}'::text[])", ("data", "?&", "text[]")),
        ("((u.data -> 'tags'::text) @> '[1]'::jsonb)", ("data -> 'tags'", "@>", "jsonb")),
        ("(u.tags && '{a}'::text[])", ("tags", "&&", "text[]")),
        ("(u.words @@ to_tsquery('a'::text))", ("words", "@@", None)),
        (
            "(to_tsvector('english'::regconfig, u.body) @@ '''a'''::tsquery)",
            ("to_tsvector(CAST('english' AS REGCONFIG), body)", "@@", "tsquery"),
        ),
        ("((u.name)::text ~~* 'x%'::text)", ("name", "ILIKE", "text")),
        ("(u.name ~* 'x'::text)", ("name", "~*", "text")),
    ],
)
def test_a_search_inside_a_value_tells_what_it_searches_and_how(
    text: str, expected: tuple[str, str, str | None]
) -> None:
    parts = [each for each in read_conditions(text).comparisons if each.use is Use.PART]

    assert [expected] == [(each.key.text, each.operator, each.operand_type) for each in parts]


@pytest.mark.parametrize(
    "text",
    ["(NOT (u.data @> '{\"a\": 1}'::jsonb))", "((u.name)::text !~~ '%x%'::text)", "(u.tags @> v.tags)"],
)
def test_what_is_excluded_or_joined_is_no_search_inside_a_value(text: str) -> None:
    assert [] == [each for each in read_conditions(text).comparisons if each.use is Use.PART]


def test_an_element_before_any_is_told_as_what_no_index_serves() -> None:
    unserved = read_conditions("(5 = ANY (u.tags))").unserved

    assert ("tags = ANY (…) where @> ARRAY[…] could use one",) == unserved


def test_an_expression_keeps_the_letters_of_its_constants() -> None:
    """The planner takes date_trunc('DAY', made) for another expression."""
    (comparison,) = read_conditions("(date_trunc('day'::text, o.made) = $1)").comparisons

    assert "date_trunc('day', made)" == comparison.key.text


def test_a_condition_that_is_not_understood_is_refused_with_its_text() -> None:
    with pytest.raises(UnsupportedStatement, match="was not understood"):
        read_conditions("(((")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("o.made", ("o", IndexKey(text="made"))),
        ("o.made DESC", ("o", IndexKey(text="made", descending=True))),
        ("o.made DESC NULLS LAST", ("o", IndexKey(text="made", descending=True, nulls_first=False))),
        ("(sum(o.total)) DESC", None),
        ('o.name COLLATE "C"', None),
    ],
)
def test_an_order_is_read_with_its_direction(text: str, expected: tuple[str, IndexKey] | None) -> None:
    assert expected == read_order(text)


def test_every_column_of_an_output_is_found() -> None:
    assert (("o", "a"), ("c", "b")) == columns_in("sum((o.a * (c.b)::numeric))")
    assert (("o", "a"),) == columns_in("o.a DESC NULLS LAST")


def test_two_writings_of_an_expression_are_the_same() -> None:
    assert canonical("lower((email)::text)") == canonical("LOWER(email::text)")
