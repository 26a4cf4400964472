"""Messages a second from one process to another, and the time of a round trip when idle: channel and peers.

    python -m benchmarks.channel_speed

Dicts of five keys and 100 B, 1 kB and 100 kB, encoding and decoding included. The channel's rows are with
order, acknowledgement and bounds; the peers have none of the last two. The raw socket pair sends the batches
that were best for it, made by hand: it is what the host can do, in the same turns.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from benchmarks.page import host_line, table
from perfloop.process.channel.end import ChannelEnd, socket_pair

COUNTS = {100: 1_000_000, 1_000: 400_000, 100_000: 20_000}
ROUND_TRIPS = 3_000
REPEATS = 5
fork = multiprocessing.get_context("fork")


def message_of(size_bytes: int) -> dict[str, Any]:
    message = {"id": 12345, "kind": "price", "name": "abcdefgh", "value": 1.5, "text": ""}
    return message | {"text": "x" * (size_bytes - len(msgspec.msgpack.encode(message)))}


def apart(message: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Equal messages that share nothing, since pickle writes what is shared only once."""
    encoded = msgspec.msgpack.encode(message)
    return [msgspec.msgpack.decode(encoded) for _ in range(count)]


def timed(read: Callable[[], None], write: Callable[[], None]) -> float:
    """Seconds from the first write to the end of the reader."""
    reader = fork.Process(target=read)
    reader.start()
    begun_s = time.perf_counter()
    write()
    reader.join()
    assert reader.exitcode == 0, "the reader failed"
    return time.perf_counter() - begun_s


def channel(message: dict[str, Any], count: int) -> float:
    ours, theirs = socket_pair()

    def read() -> None:
        ours.close()
        left = count
        with ChannelEnd(theirs) as end:
            for _ in end:
                left -= 1
        assert left == 0

    def write() -> None:
        theirs.close()
        with ChannelEnd(ours) as end:
            for _ in range(count):
                end.send(message)
            end.flush()
            while end.statistics().unacknowledged:
                end.receive(timeout_s=0.01)

    return timed(read, write)


def raw_pair(batch: int, message: dict[str, Any], count: int) -> float:
    ours, theirs = socket_pair()

    def read() -> None:
        ours.close()
        stream, left = theirs.makefile("rb", buffering=1 << 20), count
        while left > 0:
            left -= len(msgspec.msgpack.decode(stream.read(int.from_bytes(stream.read(4), "little"))))

    def write() -> None:
        encode, messages = msgspec.msgpack.Encoder().encode, apart(message, batch)
        for _ in range(0, count, batch):
            body = encode(messages)
            if len(body) < 65_536:
                ours.sendall(len(body).to_bytes(4, "little") + body)
            else:
                send_parts(ours, len(body).to_bytes(4, "little"), body)

    return timed(read, write)


def send_parts(end: socket.socket, head: bytes, body: bytes) -> None:
    sent = end.sendmsg([head, body]) - len(head)
    if sent < len(body):
        end.sendall(memoryview(body)[sent:])


def queue(batch: int, message: dict[str, Any], count: int) -> float:
    pipe: Any = fork.Queue()

    def read() -> None:
        left = count
        while left > 0:
            left -= len(pipe.get())

    def write() -> None:
        messages = apart(message, batch)
        for _ in range(0, count, batch):
            pipe.put(messages)

    return timed(read, write)


def round_trips_of_a_channel() -> list[float]:
    ours, theirs = socket_pair()

    def echo() -> None:
        ours.close()
        with ChannelEnd(theirs) as end:
            for message in end:
                end.send(message)

    worker = fork.Process(target=echo)
    worker.start()
    theirs.close()
    message, times = message_of(100), []
    with ChannelEnd(ours) as end:
        for _ in range(ROUND_TRIPS):
            begun_s = time.perf_counter()
            end.send(message)
            delivery = end.receive()
            times.append(time.perf_counter() - begun_s)
            assert delivery is not None
            end.acknowledge(delivery.id)
    worker.join()
    return times


def round_trips_of_a_pipe() -> list[float]:
    ours, theirs = fork.Pipe()

    def echo(end: Connection) -> None:
        while (message := end.recv()) is not None:
            end.send(message)

    worker = fork.Process(target=echo, args=(theirs,))
    worker.start()
    message, times = message_of(100), []
    for _ in range(ROUND_TRIPS):
        begun_s = time.perf_counter()
        ours.send(message)
        ours.recv()
        times.append(time.perf_counter() - begun_s)
    ours.send(None)
    worker.join()
    return times


def round_trips_of_a_raw_pair() -> list[float]:
    ours, theirs = socket_pair()
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode

    def echo() -> None:
        ours.close()
        while body := theirs.recv(65_536):
            theirs.send(encode(decode(body)))

    worker = fork.Process(target=echo)
    worker.start()
    theirs.close()
    message, times = message_of(100), []
    with ours:
        for _ in range(ROUND_TRIPS):
            begun_s = time.perf_counter()
            ours.send(encode(message))
            decode(ours.recv(65_536))
            times.append(time.perf_counter() - begun_s)
    worker.join()
    return times


def round_trips_of_queues() -> list[float]:
    there: Any = fork.Queue()
    back: Any = fork.Queue()

    def echo() -> None:
        while (message := there.get()) is not None:
            back.put(message)

    worker = fork.Process(target=echo)
    worker.start()
    message, times = message_of(100), []
    for _ in range(ROUND_TRIPS):
        begun_s = time.perf_counter()
        there.put(message)
        back.get()
        times.append(time.perf_counter() - begun_s)
    there.put(None)
    worker.join()
    return times


def trips() -> dict[str, list[float]]:
    """Round trips of every way, in turns: of each the repetition whose median is in the middle."""
    ways = {
        "perfloop channel": round_trips_of_a_channel,
        "raw socket pair": round_trips_of_a_raw_pair,
        "mp.Pipe": round_trips_of_a_pipe,
        "mp.Queue, two": round_trips_of_queues,
    }
    times: dict[str, list[list[float]]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            times[name].append(way())
    return {name: sorted(each, key=statistics.median)[REPEATS // 2] for name, each in times.items()}


def throughput(size_bytes: int) -> dict[str, list[float]]:
    """Messages a second of every way, once a repetition, in turns."""
    message, count = message_of(size_bytes), COUNTS[size_bytes]
    best = {100: 256, 1_000: 32, 100_000: 1}[size_bytes]
    ways: dict[str, Callable[[dict[str, Any], int], float]] = {
        "perfloop channel": channel,
        f"raw socket pair, {best} a send": partial(raw_pair, best),
        "mp.Queue, 1 a send": partial(queue, 1),
        f"mp.Queue, {best} a send": partial(queue, best),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            part = count // 5 if name == "mp.Queue, 1 a send" else count
            rates[name].append(part / way(message, part))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    print(host_line(), end="\n\n")
    rows = [
        [
            f"{size_bytes:,} B",
            name,
            f"{max(rates):,.0f}",
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f}",
        ]
        for size_bytes in COUNTS
        for name, rates in throughput(size_bytes).items()
    ]
    print(table(["message", "way", f"messages/s, best of {REPEATS}", "median", "worst"], rows), end="\n\n")
    rows = [
        [
            name,
            f"{statistics.median(times) * 1e6:.1f} µs",
            f"{statistics.quantiles(times, n=100)[98] * 1e6:.1f} µs",
        ]
        for name, times in trips().items()
    ]
    print(table([f"round trip when idle, 100 B, median of {REPEATS}", "p50", "p99"], rows))


if __name__ == "__main__":
    main()
