"""A random worker of a fleet is killed every two seconds, under load; what happens to the messages?

    python -m benchmarks.fleet_kill --seconds 300

Each message is written down by the worker that does it, two milliseconds before it says that it is done. So
it shows which were never done, which were done again, whether that was said (`is_again`, with the id of the
first time), and whether the messages of each key were done in their order. Then, with a fleet at rest, one
worker is killed at a time: how long until its replacement answers?
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.page import host_line, met, table
from perfloop.process import Event, FleetSpec, GroupSpec, RestartPolicy, Supervisor, Worker

ROOT = str(Path(__file__).parents[1])
IMPORTS = [each for each in ("psycopg", "redis", "httpx", "pydantic") if find_spec(each)]
KEYS = 50
REPLY_MS = 5.0
WORK_S = 0.002
"""Of each message, waiting: at the usual rate, a worker of eight is busy for three quarters of the time."""


def note(worker: Worker, folder: str) -> None:
    """The workers' code: one line for each message done."""
    path = f"{folder}/{worker.name}-{os.getpid()}"
    done = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    worker.ready()
    for delivery in worker:
        number, key = delivery.message
        line = f"{time.monotonic_ns()} {number} {key} {delivery.id} {int(delivery.is_again)}\n"
        os.write(done, line.encode())
        time.sleep(WORK_S)


def who(message: Any) -> int:
    """The workers' code for the second part."""
    return os.getpid()


class Doing(NamedTuple):
    """One line of a worker."""

    at_ns: int
    number: int
    key: int
    id: int
    is_again: int


class Played(NamedTuple):
    """What came of the first part."""

    seconds: float
    kills: int
    sent: int
    lost: int
    again: int
    undeclared: int
    out_of_order: int
    workers_ready: int


async def play(
    folder: str, *, seconds: float, every_s: float, workers: int, rate: float, seed: int
) -> Played:
    """Send messages at this rate, and kill."""
    group = GroupSpec(
        name="bots",
        target="benchmarks.fleet_kill:note",
        arguments=(folder,),
        count=workers,
        restart=RestartPolicy(max_restarts=1000),
    )
    rand = random.Random(seed)
    begun_s = time.monotonic()
    async with Supervisor(FleetSpec(groups=(group,), path=(ROOT,), preload=tuple(IMPORTS))) as fleet:
        killing = asyncio.create_task(_kill(fleet, rand, every_s))
        sent = await _send(fleet, seconds, rate)
        killing.cancel()
        await _until_done(fleet)
        ready = sum(each.state == "ready" for each in fleet.statistics().groups[0].workers)
        kills = sum(_was_killed(each) for each in fleet.log.newest())
    return _judged(folder, sent, kills, ready, time.monotonic() - begun_s)


async def _send(fleet: Supervisor, seconds: float, rate: float) -> int:
    begun_s = time.monotonic()
    sent = 0
    while (ran_s := time.monotonic() - begun_s) < seconds:
        while sent < ran_s * rate:
            await fleet.send("bots", [sent, sent % KEYS], key=sent % KEYS)
            sent += 1
        await asyncio.sleep(0.001)
    return sent


async def _kill(fleet: Supervisor, rand: random.Random, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        pids = [each.pid for each in fleet.statistics().groups[0].workers if each.pid]
        os.kill(rand.choice(pids), signal.SIGKILL)


async def _until_done(fleet: Supervisor) -> None:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        (told,) = fleet.statistics().groups
        if not told.under_way and all(each.state == "ready" for each in told.workers):
            return
        await asyncio.sleep(0.05)


def _was_killed(event: Event) -> bool:
    return event.kind == "ended" and "SIGKILL" in event.reason


def _judged(folder: str, sent: int, kills: int, ready: int, seconds: float) -> Played:
    lines = [line for path in Path(folder).iterdir() for line in path.read_text().splitlines()]
    doings = sorted(Doing(*map(int, line.split())) for line in lines)
    first: dict[int, Doing] = {}
    undeclared = out_of_order = 0
    last: dict[int, int] = {}
    for doing in doings:
        before = first.setdefault(doing.number, doing)
        if before is not doing:
            undeclared += not doing.is_again or doing.id != before.id
        else:
            out_of_order += doing.number < last.get(doing.key, -1)
            last[doing.key] = doing.number
    return Played(
        seconds=seconds,
        kills=kills,
        sent=sent,
        lost=sent - len(first),
        again=len(doings) - len(first),
        undeclared=undeclared,
        out_of_order=out_of_order,
        workers_ready=ready,
    )


async def replace(times: int) -> list[float]:
    """Milliseconds from a kill to the first reply of the replacement, in a fleet at rest."""
    group = GroupSpec(
        name="bots",
        handler="benchmarks.fleet_kill:who",
        restart=RestartPolicy(max_restarts=10_000, steady_after_s=0.0),
    )
    took_ms = []
    async with Supervisor(FleetSpec(groups=(group,), path=(ROOT,), preload=tuple(IMPORTS))) as fleet:
        pid = await fleet.ask("bots", None)
        for _ in range(times):
            await asyncio.sleep(0.05)
            begun_s = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            while (found := await fleet.ask("bots", None)) == pid:
                pass
            took_ms.append((time.perf_counter() - begun_s) * 1e3)
            pid = found
    return took_ms


BARE = """
import gc, importlib, os, signal, socket, statistics, sys, time
for name in sys.argv[2:]:
    importlib.import_module(name)
gc.collect()
gc.freeze()
took_ms = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    time.sleep(0.05)
    ours, theirs = socket.socketpair()
    begun_s = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pid = os.fork()
    if pid == 0:
        theirs.send(b".")
        os._exit(0)
    ours.recv(1)
    took_ms.append((time.perf_counter() - begun_s) * 1e3)
    os.waitpid(pid, 0)
print(statistics.median(took_ms))
"""
"""The least that a system does: kill, wait, fork a process with the same imports, and hear a byte of it."""


def bare(times: int) -> float:
    """Its median, in milliseconds."""
    command = [sys.executable, "-c", BARE, str(times), "perfloop.process.worker", *IMPORTS]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3000, help="messages a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replacements", type=int, default=50)
    given = parser.parse_args(arguments)
    print(host_line())
    print()
    with tempfile.TemporaryDirectory() as folder:
        played = asyncio.run(
            play(
                folder,
                seconds=given.seconds,
                every_s=2.0,
                workers=given.workers,
                rate=given.rate,
                seed=given.seed,
            )
        )
    rows = [
        (f"kills in {played.seconds:.0f} s", str(played.kills), ""),
        ("messages sent", str(played.sent), ""),
        ("never done", str(played.lost), met(played.lost == 0)),
        ("done again, said so", str(played.again - played.undeclared), ""),
        ("done again, not said", str(played.undeclared), met(played.undeclared == 0)),
        ("out of order in their key", str(played.out_of_order), met(played.out_of_order == 0)),
        ("workers at the end", str(played.workers_ready), met(played.workers_ready == given.workers)),
    ]
    bare_ms = bare(given.replacements)
    took_ms = asyncio.run(replace(given.replacements))
    median_ms = statistics.median(took_ms)
    rows.append(("kill to first reply, ms, median", f"{median_ms:.1f}", met(median_ms <= REPLY_MS)))
    rows.append(("kill to first reply, ms, least and most", f"{min(took_ms):.1f}, {max(took_ms):.1f}", ""))
    rows.append(("kill, wait, fork and one byte, without a supervisor, ms, median", f"{bare_ms:.1f}", ""))
    print(table(("what", "value", "target"), rows))


if __name__ == "__main__":
    main()
