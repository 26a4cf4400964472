"""`perfloop supervise` and `perfloop fleet`, as people, init systems and containers use them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.awaiting import DEADLINE_S, wait_until

from perfloop.errors import FleetFailed
from perfloop.process.supervisor.control_client import ask, events
from perfloop.process.supervisor.control_place import Asked
from perfloop.process.supervisor.statistics import WorkerStatistics

ROOT = Path(__file__).parents[2]
PERFLOOP = [sys.executable, "-m", "perfloop"]
BOTS = """
[groups.bots]
handler = "tests.fleet_handlers:who"
count = 2
"""
STUBBORN = """
[groups.stubborn]
command = ["bash", "-c", "trap '' TERM; echo up; while :; do read -t 0.1 < <(:); done"]
ready = { output = "up" }
stop = { grace_s = 60 }
"""


class Fleet:
    """A supervised fleet in its folder."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PERFLOOP, "fleet", *arguments, "--fleet", "bots.toml"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=environment(self.folder),
        )

    def place(self) -> Path:
        return next((self.folder / "perfloop").glob("bots-*.sock"))

    def workers(self) -> tuple[WorkerStatistics, ...]:
        return ask(self.place(), Asked(act="status")).groups[0].workers

    def log(self) -> str:
        return (self.folder / "err").read_text()

    def end(self) -> int:
        return self.process.wait(DEADLINE_S)


def pids_of(fleet: Fleet) -> list[int]:
    return [each.pid for each in fleet.workers() if each.pid is not None]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": str(ROOT)}


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def supervised(folder: Path, text: str, *before: str, options: tuple[str, ...] = ()) -> Iterator[Fleet]:
    (folder / "bots.toml").write_text(text)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        command = [*before, *PERFLOOP, "supervise", "bots.toml", *options]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, env=environment(folder))
    fleet = Fleet(folder, process)
    try:
        yield fleet
    finally:
        process.kill()
        process.wait()


def opened(fleet: Fleet) -> None:
    wait_until(lambda: "fleet: open" in fleet.log() or fleet.process.poll() is not None, fleet.log)


@contextmanager
def on_a_terminal(fleet: Fleet, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command of `perfloop fleet`, and the other side of its terminal."""
    outer, inner = pty.openpty()
    command = [*PERFLOOP, "fleet", *arguments, "--fleet", "bots.toml"]
    told = {**environment(fleet.folder), "COLUMNS": "100", "LINES": "40", "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=fleet.folder, env=told, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    try:
        yield process, outer
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def test_a_fleet_is_looked_at_changed_and_ended_as_it_is_told(tmp_path: Path) -> None:
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)
        (bots,) = json.loads(fleet.ask("status", "--json").stdout)["groups"]
        pids = [each["pid"] for each in bots["workers"]]
        place = fleet.place()

        assert ["bots-1", "bots-2"] == [each["name"] for each in bots["workers"]]
        assert 0o600 == place.stat().st_mode & 0o777
        assert "bots-3" in fleet.ask("scale", "bots", "3").stdout
        assert 2 == fleet.ask("scale", "bots", "100000000").returncode
        assert 0 == fleet.ask("restart", "bots-1").returncode
        assert "drained" in fleet.ask("drain", "bots-2").stdout
        assert [True, True] == [is_gone(pid) for pid in pids]
        events = fleet.ask("events", "--json", "--count", "1").stdout
        assert ("ended", "bots-2") == (json.loads(events)["kind"], json.loads(events)["name"])
        unknown = fleet.ask("restart", "bot-1")
        assert (3, True) == (unknown.returncode, "no worker or group bot-1; there are bots" in unknown.stderr)

        fleet.process.send_signal(signal.SIGTERM)

        assert 0 == fleet.end()
        assert "fleet: closed: SIGTERM came" in fleet.log()
        assert not place.exists()
        asked = fleet.ask("status")
        assert (3, True) == (asked.returncode, "no fleet answers at" in asked.stderr)


def test_a_second_signal_ends_what_does_not_end_at_once(tmp_path: Path) -> None:
    with supervised(tmp_path, STUBBORN) as fleet:
        opened(fleet)
        fleet.process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping" in fleet.log(), fleet.log)
        fleet.process.send_signal(signal.SIGINT)

        assert 130 == fleet.end()


def test_a_fleet_of_which_a_worker_is_given_up_ends_with_3_and_says_why(tmp_path: Path) -> None:
    text = """
[groups.web]
command = ["sh", "-c", "echo no such port >&2; exit 7"]
ready = { delay_s = 0.0 }
restart = { max_restarts = 1, first_s = 0.01 }
"""
    with supervised(tmp_path, text) as fleet:
        assert 3 == fleet.end()
        assert "fleet: closed: it failed" in fleet.log()
        assert "web-1: ended: with exit code 7; last on its standard error: no such port" in fleet.log()
        assert "perfloop: given up: web-1" in fleet.log() or "web did not become ready" in fleet.log()


def test_a_fleet_ends_with_0_when_all_its_workers_did_their_work(tmp_path: Path) -> None:
    text = '[groups.once]\ncommand = ["echo", "done"]\nrestart = { kind = "transient" }\n'
    with supervised(tmp_path, text, options=("--json",)) as fleet:
        assert 0 == fleet.end()
        lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert [("once-1", "out", "done")] == [(each["name"], each["stream"], each["line"]) for each in lines]


def test_a_supervisor_that_is_killed_leaves_nothing_and_its_socket_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)
        pids = pids_of(fleet)
        fleet.process.kill()

        wait_until(lambda: all(is_gone(pid) for pid in pids))
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)

        assert 2 == len(pids_of(fleet))
        second = subprocess.run(
            [*PERFLOOP, "supervise", "bots.toml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment(tmp_path),
            timeout=DEADLINE_S,
            check=False,
        )
        assert (3, True) == (second.returncode, "a fleet answers at" in second.stderr)


def test_a_hangup_restarts_every_worker(tmp_path: Path) -> None:
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)
        before = set(pids_of(fleet))
        fleet.process.send_signal(signal.SIGHUP)

        wait_until(lambda: all(is_gone(pid) for pid in before), fleet.log)
        wait_until(lambda: all(each.state == "ready" for each in fleet.workers()))


def test_a_hangup_runs_no_job_again_that_came_to_its_end(tmp_path: Path) -> None:
    once = '[groups.once]\ncommand = ["echo", "done"]\nrestart = { kind = "temporary" }\n'
    with supervised(tmp_path, once + BOTS) as fleet:
        opened(fleet)
        wait_until(lambda: "once-1: over" in fleet.log(), fleet.log)
        fleet.process.send_signal(signal.SIGHUP)

        wait_until(lambda: 4 == len(re.findall("bots-.: ready", fleet.log())), fleet.log)
        assert 1 == fleet.log().count("once-1: started")


def test_a_worker_that_hears_nothing_is_looked_at_from_outside(tmp_path: Path) -> None:
    with supervised(tmp_path, '[groups.bots]\ntarget = "tests.fleet_handlers:deaf"\n') as fleet:
        opened(fleet)
        (pid,) = pids_of(fleet)
        looked = subprocess.run(
            [*PERFLOOP, "leaks", "--for", "1", "--fleet", "bots.toml", str(pid)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=environment(tmp_path),
        )

        assert (0, True) == (looked.returncode, "Nothing grew" in looked.stdout)
        assert "have a loop of its own, or have ended; looking from outside instead" in looked.stderr


def test_a_hangup_goes_on_with_the_next_group_where_one_does_not_get_ready(tmp_path: Path) -> None:
    broken = '[groups.web]\ncommand = ["false"]\nready = { delay_s = 1 }\nrestart = { max_restarts = 0 }\n'
    with supervised(tmp_path, broken + BOTS) as fleet:
        opened(fleet)
        assert ["given up", "ready", "ready"] == states_of(fleet)
        fleet.process.send_signal(signal.SIGHUP)

        wait_until(lambda: 4 == len(re.findall("bots-.: ready", fleet.log())), fleet.log)
        assert "web: restart-stopped: web-1 is given up after its restart" in fleet.log()
        fleet.process.terminate()
        assert 3 == fleet.end()


def test_events_are_followed_until_the_fleet_ends(tmp_path: Path) -> None:
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)
        command = [*PERFLOOP, "fleet", "events", "--follow", "--count", "1", "--json", "--fleet", "bots.toml"]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, env=environment(tmp_path)
        ) as following:
            try:
                assert following.stdout is not None
                assert "open" == json.loads(following.stdout.readline())["kind"]
                os.kill(pids_of(fleet)[0], signal.SIGKILL)
                kinds = [json.loads(following.stdout.readline())["kind"] for _ in range(4)]
                fleet.process.terminate()
                rest = [json.loads(line)["kind"] for line in following.stdout]

                assert ["ended", "restarting", "started", "ready"] == kinds
                assert ["closed", "ended", "ended", "stopping", "stopping"] == sorted(rest)
                assert "closed" == rest[-1]
                assert 0 == following.wait(DEADLINE_S)
            finally:
                following.kill()


def test_a_fleet_is_looked_at_while_it_is_drained(tmp_path: Path) -> None:
    with supervised(tmp_path, STUBBORN) as fleet:
        opened(fleet)
        fleet.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in fleet.log(), fleet.log)

        assert ["stopping"] == [each.state for each in fleet.workers()]
        asked = fleet.ask("restart", "stubborn")
        assert (3, True) == (asked.returncode, "the fleet is ended" in asked.stderr)


def test_a_supervisor_that_is_stopped_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfloop.process.supervisor.control_client.CONNECT_S", 0.2)
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)
        place = fleet.place()
        fleet.process.send_signal(signal.SIGSTOP)

        for act in ("status", "restart"):
            with pytest.raises(
                FleetFailed, match=r"did not answer within 0.2 s; it is stopped, as by SIGSTOP"
            ):
                ask(place, Asked(act=act, name="bots"))
        with pytest.raises(FleetFailed, match="did not answer"):
            list(events(place, count=1, follow=True))


@pytest.mark.parametrize("text", ["", 'preload = ["json"]\n'])
def test_a_file_without_groups_is_refused_with_the_way_out(text: str, tmp_path: Path) -> None:
    with supervised(tmp_path, text) as fleet:
        assert 3 == fleet.end()
        assert "perfloop: bots.toml:1: there is no group; add [groups.NAME]" in fleet.log()
        assert "Traceback" not in fleet.log()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has PID namespaces")
def test_as_process_1_it_reaps_what_nobody_else_does_and_takes_all_along(tmp_path: Path) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a PID namespace")
    text = """
[groups.orphans]
command = ["sh", "-c", "(sleep 0.01 & ) ; (sleep 1000 & ); echo up; exec sleep 1000"]
ready = { output = "up" }
"""
    with supervised(tmp_path, text, *unshare) as fleet:
        opened(fleet)
        seen = ["nsenter", "--target", str(child_of(fleet.process.pid)), "--user", "--pid", "--mount"]

        def states() -> list[str]:
            told = subprocess.run(
                [*seen, "ps", "-eo", "stat,comm"], capture_output=True, text=True, check=True
            )
            return [line.split()[0][0] for line in told.stdout.splitlines()[1:] if "sleep" in line]

        wait_until(lambda: states() == ["S", "S"], lambda: str(states()))
        os.kill(child_of(fleet.process.pid), signal.SIGTERM)

        assert 0 == fleet.end()


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_each_look_of_a_watched_fleet_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)
        with on_a_terminal(fleet, "status", "--watch") as (watching, terminal):
            shown = b""
            while shown.count(b"restarts") < 3:  # in the header alone
                shown += os.read(terminal, 4096)
            watching.send_signal(signal.SIGINT)
            _, first, second, *_ = shown.split(b"restarts")

            assert 130 == watching.wait(DEADLINE_S)
            assert [(1, 1), (1, 1)] == [
                (each.count(b"bots-1"), each.count(b"bots-2")) for each in (first, second)
            ]


def test_a_watched_fleet_has_a_line_of_json_for_each_look(tmp_path: Path) -> None:
    with supervised(tmp_path, BOTS) as fleet:
        opened(fleet)
        command = [*PERFLOOP, "fleet", "status", "--watch", "--json", "--fleet", "bots.toml"]
        environ = environment(fleet.folder)
        watching = subprocess.Popen(command, cwd=fleet.folder, env=environ, stdout=subprocess.PIPE)
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)

        assert 130 == watching.wait(DEADLINE_S)
        assert ["bots", "bots"] == [each["groups"][0]["name"] for each in looks]
        watching.stdout.close()


GREEDY = """
[groups.greedy]
command = ["python", "-c", "import time; time.sleep(0.1); kept = bytearray(400 << 20); time.sleep(60)"]
ready = { output = "never" }
restart = { kind = "temporary" }
"""


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Path]:
    """A control group of its own for a supervisor and its workers, with 200 MB."""
    for bound in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        made = bound.parent / f"perfloop-test-{os.getpid()}"
        if not bound.with_name("cgroup.procs").exists() or not os.access(bound.parent, os.W_OK):
            continue
        made.mkdir()
        try:
            if os.access(made / bound.name, os.W_OK):
                (made / bound.name).write_text(str(200 << 20))
                yield made
                return
        finally:
            wait_until(lambda made=made: not (made / "cgroup.procs").read_text())
            made.rmdir()
    pytest.skip("this user may make no control group with a bound of memory")


def test_a_worker_that_the_system_kills_for_want_of_memory_is_told_as_that(
    tight: Path, tmp_path: Path
) -> None:
    inside = ["sh", "-c", f'echo $$ > {tight}/cgroup.procs; exec "$@"', "sh"]
    with supervised(tmp_path, GREEDY, *inside) as fleet:
        fleet.process.wait(DEADLINE_S)

        assert "ended: by SIGKILL, out of memory: the system killed" in fleet.log()


TALK = """
[groups.talk]
command = ["sh", "-c", "while :; do echo line; sleep 0.01; done"]
[groups.bots]
handler = "tests.fleet_handlers:who"
"""


@pytest.mark.parametrize("streams", ["> /dev/full 2>&1", ">&- 2>&-", "<&- >&- 2>&-", "2>&1 | head -1"])
def test_a_fleet_goes_on_where_nobody_takes_what_it_writes(streams: str, tmp_path: Path) -> None:
    """A disk that is full, a closed descriptor, a reader that has gone."""
    script = f'({{ "$@" & echo $! > pid; wait $!; echo $? > code; }} {streams}) & wait'
    with supervised(tmp_path, TALK, "bash", "-c", script, "bash") as fleet:
        wait_until(lambda: [*(tmp_path / "perfloop").glob("bots-*.sock")], fleet.log)
        wait_until(lambda: ["ready", "ready"] == states_of(fleet), fleet.log)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        fleet.end()

        assert "0" == (tmp_path / "code").read_text().strip()


def states_of(fleet: Fleet) -> list[str]:
    groups = ask(fleet.place(), Asked(act="status")).groups
    return [worker.state for group in groups for worker in group.workers]


def test_under_nohup_a_hangup_restarts_nobody(tmp_path: Path) -> None:
    with supervised(tmp_path, BOTS, "sh", "-c", "trap '' HUP; exec \"$@\"", "sh") as fleet:
        opened(fleet)
        before = pids_of(fleet)
        fleet.process.send_signal(signal.SIGHUP)
        fleet.ask("scale", "bots", "3")

        assert before == pids_of(fleet)[:2]
        assert "replacing" not in fleet.log()
