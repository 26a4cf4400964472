"""Rules on scans, planted on real servers of every version: each fires there, and not at its near miss."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perfloop.model.advice import Finding

Smells = Callable[..., dict[str, Finding]]

BY_INDEX = ("SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off")
BY_BITMAP = ("SET LOCAL enable_seqscan = off", "SET LOCAL enable_indexscan = off")
SMALL_MEMORY = "SET LOCAL work_mem = '64kB'"
NEVER_VACUUMED = (
    "CREATE TABLE fresh AS SELECT id, placed FROM orders",
    "CREATE INDEX ON fresh (placed)",
    "ANALYZE fresh",
)
EMPTIED = ("DELETE FROM orders WHERE id % 1000 <> 0", "SET LOCAL enable_bitmapscan = off")
PLANTED = [
    ("missing-index", "orders(status)", "SELECT * FROM orders WHERE status = 'open'", ()),
    (
        "row-misestimate",
        "orders(shop, town)",
        "SELECT count(*) FROM orders WHERE shop = 7 AND town = 7",
        (),
    ),
    (
        "index-scan-discard",
        "orders(shop)",
        "SELECT * FROM orders WHERE customer < 150 AND shop = 3",
        BY_INDEX,
    ),
    (
        "index-scan-discard",
        "orders(late)",
        "SELECT * FROM orders WHERE placed < 9000 AND late % 20 = 3",
        BY_BITMAP,
    ),
    (
        "wrong-index-for-limit",
        "orders(late)",
        "SELECT * FROM orders WHERE late < 10 ORDER BY id LIMIT 1",
        BY_INDEX,
    ),
    (
        "index-recheck",
        "orders(scattered)",
        "SELECT * FROM orders WHERE scattered < 5000",
        (*BY_BITMAP, SMALL_MEMORY),
    ),
    (
        "heap-fetches",
        "fresh",
        "SELECT count(placed) FROM fresh WHERE placed < 20000",
        (*NEVER_VACUUMED, *BY_INDEX),
    ),
    (
        "bitmap-and",
        "orders(placed, scattered)",
        "SELECT * FROM orders WHERE placed < 3000 AND scattered < 3000",
        BY_BITMAP,
    ),
    (
        "blocks-per-row",
        "orders: orders_scattered",
        "SELECT * FROM orders WHERE scattered < 9000",
        BY_INDEX,
    ),
    ("blocks-per-row", "orders", "SELECT max(length(note)) FROM orders", EMPTIED),
]
NEAR_MISSES = [
    ("missing-index", "SELECT * FROM orders WHERE status = 'done'", ()),
    ("row-misestimate", "SELECT count(*) FROM orders WHERE shop = 7", ()),
    ("index-scan-discard", "SELECT * FROM orders WHERE customer < 150 AND shop <> 3", BY_INDEX),
    ("index-scan-discard", "SELECT * FROM orders WHERE customer = 7 AND shop = 3", BY_INDEX),
    ("wrong-index-for-limit", "SELECT * FROM orders WHERE late > 10 ORDER BY id LIMIT 1", BY_INDEX),
    ("wrong-index-for-limit", "SELECT * FROM orders WHERE late < 20000 ORDER BY id LIMIT 200", BY_INDEX),
    ("index-recheck", "SELECT * FROM orders WHERE scattered < 5000", BY_BITMAP),
    ("heap-fetches", "SELECT count(order_id) FROM items WHERE order_id < 20000", BY_INDEX),
    ("bitmap-and", "SELECT * FROM orders WHERE placed < 3000 OR scattered < 3000", BY_BITMAP),
    ("blocks-per-row", "SELECT * FROM orders WHERE placed < 9000", BY_INDEX),
    ("blocks-per-row", "SELECT * FROM orders WHERE scattered < 500", BY_INDEX),
    (
        "blocks-per-row",
        "SELECT max(length(note)) FROM orders",
        ("DELETE FROM orders WHERE id % 2 = 0", *BY_BITMAP[1:]),
    ),
]


@pytest.mark.finds(*{case[0] for case in PLANTED})
@pytest.mark.parametrize(("check", "location", "statement", "setup"), PLANTED)
def test_a_planted_scan_smells(
    smells: Smells, check: str, location: str, statement: str, setup: tuple[str, ...]
) -> None:
    found = smells(statement, *setup)

    assert location == (found[check].location if check in found else sorted(found))


@pytest.mark.spares(*{case[0] for case in NEAR_MISSES})
@pytest.mark.parametrize(("check", "statement", "setup"), NEAR_MISSES)
def test_a_scan_that_nearly_smells_does_not(
    smells: Smells, check: str, statement: str, setup: tuple[str, ...]
) -> None:
    assert check not in smells(statement, *setup)


@pytest.mark.parametrize(("check", "location", "statement", "setup"), PLANTED)
def test_what_only_an_execution_shows_is_not_guessed(
    smells: Smells, check: str, location: str, statement: str, setup: tuple[str, ...]
) -> None:
    found = set(smells(statement, *setup, executed=False))

    assert found <= {"missing-index", "bitmap-and"}


def test_rows_found_in_vain_are_told_once(smells: Smells) -> None:
    walked = smells("SELECT * FROM orders WHERE late < 10 ORDER BY id LIMIT 1", *BY_INDEX)
    intersected = smells(
        "SELECT * FROM orders WHERE placed < 3000 AND scattered < 3000 AND shop = 3", *BY_BITMAP
    )
    scattered = smells("SELECT * FROM orders WHERE scattered < 9000 AND shop = 3", *BY_INDEX)

    assert "index-scan-discard" not in walked
    assert "index-scan-discard" not in intersected
    assert "blocks-per-row" not in scattered


def cold(rows: int, width: int) -> tuple[str, ...]:
    """A table that CLUSTER wrote past shared_buffers; it is too large for the reads before to stay there."""
    return (
        "CREATE TABLE wide (id int PRIMARY KEY, mark int, body text)",
        "ALTER TABLE wide ALTER body SET STORAGE PLAIN",
        f"INSERT INTO wide SELECT i, i, repeat('x', {width}) FROM generate_series(1, {rows}) i",
        "ANALYZE wide",
        "CLUSTER wide USING wide_pkey",
        "CHECKPOINT",
        "SET LOCAL track_io_timing = on",
    )


@pytest.mark.finds("cache-misses")
@pytest.mark.spares("cache-misses")
def test_waiting_for_blocks_is_told_where_it_is_most_of_the_time(smells: Smells) -> None:
    statement = "SELECT body IS NULL FROM wide WHERE id > 0"
    # The blocks are in the system's cache, so that a crowded host has its say in what takes longest.
    found = next(
        each
        for each in (smells(statement, *cold(2400, 7000), *BY_INDEX) for _ in range(4))
        if "cache-misses" in each
    )
    warm = [smells(statement, *cold(2400, 7000), *BY_INDEX, statement) for _ in range(2)]

    assert "wide" == found["cache-misses"].location
    assert "blocks-per-row" not in found
    assert any("cache-misses" not in each for each in warm)


def test_blocks_that_an_index_would_spare_are_not_waited_for_twice(smells: Smells) -> None:
    found = smells("SELECT id FROM wide WHERE mark = 7", *cold(12000, 1400))

    assert "wide(mark)" == found["missing-index"].location
    assert "cache-misses" not in found
