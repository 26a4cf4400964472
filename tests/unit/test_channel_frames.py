"""Frames are cut out of the stream wherever it was split, and what is not a frame is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfloop.errors import ChannelBroken, InvalidInput
from perfloop.process.channel.frames import HEAD, FrameReader, Kind, head_of
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.sending import Sending

GOLDEN = Path(__file__).parent.parent / "data" / "channel" / "frame-v2.bin"
BODIES = st.lists(st.binary(max_size=400), max_size=12)


def stream(bodies: list[bytes]) -> bytes:
    return b"".join(
        head_of(Kind.MESSAGES, body, count=1, first_id=place) + body for place, body in enumerate(bodies)
    )


def read(reader: FrameReader, piece: bytes) -> list[tuple[int, bytes]]:
    found = []
    while piece:
        room = reader.room()
        part = piece[: len(room)]
        room[: len(part)] = part
        reader.wrote(len(part))
        piece = piece[len(part) :]
        found += [(first_id, bytes(body)) for _, _, first_id, body in reader.frames()]
    return found


@given(BODIES, st.lists(st.integers(1, 300), min_size=1))
def test_a_stream_may_be_split_anywhere(bodies: list[bytes], sizes: list[int]) -> None:
    whole, at, found = stream(bodies), 0, []
    reader = FrameReader(max_bytes=1000)
    while at < len(whole):
        size = sizes[at % len(sizes)]
        found += read(reader, whole[at : at + size])
        at += size

    assert list(enumerate(bodies)) == found


def test_a_frame_larger_than_the_room_is_read_whole() -> None:
    bodies = [b"a", b"b" * 3_000_000, b"c"]

    assert list(enumerate(bodies)) == read(FrameReader(max_bytes=4_000_000), stream(bodies))


def test_what_says_that_it_is_too_large_is_refused() -> None:
    with pytest.raises(ChannelBroken, match="max_message_bytes"):
        read(FrameReader(max_bytes=10), stream([b"x" * 11]))


def test_another_version_is_refused() -> None:
    with pytest.raises(ChannelBroken, match=r"version 1 .* and this one 2"):
        read(FrameReader(max_bytes=10), HEAD.pack(0, 1, Kind.WORD, 0, 0))


def test_the_format_stays_as_it_was_written() -> None:
    sending = Sending(ChannelPolicy(), first_id=7)
    for message in ({"id": 1, "text": "grün"}, [None, True, 2.5], b"\x00\xff"):
        sending.put(message)
    head, body = sending.take()

    assert GOLDEN.read_bytes() == head + bytes(body)
    assert [{"id": 1, "text": "grün"}, [None, True, 2.5], b"\x00\xff"] == msgspec.msgpack.decode(body)


@given(st.lists(st.integers(0, 300), max_size=30), st.integers(1, 150))
def test_messages_keep_their_ids_and_order_where_large_and_small_ones_take_turns(
    sizes: list[int], batch_bytes: int
) -> None:
    sending = Sending(ChannelPolicy(batch_bytes=batch_bytes), first_id=5)
    came: dict[int, object] = {}
    for place, size in enumerate(sizes):
        if sending.put("x" * size) or place % 7 == 6:
            came |= taken(sending)
    if sending.waiting:
        came |= taken(sending)

    assert {5 + place: "x" * size for place, size in enumerate(sizes)} == came
    assert len(sizes) == sending.under_way.messages


@pytest.mark.parametrize("refused", ["x" * 200, {"key": object()}], ids=["too large", "not to be encoded"])
@pytest.mark.parametrize("before", ["", "x" * 90], ids=["after a small one", "after a large one"])
def test_what_is_refused_leaves_no_trace_in_the_next_frame(before: str, refused: object) -> None:
    sending = Sending(ChannelPolicy(batch_bytes=64, max_message_bytes=150))
    sending.put(before)
    taken(sending)
    with pytest.raises(InvalidInput):
        sending.put(refused)
    assert 0 == sending.waiting
    sending.put("after")

    assert {2: "after"} == taken(sending)


def taken(sending: Sending) -> dict[int, object]:
    """The messages of the next frame, by their ids."""
    head, body = sending.take()
    _, _, _, count, first_id = HEAD.unpack(head)
    messages = msgspec.msgpack.decode(body)

    assert count == len(messages)
    return dict(enumerate(messages, first_id))
