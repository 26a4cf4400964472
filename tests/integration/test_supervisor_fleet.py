"""Fleets of real processes: messages, deaths, hangs, restarts, scaling."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.awaiting import run, until

from perfloop.errors import FleetFailed, InvalidInput, MessageFailed
from perfloop.process import (
    Event,
    FleetSpec,
    GroupSpec,
    HealthPolicy,
    ReadyPolicy,
    RestartKind,
    RestartPolicy,
    StopPolicy,
    Strategy,
    Supervisor,
)

ROOT = str(Path(__file__).parents[2])
QUICK = RestartPolicy(first_s=0.001, max_s=0.01)


def group(**fields: Any) -> GroupSpec:
    given = {"name": "bots", "restart": QUICK, **fields}
    if not {"handler", "target", "command"} & set(given):
        given["handler"] = "tests.fleet_handlers:act"
    return GroupSpec(**given)


def fleet_of(*groups: GroupSpec, **options: Any) -> Supervisor:
    return Supervisor(FleetSpec(groups=groups, path=(ROOT,)), **options)


def kinds(fleet: Supervisor, name: str) -> list[str]:
    return [each.kind for each in fleet.log.newest() if each.name == name]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def pids(fleet: Supervisor) -> list[int]:
    return [each.pid for told in fleet.statistics().groups for each in told.workers if each.pid is not None]


def test_each_worker_answers_and_none_is_left_afterwards() -> None:
    async def work() -> tuple[set[str], list[int]]:
        async with fleet_of(group(handler="tests.fleet_handlers:who", count=3)) as fleet:
            answers = await asyncio.gather(*(fleet.ask("bots", n) for n in range(9)))
            told = fleet.statistics()
            assert list(range(9)) == [answer[0] for answer in answers]
            assert 9 == told.groups[0].handled
            return {answer[2] for answer in answers}, pids(fleet)

    names, left = run(work())

    assert {"bots-1", "bots-2", "bots-3"} == names
    assert [True] * 3 == [is_gone(pid) for pid in left]


def test_a_killed_worker_is_replaced_and_what_it_had_is_done() -> None:
    async def work() -> list[str]:
        async with fleet_of(group(target="tests.fleet_handlers:own_loop", arguments=("hi",))) as fleet:
            (pid,) = pids(fleet)
            os.kill(pid, signal.SIGSTOP)
            asked = [asyncio.create_task(fleet.ask("bots", n)) for n in range(3)]
            await until(lambda: fleet.statistics().groups[0].under_way == 3)
            os.kill(pid, signal.SIGKILL)

            assert [["hi", n, True] for n in range(3)] == await asyncio.gather(*asked)
            assert ["hi", 4, False] == await fleet.ask("bots", 4)
            return kinds(fleet, "bots-1")

    assert ["started", "ready", "ended", "restarting", "started", "ready"] == run(work())


def test_a_message_that_cannot_be_done_is_told_and_the_worker_goes_on() -> None:
    async def work() -> None:
        async with fleet_of(group()) as fleet:
            with pytest.raises(
                MessageFailed, match=r"bots could not do message \d+: LookupError: no such key"
            ):
                await fleet.ask("bots", {"do": "raise", "value": "no such key"})

            assert 7 == await fleet.ask("bots", {"do": "echo", "value": 7})
            assert (2, 1) == (fleet.statistics().groups[0].handled, fleet.statistics().groups[0].failed)

    run(work())


def test_a_message_that_ends_its_workers_is_given_up_and_the_others_are_done() -> None:
    async def work() -> None:
        async with fleet_of(group(count=2)) as fleet:
            bad = asyncio.create_task(fleet.ask("bots", {"do": "exit", "value": 3}))
            good = [asyncio.create_task(fleet.ask("bots", {"do": "echo", "value": n})) for n in range(20)]

            assert list(range(20)) == await asyncio.gather(*good)
            with pytest.raises(MessageFailed, match="it ended its worker 4 times"):
                await bad
            assert [{"do": "exit", "value": 3}] == [message for _, message in fleet.dead_letters("bots")]
            assert 4 == sum(each.kind == "ended" for each in fleet.log.newest())

    run(work())


@pytest.mark.parametrize("message", [{"do": "stop"}, {"do": "sleep", "value": 60}], ids=["stopped", "busy"])
def test_a_worker_that_hangs_is_found_killed_and_replaced(message: dict[str, Any]) -> None:
    async def work() -> None:
        health = HealthPolicy(heartbeat_s=0.5)
        async with fleet_of(group(health=health, max_deliveries=2)) as fleet:
            with pytest.raises(MessageFailed, match="it ended its worker 2 times"):
                await fleet.ask("bots", message)

            assert 1 == await fleet.ask("bots", {"do": "echo", "value": 1})
            assert kinds(fleet, "bots-1").count("hung") >= 2

    run(work())


def test_an_idle_worker_does_not_hang() -> None:
    async def work() -> None:
        async with fleet_of(group(health=HealthPolicy(heartbeat_s=1.5))) as fleet:
            running = fleet._groups["bots"].workers[0].running
            assert running is not None
            before_s = running.heard_s
            await until(lambda: running.heard_s > before_s + 1.6)

            assert "hung" not in kinds(fleet, "bots-1")

    run(work())


def test_messages_of_a_key_keep_their_order_through_deaths(tmp_path: Path) -> None:
    done = tmp_path / "done"

    async def work() -> None:
        async with fleet_of(group(handler="tests.fleet_handlers:note", count=3)) as fleet:
            for number in range(600):
                await fleet.send("bots", [str(done), number, number % 7], key=number % 7)
                if number in (150, 350):
                    os.kill(pids(fleet)[number % 3], signal.SIGKILL)
            await until(lambda: fleet.statistics().groups[0].under_way == 0)

    run(work())
    told = [tuple(map(int, line.split())) for line in done.read_text().splitlines()]
    first = list(dict.fromkeys(told))

    assert list(range(600)) == sorted(number for number, _ in first)
    for key in range(7):
        assert [n for n in range(600) if n % 7 == key] == [number for number, its in first if its == key]


def test_who_sends_waits_while_no_worker_has_room(tmp_path: Path) -> None:
    async def work() -> None:
        async with fleet_of(group(count=2, max_under_way=2)) as fleet:
            message = {"do": "wait", "value": str(tmp_path / "go")}
            for _ in range(4):
                await fleet.send("bots", message)
            fifth = asyncio.create_task(fleet.ask("bots", {"do": "echo", "value": 5}))
            await until(lambda: fleet.statistics().groups[0].waiting == 1)
            (tmp_path / "go").touch()

            assert 5 == await fifth

    run(work())


def test_a_key_that_has_to_wait_lets_others_pass(tmp_path: Path) -> None:
    async def work() -> None:
        async with fleet_of(group(count=2, max_under_way=1)) as fleet:
            await fleet.send("bots", {"do": "wait", "value": str(tmp_path / "go")}, key="slow")
            slow = [
                asyncio.create_task(fleet.ask("bots", {"do": "echo", "value": n}, key="slow")) for n in (1, 2)
            ]
            await until(lambda: fleet.statistics().groups[0].waiting == 2)

            assert 3 == await fleet.ask("bots", {"do": "echo", "value": 3})
            (tmp_path / "go").touch()
            assert [1, 2] == await asyncio.gather(*slow)

    run(work())


def test_workers_whose_zygote_is_killed_are_replaced() -> None:
    async def work() -> None:
        async with fleet_of(group(count=2)) as fleet:
            before = pids(fleet)
            zygote = psutil.Process(before[0]).ppid()
            os.kill(zygote, signal.SIGKILL)

            await until(lambda: len(pids(fleet)) == 2 and not set(before) & set(pids(fleet)))
            assert 1 == await fleet.ask("bots", {"do": "echo", "value": 1})

    run(work())


def test_a_target_that_listens_to_nobody_does_not_hang() -> None:
    async def work() -> None:
        health = HealthPolicy(heartbeat_s=0.1)
        async with fleet_of(group(target="tests.fleet_handlers:deaf", health=health)) as fleet:
            begun_s = time.monotonic()
            await until(lambda: time.monotonic() - begun_s > 0.4)

            assert ["started", "ready"] == kinds(fleet, "bots-1")

    run(work())


def test_a_coroutine_handler_does_several_messages_at_once() -> None:
    async def work() -> None:
        async with fleet_of(group(handler="tests.fleet_handlers:together", concurrency=10)) as fleet:
            await asyncio.gather(*(fleet.ask("bots", number) for number in range(10)))

    run(work())


def test_a_rolling_restart_loses_no_message_and_changes_every_process() -> None:
    async def work() -> None:
        async with fleet_of(group(handler="tests.fleet_handlers:who", count=2)) as fleet:
            before = pids(fleet)
            is_over = asyncio.Event()
            answers: list[Any] = []

            async def talk() -> None:
                while not is_over.is_set():
                    answers.append(await fleet.ask("bots", len(answers)))

            talking = [asyncio.create_task(talk()) for _ in range(3)]
            await fleet.restart("bots")
            is_over.set()
            await asyncio.gather(*talking)

            assert set() == set(before) & set(pids(fleet))
            assert [0, 0] == [each.restarts for each in fleet.statistics().groups[0].workers]
            assert fleet.statistics().groups[0].handled == len(answers)

    run(work())


def test_a_restart_whose_new_process_does_not_get_ready_leaves_the_old_one(tmp_path: Path) -> None:
    async def work() -> None:
        flag = tmp_path / "well"
        flag.touch()
        ready = ReadyPolicy(probe=("test", "-e", str(flag)), within_s=0.3, every_s=0.05)
        async with fleet_of(group(ready=ready)) as fleet:
            before = pids(fleet)
            flag.unlink()
            with pytest.raises(Exception, match=r"was not ready within 0.3 s; the old one goes on"):
                await fleet.restart("bots")

            assert before == pids(fleet)
            assert 1 == await fleet.ask("bots", {"do": "echo", "value": 1})

    run(work())


def test_scaling_starts_and_drains_workers() -> None:
    async def work() -> None:
        async with fleet_of(group(count=1)) as fleet:
            await fleet.scale("bots", 3)
            assert ["bots-1", "bots-2", "bots-3"] == [
                each.name for each in fleet.statistics().groups[0].workers if each.state == "ready"
            ]
            asked = [asyncio.create_task(fleet.ask("bots", {"do": "echo", "value": n})) for n in range(50)]
            await asyncio.sleep(0)
            await fleet.scale("bots", 1)

            assert list(range(50)) == await asyncio.gather(*asked)
            assert ["bots-1"] == [each.name for each in fleet.statistics().groups[0].workers]

    run(work())


def test_a_drained_worker_stays_away_until_it_is_restarted() -> None:
    async def work() -> None:
        async with fleet_of(group()) as fleet:
            await fleet.drain("bots-1")
            with pytest.raises(
                FleetFailed, match="bots has no worker any more; `perfloop fleet restart bots`"
            ):
                await fleet.send("bots", {"do": "pid"})
            await fleet.restart("bots-1")

            assert pids(fleet) == [await fleet.ask("bots", {"do": "pid"})]

    run(work())


def test_groups_start_after_those_that_they_need_and_end_before_them() -> None:
    async def work() -> list[Event]:
        fleet = fleet_of(
            group(name="web", command=("sleep", "60"), needs=("bots",)),
            group(name="bots"),
        )
        async with fleet:
            pass
        return list(fleet.log.newest())

    events = [(each.name, each.kind) for each in run(work()) if each.kind in ("ready", "ended")]

    assert [("bots-1", "ready"), ("web-1", "ready"), ("web-1", "ended"), ("bots-1", "ended")] == events


@pytest.mark.parametrize(
    ("strategy", "replaced"),
    [
        (Strategy.ONE_FOR_ONE, [False, True, False]),
        (Strategy.REST_FOR_ONE, [False, True, True]),
        (Strategy.ONE_FOR_ALL, [True, True, True]),
    ],
)
def test_a_strategy_says_who_is_restarted_with_a_worker(strategy: Strategy, replaced: list[bool]) -> None:
    async def work() -> list[bool]:
        async with fleet_of(group(count=3, strategy=strategy)) as fleet:
            before = pids(fleet)
            os.kill(before[1], signal.SIGKILL)
            await until(lambda: "ended" in kinds(fleet, "bots-2"))
            await fleet._groups["bots"].settled()
            await until(lambda: len(pids(fleet)) == 3)
            await fleet._groups["bots"].settled()
            return [old != new for old, new in zip(before, pids(fleet), strict=True)]

    assert replaced == run(work())


def test_a_group_that_never_gets_ready_fails_the_start_and_leaves_nothing() -> None:
    async def work() -> None:
        restart = RestartPolicy(first_s=0.001, max_s=0.01, max_restarts=2)
        fleet = fleet_of(
            group(
                command=("sh", "-c", "echo no port >&2; exit 5"),
                ready=ReadyPolicy(delay_s=5),
                restart=restart,
            )
        )
        with pytest.raises(
            FleetFailed, match=r"bots did not become ready: bots-1 ended with exit code 5; last .*: no port"
        ):
            async with fleet:
                pass
        assert [] == pids(fleet)

    run(work())


def test_a_worker_that_is_not_ready_in_time_is_killed_and_tried_again() -> None:
    async def work() -> None:
        restart = RestartPolicy(first_s=0.001, max_s=0.01, max_restarts=1)
        ready = ReadyPolicy(within_s=0.2)
        fleet = fleet_of(group(target="tests.fleet_handlers:never_ready", ready=ready, restart=restart))
        with pytest.raises(
            FleetFailed, match=r"by SIGKILL of the supervisor: it was not ready within 0\.2 s"
        ):
            async with fleet:
                pass
        assert 2 == kinds(fleet, "bots-1").count("ended")

    run(work())


@pytest.mark.parametrize(
    ("kind", "code", "state"),
    [
        (RestartKind.TEMPORARY, "1", "ended"),
        (RestartKind.TRANSIENT, "0", "ended"),
        (RestartKind.TRANSIENT, "1", "given up"),
    ],
)
def test_a_fleet_is_over_when_its_workers_are(kind: RestartKind, code: str, state: str) -> None:
    async def work() -> str:
        restart = RestartPolicy(kind=kind, first_s=0.001, max_s=0.01, max_restarts=2)
        target = "tests.fleet_handlers:ends"
        fleet = fleet_of(group(target=target, arguments=(code,), restart=restart))
        await fleet.open()
        with pytest.raises(FleetFailed, match="given up: bots-1") if state == "given up" else nullcontext():
            await fleet.wait()
        found = fleet.statistics().groups[0].workers[0].state
        await fleet.close()
        return found

    assert state == run(work())


@pytest.mark.parametrize(
    "ready",
    [
        ReadyPolicy(output="listening on [0-9]+"),
        ReadyPolicy(delay_s=0.1),
        ReadyPolicy(probe=("test", "-e", "{}")),
    ],
    ids=["output", "delay", "probe"],
)
def test_a_command_is_ready_when_its_group_says_so(ready: ReadyPolicy, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    if ready.probe:
        ready = ReadyPolicy(probe=("test", "-e", str(flag)), every_s=0.02)

    async def work() -> float:
        script = f"sleep 0.05; touch {flag}; echo listening on 80; sleep 60"
        async with fleet_of(group(command=("sh", "-c", script), ready=ready)) as fleet:
            told = [each for each in fleet.log.newest() if each.kind in ("started", "ready")]
            return float(str(told[1].after["after_s"]))

    assert 0.04 <= run(work()) < 20


def test_what_a_worker_wrote_long_before_its_end_is_told_with_the_time() -> None:
    async def work() -> list[str]:
        script = "echo one error >&2; sleep 1.5; exit 3"
        restart = RestartPolicy(kind=RestartKind.TEMPORARY)
        fleet = fleet_of(group(command=("sh", "-c", script), restart=restart))
        await fleet.open()
        await fleet.wait()
        await fleet.close()
        return [each.reason for each in fleet.log.newest() if each.kind == "ended"]

    (told,) = run(work())

    assert re.fullmatch(r"with exit code 3; last on its standard error, \d+ s before: one error", told)


@pytest.mark.parametrize("way", ["http", "probe"])
def test_a_worker_that_does_not_answer_as_often_as_may_be_is_replaced(way: str, tmp_path: Path) -> None:
    (tmp_path / "well").touch()
    answers = ["200 OK", "200 OK", "404 Not Found", "503 Busy"]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = answers.pop(0) if answers else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health?full=1"
        probe = ("test", "-e", str(tmp_path / "well"))
        health = HealthPolicy(
            every_s=0.05, failures=2, **({"http": url} if way == "http" else {"probe": probe})
        )
        ready = ReadyPolicy(http=url)
        async with server, fleet_of(group(command=("sleep", "60"), health=health, ready=ready)) as fleet:
            before = pids(fleet)
            (tmp_path / "well").unlink()
            await until(lambda: pids(fleet) not in ([], before))

            told = next(each.reason for each in fleet.log.newest() if each.kind == "hung")
            assert told.endswith("failed 2 times in a row")

    run(work())


def test_what_is_restarted_runs_the_code_as_it_is_now(tmp_path: Path) -> None:
    module = tmp_path / "fleet_code_of_today.py"
    module.write_text("def handle(message):\n    return 'old'\n")

    async def work() -> list[str]:
        bots = group(handler="fleet_code_of_today:handle")
        async with Supervisor(FleetSpec(groups=(bots,), path=(str(tmp_path),))) as fleet:
            before = await fleet.ask("bots", 1)
            module.write_text("def handle(message):\n    return 'new one'\n")
            await fleet.restart("bots")
            return [before, await fleet.ask("bots", 2)]

    assert ["old", "new one"] == run(work())


def test_what_workers_write_comes_with_their_names() -> None:
    lines: list[tuple[str, str, str]] = []

    async def work() -> None:
        script = "echo one; echo two >&2; printf 'no end'"
        restart = RestartPolicy(kind=RestartKind.TEMPORARY)
        fleet = fleet_of(
            group(),
            group(name="once", command=("sh", "-c", script), restart=restart),
            on_line=lambda *told: lines.append(told),
        )
        async with fleet:
            await fleet.ask("bots", {"do": "write", "value": "from a handler"})
            await until(lambda: len(lines) == 4)

    run(work())

    assert [
        ("bots-1", "out", "from a handler"),
        ("once-1", "err", "two"),
        ("once-1", "out", "no end"),
        ("once-1", "out", "one"),
    ] == sorted(lines)


def test_what_does_not_end_by_itself_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    async def work() -> list[int]:
        script = f"trap '' TERM; sleep 300 & echo $! > {tmp_path}/pid; echo up; while :; do sleep 300; done"
        stop = StopPolicy(grace_s=0.2)
        async with fleet_of(
            group(command=("bash", "-c", script), stop=stop, ready=ReadyPolicy(output="up"))
        ) as fleet:
            return [*pids(fleet), int((tmp_path / "pid").read_text())]

    left = run(work())

    assert all(is_gone(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z" for pid in left)


def test_no_such_group_worker_or_message_is_told_with_what_there_is() -> None:
    async def work() -> None:
        async with fleet_of(group(), group(name="web", command=("sleep", "60"))) as fleet:
            with pytest.raises(InvalidInput, match="there is no group bot; there are bots, web"):
                await fleet.send("bot", 1)
            with pytest.raises(InvalidInput, match="web runs a command, which takes no messages"):
                await fleet.send("web", 1)
            with pytest.raises(
                InvalidInput, match="no worker or group bots-9; there are bots, web, bots-1, web-1"
            ):
                await fleet.restart("bots-9")
            with pytest.raises(InvalidInput, match="object cannot be sent"):
                await fleet.send("bots", object())

    run(work())


def test_a_coroutine_handler_that_cancels_itself_costs_its_message_and_nothing_else() -> None:
    async def work() -> None:
        async with fleet_of(group(handler="tests.fleet_handlers:cancelled")) as fleet:
            with pytest.raises(MessageFailed, match="CancelledError"):
                await fleet.ask("bots", 1)
            assert 0 == await fleet.ask("bots", 0)

    run(work())


def test_an_answer_for_which_nobody_waits_any_more_is_not_kept(tmp_path: Path) -> None:
    async def work() -> None:
        async with fleet_of(group(count=1)) as fleet:
            post = fleet._groups["bots"].post
            first = asyncio.create_task(
                fleet.ask("bots", {"do": "wait", "value": str(tmp_path / "go")}, key="one")
            )
            asked = asyncio.create_task(fleet.ask("bots", {"do": "echo", "value": 1}, key="one"))
            await until(lambda: 2 == len(post._asked))
            asked.cancel()
            (tmp_path / "go").touch()
            await first
            await until(lambda: 2 == post.handled)

            assert ({}, {}, {}) == (post._asked, post._replies, post._faults)

    run(work())


def test_what_a_worker_started_and_left_behind_may_write_for_ever() -> None:
    """It is of another session, so that it outlives its worker, and holds the worker's standard output."""

    async def work() -> None:
        script = "setsid yes & echo $!; sleep 0.1"
        restart = RestartPolicy(kind=RestartKind.TEMPORARY)
        lines: list[str] = []
        fleet = fleet_of(
            group(command=("sh", "-c", script), restart=restart),
            on_line=lambda _, __, line: lines.append(line) if line != "y" else None,
        )
        try:
            async with fleet:
                await until(lambda: "over" in kinds(fleet, "bots-1"))
        finally:
            os.kill(int(lines[0]), signal.SIGKILL)

    run(work())


def test_a_target_that_is_done_and_still_ends_is_ended_like_any_other() -> None:
    async def work() -> str:
        async with fleet_of(group(target="tests.fleet_handlers:lasts")) as fleet:
            running = fleet._groups["bots"].workers[0].running
            assert running is not None
            await until(running._channel_over.is_set)
            await fleet.drain("bots")
            return next(each.reason for each in fleet.log.newest() if each.kind == "ended")

    assert "by SIGTERM, as it was asked to" == run(work())
