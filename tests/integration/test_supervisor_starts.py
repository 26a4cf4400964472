"""How a fleet begins, and what is said of one that is not there yet, or no more."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.awaiting import run, until

from perfloop.errors import FleetFailed, InvalidInput, MessageFailed
from perfloop.process import FleetSpec, GroupSpec, ReadyPolicy, RestartPolicy, ScalingPolicy, Supervisor

ROOT = str(Path(__file__).parents[2])
FEW = RestartPolicy(first_s=0.001, max_s=0.01, max_restarts=1)


def bots(**fields: Any) -> GroupSpec:
    given = {"name": "bots", **fields}
    if not {"handler", "target", "command"} & set(given):
        given["handler"] = "tests.fleet_handlers:act"
    return GroupSpec(**given)


def web(flag: Path) -> GroupSpec:
    """Ready only where the flag is."""
    script = f"test -e {flag} && exec sleep 60; echo no port >&2; exit 5"
    return GroupSpec(name="web", command=("sh", "-c", script), ready=ReadyPolicy(delay_s=0.5), restart=FEW)


def fleet_of(*groups: GroupSpec, **options: Any) -> Supervisor:
    return Supervisor(FleetSpec(groups=groups, path=(ROOT,)), **options)


def states(fleet: Supervisor) -> dict[str, str]:
    return {each.name: each.state for group in fleet.statistics().groups for each in group.workers}


def test_a_group_that_does_not_start_leaves_the_others_running_but_for_those_that_need_it(
    tmp_path: Path,
) -> None:
    flag = tmp_path / "well"

    async def work() -> None:
        groups = (web(flag), bots(), bots(name="pages", needs=("web",)), bots(name="feeds", needs=("pages",)))
        async with fleet_of(*groups) as fleet:
            assert {
                "web-1": "given up",
                "bots-1": "ready",
                "pages-1": "given up",
                "feeds-1": "given up",
            } == states(fleet)
            assert 7 == await fleet.ask("bots", {"do": "echo", "value": 7})
            with pytest.raises(
                FleetFailed,
                match=r"pages was given up \(web, which it needs, did not become ready\); `perfloop fleet",
            ):
                await fleet.ask("pages", {"do": "pid"})
            told = fleet.log.newest()[-1]
            assert "open" == told.kind
            assert told.reason.startswith("web did not become ready: web-1 ended with exit code 5; last")
            assert "pages was not started: web, which it needs, did not become ready" in told.reason
            with pytest.raises(FleetFailed, match="given up: web-1, pages-1, feeds-1"):
                fleet.require_no_failure()

            flag.touch()
            for name in ("web", "pages"):
                await fleet.restart(name)
            assert 8 == await fleet.ask("pages", {"do": "echo", "value": 8})

    run(work())


def test_a_group_is_started_and_looked_after_though_another_one_is_not_ready_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("perfloop.process.supervisor.supervisor._TEND_AFTER_S", 0.1)

    async def work() -> None:
        slow = bots(name="slow", command=("sleep", "60"), ready=ReadyPolicy(output="never", within_s=60))
        small = bots(scaling=ScalingPolicy(lowest=1))
        fleet = fleet_of(slow, small, bots(name="pages", needs=("bots",)))
        opening = asyncio.create_task(fleet.open())
        await until(lambda: "ready" == states(fleet).get("pages-1"))
        assert 7 == await fleet.ask("bots", {"do": "echo", "value": 7})
        await until(lambda: any("follow_load" in repr(each) for each in asyncio.all_tasks()))
        opening.cancel()
        await fleet.close()

    run(work())


def test_where_nothing_else_runs_the_start_fails_with_each_reason(tmp_path: Path) -> None:
    async def work() -> None:
        fleet = fleet_of(web(tmp_path / "well"), bots(needs=("web",)))
        with pytest.raises(FleetFailed, match=r"web-1 ended with exit code 5; .*; bots was not started: web"):
            async with fleet:
                pass

    run(work())


def test_what_is_said_where_a_fleet_has_nobody_is_true_of_its_state() -> None:
    async def work() -> None:
        fleet = fleet_of(bots())
        with pytest.raises(FleetFailed, match="the fleet is not open; begin it with `async with`"):
            await fleet.ask("bots", {"do": "pid"})
        async with fleet:
            await fleet.scale("bots", 0)
            with pytest.raises(FleetFailed, match="bots has no workers; `perfloop fleet scale bots 1` gives"):
                await fleet.ask("bots", {"do": "pid"})
            with pytest.raises(FleetFailed, match="a fleet is opened once; make another Supervisor"):
                await fleet.open()
            await fleet.scale("bots", 1)
            assert 1 == await fleet.ask("bots", {"do": "echo", "value": 1})
        with pytest.raises(FleetFailed, match="the fleet is ended"):
            await fleet.send("bots", {"do": "pid"})
        with pytest.raises(FleetFailed, match="a fleet is opened once; make another Supervisor"):
            async with fleet:
                pass

    run(work())


def test_a_fleet_refuses_another_event_loop_than_its_own() -> None:
    async def work() -> None:
        async with fleet_of(bots()) as fleet:

            async def elsewhere() -> None:
                await fleet.ask("bots", {"do": "pid"})

            with pytest.raises(InvalidInput, match="in the event loop that it was opened in; from elsewhere"):
                await asyncio.to_thread(asyncio.run, elsewhere())

    run(work())


def test_a_worker_to_examine_is_found_whatever_its_group_is_called() -> None:
    async def work() -> None:
        async with fleet_of(bots(name="my-bots", command=("sleep", "60"))) as fleet:
            assert None is await fleet.examine("my-bots-1", 1.0)
            with pytest.raises(
                InvalidInput, match="my-bots is a group; name one of its workers, as my-bots-1"
            ):
                await fleet.examine("my-bots", 1.0)

    run(work())


def test_what_went_wrong_is_in_the_log_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with fleet_of(bots(restart=FEW)) as fleet:
            await fleet.ask("bots", {"do": "write", "value": "all is well"})
            with pytest.raises(MessageFailed):
                await fleet.ask("bots", {"do": "raise", "value": "no such key"})
            await until(lambda: "LookupError" in caplog.text)
            with pytest.raises(FleetFailed):
                await fleet.ask("bots", {"do": "exit", "value": 3})

    with caplog.at_level(logging.WARNING, logger="perfloop.fleet"):
        run(work())
    told = [each.getMessage() for each in caplog.records]

    assert "bots-1 err | LookupError: no such key" in told
    assert any(each.startswith("bots-1: gave-up: it was restarted 1 times") for each in told)
    assert not [each for each in told if "all is well" in each]
