"""What is not acknowledged is known to the message, in whatever order acknowledgements come."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from perfloop.process.channel.frames import HEAD, MAX_COUNT
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.receiving import Receiving
from perfloop.process.channel.sending import Sending
from perfloop.process.channel.unacknowledged import Sent, Unacknowledged

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12)


def body_of(ids: range) -> bytes:
    return msgspec.msgpack.encode(list(ids))


def left_in(held: Unacknowledged) -> list[int]:
    return [
        sent.first_id + place
        for sent in held.left()
        for place, message in enumerate(msgspec.msgpack.decode(sent.body))
        if message == sent.first_id + place
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), RANGES)
def test_all_that_no_range_names_is_left_in_order(counts: list[int], ranges: list[tuple[int, int]]) -> None:
    held, next_id = Unacknowledged(), 1
    for count in counts:
        held.add(Sent(next_id, count, body_of(range(next_id, next_id + count))))
        next_id += count
    ids = set(range(1, next_id))
    for first_id, length in ranges:
        done = ids & set(range(first_id, first_id + length + 1))

        assert len(done) == held.acknowledge(first_id, first_id + length)
        ids -= done

    assert sorted(ids) == left_in(held)
    assert len(ids) == held.messages


def told_by(receiving: Receiving) -> list[list[int]]:
    """The ranges that the next acknowledgement tells, as the other end reads it."""
    head, body = receiving.acknowledgement() or (b"", b"")
    _, _, _, count, first_id = HEAD.unpack(head)
    sending = Sending(ChannelPolicy())
    return [list(each) for each in sending.acknowledged(first_id, count, memoryview(body))]


def test_nothing_is_held_once_all_is_acknowledged() -> None:
    held = Unacknowledged()
    held.add(Sent(1, 3, body_of(range(1, 4))))
    held.acknowledge(2, 2)
    held.acknowledge(1, 3)

    assert (0, 0, []) == (held.messages, held.size_bytes, held.left())


def test_what_another_end_had_left_keeps_its_ids() -> None:
    one, other = Sending(ChannelPolicy(), first_id=1), Sending(ChannelPolicy(), first_id=1000)
    for message in range(1, 6):
        one.put(message)
    one.take()
    one.put(6)
    done = Receiving()
    done.done(2, 2)
    head, body = done.acknowledgement() or (b"", b"")
    _, _, _, count, first_id = HEAD.unpack(head)
    one.acknowledged(first_id, count, memoryview(body))
    frames = other.again(one.left())

    assert [[1], [4, 5], [6]] == [msgspec.msgpack.decode(body) for _, body in frames]
    assert 4 == other.under_way.messages


def test_what_is_done_one_by_one_is_told_as_ranges() -> None:
    receiving = Receiving()
    for message_id in (1, 2, 3, 9, 10, 5):
        receiving.done(message_id)

    assert [[1, 3], [9, 10], [5, 5]] == told_by(receiving)
    assert receiving.acknowledgement() is None


def test_where_nothing_was_done_nothing_is_told() -> None:
    receiving = Receiving()
    receiving.done(1, 0)

    assert receiving.acknowledgement() is None


def test_one_range_is_told_without_a_body_and_one_too_long_for_a_head_with_it() -> None:
    for count in (1, MAX_COUNT, MAX_COUNT + 1):
        receiving = Receiving()
        receiving.done(7, count)

        assert [[7, 6 + count]] == told_by(receiving)


def test_what_another_end_has_left_keeps_its_place_before_what_came_after_it() -> None:
    held = Unacknowledged()
    for first_id, messages in ((900, ["left", "by another"]), (1, ["own", "second"]), (3, ["third"])):
        held.add(Sent(first_id, len(messages), msgspec.msgpack.encode(messages)))
    held.acknowledge(900, 900)
    held.acknowledge(1, 1)

    assert [901, 2, 3] == [sent.first_id for sent in held.left()]
