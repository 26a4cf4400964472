"""Two processes, one channel: order, bounds, and a reader that is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perfloop.errors import ChannelClosed, InvalidInput
from perfloop.process.channel.async_end import AsyncChannelEnd
from perfloop.process.channel.end import ChannelEnd, socket_pair
from perfloop.process.channel.policy import ChannelPolicy
from perfloop.process.channel.unacknowledged import Sent

ECHO = """
import socket, sys
from perfloop.process.channel.end import ChannelEnd
with ChannelEnd(socket.socket(fileno=int(sys.argv[1]))) as end:
    for message in end:
        end.send(message)
"""
# Writes what it did before it says so: a message is in the file as often as it was done.
DO = """
import os, socket, sys
from perfloop.process.channel.end import ChannelEnd
done = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with ChannelEnd(socket.socket(fileno=int(sys.argv[1]))) as end:
    while True:
        batch = end.receive_batch()
        for place, message in enumerate(batch.messages):
            os.write(done, b"%d %d %d\\n" % (message, batch.first_id + place, batch.is_again))
            end.acknowledge(batch.first_id + place)
"""


@contextmanager
def worker(script: str, *arguments: str) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    ours, theirs = socket_pair()
    command = [sys.executable, "-c", script, str(theirs.fileno()), *arguments]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
    theirs.close()
    try:
        yield ours, process
    finally:
        process.kill()
        process.wait()


def test_messages_come_back_in_their_order_through_two_channels() -> None:
    messages = [{"n": n, "text": "x" * (n % 700)} for n in range(20_000)]
    back: list[object] = []
    with worker(ECHO) as (ours, _), ChannelEnd(ours) as end:
        for message in messages:
            end.send(message)
            while (delivery := end.receive(timeout_s=0)) is not None:
                back.append(delivery.message)
                end.acknowledge(delivery.id)
        while len(back) < len(messages):
            delivery = end.receive(timeout_s=10)
            assert delivery is not None
            back.append(delivery.message)
            end.acknowledge(delivery.id)

    assert messages == back


def test_messages_come_back_in_their_order_over_asyncio() -> None:
    messages = [{"n": n, "text": "x" * (n % 700)} for n in range(20_000)]

    async def exchange() -> list[object]:
        back: list[object] = []

        async def take() -> None:
            async for delivery in end:
                back.append(delivery.message)
                end.acknowledge(delivery.id)
                if len(back) == len(messages):
                    return

        with worker(ECHO) as (ours, _):
            async with AsyncChannelEnd(ours) as end:
                taking = asyncio.create_task(take())
                for message in messages:
                    await end.send(message)
                await asyncio.wait_for(taking, 20)
                await asyncio.wait_for(end.all_done(), 20)
        return back

    assert messages == asyncio.run(exchange())


def test_large_messages_pass_while_both_ends_send() -> None:
    messages = [os.urandom(size) for size in (1_000_000, 10, 3_000_000, 200_000)]
    back: list[object] = []
    policy = ChannelPolicy(max_unacknowledged_bytes=8_000_000)
    with worker(ECHO) as (ours, _), ChannelEnd(ours, policy=policy) as end:
        for message in messages:
            end.send(message)
        while len(back) < len(messages):
            delivery = end.receive(timeout_s=10)
            assert delivery is not None
            back.append(delivery.message)
            end.acknowledge(delivery.id)

    assert messages == back


@pytest.mark.parametrize("seed", range(4))
def test_what_a_killed_worker_did_not_do_another_does(seed: int, tmp_path: object) -> None:
    rand, done = random.Random(seed), f"{tmp_path}/done"
    count, next_id = 30_000, 1
    left: list[Sent] = []
    sent = 0
    while sent < count or left:
        with worker(DO, done) as (ours, process), ChannelEnd(ours, first_id=next_id) as end:
            deaths = threading.Timer(rand.uniform(0.1, 0.4), process.send_signal, [signal.SIGKILL])
            deaths.start()
            end.resend(left)
            try:
                while sent < count:
                    sent += 1
                    end.send(sent)
                end.flush()
                while end.statistics().unacknowledged:
                    end.receive(timeout_s=10)
            except ChannelClosed:
                pass
            deaths.cancel()
            deaths.join()
            left = end.left()
            next_id += 10_000_000
    with open(done) as lines:
        doings = [tuple(map(int, line.split())) for line in lines]
    first: dict[int, int] = {}
    for message, message_id, is_again in doings:
        repeated = message in first

        assert not repeated or (first[message] == message_id and is_again)
        first.setdefault(message, message_id)

    assert list(range(1, count + 1)) == sorted(first)
    assert list(first) == sorted(first), "what was done first came in the order in which it was sent"


def test_who_sends_waits_for_a_reader_that_stands_still() -> None:
    ours, theirs = socket_pair()
    with ChannelEnd(ours, policy=ChannelPolicy(max_unacknowledged=1000)) as end, ChannelEnd(theirs) as other:

        def send() -> None:
            for n in range(3000):
                end.send(n)
            end.flush()

        sending = threading.Thread(target=send)
        sending.start()
        for first_id in range(1, 3001):
            delivery = other.receive(timeout_s=10)

            assert delivery is not None
            assert first_id == delivery.id
            assert end.statistics().unacknowledged <= 1000
            if first_id % 500 == 0:
                other.acknowledge(first_id - 499, 500)
        other.receive(timeout_s=0)
        sending.join(10)

        assert not sending.is_alive()


def test_a_message_that_cannot_be_encoded_takes_no_other_with_it() -> None:
    ours, theirs = socket_pair()
    with ChannelEnd(ours) as end, ChannelEnd(theirs) as other:
        end.send("before")
        end.send("waits")
        with pytest.raises(InvalidInput, match=r"dict cannot be sent: .*object"):
            end.send({"key": object()})
        end.send("after")
        end.flush()

        deliveries = [other.receive(timeout_s=5) for _ in range(3)]

        assert ["before", "waits", "after"] == [each.message for each in deliveries if each is not None]


def test_who_leaves_a_loop_finds_the_rest_in_the_next() -> None:
    ours, theirs = socket_pair()
    with ChannelEnd(ours) as end, ChannelEnd(theirs) as other:
        for n in range(10):
            end.send(n)
        end.flush()
        seen = []
        for message in other:
            seen.append(message)
            if message == 4:
                break
        for message in other:
            seen.append(message)
            if message == 9:
                break

        assert list(range(10)) == seen


def test_nobody_waits_for_an_end_that_is_gone() -> None:
    ours, theirs = socket_pair()
    end = ChannelEnd(ours)
    end.send("kept")
    theirs.close()

    with pytest.raises(ChannelClosed):
        end.receive()
    with pytest.raises(ChannelClosed):
        end.send("refused")
    assert [1] == [sent.count for sent in end.left()]
    end.close()


def test_who_is_woken_takes_what_came_before_and_waits_no_more() -> None:
    ours, theirs = socket_pair()
    awake, wake = socket.socketpair()
    with awake, wake, ChannelEnd(ours) as end, ChannelEnd(theirs, wake=awake.fileno()) as other:
        end.send("before")
        wake.send(b".")

        assert "before" == getattr(other.receive(), "message", None)
        assert other.receive() is None
        assert [] == list(other)


def test_the_ranges_that_are_acknowledged_are_told_at_once_where_that_is_asked() -> None:
    told: list[tuple[int, int]] = []

    async def exchange() -> None:
        ours, theirs = socket_pair()
        with ChannelEnd(theirs, policy=ChannelPolicy(linger_s=60)) as other:
            async with AsyncChannelEnd(ours, on_acknowledged=lambda *ids: told.append(ids)) as end:
                for n in range(4):
                    await end.send(n)
                end.flush()
                batch = await asyncio.to_thread(other.receive_batch)
                assert batch is not None
                other.acknowledge(1)
                other.acknowledge(2)
                other.acknowledge(4, at_once=True)
                other.acknowledge(3, at_once=True)
                await asyncio.wait_for(end.all_done(), 10)

    asyncio.run(exchange())

    assert [(1, 1), (2, 2), (4, 4), (3, 3)] == told


def frames_of(end: ChannelEnd) -> int:
    return end.statistics().frames


def test_a_stream_that_slows_down_waits_for_no_more_than_eight_messages() -> None:
    now_s = 0.0
    ours, theirs = socket_pair()
    with ChannelEnd(ours, clock=lambda: now_s) as end, ChannelEnd(theirs):
        end.send("under way")
        for n in range(100):
            now_s += 0.000_001
            end.send(n)
        assert 1 == frames_of(end)
        sent = 0
        while frames_of(end) == 1:
            now_s += 1
            end.send("slow")
            sent += 1
        in_a_slow_stream = []
        for _ in range(6):
            now_s += 0.001
            end.send("slow")
            in_a_slow_stream.append(frames_of(end))

        assert sent <= 8
        assert [2, 3, 3, 4, 4, 5] == in_a_slow_stream


def test_who_waits_for_room_hears_acknowledgements_behind_messages_that_nobody_took_yet() -> None:
    ours, theirs = socket_pair()
    with ChannelEnd(ours, policy=ChannelPolicy(max_unacknowledged=3)) as end, ChannelEnd(theirs) as other:
        end.send("first")
        for n in range(3):
            other.send(n)
            other.flush()
        batch = other.receive_batch()
        assert batch is not None
        other.acknowledge(batch.first_id, at_once=True)
        for n in range(2):
            end.send(n)
        end.acknowledge(1, 3)
        taken = [end.receive(timeout_s=5) for _ in range(3)]

        assert [0, 1, 2] == [each.message for each in taken if each is not None]
        assert 2 == end.statistics().unacknowledged


def test_what_was_done_is_told_in_the_call_that_sends_a_message() -> None:
    ours, theirs = socket_pair()
    with ChannelEnd(ours) as end, ChannelEnd(theirs, policy=ChannelPolicy(linger_s=60)) as other:
        end.send("asked")
        assert other.receive() is not None
        other.acknowledge(1, at_once=True)
        assert end.receive(timeout_s=0) is None
        end.send("asked again")
        end.flush()
        assert other.receive() is not None
        other.acknowledge(2)
        other.send("answered")
        delivery = end.receive(timeout_s=5)

        assert delivery is not None
        assert 0 == end.statistics().unacknowledged
