"""The ways of starting workers that benchmarks/startup.py compares: each prints one line of JSON."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

WORKERS: Final = "benchmarks.startup_workers"
MESSAGE: Final = {"user": 7, "words": ["a", "b"]}
REPLACEMENTS: Final = 20
SPAWNED_REPLACEMENTS: Final = 3
BETWEEN_S: Final = 0.1
"""Between two workers that are killed."""
UNDER_WAY: Final = 10
"""Messages that are sent right before a worker is killed."""
SETTLE_S: Final = 0.5
"""From the last reply to the look at memory: what is done in the background is done by then."""


def _text(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text(encoding="ascii")


def below(pid: int) -> list[int]:
    """The processes that this one has started, and so on."""
    children = [int(each) for each in _text(pid, f"task/{pid}/children").split()]
    return [*children, *(other for each in children for other in below(each))]


def used(*, without_own: bool = False) -> dict[str, float]:
    """By this process and all below it: processor time now, and memory shared out among its users soon."""
    ready_at_s = time.time()
    cpu_ns = sum(int(_text(each, "schedstat").split()[0]) for each in _own(without_own))
    time.sleep(SETTLE_S)
    lines = [line for each in _own(without_own) for line in _text(each, "smaps_rollup").splitlines()]
    pss_kb = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return {"ready_at_s": ready_at_s, "cpu_s": cpu_ns / 1e9, "pss_mb": pss_kb / 1024}


def _own(without_own: bool) -> list[int]:
    return [*below(os.getpid()), *([] if without_own else [os.getpid()])]


def tell(found: dict[str, float], replaced_s: list[float] | None = None) -> None:
    """Print what was measured."""
    if replaced_s:
        found["replaced_s"] = statistics.median(replaced_s)
    print(json.dumps(found), flush=True)


def imported(count: int) -> None:
    """One process, and no worker."""
    importlib.import_module(WORKERS).answer(MESSAGE)
    tell(used())


def supervised(count: int) -> None:
    """As a user has it: a fleet that answers, and a worker killed under it."""
    from perfloop.process.supervisor.restarting import RestartPolicy
    from perfloop.process.supervisor.specs import FleetSpec, GroupSpec
    from perfloop.process.supervisor.supervisor import Supervisor

    restart = RestartPolicy(first_s=0.0, max_restarts=10 * REPLACEMENTS)
    group = GroupSpec(name="bots", handler=f"{WORKERS}:answer", count=count, restart=restart)
    one = GroupSpec(name="one", handler=f"{WORKERS}:answer", count=0, restart=restart)

    async def run() -> None:
        async with Supervisor(FleetSpec(groups=(group, one), path=(os.getcwd(),))) as fleet:
            await asyncio.gather(*(fleet.ask("bots", MESSAGE) for _ in range(count)))
            found = used()
            await fleet.scale("one", 1)
            pid = await fleet.ask("one", MESSAGE)
            killed = [await _killed(fleet, pid)]
            while len(killed) < REPLACEMENTS:
                killed.append(await _killed(fleet, killed[-1][0]))
            found["lost"] = sum(lost for _, _, lost in killed)
            found["asked"] = UNDER_WAY * len(killed)
            tell(found, [took_s for _, took_s, _ in killed])

    asyncio.run(run())


async def _killed(fleet: Any, pid: int) -> tuple[int, float, int]:
    """Kill a worker with messages under way: who comes after it, its first reply in seconds, what is lost."""
    await asyncio.sleep(BETWEEN_S)
    after: list[tuple[int, float]] = []

    async def ask() -> None:
        answered = await fleet.ask("one", MESSAGE)
        if answered != pid:
            after.append((answered, time.perf_counter()))

    asked = [asyncio.create_task(ask()) for _ in range(UNDER_WAY)]
    await asyncio.sleep(0)
    begun_s = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    faults = [each for each in await asyncio.gather(*asked, return_exceptions=True) if each is not None]
    if not after:
        await ask()
    new, first_s = after[0]
    return new, first_s - begun_s, len(faults)


def commanded(count: int) -> None:
    """`perfloop supervise`, until it says that all are ready."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fleet.toml")
        text = f'[groups.bots]\nhandler = "{WORKERS}:answer"\ncount = {count}\n'
        file.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "perfloop", "supervise", str(file), "--json"]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        begun_s = time.time()
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as fleet:
            assert fleet.stderr is not None
            while json.loads(fleet.stderr.readline())["kind"] != "open":
                pass
            found = used(without_own=True)
            tell({**found, "ready_s": found["ready_at_s"] - begun_s})
            fleet.terminate()
            fleet.communicate()


def launched(kind: str) -> Callable[[int], None]:
    """The launcher alone."""

    def run(count: int) -> None:
        from perfloop.process.zygote.started import start_zygote

        started = start_zygote([WORKERS], [os.getcwd()]) if kind == "fork" else None
        asyncio.run(_launched(count, kind, started))

    return run


async def _launched(count: int, kind: str, started: Any) -> None:
    from perfloop.process.launching import WorkerExit, WorkerOrder
    from perfloop.process.spawn_launcher import SpawnLauncher
    from perfloop.process.zygote_launcher import ZygoteLauncher

    ended: asyncio.Queue[WorkerExit] = asyncio.Queue()
    chosen = ZygoteLauncher if kind == "fork" else SpawnLauncher
    launcher = chosen([WORKERS], path=[os.getcwd()], on_exit=ended.put_nowait, started=started)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        order = WorkerOrder(
            name=f"bot-{number}", target=f"{WORKERS}:over_channel", environment=dict(os.environ)
        )
        with theirs:
            pid = await launcher.start(order, channel=theirs, stdout=2, stderr=2)
        await loop.sock_sendall(ours, b"?")
        assert pid == int.from_bytes(await loop.sock_recv(ours, 4), "little")
        return pid, ours

    workers = await asyncio.gather(*map(one, range(count)))
    found = used()
    replaced_s = []
    for _ in range(REPLACEMENTS if kind == "fork" else SPAWNED_REPLACEMENTS):
        await asyncio.sleep(BETWEEN_S)
        begun_s = time.perf_counter()
        os.kill(workers[0][0], signal.SIGKILL)
        await ended.get()
        workers[0][1].close()
        workers[0] = await one(0)
        replaced_s.append(time.perf_counter() - begun_s)
    tell(found, replaced_s)
    for _, end in workers:
        end.close()
    await launcher.close()


def multiprocessed(method: str, *, preload: bool = False) -> Callable[[int], None]:
    """`multiprocessing`, a pipe to each process."""

    def run(count: int) -> None:
        context = multiprocessing.get_context(method)
        if preload:
            context.set_forkserver_preload([WORKERS])
        workers = [_begun(context) for _ in range(count)]
        for _, end in workers:
            end.recv()
        found = used()
        replaced_s = []
        for _ in range(REPLACEMENTS if preload else SPAWNED_REPLACEMENTS):
            process, end = workers[0]
            time.sleep(BETWEEN_S)
            begun_s = time.perf_counter()
            process.kill()
            process.join()
            end.close()
            workers[0] = _begun(context)
            workers[0][1].recv()
            replaced_s.append(time.perf_counter() - begun_s)
        tell(found, replaced_s)
        for process, end in workers:
            end.close()
            process.join()

    return run


def _begun(context: BaseContext) -> tuple[BaseProcess, Connection]:
    from benchmarks.startup_called import over_pipe

    ours, theirs = context.Pipe()
    process = context.Process(target=over_pipe, args=(theirs,))  # type: ignore[attr-defined]  # every real one has it
    process.start()
    theirs.close()
    ours.send(MESSAGE)
    return process, ours


def executed(method: str, *, preload: bool = False) -> Callable[[int], None]:
    """`concurrent.futures`, which has no way to replace one process."""

    def run(count: int) -> None:
        context = multiprocessing.get_context(method)
        if preload:
            context.set_forkserver_preload([WORKERS])
        with concurrent.futures.ProcessPoolExecutor(count, mp_context=context) as pool:
            _answered(pool, count)

    return run


def of_loky(count: int) -> None:
    """Loky's executor."""
    import loky

    with loky.ProcessPoolExecutor(count) as pool:
        _answered(pool, count)


def _answered(pool: Any, count: int) -> None:
    """Tell when each of the processes has answered."""
    from benchmarks.startup_called import answer_with_all

    with tempfile.TemporaryDirectory() as folder:
        found = [pool.submit(answer_with_all, MESSAGE, folder, count) for _ in range(count)]
        assert count == len({each.result() for each in found})
        tell(used())


WAYS: Final[dict[str, Callable[[int], None]]] = {
    "one process, its imports alone": imported,
    "perfloop supervise": commanded,
    "perfloop Supervisor": supervised,
    "perfloop launcher, fork": launched("fork"),
    "perfloop launcher, spawn": launched("spawn"),
    "multiprocessing forkserver, preloaded": multiprocessed("forkserver", preload=True),
    "multiprocessing spawn": multiprocessed("spawn"),
    "concurrent.futures forkserver, preloaded": executed("forkserver", preload=True),
    "loky": of_loky,
}
