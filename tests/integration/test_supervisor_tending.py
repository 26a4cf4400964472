"""A fleet whose workers' memory and load are tended: trimmed, recycled without a lost message, scaled."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.awaiting import run, until

from perfloop.control.budget import ConnectionBudget
from perfloop.errors import InvalidInput, MessageFailed
from perfloop.process import Event, FleetSpec, GroupSpec, Supervisor
from perfloop.process.leaks.ladder import LadderPolicy
from perfloop.process.resources.host import host_rights
from perfloop.process.resources.limits import ResourceLimits
from perfloop.process.scaling.policy import ScalingPolicy
from perfloop.process.scaling.season import SeasonPolicy
from perfloop.process.supervisor.fleet_file import parse_fleet
from perfloop.process.supervisor.tending import GroupKeeper, follow_load, watch_memory

ROOT = str(Path(__file__).parents[2])
MB = 1024**2
glibc = pytest.mark.skipif(sys.platform != "linux", reason="glibc's words on what is in use")


def fleet_of(handler: str, **fields: Any) -> Supervisor:
    spec = GroupSpec(name="bots", handler=f"tests.leaking_handlers:{handler}", **fields)
    return Supervisor(FleetSpec(groups=(spec,), path=(ROOT,)))


@asynccontextmanager
async def tended(work: Coroutine[Any, Any, None]) -> Any:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()


def events(fleet: Supervisor, *kinds: str) -> list[Event]:
    return [each for each in fleet.log.newest() if each.kind in kinds]


@glibc
def test_a_worker_over_its_memory_is_trimmed_in_vain_and_recycled_without_a_lost_message() -> None:
    async def work() -> None:
        async with fleet_of("leak", count=2) as fleet:
            group = fleet._groups["bots"]
            keeper = GroupKeeper(group)
            before = {each.name: each.pid for each in keeper.seats()}
            policy = LadderPolicy(max_own_bytes=20 * MB, recycle_every_s=0.1, examine_s=0)
            async with tended(watch_memory(group, policy, every_s=0.1)):
                await until(lambda: 2 == len(keeper.seats()))
                assert await keeper.memory("bots-1") is not None
                await asyncio.sleep(0.3)  # the watch has to have seen what they begin with
                asked = [asyncio.create_task(fleet.ask("bots", MB)) for _ in range(100)]
                assert 100 == len(await asyncio.gather(*asked))
                await until(lambda: len(events(fleet, "recycled")) >= 2)
            trimmed, recycled = events(fleet, "trimmed"), events(fleet, "recycled")

            assert {"bots-1", "bots-2"} == {each.name for each in recycled}
            assert [False, False] == [each.after["helped"] for each in trimmed[:2]]
            assert [True, True] == [each.after["helped"] for each in recycled[:2]]
            assert "more than the 20 MB that it may have" in recycled[0].reason
            assert all(before[each.name] != each.pid for each in keeper.seats())
            assert 0 == fleet.statistics().groups[0].given_up

    run(work())


@glibc
@pytest.mark.parametrize("handler", ["cycle", "fragment"])
def test_what_a_trim_gives_back_restarts_nobody(handler: str) -> None:
    async def work() -> None:
        async with fleet_of(handler) as fleet:
            group = fleet._groups["bots"]
            keeper = GroupKeeper(group)
            (before,) = keeper.seats()
            policy = LadderPolicy(max_own_bytes=20 * MB, min_free_bytes=30 * MB)
            async with tended(watch_memory(group, policy, every_s=0.1)):
                await asyncio.sleep(0.3)
                await fleet.ask("bots", 80 * MB)
                await until(lambda: bool(events(fleet, "trimmed")))
                await asyncio.sleep(0.3)
            (trimmed,) = events(fleet, "trimmed")

            assert trimmed.after["helped"]
            assert [before.pid] == [each.pid for each in keeper.seats()]
            assert [] == events(fleet, "recycled")

    run(work())


async def leaking(fleet: Supervisor) -> None:
    while True:
        await fleet.ask("bots", MB // 50)
        await asyncio.sleep(0.005)


@glibc
def test_the_line_that_leaks_is_named_before_its_worker_is_recycled() -> None:
    async def work() -> None:
        async with fleet_of("leak") as fleet:
            policy = LadderPolicy(max_own_bytes=2 * MB, examine_s=2.0)
            async with tended(watch_memory(fleet._groups["bots"], policy, every_s=0.1)):
                await asyncio.sleep(0.3)
                async with tended(leaking(fleet)):
                    await until(lambda: bool(events(fleet, "recycled")))
            (examined,) = events(fleet, "examined")

            assert "leaking_handlers.py:14" in examined.reason

    run(work())


@glibc
def test_perfloop_leaks_names_the_line_of_a_fleet_s_worker_by_its_pid(tmp_path: Path) -> None:
    """Into a worker its supervisor can look; into a command nobody, and it is seen from outside."""

    async def told(pid: int) -> Any:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "perfloop", "leaks", "--for", "2", "--json", str(pid)),
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return json.loads(out)

    async def work() -> None:
        bots = GroupSpec(name="bots", handler="tests.leaking_handlers:leak")
        clock = GroupSpec(name="clock", command=("sleep", "60"))
        control = tmp_path / "perfloop" / "bots.sock"
        control.parent.mkdir(mode=0o700)
        spec = FleetSpec(groups=(bots, clock), path=(ROOT,), control=str(control))
        async with Supervisor(spec) as fleet, tended(leaking(fleet)):
            pids = [each.workers[0].pid for each in fleet.statistics().groups]
            within, outside = await asyncio.gather(*(told(pid) for pid in pids if pid is not None))

        places = [each["place"] for each in within["lines"]]
        assert ["leaking_handlers.py:14"] == [f"{Path(each['file']).name}:{each['line']}" for each in places]
        assert (False, True) == (within["is_outside"], outside["is_outside"])

    run(work())


def test_workers_follow_the_load() -> None:
    async def work() -> None:
        async with fleet_of("work", max_under_way=4) as fleet:
            policy = ScalingPolicy(
                highest=4,
                up_every_s=0.2,
                settle_s=0.2,
                measure_s=0.4,
                down_after_s=0.6,
                drain_s=1.0,
                smoothing=0.7,
            )
            group = fleet._groups["bots"]
            async with tended(follow_load(group, policy, window_s=0.25)):
                sent = [asyncio.create_task(fleet.ask("bots", 0.03)) for _ in range(120)]
                await until(lambda: len(group.workers) >= 3)
                await asyncio.gather(*sent)
                await until(lambda: len(group.workers) == 1)
            scaled = events(fleet, "scaled")
            (first, *_) = events(fleet, "scaling-kept")

            assert (1, scaled[0].after["workers"]) == (first.before["workers"], first.after["workers"])
            assert first.before["done_per_s"] != first.after["done_per_s"]
            assert "workers are needed" in scaled[0].reason
            assert "were needed for 1 s" in scaled[-1].reason

    run(work())


@pytest.mark.skipif(
    sys.platform != "linux" or "memory" in host_rights().group_controllers,
    reason="where control groups bound the memory, the kernel ends the worker",
)
def test_a_worker_is_held_to_its_limits_and_goes_on_beyond_them() -> None:
    async def work() -> None:
        limits = ResourceLimits(memory_bytes=100 * MB, nice=3, spread=True, open_files=200)
        async with fleet_of("leak", count=2, limits=limits) as fleet:
            processes = [psutil.Process(each.pid) for each in GroupKeeper(fleet._groups["bots"]).seats()]
            held = [(each.nice() - psutil.Process().nice(), len(each.cpu_affinity())) for each in processes]

            assert [(3, 1), (3, 1)] == held
            assert 200 == processes[0].rlimit(psutil.RLIMIT_NOFILE)[0]
            with pytest.raises(MessageFailed, match="MemoryError"):
                await fleet.ask("bots", 300 * MB)
            assert await fleet.ask("bots", MB) >= 1
            assert any("RLIMIT_DATA" in each.reason for each in events(fleet, "not-limited"))

    run(work())


def test_no_group_becomes_larger_than_its_connections_allow() -> None:
    async def work() -> None:
        fields: Any = {"handler": "tests.leaking_handlers:work", "pool_size": 4}
        bots = GroupSpec(name="bots", max_under_way=4, **fields)
        web = GroupSpec(name="web", **fields)
        budget = ConnectionBudget(max_connections=15)
        async with Supervisor(FleetSpec(groups=(bots, web), path=(ROOT,), connections=budget)) as fleet:
            with pytest.raises(InvalidInput, match="there are connections for 2 workers of bots, of 4 each"):
                await fleet.scale("bots", 3)
            group = fleet._groups["bots"]
            policy = ScalingPolicy(highest=8, up_every_s=0.1, settle_s=0.1, measure_s=0.2)
            async with tended(follow_load(group, policy, window_s=0.2)):
                asked = [asyncio.create_task(fleet.ask("bots", 0.02)) for _ in range(60)]
                await until(lambda: 2 == len(group.workers))
                await asyncio.gather(*asked)

            assert ["there are connections for 2: 2 workers are needed"] == [
                each.reason.partition("; ")[2] for each in events(fleet, "scaled")
            ]

    run(work())


def test_a_fleet_file_says_what_is_tended() -> None:
    text = (
        '[groups.bots]\nhandler = "bots:act"\n[groups.bots.memory]\nmax_own_bytes = 100000000\n'
        "[groups.bots.limits]\nmemory_bytes = 200000000\ncpus = [0, 1]\n"
        "[groups.bots.scaling]\nlowest = 2\nhighest = 8\nseason = { period_s = 3600 }\n"
    )
    (spec,) = parse_fleet(text, "bots.toml", folder=".").groups

    assert LadderPolicy(max_own_bytes=100_000_000) == spec.memory
    assert ScalingPolicy(lowest=2, highest=8, season=SeasonPolicy(period_s=3600)) == spec.scaling
    assert ResourceLimits(memory_bytes=200_000_000, cpus=(0, 1)) == spec.limits
    with pytest.raises(InvalidInput, match=r"bots\.toml:12: .*fastest is not known"):
        parse_fleet(text + "fastest = 1\n", "bots.toml", folder=".")


def test_a_group_that_was_drained_is_not_begun_again_by_its_load() -> None:
    async def work() -> list[str]:
        async with fleet_of("leak") as fleet:
            await fleet.drain("bots")
            begun_s = asyncio.get_running_loop().time()
            policy = ScalingPolicy(lowest=2)
            async with tended(follow_load(fleet._groups["bots"], policy, window_s=0.05)):
                await until(lambda: asyncio.get_running_loop().time() > begun_s + 0.3)
            return [each.state for each in fleet.statistics().groups[0].workers]

    assert ["drained"] == run(work())
