"""`perfloop startup`: where the time of a program's start goes, and what would save it."""

from __future__ import annotations

import json
import re

import click
from rich.console import Console
from rich.text import Text

from perfloop.cli.options import json_option
from perfloop.cli.terminal import error_console, output, result_console, show, show_table
from perfloop.model.units import seconds_text, share_text
from perfloop.model.value import to_json
from perfloop.process.startup.imports import Import
from perfloop.process.startup.measuring import StartupReport, measure_startup
from perfloop.process.startup.running import StartPolicy

_SHOWN = 15
_SAID_SO = "said so"


def _pattern(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Looked at before the first start."""
    try:
        re.compile(text or "")
    except re.error as error:
        raise click.BadParameter(f"{text} is no regular expression: {error}", context, parameter) from error
    return text


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--ready",
    metavar="REGEX",
    callback=_pattern,
    help="It is ready when a line that it writes matches; default: when it ends or comes to rest.",
)
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="That a start may take.",
)
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="Starts that are measured."
)
@json_option
def startup(command: tuple[str, ...], ready: str | None, within_s: float, runs: int, as_json: bool) -> None:
    """Start COMMAND several times, and say what its imports cost and what would save them.

    Each module's time is the least of all runs. What may be preloaded is tried: a zygote loads it and must
    stay fit to be forked. What may be imported later is tried as well: a run puts off all dear imports, and
    those are named of which nothing was used until the program was ready.

    \b
    perfloop startup python -m bots.main
    perfloop startup --ready "Uvicorn running" uvicorn app:app
    perfloop startup --json python bot.py > startup.json
    """
    console = error_console()
    policy = StartPolicy(ready=ready, within_s=within_s)
    with console.status("") as status:
        report = measure_startup(command, policy, runs=runs, progress=status.update)
    if as_json:
        output(to_json(report).decode())
    else:
        _show(result_console(), report, ready)


def _show(console: Console, report: StartupReport, ready: str | None) -> None:
    took = f"{report.how} after {seconds_text(report.ready_s)}"
    runs = f", least of {report.runs} runs" if report.runs > 1 else ""
    show(console, Text.assemble((" ".join(report.command), "bold"), f"  {took}{runs}"))
    if ready is not None and report.how != _SAID_SO:
        show(console, f"no line that it wrote matches {ready}, so this is not the time until it was ready")
    show(console, f"{seconds_text(report.cpu_s)} of processor time, {_import_time(report)}")
    _show_imports(console, report.imports)
    _show_preload(console, report)
    _show_deferrable(console, report)


def _import_time(report: StartupReport) -> str:
    if not report.imports:
        return "none of it for imports"
    took, count = seconds_text(report.import_s), len(report.imports)
    if report.import_s > report.cpu_s:
        return f"{took} for {count} imports, which also waited for the disk or for other programs"
    return f"{took} ({share_text(report.import_s / report.cpu_s)}) for {count} imports"


def _show_imports(console: Console, imports: tuple[Import, ...]) -> None:
    if not imports:
        return
    console.print()
    rows = [
        (each.name, seconds_text(each.cumulative_s), seconds_text(each.self_s), each.importer or "")
        for each in imports[:_SHOWN]
    ]
    show_table(console, ("module", "with its own", "alone", "imported by"), rows)
    if len(imports) > _SHOWN:
        show(console, Text(f"and {len(imports) - _SHOWN} more, in the JSON", style="dim"))


def _show_preload(console: Console, report: StartupReport) -> None:
    console.print()
    if report.preload and report.expected_cpu_s is not None:
        show(console, Text("for the fleet file, tried in a zygote", style="bold"))
        output(f"preload = {json.dumps(report.preload)}")
        show(
            console,
            f"a worker forked with these is ready after some {seconds_text(report.expected_cpu_s)} of"
            f" processor time instead of {seconds_text(report.cpu_s)}; give it a handler or a target, as a"
            " command loads them itself",
        )
    if report.unproven:
        show(console, f"nothing to preload: {report.unproven}")
    for name, why in report.unfit.items():
        show(console, f"not {name}: it {why}", indent=2)


def _show_deferrable(console: Console, report: StartupReport) -> None:
    if report.not_tried:
        show(console, f"what could be imported later is not known: {report.not_tried}")
    if not report.deferrable:
        return
    console.print()
    show(console, Text("not used until it was ready", style="bold"))
    for each in report.deferrable:
        by = each.importer or "the program"
        way = (
            f"import it in {by} where it is used"
            if each.is_ours
            else f"{by} imports it; preloading spares it"
        )
        show(console, f"{each.name}  {seconds_text(each.cumulative_s)}; {way}", indent=2)
