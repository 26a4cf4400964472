"""`perfloop leaks`: which line of a program holds more and more, how fast, and until when that goes well."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from perfloop.cli.options import Size, fleet_option, json_option
from perfloop.cli.terminal import error_console, output, result_console, show
from perfloop.errors import FleetFailed, InvalidInput
from perfloop.model.units import bytes_text, count_text, seconds_text
from perfloop.model.value import to_json
from perfloop.process.leaks.examination import Examination
from perfloop.process.leaks.examining import (
    examine_command,
    examine_process,
    outside_sample,
    python_program,
)
from perfloop.process.leaks.floors import FLOOR_S, MemorySample, floors
from perfloop.process.leaks.growing import GrowingLine, Place
from perfloop.process.leaks.suspicion import LeakPolicy, Suspicion, growth, suspect
from perfloop.process.supervisor.control_client import examine, worker_of
from perfloop.process.supervisor.control_place import running_fleets
from perfloop.process.supervisor.reading import fleet_of

_LOOK_S = 10.0
_MUCH_FREE = 0.5
_MUCH_COLLECTED = 0.3
_LITTLE = 2**20


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--for", "for_s", type=click.FloatRange(min=1), default=60.0, show_default=True, metavar="SECONDS",
    help="How long to look.",
)  # fmt: skip
@click.option(
    "--after", "after_s", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="SECONDS",
    help="COMMAND: let it warm up so long first.",
)  # fmt: skip
@click.option("--limit", "limit_bytes", type=Size(), help="Say when this much will be in use, as 2GB.")
@click.option("--watch", is_flag=True, help="PID: look until it leaks, it ends, or Ctrl-C.")
@fleet_option
@json_option
@click.argument("target", nargs=-1, required=True, metavar="PID|COMMAND...")
def leaks(
    for_s: float,
    after_s: float,
    limit_bytes: int | None,
    watch: bool,
    fleet_file: Path | None,
    as_json: bool,
    target: tuple[str, ...],
) -> None:
    """Name what grows in a Python program: the line, how fast, and when the memory will be full.

    A COMMAND is run, looked at from within, and ended. A worker of a fleet that runs, by its PID, is looked
    at from within, too, and goes on, slower meanwhile. Any other process is only seen from outside: that it
    grows, not by which line.

    What is in use counts, not the resident set, so memory that malloc keeps free is not taken for a leak. A
    program that still warms up grows as well: give it time with --after. Options come before the PID or the
    COMMAND.

    \b
    perfloop leaks python app.py
    perfloop leaks --for 300 --limit 2GB python -m bots --config bots.toml
    perfloop leaks 4711
    perfloop leaks --watch 4711
    """
    pid = _pid(target)
    if watch and (pid is None or as_json):
        raise click.UsageError("--watch is for a PID, and without --json")
    if pid is None:
        python_program(target)  # refuses before anything is said to run
        error_console().print(f"running it for {seconds_text(after_s + for_s)} …")
        found = examine_command(target, after_s=after_s, for_s=for_s)
    elif watch:
        _watch(pid, limit_bytes)
        return
    else:
        found = _examined(pid, for_s, fleet_file)
    if as_json:
        output(to_json(found).decode())
    else:
        _show(found, limit_bytes)


def _pid(target: Sequence[str]) -> int | None:
    """None where it is a command."""
    if not target[0].isdigit():
        return None
    if len(target) > 1:
        raise click.UsageError("a PID stands at the end; options come before it")
    return int(target[0])


def _examined(pid: int, for_s: float, fleet_file: Path | None) -> Examination:
    """From within where it is the worker of a fleet, else from outside."""
    places = running_fleets() if fleet_file is None else [Path(str(fleet_of(fleet_file).control))]
    worker = worker_of(pid, places)
    found = None
    if worker is not None:
        place, name = worker
        error_console().print(f"looking at {name} for {seconds_text(for_s)} …")
        try:
            found = examine(place, name, for_s=for_s)
        except FleetFailed as error:
            error_console().print(f"{error}; looking from outside instead …", soft_wrap=True)
    return found or examine_process(pid, for_s=for_s)


def _show(found: Examination, limit_bytes: int | None) -> None:
    console = result_console()
    show(console, _verdict(found, limit_bytes))
    for line in found.lines:
        show(console, "")
        show(console, _line(line, found), lead="  ", indent=2)
        if line.source:
            show(console, line.source, lead="      ", indent=6)
    for note in _notes(found):
        show(console, "")
        show(console, note)


def _verdict(found: Examination, limit_bytes: int | None) -> str:
    if not found.is_whole:
        return (
            f"It ended {seconds_text(found.took_s)} after the warm-up, which is too little to tell; shorten"
            " --after and --for, or give it more to do."
        )
    held = f"{bytes_text(found.in_use_bytes)} {'private' if found.is_outside else 'in use'}"
    if not found.grows:
        return (
            f"Nothing grew in {seconds_text(found.took_s)}: {held}, {bytes_text(found.rss_bytes)} resident."
        )
    facts = []
    if found.bytes_per_s is not None:
        facts.append(f"Memory grows by {bytes_text(found.bytes_per_s * 60)} a minute: {held}")
    full_s = None if limit_bytes is None else found.full_in_s(limit_bytes)
    if full_s is not None and limit_bytes is not None:
        facts[-1] += f", {bytes_text(limit_bytes)} in {seconds_text(full_s)} if it goes on"
    if found.descriptors_per_s is not None:
        rate = count_text(found.descriptors_per_s * 60)
        facts.append(f"File descriptors (files, sockets) grow by {rate} a minute: {found.descriptors} open")
    if found.threads_per_s is not None:
        rate = count_text(found.threads_per_s * 60)
        facts.append(f"Threads grow by {rate} a minute: {found.threads} run")
    return ". ".join(facts) + "."


def _line(line: GrowingLine, found: Examination) -> str:
    total = sum(each.bytes_per_s for each in found.lines)
    share = line.bytes_per_s / total if total else 0.0
    of = f"{share:.0%} of it: {bytes_text(line.grown_bytes)} in {count_text(line.grown_objects)} objects"
    if line.called_from is None:
        return f"{_place(line.place)}  {of}"
    return f"{_place(line.called_from)}  {of}, allocated in {_place(line.place)}"


def _place(place: Place) -> str:
    path = Path(place.file)
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{shown}:{place.line}"


def _notes(found: Examination) -> list[str]:
    notes = []
    if found.is_native:
        notes.append(
            "No line of Python holds it: a library allocates it by itself. `memray run --native` names the"
            " function."
        )
    grown = sum(each.grown_bytes for each in found.lines)
    if grown and found.collected_bytes > max(_MUCH_COLLECTED * grown, _LITTLE):
        notes.append(
            f"A collection of garbage gave back {bytes_text(found.collected_bytes)}: these are cycles, which"
            " nobody collects in time; look for gc.disable() and gc.freeze()."
        )
    if found.free_bytes > max(_MUCH_FREE * found.in_use_bytes, 64 * 1024**2):
        notes.append(
            f"malloc keeps {bytes_text(found.free_bytes)} free after a peak. That is fragmentation and no"
            " leak; a trim gives it back, no restart is needed."
        )
    if found.is_outside:
        notes.append(
            "From outside neither the line can be seen, nor whether private memory is in use or kept free"
            " by malloc. `perfloop leaks COMMAND` runs the program and names the line, and so does the PID of"
            " a fleet's worker that takes messages."
        )
    return notes


def _watch(pid: int, limit_bytes: int | None) -> None:
    """A line for every floor, until it leaks or ends."""
    console, policy = result_console(), LeakPolicy()
    began_s = time.monotonic()
    samples = [outside_sample(pid, began_s)]
    told = 0
    show(console, f"Looking at {pid}; an answer takes {seconds_text(policy.window_s)} or so.")
    while True:
        time.sleep(_LOOK_S)
        try:
            samples.append(outside_sample(pid, began_s))
        except InvalidInput:
            show(console, f"{pid} has ended.")
            return
        found = floors(samples)
        if len(found) == told:
            continue
        told = len(found)
        suspicion = suspect(found, policy)
        show(console, _watched(samples[-1], growth(found, policy), suspicion, limit_bytes))
        if suspicion is not None:
            return
        samples = _recent(samples, policy)


def _recent(samples: list[MemorySample], policy: LeakPolicy) -> list[MemorySample]:
    """Those from which all floors that count are made."""
    from_s = (samples[-1].at_s - 2 * policy.window_s - 4 * FLOOR_S) // FLOOR_S * FLOOR_S
    return [each for each in samples if each.at_s >= from_s]


def _watched(last: MemorySample, rate: float | None, found: Suspicion | None, limit_bytes: int | None) -> str:
    counts = f"{last.descriptors} descriptors, {last.threads} threads"
    text = f"after {seconds_text(last.at_s)}: {bytes_text(last.in_use_bytes)} private, {counts}"
    if rate is not None:
        text += f", {bytes_text(rate * 60)} a minute"
    if found is None:
        return text
    text += ". It leaks: that is steady, and does not slow down"
    if limit_bytes is None:
        return f"{text}."
    return f"{text}; {bytes_text(limit_bytes)} in {seconds_text(found.full_in_s(limit_bytes))}."
