"""Which tags a change clears, and which an entry needs."""

from __future__ import annotations

import pytest

from perfloop.adapters.changes.change import EVERYTHING, TableChange, WatchedTable, read_watched
from perfloop.cache.invalidation import TagMap
from perfloop.errors import InvalidInput

TAGS = TagMap({"orders": ("order-{id}", "orders-of-{customer}", "orders"), "sales.lines": ["{{lines}}"]})


def change(table: str, *rows: dict[str, str | None]) -> TableChange:
    return TableChange(table=table, rows=rows)


def test_a_row_that_moves_clears_the_tags_of_both_places() -> None:
    moved = change("orders", {"id": "7", "customer": "1"}, {"id": "7", "customer": None})

    assert {"order-7", "orders-of-1", "orders-of-None", "orders"} == set(TAGS.tags_of(moved))


def test_a_table_without_templates_has_tags_of_its_own() -> None:
    assert ["table:users", "users:7:x"] == list(TAGS.tags_of(change("users", {"id": "7", "part": "x"})))


@pytest.mark.parametrize(
    ("told", "tags"),
    [
        (TableChange(table="orders", rows=None), {"every:orders", "orders"}),
        (TableChange(table="users", rows=None), {"every:users", "table:users"}),
        (change("orders", {"id": "7"}), {"every:orders", "orders"}),
        (EVERYTHING, {"every:orders", "orders", "every:sales.lines", "{lines}"}),
    ],
)
def test_what_is_not_known_by_the_row_clears_the_table_as_a_whole(told: TableChange, tags: set[str]) -> None:
    assert tags == set(TAGS.tags_of(told))


def test_an_entry_carries_the_tags_that_changes_of_its_rows_clear() -> None:
    assert ("order-7", "every:orders") == TAGS.row_tags("public.orders", id=7)
    assert ("orders-of-None", "every:orders") == TAGS.row_tags("orders", customer=None)
    assert ("users:7", "every:users") == TAGS.row_tags("users", id=7)


@pytest.mark.parametrize("columns", [{}, {"colour": "red"}])
def test_an_entry_without_a_template_that_fits_is_refused(columns: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="no template of orders"):
        TAGS.row_tags("orders", **columns)


@pytest.mark.parametrize("template", ["{id", "{}", "{0}", "{id.real}", "{id!r}", "{id:>9}", "{a[0]}"])
def test_a_template_holds_columns_and_nothing_else(template: str) -> None:
    with pytest.raises(InvalidInput, match="template"):
        TagMap({"orders": [template]})


def test_a_single_string_is_no_list_of_templates() -> None:
    with pytest.raises(InvalidInput, match="list of templates"):
        TagMap({"orders": "order-{id}"})


@pytest.mark.parametrize(
    ("text", "watched"),
    [
        ("orders", WatchedTable(table="orders")),
        ("public.orders:id", WatchedTable(table="orders", columns=("id",))),
        ("sales.Order Lines:id, part", WatchedTable(table="sales.Order Lines", columns=("id", "part"))),
    ],
)
def test_what_to_watch_is_read_from_a_word(text: str, watched: WatchedTable) -> None:
    assert watched == read_watched(text)


@pytest.mark.parametrize("text", ["", ":id", ".orders", "a.b.c", "orders:", "orders:id,id", "orders:id,,x"])
def test_a_word_that_names_no_table_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_watched(text)
