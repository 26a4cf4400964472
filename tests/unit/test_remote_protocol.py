"""The protocol of Redis, addresses, and the messages of the shared tier."""

from __future__ import annotations

import itertools
import math
import struct
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.adapters.remote.address import Address
from perfloop.adapters.remote.faults import fault_of
from perfloop.adapters.remote.messages import read_fetched, read_news, to_ms
from perfloop.adapters.remote.resp import NotRedis, Parser, Push, Reply, ServerError, as_bytes, as_text, pack
from perfloop.errors import InvalidInput, InvalidValue, MissingRights, TargetUnreachable
from perfloop.model.remote import Fetched, Gap, KeysChanged, Lease, TagsChanged, Write

ALL_KINDS = (
    b"+OK\r\n-ERR no\r\n:42\r\n$5\r\nhe\r\no\r\n$-1\r\n*-1\r\n_\r\n#t\r\n,1.5\r\n(12345678901234567890\r\n"
    b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n%1\r\n+k\r\n+v\r\n~1\r\n:3\r\n"
    b"!9\r\nERR large\r\n=5\r\ntxt:a\r\n>2\r\n+a\r\n_\r\n"
)
ALL_REPLIES = [
    *(b"OK", "ERR no", 42, b"he\r\no", None, None, None, 1, 1.5, 12345678901234567890),
    *([1, [b"x"]], [b"k", b"v"], [3], "ERR large", b"txt:a", [b"a", None]),
]


@given(cuts=st.lists(st.integers(0, len(ALL_KINDS)), max_size=20))
def test_replies_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    parser = Parser()
    replies: list[Reply] = []
    bounds = [0, *sorted(cuts), len(ALL_KINDS)]
    for start, end in itertools.pairwise(bounds):
        replies += parser.feed(ALL_KINDS[start:end])

    assert ALL_REPLIES == replies


def test_pushes_and_errors_are_told_from_replies() -> None:
    replies = list(Parser().feed(ALL_KINDS))

    assert [ServerError, ServerError] == [type(one) for one in replies if isinstance(one, str)]
    assert [Push] == [type(one) for one in replies if isinstance(one, Push)]


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400\r\n", b"$x\r\n", b"*1\r\n?\r\n", b"*x\r\n", b":\r\n", b"\r\n", b"*1\r\n" * 5000],
)
def test_what_is_no_reply_says_so(garbage: bytes) -> None:
    with pytest.raises(NotRedis):
        list(Parser().feed(garbage))


def test_a_large_value_is_put_together_once() -> None:
    parser = Parser()
    parser.feed(b"$1000000\r\n")
    pieces = [list(parser.feed(b"x" * 1000)) for _ in range(1000)]

    assert [[]] * 1000 == pieces
    assert [b"x" * 1_000_000] == list(parser.feed(b"\r\n"))


def test_an_array_of_large_values_is_read_once_however_it_comes() -> None:
    parser, calls = Parser(), 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_name == "_parse"

    sys.setprofile(count)
    try:
        replies = list(parser.feed(b"*200\r\n"))
        for _ in range(200):
            replies += [*parser.feed(b"$5000\r\n" + b"x" * 2000), *parser.feed(b"x" * 3000 + b"\r\n")]
    finally:
        sys.setprofile(None)

    assert [[b"x" * 5000] * 200] == replies
    assert calls <= 400


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"*0\r\n:1\r\n", [[], 1]), (b"*-1\r\n:1\r\n", [None, 1]), (b"*1\r\n*0\r\n", [[[]]])],
)
def test_empty_arrays_are_whole(raw: bytes, expected: list[Reply]) -> None:
    assert expected == list(Parser().feed(raw))


@given(words=st.lists(st.binary(), min_size=1))
def test_a_command_is_what_an_array_of_strings_is(words: list[bytes]) -> None:
    assert [words] == list(Parser().feed(pack(*words)))


@given(text=st.text(st.characters()))
def test_any_text_survives_as_bytes(text: str) -> None:
    assert text == as_text(as_bytes(text))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", Address()),
        ("redis://cache:7000/3", Address(host="cache", port=7000, db=3)),
        ("redis://us%40er:p%3Aw@h", Address(host="h", username="us@er", password="p:w")),
        ("redis://:pw@h?db=2", Address(host="h", password="pw", db=2)),
        ("unix:///run/redis.sock?db=1", Address(path="/run/redis.sock", db=1)),
        ("redis://[::1]:6380", Address(host="::1", port=6380)),
    ],
)
def test_an_address_is_read_from_its_url(url: str, expected: Address) -> None:
    assert expected == Address.parse(url)


def test_tls_checks_certificate_and_name_unless_it_is_told_not_to() -> None:
    strict, open_ = Address.parse("rediss://h").tls, Address.parse("rediss://h?ssl_cert_reqs=none").tls

    assert strict is not None
    assert open_ is not None
    assert (True, 2) == (strict.check_hostname, strict.verify_mode)
    assert (False, 0) == (open_.check_hostname, open_.verify_mode)


@pytest.mark.parametrize(
    "url", ["rediss://h?ssl_ca_certs=/nowhere.pem", "redis://h:port", "redis://a..b", "localhost:6379", ""]
)
def test_a_url_without_sense_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be used"):
        Address.parse(url)


def test_a_password_is_in_no_text_of_the_address() -> None:
    address = Address.parse("redis://user:secret@h")

    assert "secret" not in f"{address} {address!r}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOPERM no permissions", MissingRights),
        ("ERR ACL failure in script", MissingRights),
        ("WRONGPASS invalid username-password pair", MissingRights),
        ("NOAUTH Authentication required.", MissingRights),
        ("LOADING Redis is loading the dataset in memory", TargetUnreachable),
        ("READONLY You can't write against a read only replica.", TargetUnreachable),
        ("ERR max number of clients reached", TargetUnreachable),
    ],
)
def test_each_error_of_the_server_has_its_meaning(text: str, expected: type[Exception]) -> None:
    assert expected is type(fault_of(ServerError(text), Address(), "{p}:"))


@pytest.mark.parametrize(
    ("length_s", "expected"), [(0.0, 1), (0.0001, 1), (1.5, 1500), (math.inf, 10**13), (1e30, 10**13)]
)
def test_lengths_become_milliseconds_that_redis_takes(length_s: float, expected: int) -> None:
    assert expected == to_ms(length_s)


def message(kind: bytes, origin: bytes, *names: str) -> list[Any]:
    raw = [len(as_bytes(name)).to_bytes(4, "big") + as_bytes(name) for name in names]
    return [b"message", b"news", kind + len(origin).to_bytes(2, "big") + origin + b"".join(raw)]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (message(b"k", b"other", "a", "ü"), KeysChanged(keys=("a", "ü"))),
        (message(b"t", b"other", ""), TagsChanged(tags=("",))),
        (message(b"k", b"own", "a"), None),
        (message(b"e", b"other"), Gap(is_over=True)),
        (message(b"?", b"other", "of a later version"), Gap(is_over=True)),
        ([b"message", b"news", b"k\0\0\0\0\0\1\xff"], Gap(is_over=True)),
        ([b"message", b"news", b""], Gap(is_over=True)),
        (Push([b"invalidate", None]), Gap(is_over=True)),
        (Push([b"invalidate", [b"a key"]]), None),
        ([b"pong", b""], None),
        (b"PONG", None),
        ([b"subscribe", b"news", 1], None),
    ],
)
def test_news_is_read_from_what_the_server_says(reply: Any, expected: object) -> None:
    assert expected == read_news(reply, b"own")


def test_an_entry_whose_tag_is_no_text_is_no_entry() -> None:
    raw = struct.pack(">HQQQQH", 20529, 1, 1, 0, 0, 1) + b"\0\1\xff" + b"value"

    assert [("k", Fetched())] == list(read_fetched(["k"], [raw, 0, 0], "token"))


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": None},
        {"payload": b"", "ttl_s": 0},
        {"payload": b"", "ttl_s": 1, "stale_for_s": -1},
        {"payload": b"", "ttl_s": 1, "fail_safe_for_s": -1},
        {"payload": b"", "ttl_s": 1, "lease": Lease(key="other", token="1", birth=1)},
    ],
)
def test_a_write_without_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        Write(key="k", **fields)
