"""The place of a fleet's control socket: who is there, what was left there, what is none."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.awaiting import run

from perfloop.errors import InvalidInput
from perfloop.process import FleetSpec, GroupSpec, RestartPolicy, Supervisor
from perfloop.process.supervisor.control_place import is_answered

PERFLOOP = [sys.executable, "-m", "perfloop"]


def fleet_at(place: Path) -> Supervisor:
    group = GroupSpec(name="web", command=("sleep", "60"), restart=RestartPolicy(first_s=0.01))
    return Supervisor(FleetSpec(groups=(group,), control=str(place)))


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "notes.txt"
    place.write_text("mine")

    async def work() -> None:
        async with fleet_at(place):
            pass

    with pytest.raises(InvalidInput, match=r"notes.txt is there and is no socket; name another path"):
        run(work())
    assert "mine" == place.read_text()


def test_a_socket_that_was_left_is_replaced_and_one_that_is_answered_is_not(tmp_path: Path) -> None:
    place = tmp_path / "bots.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))

    async def work() -> None:
        async with fleet_at(place):
            with pytest.raises(InvalidInput, match=r"a fleet answers at .* already"):
                await fleet_at(place).open()
            assert is_answered(place)

    run(work())
    assert not place.exists()


def test_of_supervisors_that_begin_at_once_one_has_the_place(tmp_path: Path) -> None:
    place = tmp_path / "bots.sock"

    async def attempt() -> Any:
        process = await asyncio.create_subprocess_exec(
            *PERFLOOP, "supervise", "bots.toml", cwd=tmp_path, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        async for line in process.stderr:
            if b"fleet: open" in line or b"a fleet answers" in line:
                return process, b"fleet: open" in line
        raise AssertionError("neither open nor refused")

    async def work() -> list[bool]:
        found = await asyncio.gather(*(attempt() for _ in range(4)))
        for process, is_open in found:
            if is_open:
                process.terminate()
            await process.communicate()
        return [is_open for _, is_open in found]

    (tmp_path / "bots.toml").write_text(f'control = "{place}"\n[groups.web]\ncommand = ["sleep", "60"]\n')

    assert 1 == sum(run(work()))


def test_a_question_without_an_end_is_not_answered(tmp_path: Path) -> None:
    place = tmp_path / "bots.sock"

    async def work() -> bytes:
        async with fleet_at(place):
            reader, writer = await asyncio.open_unix_connection(place)
            writer.write(b"x" * 200_000)
            try:
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

    assert b"" == run(work())
