"""Messages of the log: read as they are, and refused when they are damaged."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.adapters.changes.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Relation,
    RowChange,
    Truncate,
    read_message,
)
from perfloop.adapters.changes.seen import SeenTransactions
from perfloop.errors import InvalidInput

# As PostgreSQL 15 sent them for a table orders (id int PRIMARY KEY, note text).
BEGIN = b"B\0\0\0\0\x01R0\xb0\0\x03\x03\xc9\t\xd8~\xbc\0\0\x02\xd6"
COMMIT = b"C\0\0\0\0\0\x01R0\xb0\0\0\0\0\x01R0\xe0\0\x03\x03\xc9\t\xd8~\xbc"
RELATION = (
    b"R\0\0@\0public\0orders\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0note\0\0\0\0\x19\xff\xff\xff\xff"
)
MESSAGES = {
    BEGIN: Begin(xid=726, committed_at_us=848586918624956),
    COMMIT: Commit(end=0x15230E0),
    RELATION: Relation(
        number=16384, schema="public", name="orders", columns=("id", "note"), keys=frozenset({"id"})
    ),
    b"I\0\0@\0N\0\x02t\0\0\0\x011n": RowChange(relation=16384, is_new=True, old=None, new=("1", None)),
    b"U\0\0@\0N\0\x02t\0\0\0\x011u": RowChange(relation=16384, is_new=False, old=None, new=("1", UNCHANGED)),
    b"U\0\0@\0K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012n": RowChange(
        relation=16384, is_new=False, old=("1", None), new=("2", None)
    ),
    b"D\0\0@\0O\0\x02t\0\0\0\x012t\0\0\0\x02\xc3\xa4": RowChange(
        relation=16384, is_new=False, old=("2", "ä"), new=None
    ),
    b"T\0\0\0\x01\0\0\0@\0": Truncate(relations=(16384,)),
}
SAMPLES = st.sampled_from(sorted(MESSAGES))


@pytest.mark.parametrize("data", MESSAGES, ids=lambda data: data[:1].decode())
def test_a_message_is_read(data: bytes) -> None:
    assert MESSAGES[data] == read_message(data)


def test_a_value_that_is_unchanged_is_no_empty_text() -> None:
    changed = read_message(b"U\0\0@\0N\0\x02t\0\0\0\x00u")

    assert isinstance(changed, RowChange)
    assert changed.new is not None
    assert [False, True] == [value is UNCHANGED for value in changed.new]


def test_messages_that_tell_nothing_about_rows_are_passed_over() -> None:
    assert [None, None, None] == [read_message(kind + b"\0" * 9) for kind in (b"O", b"Y", b"M")]


@given(SAMPLES, st.data())
def test_a_message_that_ends_early_is_refused(data: bytes, drawn: st.DataObject) -> None:
    end = drawn.draw(st.integers(0, len(data) - 1))

    with pytest.raises(InvalidInput):
        read_message(data[:end])


KINDS = st.sampled_from([b"B", b"C", b"R", b"I", b"U", b"D", b"T"])


@given(st.binary(max_size=200) | st.tuples(KINDS, st.binary()).map(b"".join))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(InvalidInput):
        read_message(data)


@given(SAMPLES, st.integers(0, 60), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(data: bytes, place: int, byte: int) -> None:
    changed = bytearray(data)
    changed[place % len(data)] = byte

    with suppress(InvalidInput):
        read_message(bytes(changed))


@given(st.integers(3, 2**40), st.integers(1, 1000), st.data())
def test_a_short_number_is_seen_as_the_long_one_is(xmin: int, running: int, drawn: st.DataObject) -> None:
    xmax = xmin + running
    still_open = drawn.draw(st.frozensets(st.integers(xmin, xmax - 1), max_size=5))
    snapshot = SeenTransactions.parse(f"{xmin}:{xmax}:{','.join(map(str, still_open))}")
    xid = drawn.draw(st.integers(max(0, xmin - 1000), xmax + 1000))

    assert (xid < xmax and xid not in still_open) == snapshot.sees_short(xid % 2**32)
    assert snapshot == SeenTransactions.parse(str(snapshot))


@pytest.mark.parametrize("text", ["", "1:2", "1:2:3:4", "a:b:", "1:2:x"])
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="pg_snapshot"):
        SeenTransactions.parse(text)
