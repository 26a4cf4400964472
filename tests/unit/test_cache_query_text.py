"""What the text of a statement says of its result."""

from __future__ import annotations

import pytest

from perfloop.cache.query_text import read_statement


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM orders WHERE id IN (%s,%s)",
        "SELECT coalesce(max(id),%s)+%s FROM orders",
        "SELECT a FROM orders WHERE lower(b)=%s AND c<%s",
    ],
)
def test_placeholders_side_by_side_are_no_quotes(text: str) -> None:
    actual = read_statement(text).relations

    assert {("", "orders")} == actual
