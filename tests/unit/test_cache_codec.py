"""The codec: golden files of every version, and bytes of strangers."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import hmac
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.cache import compression
from perfloop.cache.codec import Codec, Rejection
from perfloop.errors import InvalidInput

GOLDEN = Path(__file__).parent / "data" / "cache_codec"
SECRET = b"a secret for the golden files...."
KEY = "user:7"
ROWS = [{"id": n, "name": f"user {n}", "score": n / 4, "raw": b"\x00\xff", "none": None} for n in range(40)]

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
    max_leaves=20,
)


@dataclasses.dataclass
class User:
    user_id: int
    born: datetime.date
    balance: Decimal
    roles: tuple[str, ...] = ()


class Point(msgspec.Struct):
    x: int


class Reversed:
    def dumps(self, value: Any) -> bytes:
        return str(value).encode()[::-1]

    def loads(self, body: bytes) -> Any:
        return body[::-1].decode()


# Files are only ever added: each must stay readable for ever.
GOLDEN_FILES: dict[str, tuple[Codec, object]] = {
    "v1-msgpack.bin": (Codec(), {"id": 7, "name": "Ada", "tags": ["a", None]}),
    "v1-msgpack-signed.bin": (Codec(secret=SECRET, scope="shop"), {"id": 7, "name": "Ada"}),
    "v1-msgpack-signed-zstd.bin": (Codec(secret=SECRET), ROWS),
    "v1-pickle-signed.bin": (Codec("pickle", secret=SECRET), {"when": datetime.date(2026, 11, 21)}),
    "v1-own.bin": (Codec(Reversed()), "Ada"),
}


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_every_golden_file_is_read(name: str) -> None:
    codec, expected = GOLDEN_FILES[name]

    assert expected == codec.decode(KEY, (GOLDEN / name).read_bytes())


def test_there_is_an_expectation_for_each_golden_file() -> None:
    assert sorted(GOLDEN_FILES) == sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize(
    "name", [name for name in GOLDEN_FILES if "zstd" not in name and "pickle" not in name]
)
def test_version_1_is_written_as_the_golden_files_have_it(name: str) -> None:
    codec, value = GOLDEN_FILES[name]

    assert (GOLDEN / name).read_bytes() == codec.encode(KEY, value)


@given(value=PLAIN, key=st.text())
def test_plain_values_come_back_as_they_were(value: object, key: str) -> None:
    codec = Codec(secret=SECRET)

    assert repr(value) == repr(codec.decode(key, codec.encode(key, value)))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (User(7, datetime.date(1815, 12, 10), Decimal("1.50"), ("admin",)), User),
        ([Point(1), Point(2)], list[Point]),
        ((1, "a"), tuple[int, str]),
        ({1, 2}, set[int]),
        (None, User | None),
        (None, User),
        (None, int),
        (datetime.datetime(2026, 1, 1), datetime.datetime),  # noqa: DTZ001 - naive, as many columns are
    ],
)
def test_a_type_brings_back_what_msgpack_does_not_know(value: object, kind: Any) -> None:
    codec = Codec()

    assert value == codec.decode(KEY, codec.encode(KEY, value, kind), kind)


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1}, Decimal(1), datetime.date(2026, 1, 1), Point(1), {"deep": [{"er": (1,)}]}, 2**64, object()],
)
def test_a_value_that_msgpack_would_change_is_refused_when_it_is_stored(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"msgpack.*return type"):
        Codec().encode(KEY, value)


def test_pickle_keeps_any_type() -> None:
    codec = Codec("pickle", secret=SECRET)
    user = User(7, datetime.date(1815, 12, 10), Decimal("1.50"))

    assert user == codec.decode(KEY, codec.encode(KEY, user))


def test_what_cannot_be_pickled_is_refused_when_it_is_stored() -> None:
    with pytest.raises(InvalidInput, match="pickled"):
        Codec("pickle", secret=SECRET).encode(KEY, lambda: None)


def test_pickle_needs_a_secret() -> None:
    with pytest.raises(InvalidInput, match=r"runs code.*secret"):
        Codec("pickle")


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bytes, 16 or more"):
        Codec(secret=b"hunter2")


def test_an_unknown_serialiser_is_refused() -> None:
    name: Any = "json"
    with pytest.raises(InvalidInput, match="json"):
        Codec(name)


def test_the_signature_is_hmac_sha256() -> None:
    codec = Codec(secret=SECRET, scope="shop")
    payload = codec.encode(KEY, 1)
    derived = hmac.digest(SECRET, b"perfloop.cache.codec\0shop", "sha256")
    signed = len(KEY).to_bytes(4, "big") + KEY.encode() + payload[:4] + payload[36:]

    assert hmac.digest(derived, signed, hashlib.sha256) == payload[4:36]


@pytest.mark.parametrize("value", [{"id": 7}, ROWS], ids=["plain", "compressed"])
@pytest.mark.parametrize("serializer", ["msgpack", "pickle"])
def test_no_signed_byte_can_be_changed(serializer: Literal["msgpack", "pickle"], value: object) -> None:
    codec = Codec(serializer, secret=SECRET)
    payload = codec.encode(KEY, value)
    for at in range(0, len(payload), 7):
        for bit in (1, 128):
            forged = payload[:at] + bytes((payload[at] ^ bit,)) + payload[at + 1 :]

            assert isinstance(codec.decode(KEY, forged), Rejection)


def test_a_value_cannot_be_moved_to_another_key_or_scope() -> None:
    payload = Codec(secret=SECRET, scope="a").encode("session:7", "admin")

    assert Rejection.FORGED == Codec(secret=SECRET, scope="a").decode("session:8", payload)
    assert Rejection.FORGED == Codec(secret=SECRET, scope="b").decode("session:7", payload)


def test_nothing_is_unpickled_before_its_signature_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_run(_: bytes) -> object:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "loads", must_not_run)
    codec = Codec("pickle", secret=SECRET)
    other = Codec("pickle", secret=SECRET[::-1])
    unsigned = bytes((0xB5, 1, ord("p"), 0)) + pickle.dumps(1)

    assert Rejection.FORGED == codec.decode(KEY, other.encode(KEY, 1))
    assert Rejection.UNSIGNED == codec.decode(KEY, unsigned)
    assert Rejection.OTHER_SERIALIZER == Codec().decode(KEY, unsigned)


def test_a_pickle_whose_class_is_gone_is_a_rejection() -> None:
    codec = Codec("pickle", secret=SECRET)
    signer = codec._signer
    assert signer is not None
    head, body = bytes((0xB5, 1, ord("p"), 1)), b"cno_such_module\nNoSuchClass\n."

    assert Rejection.UNREADABLE == codec.decode(KEY, head + signer.digest(KEY, head, body) + body)


@pytest.mark.parametrize("codec", [Codec(), Codec(secret=SECRET), Codec("pickle", secret=SECRET)])
@given(payload=st.binary(max_size=200) | st.binary(max_size=200).map(lambda some: b"\xb5\x01m\x02" + some))
def test_bytes_of_strangers_raise_nothing(codec: Codec, payload: bytes) -> None:
    codec.decode(KEY, payload)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_every_truncation_is_a_rejection(secret: bytes | None) -> None:
    codec = Codec(secret=secret)
    payload = codec.encode(KEY, ROWS)

    assert {True} == {
        isinstance(codec.decode(KEY, payload[:size]), Rejection) for size in range(len(payload))
    }


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", Rejection.FOREIGN),
        (b"\xb5\x01", Rejection.TRUNCATED),
        (b"some text of another program", Rejection.FOREIGN),
        (pickle.dumps({"foreign": True}), Rejection.FOREIGN),
        (b"\xb5\x02m\x00\xc0", Rejection.NEWER),
        (b"\xb5\x01m\x08\xc0", Rejection.NEWER),
        (b"\xb5\x01m\x01" + b"\0" * 40, Rejection.FORGED),
        (b"\xb5\x01m\x00" + b"\x91" * 100_000, Rejection.UNREADABLE),
        (b"\xb5\x01m\x00\xa2\xff\xff", Rejection.UNREADABLE),
        (b"\xb5\x01m\x02" + base64.b64decode("KLUv/aD///9/AQAA"), Rejection.UNREADABLE),
    ],
    ids=lambda value: str(value) if isinstance(value, Rejection) else "",
)
def test_each_rejection_says_why(payload: bytes, expected: Rejection) -> None:
    assert expected == Codec().decode(KEY, payload)


def test_a_value_of_another_type_is_a_rejection() -> None:
    codec = Codec()

    assert Rejection.UNREADABLE == codec.decode(KEY, codec.encode(KEY, "Ada"), int)


def test_large_values_are_compressed_and_small_ones_are_not() -> None:
    codec = Codec()

    assert len(codec.encode(KEY, "x" * 100_000)) < 200
    assert len(codec.encode(KEY, "x" * 1000)) > 1000


def test_without_zstd_values_are_stored_plain_and_compressed_ones_are_misses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = Codec()
    compressed = codec.encode(KEY, "x" * 2000)
    monkeypatch.setattr(compression, "_zstd", None)
    plain = codec.encode(KEY, "x" * 2000)

    assert len(plain) > 2000
    assert "x" * 2000 == codec.decode(KEY, plain)
    assert Rejection.COMPRESSED == codec.decode(KEY, compressed)
