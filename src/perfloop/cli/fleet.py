"""`perfloop fleet`: looks at a supervised fleet, and changes it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from perfloop.cli.options import fleet_option, json_option
from perfloop.cli.terminal import output, result_console, show_table
from perfloop.model.units import bytes_text
from perfloop.model.value import to_json
from perfloop.process.scaling.policy import MOST_WORKERS
from perfloop.process.supervisor.control_client import ask, events
from perfloop.process.supervisor.control_place import Asked, only_fleet
from perfloop.process.supervisor.reading import fleet_of
from perfloop.process.supervisor.statistics import FleetStatistics, WorkerStatistics

_LOOK_S = 1.0
_STYLES = {
    "ready": "green",
    "starting": "yellow",
    "waiting": "yellow",
    "stopping": "yellow",
    "given up": "red",
}


@click.group
def fleet() -> None:
    """Look at a fleet that `perfloop supervise` keeps alive, and change it.

    \b
    perfloop fleet status
    perfloop fleet restart bots
    perfloop fleet scale bots 8
    perfloop fleet drain bots-3
    perfloop fleet events --follow
    """


@fleet.command
@fleet_option
@click.option("--watch", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@json_option
def status(fleet_file: Path | None, watch: bool, as_json: bool) -> None:
    """The workers: what they do, and what they use.

    With --json and --watch, each second has a line.

    \b
    perfloop fleet status
    perfloop fleet status --watch
    perfloop fleet status --json | jq '.groups[].workers[].state'
    """
    place = _place(fleet_file)
    if watch and not as_json and result_console().is_terminal:
        _watch(place)
    _show(ask(place, Asked(act="status")), as_json=as_json)
    while watch:
        time.sleep(_LOOK_S)
        _show(ask(place, Asked(act="status")), as_json=as_json)


@fleet.command(short_help="New processes, with the code as it is now.")
@click.argument("name")
@fleet_option
@json_option
def restart(name: str, fleet_file: Path | None, as_json: bool) -> None:
    """Put new processes, with the code as it is now, in the place of worker or group NAME.

    One after another, and no message is lost: the new one is ready before the old one is drained, but for
    commands, unless their group says `overlap = true`.

    \b
    perfloop fleet restart bots
    perfloop fleet restart bots-3
    """
    _show(ask(_place(fleet_file), Asked(act="restart", name=name)), as_json=as_json)


@fleet.command(short_help="Have so many workers in a group.")
@click.argument("group")
@click.argument("count", type=click.IntRange(0, MOST_WORKERS))
@fleet_option
@json_option
def scale(group: str, count: int, fleet_file: Path | None, as_json: bool) -> None:
    """Have COUNT workers in GROUP; those that are too many are drained first.

    \b
    perfloop fleet scale bots 8
    """
    _show(ask(_place(fleet_file), Asked(act="scale", name=group, count=count)), as_json=as_json)


@fleet.command(short_help="End a worker or a group when it has done what it has.")
@click.argument("name")
@fleet_option
@json_option
def drain(name: str, fleet_file: Path | None, as_json: bool) -> None:
    """Let worker or group NAME do what it has, and end it; `restart` brings it back.

    \b
    perfloop fleet drain bots-3
    perfloop fleet restart bots-3
    """
    _show(ask(_place(fleet_file), Asked(act="drain", name=name)), as_json=as_json)


@fleet.command("events")
@click.option(
    "--count", type=click.IntRange(min=0), default=50, show_default=True, help="So many of the last ones."
)
@click.option("--follow", is_flag=True, help="And those to come, until Ctrl-C or the fleet's end.")
@fleet_option
@json_option
def events_command(count: int, follow: bool, fleet_file: Path | None, as_json: bool) -> None:
    """What happened, and why, with the numbers before and after. With --json each is one line.

    \b
    perfloop fleet events --count 10
    perfloop fleet events --follow
    perfloop fleet events --json --follow --fleet bots.toml
    """
    for event in events(_place(fleet_file), count=count, follow=follow):
        at = time.strftime("%H:%M:%S", time.localtime(event.at_s))
        output(to_json(event).decode() if as_json else f"{at} {event.name}: {event.text()}")


def _watch(place: Path) -> NoReturn:
    with Live(console=result_console(), auto_refresh=False) as live:
        while True:
            live.update(_drawn(ask(place, Asked(act="status"))), refresh=True)
            time.sleep(_LOOK_S)


def _place(fleet_file: Path | None) -> Path:
    return only_fleet() if fleet_file is None else Path(str(fleet_of(fleet_file).control))


def _show(told: FleetStatistics, *, as_json: bool) -> None:
    if as_json:
        output(to_json(told).decode())
    else:
        _print(told, result_console())


def _drawn(told: FleetStatistics) -> Text:
    console = result_console()  # what is printed to the live one appears above the table
    with console.capture() as captured:
        _print(told, console)
    return Text.from_ansi(captured.get())


def _print(told: FleetStatistics, console: Console) -> None:
    header = ("worker", "state", "pid", "restarts", "under way", "handled", "age", "cpu", "memory")
    show_table(console, header, [_row(each) for group in told.groups for each in group.workers])
    for group in told.groups:
        console.print(
            f"{group.name}: {group.handled} handled, {group.failed} failed, {group.given_up} given up,"
            f" {group.under_way} under way, {group.waiting} waiting",
            soft_wrap=True,
        )


def _row(worker: WorkerStatistics) -> tuple[str | Text, ...]:
    return (
        worker.name,
        Text(worker.state, style=_STYLES.get(worker.state, "")),
        "" if worker.pid is None else str(worker.pid),
        str(worker.restarts),
        str(worker.under_way),
        str(worker.handled),
        "" if worker.age_s is None else f"{worker.age_s:.0f} s",
        "" if worker.cpu_s is None else f"{worker.cpu_s:.1f} s",
        "" if worker.rss_bytes is None else bytes_text(worker.rss_bytes),
    )
