"""What the text of a statement says of its result."""

from __future__ import annotations

import pytest

from perfloop.cache.query_text import read_statement
from perfloop.errors import UnsupportedStatement


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


@pytest.mark.parametrize("text", ["SHOW work_mem", "EXPLAIN SELECT 1", "VACUUM orders", "CALL tidy()"])
def test_what_is_no_query_is_refused_and_writes_nothing_to_the_log(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnsupportedStatement, match="only results of SELECT"):
        read_statement(text, has_params=False)

    assert [] == caplog.messages
