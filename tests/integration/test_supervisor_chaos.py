"""Workers of a fleet are killed, stopped, restarted, scaled and drained at random, under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest
from benchmarks.fleet_kill import Played, play

from perfloop.errors import FleetFailed, LaunchFailed
from perfloop.process import FleetSpec, GroupSpec, HealthPolicy, RestartPolicy, Supervisor

ROOT = str(Path(__file__).parents[2])
PLAYED_S = 8.0


@pytest.mark.slow
def test_no_message_is_lost_or_done_out_of_order_when_workers_are_killed_under_load(tmp_path: Path) -> None:
    played: Played = asyncio.run(
        play(str(tmp_path), seconds=PLAYED_S, every_s=0.4, workers=4, rate=1000, seed=1)
    )

    assert played.kills > 5
    assert (0, 0, 0, 4) == (played.lost, played.undeclared, played.out_of_order, played.workers_ready)


async def disturb(fleet: Supervisor, rand: random.Random) -> None:
    """One random act."""
    workers = [each for each in fleet.statistics().groups[0].workers if each.pid is not None]
    if not workers:
        return
    worker = rand.choice(workers)
    act = rand.choice(["kill", "stop", "term", "restart", "scale"])
    if act == "restart":
        await fleet.restart(worker.name)
    elif act == "scale":
        await fleet.scale("bots", rand.randint(1, 5))
    elif worker.pid is not None:
        number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}[act]
        os.kill(worker.pid, number)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_message_is_answered_whatever_happens_to_the_workers(seed: int) -> None:
    rand = random.Random(seed)
    group = GroupSpec(
        name="bots",
        handler="tests.fleet_handlers:who",
        count=3,
        max_deliveries=50,
        health=HealthPolicy(heartbeat_s=1.0),
        restart=RestartPolicy(first_s=0.001, max_s=0.01, max_restarts=10_000),
    )

    async def work() -> None:
        async with Supervisor(FleetSpec(groups=(group,), path=(ROOT,))) as fleet:
            begun_s = time.monotonic()

            async def disturbing() -> None:
                while time.monotonic() - begun_s < PLAYED_S:
                    try:
                        await disturb(fleet, rand)
                    except (FleetFailed, LaunchFailed, ProcessLookupError):
                        continue
                    await asyncio.sleep(rand.uniform(0.0, 0.2))

            async def talking(name: int) -> int:
                number = 0
                while time.monotonic() - begun_s < PLAYED_S:
                    answer = await fleet.ask("bots", [name, number], key=name)
                    assert [name, number] == answer[0]
                    number += 1
                return number

            disturber = asyncio.create_task(disturbing())
            counts = await asyncio.gather(*(talking(name) for name in range(8)))
            await disturber
            assert min(counts) > 0
            assert fleet.statistics().groups[0].given_up == 0

    async def within() -> None:
        async with asyncio.timeout(4 * PLAYED_S):
            await work()

    asyncio.run(within())
