"""What every launcher does, with real processes; and what only one that forks can get wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.awaiting import run, until, wait_until

from perfloop.errors import InvalidValue, LaunchFailed
from perfloop.process.launching import OnExit, WorkerExit, WorkerLimits, WorkerOrder
from perfloop.process.spawn_launcher import SpawnLauncher
from perfloop.process.supervisor.zygotes import Zygotes
from perfloop.process.zygote.started import start_zygote
from perfloop.process.zygote_launcher import ZygoteLauncher

ROOT = str(Path(__file__).parents[2])
WORKERS = "tests.launched_workers"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Bench:
    """A launcher with what its workers have said, and how they ended."""

    def __init__(self, kind: type[ZygoteLauncher], **options: Any) -> None:
        self.ends: list[WorkerExit] = []
        self._open = ExitStack()
        preload = options.pop("preload", [WORKERS])
        path = [ROOT, *options.pop("path", ())]
        self.launcher = kind(preload, path=path, on_exit=self.ends.append, **options)

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *_: object) -> None:
        with self._open:
            await self.launcher.close()

    async def start(
        self, target: str | None, *arguments: str, stdout: int = 2, stderr: int = 2, **order: Any
    ) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        self._open.enter_context(ours)
        ours.setblocking(False)
        with theirs:
            given = {"name": "bot-1", "environment": dict(os.environ), **order}
            if target is not None:
                given |= {"target": f"{WORKERS}:{target}", "arguments": arguments}
            ordered = WorkerOrder(**given)
            pid = await self.launcher.start(ordered, channel=theirs, stdout=stdout, stderr=stderr)
        return pid, ours

    async def told(self, target: str | None, *arguments: str, **order: Any) -> Any:
        """What a worker says before it closes its channel."""
        _, ours = await self.start(target, *arguments, **order)
        with ours:
            return json.loads(await everything(ours))

    async def end_of(self, target: str, *arguments: str, **order: Any) -> WorkerExit:
        pid, ours = await self.start(target, *arguments, **order)
        ours.close()
        await until(lambda: any(each.pid == pid for each in self.ends))
        return next(each for each in self.ends if each.pid == pid)


async def everything(end: socket.socket) -> bytes:
    parts = b""
    while part := await asyncio.get_running_loop().sock_recv(end, 65536):
        parts += part
    return parts


def written(path: Path) -> BinaryIO:
    return path.open("wb")


def is_alive(pid: int) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def zygote_of(worker: int) -> int:
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])


def spares_of(zygote: int) -> list[int]:
    """Its forks that wait to be made workers."""
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    return [int(each) for each in children if name_of(int(each)) == "spare"]


def name_of(pid: int) -> str:
    """As the system lists it; none for one that is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class SpareLauncher(ZygoteLauncher):
    """One that has a spare worker for whatever it is to start."""

    def __init__(self, preload: Sequence[str], *, on_exit: OnExit, **options: Any) -> None:
        super().__init__(
            preload, on_exit=lambda end: None if end.pid in self._first else on_exit(end), **options
        )
        self._first: set[int] = set()

    async def start(self, order: WorkerOrder, *, channel: socket.socket, stdout: int, stderr: int) -> int:
        ours, theirs = socket.socketpair()
        first = WorkerOrder(name="first", target=f"{WORKERS}:wait", environment=dict(os.environ))
        with ours, theirs:
            pid = await super().start(first, channel=theirs, stdout=2, stderr=2)
            self._first.add(pid)
            zygote = zygote_of(pid)
            await until(lambda: spares_of(zygote))
        return await super().start(order, channel=channel, stdout=stdout, stderr=stderr)


@pytest.fixture(params=[ZygoteLauncher, SpareLauncher, SpawnLauncher])
def kind(request: pytest.FixtureRequest) -> type[ZygoteLauncher]:
    chosen: type[ZygoteLauncher] = request.param
    return chosen


def modules(folder: Path, **code: str) -> list[str]:
    for name, text in code.items():
        (folder / f"{name}.py").write_text(text)
    return list(code)


# Of every launcher


def test_a_target_is_called_with_its_name_its_channel_and_its_arguments(kind: type[ZygoteLauncher]) -> None:
    async def work() -> Any:
        async with Bench(kind) as bench:
            return await bench.told("arguments", "a b", "", "ü")

    assert ["bot-1", "a b", "", "ü"] == run(work())


def test_a_worker_has_the_output_the_folder_and_the_environment_of_its_order(
    kind: type[ZygoteLauncher], tmp_path: Path
) -> None:
    async def work() -> Any:
        with written(tmp_path / "out") as out, written(tmp_path / "err") as err:
            async with Bench(kind) as bench:
                environment = {"PATH": os.environ["PATH"], "ONLY": "this"}
                return await bench.told(
                    "surroundings",
                    folder=str(tmp_path),
                    environment=environment,
                    stdout=out.fileno(),
                    stderr=err.fileno(),
                )

    folder, environment, read = run(work())
    environment.pop("LC_CTYPE", None)  # a Python that starts in the C locale sets it

    assert (str(tmp_path), {"PATH": os.environ["PATH"], "ONLY": "this"}, "") == (folder, environment, read)
    assert ("said\n", "complained\n") == ((tmp_path / "out").read_text(), (tmp_path / "err").read_text())


def test_a_worker_has_no_descriptors_but_its_own(kind: type[ZygoteLauncher]) -> None:
    async def work() -> Any:
        with ExitStack() as stack:
            for _ in range(3):
                foreign = stack.enter_context(written(Path(os.devnull)))
                os.set_inheritable(foreign.fileno(), True)
            async with Bench(kind) as bench:
                _, other = await bench.start("wait")
                with other:
                    return await bench.told("descriptors")

    fds, channel = run(work())

    assert [0, 1, 2, channel] == fds


def test_signals_are_as_python_has_them(kind: type[ZygoteLauncher], tmp_path: Path) -> None:
    names = modules(tmp_path, handles="import signal\nsignal.signal(signal.SIGUSR1, print)\n")

    async def work() -> Any:
        async with Bench(kind, preload=[WORKERS, *names], path=[str(tmp_path)]) as bench:
            return await bench.told("signals")

    assert [[signal.SIGINT], [signal.SIGPIPE, signal.SIGXFSZ], []] == run(work())


def test_what_is_drawn_or_counted_in_two_workers_differs(kind: type[ZygoteLauncher]) -> None:
    async def work() -> Any:
        async with Bench(kind, preload=[WORKERS, "numpy.random"]) as bench:
            return await bench.told("identity"), await bench.told("identity")

    one, other = run(work())

    assert (True, True) == (one.pop(), other.pop())
    assert [] == [each for each in one if each in other]


def test_limits_hold_from_the_first_moment(kind: type[ZygoteLauncher]) -> None:
    cpu = min(os.sched_getaffinity(0))

    async def work() -> Any:
        async with Bench(kind) as bench:
            limits = WorkerLimits(nice=3, cpus=(cpu,), rlimits={"NOFILE": 99})
            return await bench.told("limits", limits=limits)

    assert [os.nice(0) + 3, [cpu], 99] == run(work())


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (
            {"folder": "/nowhere"},
            "perfloop: bot-1 cannot begin: [Errno 2] No such file or directory: '/nowhere'",
        ),
        (
            {"limits": WorkerLimits(rlimits={"LUCK": 1})},
            "perfloop: bot-1 cannot begin: this system has no limit LUCK",
        ),
    ],
)
def test_an_order_that_cannot_be_fulfilled_ends_with_a_sentence(
    kind: type[ZygoteLauncher], order: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    async def work() -> WorkerExit:
        with written(tmp_path / "err") as err:
            async with Bench(kind) as bench:
                return await bench.end_of("arguments", stderr=err.fileno(), **order)

    assert (125, f"{sentence}\n") == (run(work()).code, (tmp_path / "err").read_text())


@pytest.mark.parametrize(
    ("target", "arguments", "code", "said"),
    [
        ("exit_with", ("7",), 7, ""),
        ("system_exit", ("so it is",), 1, "so it is\n"),
        ("fault", (), 1, "LookupError: nothing here\n"),
        ("killed", (str(int(signal.SIGKILL)),), -signal.SIGKILL, ""),
        ("killed", (str(int(signal.SIGTERM)),), -signal.SIGTERM, ""),
        ("killed", (str(int(signal.SIGINT)),), -signal.SIGINT, "KeyboardInterrupt\n"),
    ],
)
def test_a_worker_ends_as_a_python_does(
    kind: type[ZygoteLauncher], target: str, arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    async def work() -> WorkerExit:
        with written(tmp_path / "err") as err:
            async with Bench(kind) as bench:
                return await bench.end_of(target, *arguments, stderr=err.fileno())

    assert code == run(work()).code
    assert said == (tmp_path / "err").read_text()[-len(said) or 1000 :]


def test_threads_and_exit_functions_come_to_their_end(kind: type[ZygoteLauncher], tmp_path: Path) -> None:
    async def work() -> WorkerExit:
        async with Bench(kind) as bench:
            return await bench.end_of("lasting_thread", str(tmp_path / "told"))

    assert (0, "thread exit") == (run(work()).code, (tmp_path / "told").read_text())


def test_the_end_tells_of_processor_time_and_memory(kind: type[ZygoteLauncher]) -> None:
    async def work() -> WorkerExit:
        async with Bench(kind) as bench:
            return await bench.end_of("burn", "0.1")

    end = run(work())

    assert 0.09 < end.cpu_s < 5
    assert 1e6 < end.peak_rss_bytes < 1e9


def test_any_program_is_a_worker_and_finds_its_channel(kind: type[ZygoteLauncher]) -> None:
    async def work() -> Any:
        async with Bench(kind) as bench:
            said = await bench.told(None, command=("sh", "-c", 'echo "[$$, 1]" >&$PERFLOOP_CHANNEL'))
            await until(lambda: len(bench.ends) == 1)
            return said, bench.ends

    said, ends = run(work())

    assert ([[ends[0].pid, 1]], [0]) == ([said], [each.code for each in ends])


def test_a_program_that_is_not_there_ends_with_127(kind: type[ZygoteLauncher], tmp_path: Path) -> None:
    async def work() -> Any:
        with written(tmp_path / "err") as err:
            async with Bench(kind) as bench:
                _, ours = await bench.start(None, command=("nonesuch",), stderr=err.fileno())
                ours.close()
                await until(lambda: len(bench.ends) == 1)
                return bench.ends[0].code

    assert (127, "perfloop: cannot run nonesuch: No such file or directory\n") == (
        run(work()),
        (tmp_path / "err").read_text(),
    )


def test_an_order_is_for_a_target_or_a_command() -> None:
    with pytest.raises(InvalidValue, match="one of them, and not both"):
        WorkerOrder(name="bot-1", environment={})


def test_messages_larger_than_a_sockets_buffer_do_not_stop_anybody(kind: type[ZygoteLauncher]) -> None:
    # Single arguments of a program may have 128 kB on Linux.
    given = ["x" * 100_000] * 9

    async def work() -> Any:
        async with Bench(kind) as bench:
            return await bench.told("arguments", *given)

    assert ["bot-1", *given] == run(work())


def test_each_of_many_workers_is_told_of_once(kind: type[ZygoteLauncher]) -> None:
    count = 100 if kind is ZygoteLauncher else 4

    async def work() -> tuple[list[int], list[WorkerExit]]:
        async with Bench(kind) as bench:
            started = await asyncio.gather(*(bench.start("exit_with", "3") for _ in range(count)))
            for _, ours in started:
                ours.close()
            await until(lambda: len(bench.ends) >= count)
        return [pid for pid, _ in started], bench.ends

    pids, ends = run(work())

    assert (sorted(pids), {3}) == (sorted(each.pid for each in ends), {each.code for each in ends})


def test_closing_ends_those_who_listen_by_a_signal_and_tells_of_each(kind: type[ZygoteLauncher]) -> None:
    async def work() -> tuple[set[int], list[WorkerExit]]:
        async with Bench(kind) as bench:
            started = [await bench.start("wait") for _ in range(3)]
            for _, ours in started:
                assert b"here" == await asyncio.get_running_loop().sock_recv(ours, 10)
            await asyncio.gather(bench.launcher.close(), bench.launcher.close())
            for _, ours in started:
                ours.close()
        return {pid for pid, _ in started}, bench.ends

    pids, ends = run(work())

    assert (pids, [-signal.SIGTERM] * 3) == ({each.pid for each in ends}, [each.code for each in ends])


def test_a_closed_launcher_starts_nothing(kind: type[ZygoteLauncher]) -> None:
    async def work() -> None:
        async with Bench(kind) as bench:
            await bench.launcher.close()
            with pytest.raises(LaunchFailed, match="the launcher is closed"):
                await bench.start("wait")

    run(work())


def test_what_a_worker_has_started_ends_with_it(kind: type[ZygoteLauncher]) -> None:
    async def work() -> bool:
        async with Bench(kind) as bench:
            pid, ours = await bench.start("parent")
            grandchild = json.loads(await asyncio.get_running_loop().sock_recv(ours, 100))
            os.kill(pid, signal.SIGKILL)
            await until(lambda: bool(bench.ends))
            ours.close()
            await until(lambda: not is_alive(grandchild))
            return True

    assert run(work())


def test_a_zygote_that_is_killed_takes_its_workers_along_and_the_next_start_has_another(
    kind: type[ZygoteLauncher],
) -> None:
    async def work() -> Any:
        async with Bench(kind) as bench:
            started = [await bench.start("parent") for _ in range(3)]
            pids = [pid for pid, _ in started]
            loop = asyncio.get_running_loop()
            pids += [json.loads(await loop.sock_recv(ours, 100)) for _, ours in started]
            os.kill(zygote_of(pids[0]), signal.SIGKILL)
            await until(lambda: len(bench.ends) == 3)
            await until(lambda: not any(map(is_alive, pids)))
            for _, ours in started:
                ours.close()
            said = await bench.told("arguments", "again")
            await until(lambda: len(bench.ends) == 4)
            return said, [each.code for each in bench.ends]

    assert (["bot-1", "again"], [-9, -9, -9, 0]) == run(work())


def test_a_start_whose_zygote_dies_is_refused(kind: type[ZygoteLauncher]) -> None:
    async def work() -> list[WorkerExit]:
        async with Bench(kind) as bench:
            pid, ours = await bench.start("wait")
            with ours:
                zygote = zygote_of(pid)
                os.kill(zygote, signal.SIGSTOP)
                starting = asyncio.ensure_future(bench.start("wait"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                os.kill(zygote, signal.SIGKILL)
                with pytest.raises(LaunchFailed, match="the zygote ended with -9 while it started a worker"):
                    await starting
            return bench.ends

    assert 1 == len(run(work()))


def test_a_start_that_is_not_waited_for_leaves_nobody_and_tells_nothing(kind: type[ZygoteLauncher]) -> None:
    async def work() -> tuple[int, list[WorkerExit]]:
        async with Bench(kind) as bench:
            pid, first = await bench.start("wait")
            zygote = zygote_of(pid)
            os.kill(zygote, signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(bench.start("wait"), 0.05)
            os.kill(zygote, signal.SIGCONT)
            await bench.told("arguments")
            children = Path(f"/proc/{zygote}/task/{zygote}/children")
            await until(lambda: len(children.read_text().split()) == 1 + len(spares_of(zygote)))
            assert zygote == zygote_of(pid)
            first.close()
            await until(lambda: len(bench.ends) == 2)
            return pid, bench.ends

    pid, ends = run(work())

    assert pid in {each.pid for each in ends}


SUPERVISOR = """
import asyncio, json, os, socket, sys
from perfloop.process.launching import WorkerOrder
from perfloop.process.spawn_launcher import SpawnLauncher
from perfloop.process.zygote_launcher import ZygoteLauncher
async def main():
    launcher = {kind}(["tests.launched_workers"], path=[{root!r}], on_exit=print)
    pids = []
    for target in ("deaf", "parent"):
        ours, theirs = socket.socketpair()
        target = f"tests.launched_workers:{{target}}"
        order = WorkerOrder(name="bot", target=target, environment=dict(os.environ))
        pids.append(await launcher.start(order, channel=theirs, stdout=2, stderr=2))
        theirs.close()
        keep.append(ours)
        said = ours.recv(100)
    print(json.dumps([*pids, json.loads(said), launcher._link._zygote.pid]), flush=True)
    await asyncio.sleep(60)
keep = []
asyncio.run(main())
"""


def test_nothing_is_left_of_a_supervisor_that_is_killed(
    kind: type[ZygoteLauncher], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_perfloop = SpawnLauncher if kind is SpawnLauncher else ZygoteLauncher
    code = SUPERVISOR.format(kind=of_perfloop.__name__, root=ROOT)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        pids = json.loads(supervisor.stdout.readline())
        assert all(map(is_alive, pids))
        supervisor.kill()
        wait_until(lambda: not any(map(is_alive, pids)))


# Of one that forks


def preloaded(tmp_path: Path, names: Iterable[str], **options: Any) -> tuple[dict[str, str], bool]:
    """What is left out, and whether a module that is fit is there in a worker."""

    async def work() -> Any:
        bench = Bench(ZygoteLauncher, preload=[WORKERS, *names], path=[str(tmp_path)], **options)
        async with bench:
            return await bench.told("loaded", "wave"), bench.launcher.unfit

    is_there, unfit = run(work())
    return unfit, is_there


def test_modules_that_do_not_survive_a_fork_are_left_out_with_the_reason(tmp_path: Path) -> None:
    names = modules(
        tmp_path,
        threaded="import threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()",
        connected="import socket\nends = socket.socketpair()",
        polling="import select\npoll = select.epoll()",
        writing=f"file = open({str(tmp_path / 'log')!r}, 'a')",
        broken="raise LookupError('no key')",
        leaving="import sys\nsys.exit(3)",
        inheriting="import threaded",
        random_numbers="device = open('/dev/urandom', 'rb')",
    )

    unfit, is_there = preloaded(tmp_path, [*names, "nonesuch", "wave", "numpy"])

    assert is_there
    assert {
        "threaded": "starts a thread when it is imported",
        "connected": "opens a socket when it is imported",
        "polling": "opens a selector or the like when it is imported",
        "writing": f"opens {tmp_path / 'log'} when it is imported",
        "broken": "cannot be imported: LookupError: no key",
        "leaving": "ends the process when it is imported",
        "inheriting": "starts a thread when it is imported",
        "nonesuch": "cannot be imported: ModuleNotFoundError: No module named 'nonesuch'",
    } == unfit


def test_what_a_preloaded_module_prints_is_printed_once_and_not_by_workers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = modules(tmp_path, printing="print('hello', end='')")

    preloaded(tmp_path, [*names, "wave"])

    assert ("", "hello") == capfd.readouterr()


def test_a_module_that_hangs_ends_in_a_sentence(tmp_path: Path) -> None:
    names = modules(tmp_path, hanging="import time\ntime.sleep(60)")

    with pytest.raises(
        LaunchFailed, match=r"hanging was not loaded within 0\.5 s; take it out of the preload"
    ):
        preloaded(tmp_path, names, preload_within_s=0.5)


def test_a_module_that_ends_the_zygote_is_named(tmp_path: Path) -> None:
    names = modules(tmp_path, dying="import os\nos._exit(9)")

    with pytest.raises(LaunchFailed, match=r"the zygote ended with -?9 while it loaded dying"):
        preloaded(tmp_path, names)


def test_a_zygote_that_was_started_before_is_used_and_one_that_is_not_used_is_ended() -> None:
    async def work() -> Any:
        used, unused = start_zygote([WORKERS], [ROOT]), start_zygote([WORKERS], [ROOT])
        async with Bench(ZygoteLauncher, started=used) as bench:
            pid, ours = await bench.start("wait")
            zygote = zygote_of(pid)
            ours.close()
        async with Bench(ZygoteLauncher, started=unused):
            pass
        return zygote == used.pid, is_alive(unused.pid)

    assert (True, False) == run(work())


def test_where_no_more_processes_are_allowed_a_start_is_refused_and_the_zygote_lives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Root is not held to RLIMIT_NPROC: a module that takes the fork away stands for it.
    names = modules(
        tmp_path,
        full="import errno, os\nfork, tries = os.fork, []\n"
        "def refuse():\n    tries.append(1)\n    if len(tries) == 1:\n"
        "        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n    return fork()\n"
        "os.fork = refuse\n",
    )

    async def work() -> Any:
        async with Bench(ZygoteLauncher, preload=[WORKERS, *names], path=[str(tmp_path)]) as bench:
            with pytest.raises(
                LaunchFailed, match=r"cannot be forked: .* `ulimit -u`, or pids\.max .*; raise it"
            ):
                await bench.start("wait")
            return await bench.told("arguments")

    assert ["bot-1"] == run(work())


def test_a_zygote_without_room_for_descriptors_refuses_and_lives(tmp_path: Path) -> None:
    names = modules(tmp_path, poor="import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (6, 4096))")

    async def work() -> Any:
        async with Bench(ZygoteLauncher, preload=[WORKERS, *names], path=[str(tmp_path)]) as bench:
            with pytest.raises(LaunchFailed, match="too many files open"):
                await bench.start("wait")
            with pytest.raises(LaunchFailed, match="too many files open"):
                await bench.start("wait")

    run(work())


def test_a_zygote_whose_supervisor_is_killed_does_not_load_on(tmp_path: Path) -> None:
    modules(tmp_path, hanging="import time\ntime.sleep(60)")
    code = (
        "import time\nfrom perfloop.process.zygote.started import start_zygote\n"
        f"zygote = start_zygote(['hanging'], [{str(tmp_path)!r}])\n"
        "zygote.control.recv(100)\nprint(zygote.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        zygote = int(supervisor.stdout.readline())
        assert is_alive(zygote)
        supervisor.kill()
        wait_until(lambda: not is_alive(zygote))


# Of spare workers


async def spare_of(bench: Bench) -> tuple[int, int, socket.socket]:
    """The spare worker of a zygote, the zygote, and the end of a worker that it was forked beside."""
    pid, ours = await bench.start("wait")
    zygote = zygote_of(pid)
    await until(lambda: spares_of(zygote))
    return spares_of(zygote)[0], zygote, ours


def test_a_spare_worker_is_the_next_and_another_takes_its_place() -> None:
    async def work() -> tuple[int, int, list[int], str]:
        async with Bench(ZygoteLauncher) as bench:
            spare, zygote, _ = await spare_of(bench)
            pid, ours = await bench.start("wait", name="bot-2")
            assert b"here" == await asyncio.get_running_loop().sock_recv(ours, 10)
            await until(lambda: spares_of(zygote))
            return spare, pid, spares_of(zygote), name_of(pid)

    spare, pid, after, called = run(work())

    assert (pid, "bot-2", 1) == (spare, called, len(after))
    assert spare not in after


def test_a_spare_worker_that_dies_is_not_told_of_and_not_waited_for() -> None:
    async def work() -> tuple[int, Any, list[WorkerExit]]:
        async with Bench(ZygoteLauncher) as bench:
            spare, _, _ = await spare_of(bench)
            os.kill(spare, signal.SIGKILL)
            await until(lambda: not name_of(spare))
            told = await bench.told("arguments", "b")
            await until(lambda: bench.ends)
            return spare, told, bench.ends

    spare, told, ends = run(work())

    assert ["bot-1", "b"] == told
    assert spare not in {each.pid for each in ends}


@pytest.mark.parametrize("number", [signal.SIGKILL, None])
def test_a_spare_worker_ends_with_its_zygote(number: int | None) -> None:
    async def work() -> bool:
        async with Bench(ZygoteLauncher) as bench:
            spare, zygote, _ = await spare_of(bench)
            if number is None:
                await bench.launcher.close()
            else:
                os.kill(zygote, number)
            await until(lambda: not is_alive(spare))
            return is_alive(spare)

    assert not run(work())


def test_programs_and_workers_that_load_for_themselves_have_no_spare_ones() -> None:
    async def spares(bench: Bench, target: str | None, **order: Any) -> list[int]:
        async with bench:
            pid, _ = await bench.start(target, **order)
            zygote = zygote_of(pid)
            for _ in range(3):  # each of them is heard after the time in which a spare one would be forked
                await asyncio.sleep(0.03)
                await bench.start(target, **order)
            return spares_of(zygote)

    async def work() -> list[list[int]]:
        program = await spares(Bench(ZygoteLauncher), None, command=("sleep", "9"))
        return [program, await spares(Bench(SpawnLauncher), "wait")]

    assert [[], []] == run(work())


def test_after_a_renewal_the_spare_worker_runs_the_code_as_it_is_now(tmp_path: Path) -> None:
    code = "import os\ndef say(name, channel):\n    os.write(channel, {text!r})\n"
    [module] = modules(tmp_path, renewed=code.format(text=b"before"))

    async def said(zygotes: Zygotes) -> bytes:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        order = WorkerOrder(name="bot-1", target=f"{module}:say", environment=dict(os.environ))
        with ours:
            with theirs:
                await zygotes.start(order, channel=theirs, stdout=2, stderr=2)
            return await everything(ours)

    def spares() -> set[int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {spare for each in children for spare in spares_of(int(each))}

    async def work() -> list[bytes]:
        zygotes = Zygotes([module], on_exit=lambda end: None, path=[ROOT, str(tmp_path)])
        try:
            found = [await said(zygotes)]
            await until(spares)
            old = spares()
            modules(tmp_path, renewed=code.format(text=b"and after"))
            await zygotes.renew()
            found.append(await said(zygotes))
            await until(lambda: spares() - old)
            return [*found, await said(zygotes)]
        finally:
            await zygotes.close()

    assert [b"before", b"and after", b"and after"] == run(work())


def test_nothing_that_a_spare_worker_holds_is_held_by_another() -> None:
    async def work() -> Any:
        async with Bench(ZygoteLauncher) as bench:
            spare, _, _ = await spare_of(bench)
            os.kill(spare, signal.SIGSTOP)
            taken, _ = await bench.start("wait")
            assert taken == spare
            found = await bench.told("descriptors")
            os.kill(spare, signal.SIGCONT)
            return found

    fds, channel = run(work())

    assert [0, 1, 2, channel] == fds
