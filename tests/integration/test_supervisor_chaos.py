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
from tests.awaiting import DEADLINE_S, until

from perfloop.errors import FleetFailed, InvalidInput, LaunchFailed
from perfloop.process import (
    FleetSpec,
    GroupSpec,
    HealthPolicy,
    RestartPolicy,
    Strategy,
    Supervisor,
    WorkerStatistics,
)

ROOT = str(Path(__file__).parents[2])
PLAYED_S = 8.0


@pytest.mark.slow
def test_no_message_is_lost_or_done_out_of_order_when_workers_are_killed_under_load(tmp_path: Path) -> None:
    played: Played = asyncio.run(
        play(str(tmp_path), seconds=PLAYED_S, every_s=0.4, workers=4, rate=1000, seed=1)
    )

    assert played.kills > 5
    assert (0, 0, 0, 4) == (played.lost, played.undeclared, played.out_of_order, played.workers_ready)


def told(fleet: Supervisor) -> tuple[WorkerStatistics, ...]:
    return fleet.statistics().groups[0].workers


async def disturb(fleet: Supervisor, rand: random.Random) -> None:
    """One random act."""
    workers = [each for each in told(fleet) if each.pid is not None]
    if not workers:
        return
    worker = rand.choice(workers)
    act = rand.choice(["kill", "stop", "term", "restart", "restart all", "drain", "scale"])
    if act == "restart":
        await fleet.restart(worker.name)
    elif act == "restart all":
        await fleet.restart("bots")
    elif act == "drain":
        await fleet.drain(worker.name)
        await fleet.restart(worker.name)
    elif act == "scale":
        await fleet.scale("bots", rand.randint(1, 5))
    elif worker.pid is not None:
        number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}[act]
        os.kill(worker.pid, number)


async def disturbing(fleet: Supervisor, rand: random.Random, until_s: float) -> None:
    while time.monotonic() < until_s:
        try:
            await disturb(fleet, rand)
        except (FleetFailed, InvalidInput, LaunchFailed, ProcessLookupError):
            await asyncio.sleep(0)  # what was to be disturbed is gone, or in the midst of something else
        await asyncio.sleep(rand.uniform(0.0, 0.2))


async def talking(fleet: Supervisor, name: int, until_s: float) -> int:
    """How many were answered, each as it was asked."""
    number = 0
    while time.monotonic() < until_s:
        try:
            answer = await fleet.ask("bots", [name, number], key=name)
        except FleetFailed:  # all workers are drained for a moment
            await asyncio.sleep(0.01)
            continue
        assert [name, number] == answer[0]
        number += 1
    return number


@pytest.mark.slow
@pytest.mark.parametrize("strategy", Strategy)
def test_every_message_is_answered_whatever_happens_to_the_workers(strategy: Strategy) -> None:
    """And the fleet is whole again afterwards, though two act upon it at once."""
    rand = random.Random(list(Strategy).index(strategy))
    group = GroupSpec(
        name="bots",
        handler="tests.fleet_handlers:who",
        count=3,
        strategy=strategy,
        max_deliveries=50,
        health=HealthPolicy(heartbeat_s=1.0),
        restart=RestartPolicy(first_s=0.001, max_s=0.01, max_restarts=10_000),
    )

    async def work() -> None:
        async with Supervisor(FleetSpec(groups=(group,), path=(ROOT,))) as fleet:
            until_s = time.monotonic() + PLAYED_S
            disturbers = [asyncio.create_task(disturbing(fleet, rand, until_s)) for _ in range(2)]
            counts = await asyncio.gather(*(talking(fleet, name, until_s) for name in range(8)))
            await asyncio.gather(*disturbers)
            await fleet.scale("bots", 3)
            await fleet._groups["bots"].settled()
            await fleet.restart("bots")
            await until(lambda: ["ready"] * 3 == [each.state for each in told(fleet)])

            assert 0 == fleet.statistics().groups[0].given_up
            assert min(counts) > 0

    async def within() -> None:
        async with asyncio.timeout(PLAYED_S + 3 * DEADLINE_S):
            await work()

    asyncio.run(within())
