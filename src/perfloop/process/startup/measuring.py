"""Measures a program's start over several runs, and tries what could be preloaded or put off."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from perfloop.errors import InvalidInput, LaunchFailed
from perfloop.model.value import Value
from perfloop.process.startup.imports import Import, combined
from perfloop.process.startup.proposals import (
    Deferrable,
    deferrable,
    expected_cpu_s,
    preload_candidates,
    worth_putting_off,
)
from perfloop.process.startup.running import Start, StartPolicy, start_once
from perfloop.process.zygote_launcher import ZygoteLauncher

_PROOF_S: Final = 30.0
_MOST_ROUNDS: Final = 5


class StartupReport(Value, frozen=True, kw_only=True):
    """What a program's start costs, and what would make it cheaper."""

    command: tuple[str, ...]
    runs: int
    how: str
    """How it came to be ready: `ended`, `said so`, `came to rest`, or `time is up`."""
    ready_s: float
    """By the clock, with what else the machine did: the least of all runs."""
    cpu_s: float
    """Processor time to ready, with imports being told: the least of all runs."""
    import_s: float
    imports: tuple[Import, ...]
    preload: tuple[str, ...]
    """Modules that were loaded in a zygote and left it fit to be forked."""
    unfit: Mapping[str, str]
    """Modules that are not to be preloaded, and why."""
    unproven: str = ""
    """Why nothing could be tried, where that is so."""
    expected_cpu_s: float | None
    """Of a worker that is forked with these modules loaded; None where nothing is to be preloaded."""
    deferrable: tuple[Deferrable, ...]
    not_tried: str = ""
    """Why putting imports off could not be tried, where that is so."""


def measure_startup(
    command: Sequence[str], policy: StartPolicy, *, runs: int, progress: Callable[[str], None]
) -> StartupReport:
    """Start a program `runs` times, once more with its dear imports put off, and try the preload list.

    The first run warms the caches of the disk and is not counted.

    Raises:
        InvalidInput: It cannot be run, ends with a fault, or imports nothing that its Python would tell of.
    """
    starts = []
    for number in range(runs + 1):
        progress(f"start {number} of {runs}" if number else "a start to warm up")
        starts.append(_checked(command, start_once(command, policy)))
    counted = starts[1:]
    imports = combined([each.import_lines for each in counted])
    progress("a start with imports put off")
    put_off = start_once(command, policy, worth_putting_off(imports))
    where = next((each for each in put_off.told if each[0] == "where"), None)
    progress("what can be preloaded")
    preload, unfit, unproven = _tried(imports, where)
    is_as_before = (put_off.how, put_off.code) == (counted[0].how, counted[0].code)
    cpu_s = min(each.cpu_s for each in counted)
    return StartupReport(
        command=tuple(command),
        runs=runs,
        how=counted[0].how,
        ready_s=min(each.ready_s for each in counted),
        cpu_s=cpu_s,
        import_s=sum(each.self_s for each in imports),
        imports=imports,
        preload=preload,
        unfit=unfit,
        unproven=unproven,
        expected_cpu_s=expected_cpu_s(imports, cpu_s=cpu_s, preload=preload) if preload else None,
        deferrable=_deferred(imports, put_off, command) if is_as_before else (),
        not_tried="" if is_as_before else "the program does not start when its imports are put off",
    )


def _checked(command: Sequence[str], start: Start) -> Start:
    """Raises InvalidInput where a start tells nothing."""
    said = f": {start.last_lines[-1]}" if start.last_lines else ""
    if start.code not in (None, 0):
        raise InvalidInput(
            f"{command[0]} ended with {start.code}{said}; it has to start before that can be measured"
        )
    if not start.import_lines:
        raise InvalidInput(
            f"{command[0]} told of no imports within {start.ready_s:.1f} s{said}; give a command that runs"
            " Python and does not ignore its environment (-E, -I)"
        )
    return start


def _deferred(imports: Sequence[Import], start: Start, command: Sequence[str]) -> tuple[Deferrable, ...]:
    told: dict[str, set[str]] = {"put off": set(), "used": set()}
    for kind, *rest in start.told:
        if kind in told:
            told[kind].add(rest[0])
    return deferrable(imports, put_off=told["put off"], used=told["used"], ours=_own_names(command))


def _own_names(command: Sequence[str]) -> set[str]:
    """Packages and modules in the folder that this was called in, and in that of the program's file."""
    folders = {Path.cwd(), *(Path(each).resolve().parent for each in command if each.endswith(".py"))}
    return {
        each.name.removesuffix(".py")
        for folder in folders
        for each in folder.iterdir()
        if each.suffix == ".py" or (each.is_dir() and each.name.isidentifier())
    }


def _tried(
    imports: Sequence[Import], where: Sequence[object] | None
) -> tuple[tuple[str, ...], Mapping[str, str], str]:
    """The preload list, what is unfit for it, and why it could not be tried."""
    if where is None:
        return (), {}, "nothing is dear enough to be preloaded"
    _, executable, path = where
    with suppress(OSError):
        if not os.path.samefile(str(executable), sys.executable):
            return (), {}, f"it runs on {executable}; install perfloop there to have it tried"
    assert isinstance(path, list)
    unfit: dict[str, str] = {}
    for _ in range(_MOST_ROUNDS):
        candidates = preload_candidates(imports, unfit)
        try:
            found = asyncio.run(_unfit(candidates, [str(each) or os.getcwd() for each in path]))
        except LaunchFailed as error:
            return (), unfit, str(error)
        if not found:
            return candidates, unfit, ""
        unfit |= found
    return tuple(each for each in candidates if each not in unfit), unfit, ""


async def _unfit(modules: Sequence[str], path: Sequence[str]) -> dict[str, str]:
    """What a zygote says that was to load these modules."""
    launcher = ZygoteLauncher(modules, path=path, on_exit=lambda _: None, preload_within_s=_PROOF_S)
    try:
        await launcher.open()
    finally:
        await launcher.close()
    return launcher.unfit
