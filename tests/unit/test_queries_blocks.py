"""Named blocks of SQL, each marked as perfloop's own."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from perfloop.adapters.blocks import MARK
from perfloop.adapters.queries import load_blocks, query

BLOCKS = load_blocks("perfloop.adapters", "queries.sql")


@pytest.mark.parametrize("name", BLOCKS)
def test_the_mark_stands_behind_the_first_word_where_every_version_keeps_it(name):
    text = BLOCKS[name].as_string(None)

    assert re.match(rf"(SELECT|WITH) {re.escape(MARK)}\s", text)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_one_statement_without_its_comments(name):
    text = BLOCKS[name].as_string(None)

    assert ";" not in text
    assert "--" not in text


def test_every_block_says_what_it_is_for():
    source = resources.files("perfloop.adapters").joinpath("queries.sql").read_text()

    assert set(re.findall(r"^-- name: (\w+)\n-- \w", source, re.MULTILINE)) == set(BLOCKS)


def test_placeholders_are_composed_not_pasted():
    from psycopg import sql

    composed = query("read_statements_info").format(schema=sql.Identifier('od"d'))

    assert '"od""d".pg_stat_statements_info' in composed.as_string(None)
