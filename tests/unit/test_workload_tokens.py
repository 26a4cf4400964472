"""Where a parameter stands is decided by the lexer's rules, never by searching text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import UnsupportedStatement
from perfloop.validate.tokens import (
    TokenKind,
    parameter_numbers,
    split_statements,
    tokens,
    typed_parameters,
    with_parameters,
)

HARMLESS = st.text(alphabet="abcXYZ_0159 $:;.,()", max_size=12)
UNTOUCHED = st.one_of(
    HARMLESS.map(lambda text: "'" + text.replace("'", "''") + "'"),
    HARMLESS.map(lambda text: f"$q${text.replace('$', '')}$q$"),
    HARMLESS.map(lambda text: f"/* {text} /* $1 */ */"),
    HARMLESS.map(lambda text: f'"{text}"'),
    HARMLESS.map(lambda text: f"-- {text}\n"),
    HARMLESS.map(lambda text: f"e'{text}\\''"),
)
PARAMETER = st.integers(min_value=1, max_value=120).map(lambda number: f"${number}")


@given(st.text(max_size=200))
def test_tokens_give_the_text_again_or_refuse_it(text: str) -> None:
    try:
        joined = "".join(token.text for token in tokens(text))
    except UnsupportedStatement:
        return

    assert text == joined


@given(st.lists(st.one_of(UNTOUCHED, PARAMETER), max_size=12))
def test_only_parameters_outside_of_quotes_and_comments_are_replaced(pieces: list[str]) -> None:
    text = " ".join(pieces)
    numbers = {int(piece[1:]) for piece in pieces if piece[0] == "$" and piece[1].isdigit()}
    replaced = with_parameters(text, {number: f"<{number}>" for number in numbers})
    expected = " ".join(
        f"<{piece[1:]}>" if piece[0] == "$" and piece[1].isdigit() else piece for piece in pieces
    )

    assert (tuple(sorted(numbers)), expected) == (parameter_numbers(text), replaced)


@given(st.lists(UNTOUCHED, min_size=1, max_size=6))
def test_semicolons_in_quotes_and_comments_split_nothing(pieces: list[str]) -> None:
    statement = "SELECT " + " ".join(pieces).strip()

    assert (statement.strip(),) * 2 == split_statements(f"{statement}\n;{statement}\n;")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = $1 AND b = $10", "a = 5 AND b = 7"),
        ("SELECT a$1, $1", "SELECT a$1, 5"),
        ("x=$1::int", "x=5::int"),
        ("x -$1", "x - 5"),
        ("n $1'x'", "n 5 'x'"),
        ("U&$1", "U& 5"),
        ("'it''s $1' || $1", "'it''s $1' || 5"),
        ("$$ $1 $$ || $1", "$$ $1 $$ || 5"),
        ("$a$ $1 $$ $a$ || $1", "$a$ $1 $$ $a$ || 5"),
    ],
)
def test_a_literal_never_merges_with_its_neighbours(text: str, expected: str) -> None:
    assert expected.split() == with_parameters(text, {1: "5", 10: "7"}).split()


@pytest.mark.parametrize("text", ["SELECT 'open", 'SELECT "open', "SELECT /* open", "SELECT $a$ open $$"])
def test_what_does_not_end_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UnsupportedStatement, match="does not end"):
        list(tokens(text))


def test_statements_are_split_and_comments_alone_are_none() -> None:
    text = "-- head\nSELECT ';'; /* ; */ ;\n\nUPDATE t SET a = $$;$$;\n-- tail;"

    assert ("-- head\nSELECT ';'", "UPDATE t SET a = $$;$$") == split_statements(text)


def test_constants_of_typed_literals_are_known() -> None:
    text = "SELECT extract($1 FROM x), date $2, $3::date FROM t WHERE y > now() - INTERVAL $4"

    assert frozenset({1, 2, 4}) == typed_parameters(text)


def test_a_megabyte_is_read_in_linear_time() -> None:
    text = "SELECT " + ", ".join(f"'{number}'" for number in range(100_000))

    assert 100_000 == sum(token.kind is TokenKind.STRING for token in tokens(text))
