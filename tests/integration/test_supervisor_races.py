"""What is asked of a fleet while something else that was asked for is not over yet."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.awaiting import run, until

from perfloop.errors import FleetFailed, InvalidInput, LaunchFailed
from perfloop.process import (
    FleetSpec,
    GroupSpec,
    ReadyPolicy,
    RestartKind,
    RestartPolicy,
    StopPolicy,
    Strategy,
    Supervisor,
)
from perfloop.process.zygote_launcher import ZygoteLauncher

ROOT = str(Path(__file__).parents[2])


def fleet_of(**fields: Any) -> Supervisor:
    given = {"name": "bots", "handler": "tests.fleet_handlers:act", **fields}
    return Supervisor(FleetSpec(groups=(GroupSpec(**given),), path=(ROOT,)))


def names(fleet: Supervisor) -> list[str]:
    return [each.name for each in fleet.statistics().groups[0].workers if each.state == "ready"]


def told(fleet: Supervisor) -> list[tuple[str, str]]:
    return [(each.kind, each.name) for each in fleet.log.newest()]


def pids(fleet: Supervisor) -> list[int]:
    return [each.pid for each in fleet.statistics().groups[0].workers if each.pid is not None]


def processes() -> int:
    """Workers that run, whether the fleet knows of them or not: what its zygotes started, no spare ones.

    It is read one after another while all of that changes: one that was forked just now has no name yet.
    """
    return sum(not is_spare(pid) for zygote in psutil.Process().children() for pid in started_by(zygote))


def started_by(zygote: psutil.Process) -> list[int]:
    """Nothing where it is something else, as a server that another test uses."""
    try:
        if "perfloop.process.zygote" not in zygote.cmdline():
            return []
        return [each.pid for each in zygote.children()]
    except psutil.NoSuchProcess:
        return []


def is_spare(pid: int) -> bool:
    """Whether it waits to be made a worker, or is gone."""
    try:
        return psutil.Process(pid).name() == "spare"
    except psutil.NoSuchProcess:
        return True


def test_sizes_that_are_asked_for_at_once_come_one_after_another() -> None:
    async def work() -> list[str]:
        async with fleet_of(count=4) as fleet:
            await asyncio.gather(*(fleet.scale("bots", count) for count in (1, 1, 3)))
            return names(fleet)

    assert ["bots-1", "bots-2", "bots-3"] == run(work())


def test_a_restart_starts_nothing_in_places_that_are_gone_meanwhile() -> None:
    async def work() -> list[str]:
        async with fleet_of(count=4) as fleet:
            restarting = asyncio.create_task(fleet.restart("bots"))
            await until(lambda: "replacing" in [each.kind for each in fleet.log.newest()])
            await fleet.scale("bots", 1)
            await asyncio.wait([restarting])
            await until(lambda: processes() == 1)
            return names(fleet)

    assert ["bots-1"] == run(work())


def test_workers_whose_ends_are_heard_of_with_their_starts_keep_no_old_zygote() -> None:
    async def clog() -> None:
        while True:
            time.sleep(0.05)  # noqa: ASYNC251  # what comes meanwhile is read at once
            await asyncio.sleep(0)

    async def work() -> None:
        once = GroupSpec(
            name="once", command=("true",), count=3, restart=RestartPolicy(kind=RestartKind.TEMPORARY)
        )
        bots = GroupSpec(name="bots", handler="tests.fleet_handlers:act")
        clogging = asyncio.create_task(clog())
        async with Supervisor(FleetSpec(groups=(once, bots), path=(ROOT,))) as fleet:
            clogging.cancel()
            await fleet.restart("bots")
            await until(lambda: 1 == len(fleet._processes.zygotes._pids))

    run(work())


def test_a_strategy_does_not_bring_back_who_was_drained_or_is_gone() -> None:
    async def work() -> list[str]:
        restart = RestartPolicy(first_s=0.2, max_s=0.2, jitter_ratio=0.0)
        async with fleet_of(count=4, strategy=Strategy.ONE_FOR_ALL, restart=restart) as fleet:
            await fleet.drain("bots-2")
            for _ in range(2):  # the second restart has a delay, in which the group is made smaller
                os.kill(pids(fleet)[0], signal.SIGKILL)
                await until(lambda: "bots-1" not in names(fleet))
                await until(lambda: fleet.statistics().groups[0].workers[0].state in ("waiting", "ready"))
                if fleet.statistics().groups[0].workers[0].state == "waiting":
                    await fleet.scale("bots", 3)
                await until(lambda: {"bots-1", "bots-3"} <= set(names(fleet)))
            await until(lambda: processes() == len(pids(fleet)) == len(names(fleet)))
            return [f"{each.name} {each.state}" for each in fleet.statistics().groups[0].workers]

    assert "bots-2 drained" in run(work())


def test_a_restart_that_waits_for_a_process_holds_up_no_end(tmp_path: Path) -> None:
    """Who ends a container gives it ten seconds, and a process may have thirty to get ready."""

    async def work() -> list[str]:
        well = tmp_path / "well"
        well.touch()
        ready = ReadyPolicy(probe=("test", "-e", str(well)), within_s=600)
        async with fleet_of(ready=ready) as fleet:
            well.unlink()
            restarting = asyncio.create_task(fleet.restart("bots"))
            await until(lambda: 2 == sum(each.kind == "started" for each in fleet.log.newest()))
            await fleet.drain("bots")
            with pytest.raises(LaunchFailed, match="its worker was ended meanwhile, before it was ready"):
                await restarting
            return [each.state for each in fleet.statistics().groups[0].workers]

    assert ["drained"] == run(work())


def test_a_fleet_that_is_ended_starts_nothing_any_more() -> None:
    async def work() -> int:
        async with fleet_of() as fleet:
            pass
        with pytest.raises(FleetFailed, match="the fleet is ended"):
            await fleet.restart("bots")
        with pytest.raises(FleetFailed, match="the fleet is ended"):
            await fleet.scale("bots", 2)
        return processes()

    assert 0 == run(work())


@pytest.mark.parametrize("count", [1001, -1, 3.5])
def test_a_number_of_workers_that_cannot_be_starts_nothing_and_is_not_told_as_done(count: Any) -> None:
    async def work() -> list[str]:
        async with fleet_of() as fleet:
            with pytest.raises(
                InvalidInput, match=f"cannot have {count} workers; give a whole number to 1000"
            ):
                await fleet.scale("bots", count)
            return [each.kind for each in fleet.log.newest()]

    assert "scaled" not in run(work())


def test_a_worker_that_is_killed_while_it_is_drained_stays_away_and_its_messages_are_done() -> None:
    async def work() -> list[Any]:
        stop = StopPolicy(drain_s=30)
        async with fleet_of(count=2, stop=stop) as fleet:
            asked = [asyncio.create_task(fleet.ask("bots", {"do": "echo", "value": at})) for at in range(200)]
            await asyncio.sleep(0)
            (first, _) = pids(fleet)
            os.kill(first, signal.SIGSTOP)
            draining = asyncio.create_task(fleet.drain("bots-1"))
            await until(lambda: "stopping" in [each.kind for each in fleet.log.newest()])
            os.kill(first, signal.SIGKILL)
            await draining
            assert ["bots-2"] == names(fleet)
            return await asyncio.gather(*asked)

    assert list(range(200)) == run(work())


def test_a_program_may_say_that_it_is_ready_before_its_start_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    start = ZygoteLauncher.start

    async def slow_to_report(*given: Any, **more: Any) -> int:
        pid = await start(*given, **more)
        await until(lambda: "up" in lines)
        return pid

    monkeypatch.setattr(ZygoteLauncher, "start", slow_to_report)

    async def work() -> list[str]:
        group = GroupSpec(
            name="web", command=("sh", "-c", "echo up; exec sleep 60"), ready=ReadyPolicy(output="^up$")
        )
        async with Supervisor(
            FleetSpec(groups=(group,)), on_line=lambda *told: lines.append(told[2])
        ) as fleet:
            return names(fleet)

    assert ["web-1"] == run(work())


def test_a_restart_waits_for_those_that_are_being_drained_and_goes_on(tmp_path: Path) -> None:
    async def work() -> tuple[list[str], set[int]]:
        async with fleet_of(count=3, stop=StopPolicy(drain_s=60)) as fleet:
            before = pids(fleet)
            await fleet.send("bots", {"do": "wait", "value": str(tmp_path / "go")})
            (busy,) = [each.name for each in fleet.statistics().groups[0].workers if each.under_way]
            draining = asyncio.create_task(fleet.drain(busy))
            await until(lambda: ("stopping", busy) in told(fleet))
            restarting = asyncio.create_task(fleet.restart("bots"))
            await until(lambda: restarting.done() or ("replacing", busy) in told(fleet))
            (tmp_path / "go").touch()
            await asyncio.gather(draining, restarting)
            return names(fleet), set(before) & set(pids(fleet))

    assert (["bots-1", "bots-2", "bots-3"], set()) == run(work())


def test_a_worker_that_is_drained_while_its_old_process_ends_comes_back(tmp_path: Path) -> None:
    async def work() -> tuple[Any, int]:
        async with fleet_of(stop=StopPolicy(drain_s=60)) as fleet:
            (before,) = pids(fleet)
            slow = asyncio.create_task(fleet.ask("bots", {"do": "wait", "value": str(tmp_path / "go")}))
            await until(lambda: 1 == fleet.statistics().groups[0].under_way)
            restarting = asyncio.create_task(fleet.restart("bots"))
            await until(lambda: [before] != pids(fleet))
            left = asyncio.create_task(fleet.ask("bots", {"do": "pid"}))
            draining = asyncio.create_task(fleet.drain("bots"))
            await until(lambda: "stopping" in [each.kind for each in fleet.log.newest()])
            (tmp_path / "go").touch()
            await asyncio.wait([restarting, draining, slow, left])
            await fleet.restart("bots")
            return await fleet.ask("bots", {"do": "echo", "value": 7}), len(pids(fleet))

    assert (7, 1) == run(work())
