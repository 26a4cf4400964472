"""Which tags a change clears, and which an entry needs."""

from __future__ import annotations

import pytest

from perfloop.cache.invalidation import TagMap
from perfloop.errors import InvalidInput
from perfloop.model.changes import ANY_TABLE, TableChange, WatchedTable, read_watched

TAGS = TagMap({"orders": ("order-{id}", "orders-of-{customer}", "orders"), "sales.lines": ["{{lines}}"]})


def change(table: str, *rows: dict[str, str | None]) -> TableChange:
    return TableChange(table=table, rows=rows)


def test_a_row_that_moves_clears_the_tags_of_both_places() -> None:
    moved = change("orders", {"id": "7", "customer": "1"}, {"id": "7", "customer": None})

    assert {"order-7", "orders-of-1", "orders-of-None", "orders", "table:orders"} == set(TAGS.tags_of(moved))


def test_a_table_without_templates_has_tags_of_its_own() -> None:
    assert ["table:users", "users:id=7:part=x"] == list(
        TAGS.tags_of(change("users", {"id": "7", "part": "x"}))
    )


@pytest.mark.parametrize(
    ("told", "tags"),
    [
        (TableChange(table="orders", rows=None), {"every:orders", "table:orders", "orders"}),
        (TableChange(table="users", rows=None), {"every:users", "table:users"}),
        (change("orders", {"id": "7"}), {"every:orders", "table:orders", "orders", "order-7"}),
        (
            ANY_TABLE,
            {"every:orders", "table:orders", "orders", "every:sales.lines", "table:sales.lines", "{lines}"},
        ),
    ],
)
def test_what_is_not_known_by_the_row_clears_the_table_as_a_whole(told: TableChange, tags: set[str]) -> None:
    assert tags == set(TAGS.tags_of(told))


@pytest.mark.parametrize("reader", [TagMap(), TagMap({"orders": ["order-{id}"]})], ids=["none", "rows only"])
def test_results_of_statements_are_cleared_by_a_listener_with_templates_of_its_own(reader: TagMap) -> None:
    (tag,) = reader.table_tags([("public", "orders")])

    assert tag in TAGS.tags_of(change("orders", {"id": "7", "customer": "1"}))


def test_an_entry_carries_the_tags_that_changes_of_its_rows_clear() -> None:
    assert ("order-7", "every:orders") == TAGS.row_tags("public.orders", id=7)
    assert ("orders-of-None", "every:orders") == TAGS.row_tags("orders", customer=None)
    assert ("users:id=7", "every:users") == TAGS.row_tags("users", id=7)


def test_the_tag_of_a_row_without_templates_does_not_depend_on_the_order_of_its_columns() -> None:
    tags = TagMap()
    entry = tags.row_tags("items", line=2, order_id=1)

    assert set(entry) - {"every:items"} < set(tags.tags_of(change("items", {"order_id": "1", "line": "2"})))


def test_without_templates_all_watched_columns_make_a_tag_once_they_are_known() -> None:
    tags = TagMap()
    tags.check([WatchedTable(table="items", columns=("order_id", "line"))], "install")

    assert "every:items" in tags.tags_of(change("items", {"order_id": "1"}))
    with pytest.raises(InvalidInput, match="items is watched with line, order_id"):
        tags.row_tags("items", order_id=1)


@pytest.mark.parametrize(
    ("watched", "way_out"),
    [
        ([], "orders is not watched with customer, id.*--table orders:customer,id"),
        ([("orders", ("id", "part"))], "not watched with customer;.*--table orders:customer,id,part"),
        ([("orders", ("id", "customer"))], "sales.lines is not watched,.*--table sales.lines`"),
    ],
)
def test_what_is_mapped_and_not_watched_is_refused_with_the_command_that_watches_it(
    watched: list[tuple[str, tuple[str, ...]]], way_out: str
) -> None:
    with pytest.raises(InvalidInput, match=way_out):
        TAGS.check([WatchedTable(table=table, columns=columns) for table, columns in watched], "install")


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
