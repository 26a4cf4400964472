"""What a supervisor and its zygote send, and what is begun before either is there."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfloop.process.supervisor.supervisor import fleet_of
from perfloop.process.zygote import early
from perfloop.process.zygote.started import EARLY, end_zygote, start_zygote
from perfloop.process.zygote.wire import Receiver, Sender, packed

FLEET = """
preload = ["json", "decimal"]
[groups.bots]
handler = "shop.bots:handle"
[groups.clock]
command = ["sleep", "1"]
[groups.loops]
target = "decimal:run"
"""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def test_values_come_as_they_were_sent_with_their_descriptors(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    one, other = ends
    sender, receiver = Sender(one), Receiver(other)
    reading, writing = os.pipe()
    sender.send(["first"])
    sender.send({"second": 2}, [writing])
    os.close(writing)
    sender.send(None)
    values = []
    while len(values) < 3:
        values += receiver.receive() or []
    (fd,) = values[1][1]
    os.write(fd, b"through")
    os.close(fd)

    assert [["first"], {"second": 2}, None] == [value for value, _ in values]
    assert b"through" == os.read(reading, 10)
    os.close(reading)


def test_what_does_not_fit_is_sent_later_with_descriptors_of_its_own(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    one, other = ends
    sender, receiver = Sender(one), Receiver(other)
    reading, writing = os.pipe()
    sender.send("x" * 2_000_000)
    sender.send("last", [writing])
    os.close(writing)
    assert sender.is_behind
    values = []
    while len(values) < 2:
        values += receiver.receive() or []
        sender.flush()
    os.close(values[1][1][0])

    assert (2_000_000, "last", b"") == (len(values[0][0]), values[1][0], os.read(reading, 1))
    os.close(reading)


def test_values_are_put_together_from_any_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    receiver, values = Receiver(other), []
    for byte in packed("ab") + packed("c"):
        one.send(bytes([byte]))
        values += receiver.receive() or []

    assert [("ab", []), ("c", [])] == values


def test_the_end_of_the_other_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    receiver = Receiver(other)
    assert [] == receiver.receive()
    one.close()

    assert receiver.receive() is None


def test_what_is_begun_early_is_what_the_fleet_loads(tmp_path: Path) -> None:
    file = tmp_path / "bots.toml"
    file.write_text(FLEET)
    spec = fleet_of(file)

    assert spec.preloaded == early.preload_of(tomllib.loads(FLEET))


def test_a_zygote_that_was_begun_early_is_used_by_whom_it_was_begun_for(tmp_path: Path) -> None:
    file = tmp_path / "bots.toml"
    file.write_text(FLEET)
    spec = fleet_of(file)
    early.begin([str(file), "--json"])
    (begun,) = EARLY.values()
    used = start_zygote(spec.preloaded, spec.path)
    end_zygote(used)

    assert (begun, {}) == (used, EARLY)


def test_a_zygote_that_was_begun_for_something_else_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "bots.toml"
    file.write_text(FLEET)
    early.begin([str(file)])
    (begun,) = EARLY.values()
    end_zygote(start_zygote(["json"], []))

    assert {} == EARLY
    with pytest.raises(ProcessLookupError):
        os.kill(begun.pid, 0)


@pytest.mark.parametrize("text", ["[groups", "groups = 3", "[groups]\nbots = 3"])
def test_of_a_file_that_is_not_understood_nothing_is_begun_early(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bots.toml"
    file.write_text(text)
    early.begin([str(file)])

    assert {} == EARLY


@pytest.mark.parametrize("arguments", [[], ["--help"], ["bots.toml", "--help"], ["one.toml", "two.toml"]])
def test_without_one_file_nothing_is_begun_early(arguments: list[str]) -> None:
    early.begin(arguments)

    assert {} == EARLY
