"""Rows as bytes: each value comes back of the type it had, or is not stored."""

from __future__ import annotations

import datetime as dt
import ipaddress
import pickle
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range
from sqlalchemy.dialects.postgresql import Range as SqlalchemyRange

from perfloop.cache.codec import Codec
from perfloop.cache.rows import StoredRows, encoded, stored
from perfloop.errors import InvalidInput

BERLIN = ZoneInfo("Europe/Berlin")
VALUES = [
    None,
    True,
    7,
    2**63,
    -(2**70),
    1.5,
    float("inf"),
    "text",
    b"\x00\xff",
    Decimal("1.10"),
    Decimal("NaN"),
    Decimal("Infinity"),
    dt.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001  # what a timestamp without time zone comes as
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30))),
    dt.date(1, 1, 1),
    dt.time(23, 59, 59, 1, tzinfo=dt.UTC),
    dt.timedelta(days=-1, microseconds=3),
    uuid.UUID(int=7),
    (1, "a", None),
    [1, [Decimal("2.0"), None]],
    {"a": [1, {"b": None}], "c": 1.0},
    ipaddress.ip_address("10.0.0.1"),
    ipaddress.ip_interface("fe80::1/64"),
    ipaddress.ip_network("10.0.0.0/8"),
    Range(1, 5),
    Range(dt.date(2026, 1, 1), None, "[)"),
    Range(empty=True),
    Multirange([Range(1, 2), Range(4, 5)]),
    SqlalchemyRange(Decimal(1), Decimal(2), bounds="[]"),
]

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
typed = (
    plain
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
)
nested = st.recursive(typed, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


def returned(rows: list[tuple[Any, ...]], columns: tuple[str, ...], codec: Codec) -> tuple[Any, ...]:
    payload = codec.encode("k", stored(columns, rows), StoredRows)
    decoded = codec.decode("k", payload, StoredRows)
    assert isinstance(decoded, StoredRows)
    return decoded.rows()


def types(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value), [types(each) for each in value]
    if isinstance(value, dict):
        return {key: types(each) for key, each in value.items()}
    return type(value), getattr(value, "tzinfo", None), getattr(value, "fold", None), repr(value)


@pytest.mark.parametrize("serializer", ["msgpack", "pickle"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_of_the_type_that_it_had(value: Any, serializer: Any) -> None:
    (row,) = returned([(value,)], ("value",), Codec(serializer, secret=b"s" * 16))

    assert (types(value), repr(value)) == (types(row.value), repr(row.value))


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a machine that others load
@given(st.lists(st.tuples(nested, nested), max_size=4))
def test_whatever_a_row_holds_comes_back_as_it_was(rows: list[tuple[Any, ...]]) -> None:
    found = returned(rows, ("a", "b"), Codec())

    assert rows == [tuple(row) for row in found]
    assert types([list(row) for row in rows]) == types([list(row) for row in found])


def test_a_type_without_a_form_is_refused_by_every_serialiser_and_kept_here() -> None:
    class Money(int):
        pass

    kept = stored(("price",), [(Money(3),)])

    assert Money is type(kept.rows()[0].price)
    for codec in (Codec(), Codec("pickle", secret=b"s" * 16)):
        with pytest.raises(InvalidInput):
            codec.encode("k", kept, StoredRows)


def test_rows_are_named_by_their_columns_and_by_their_place_where_a_name_will_not_do() -> None:
    (row,) = stored(("id", "?column?", "id", "class"), [(1, 2, 3, 4)]).rows()

    assert (1, 2, 3, 4) == row
    assert ("id", "_1", "_2", "_3") == row._fields


def test_bytes_of_others_are_refused_and_run_nothing() -> None:
    for body in (b"", b"\xc1", encoded([["a"], [[1, 2]]]), pickle.dumps([1])):
        with pytest.raises(InvalidInput):
            StoredRows(body=body).rows()


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), ("1", b"1"), (Decimal(1), 1), ((1,), [1])])
def test_values_that_differ_in_type_differ_in_bytes(one: Any, other: Any) -> None:
    assert encoded(one) != encoded(other)
