"""However perfloop ends, its servers end with it and their folders go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from perfloop.adapters.servers import PostgresBinaries, RedisServer, sweep_stale_servers

DEADLINE_S = 30.0

OWNER = """
import signal, sys
from pathlib import Path
from perfloop.adapters.servers import PostgresServer, RedisServer, find_postgres, find_redis

parent = Path(sys.argv[2])
server = {
    "postgres": lambda: PostgresServer(find_postgres(Path(sys.argv[3])), parent=parent),
    "redis": lambda: RedisServer(find_redis(), parent=parent),
}[sys.argv[1]]()
with server:
    print(server.pid, flush=True)
    signal.pause()
"""

FORK = """
    import os
    if child := os.fork():
        print(child, flush=True)
"""
FORKING_OWNER = OWNER.replace("    signal.pause()", f"{FORK}    signal.pause()")

LEAVING_FORK = f"""{FORK}
    else:
        sys.exit()
    os.waitpid(child, 0)
    print(server.pid, flush=True)
"""
LEFT_OWNER = OWNER.replace("    signal.pause()", f"{LEAVING_FORK}    signal.pause()")


class Owner:
    """A Python process that owns one server."""

    def __init__(self, process: subprocess.Popen[str], parent: Path) -> None:
        self.process = process
        self.parent = parent
        self.server_pid = int(self.read_line())

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @property
    def folders(self) -> list[Path]:
        return list(self.parent.iterdir())


StartOwner = Callable[..., Owner]


@pytest.fixture
def start_owner(tmp_path: Path, postgres_binaries: PostgresBinaries) -> Iterator[StartOwner]:
    """As root the server's account must be able to come by, which pytest's own folders prevent."""
    owners: list[subprocess.Popen[str]] = []
    parent = Path("/tmp", f"pt-{os.getpid()}-{tmp_path.name[-8:]}")
    parent.mkdir(mode=0o755)

    def start(kind: str = "postgres", script: str = OWNER) -> Owner:
        process = subprocess.Popen(
            [sys.executable, "-c", script, kind, str(parent), str(postgres_binaries.bin_dir)],
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        owners.append(process)
        return Owner(process, parent)

    yield start
    for process in owners:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    wait_until(lambda: not list(parent.iterdir()))
    parent.rmdir()


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > give_up_s:
            pytest.fail("the condition did not come true in time")
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """A zombie waits only for whoever adopted it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_in(folder: Path) -> list[int]:
    """Everything whose command line names the folder, the guard included."""
    running = psutil.process_iter(["cmdline"])
    return [one.pid for one in running if any(str(folder) in word for word in one.info["cmdline"] or ())]


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_nothing_is_left_of_a_killed_owner(start_owner: StartOwner, kind: str) -> None:
    """SIGKILL leaves the owner no chance; the guard tidies up behind it."""
    owner = start_owner(kind)
    [folder] = owner.folders
    backends = [child.pid for child in psutil.Process(owner.server_pid).children(recursive=True)]

    owner.process.kill()
    wait_until(lambda: not owner.folders)

    assert not [pid for pid in [owner.server_pid, *backends] if is_running(pid)]
    wait_until(lambda: not processes_in(folder))


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_ctrl_c_ends_the_server(start_owner: StartOwner, kind: str) -> None:
    """The terminal sends SIGINT to the whole group; the server is not in it and is stopped in order."""
    owner = start_owner(kind)

    os.killpg(owner.process.pid, signal.SIGINT)
    owner.process.wait(DEADLINE_S)

    assert not owner.folders
    assert not is_running(owner.server_pid)


def test_a_terminated_owner_takes_its_server_along(start_owner: StartOwner) -> None:
    owner = start_owner()

    owner.process.terminate()
    wait_until(lambda: not owner.folders)

    assert not is_running(owner.server_pid)


def test_a_forked_child_does_not_keep_the_server_alive(start_owner: StartOwner) -> None:
    """Workers inherit every descriptor, the guard's pipe included, and may outlive a killed owner."""
    owner = start_owner(script=FORKING_OWNER)
    child = psutil.Process(int(owner.read_line()))

    owner.process.kill()
    wait_until(lambda: not owner.folders)

    assert child.is_running()
    child.kill()


def test_a_forked_child_that_leaves_does_not_stop_the_server(start_owner: StartOwner) -> None:
    """It unwinds the same blocks as its parent would."""
    owner = start_owner(script=LEFT_OWNER)
    child = int(owner.read_line())

    assert child != owner.server_pid
    assert owner.server_pid == int(owner.read_line())
    assert 1 == len(owner.folders)


def test_a_sweep_ends_servers_whose_guard_died_too(start_owner: StartOwner) -> None:
    owner = start_owner()
    [folder] = owner.folders
    [guard] = [
        child for child in psutil.Process(owner.process.pid).children() if "guard.sh" in str(child.cmdline())
    ]
    guard.kill()
    owner.process.kill()
    owner.process.wait()

    assert is_running(owner.server_pid)
    assert [folder] == sweep_stale_servers(owner.parent)
    assert not owner.folders
    wait_until(lambda: not is_running(owner.server_pid))


def test_a_sweep_leaves_a_used_server_alone(redis_server: RedisServer) -> None:
    folder = redis_server.socket_path.parent.parent

    assert folder not in sweep_stale_servers()
    assert is_running(redis_server.pid)
