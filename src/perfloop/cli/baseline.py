"""`perfloop baseline`: keep what a target costs and how it plans, and hold it against that later."""

from __future__ import annotations

import time

import click
from rich.text import Text

from perfloop.adapters.connection import safe_dsn
from perfloop.adapters.store import Journal
from perfloop.cli.findings import show_comparison_line, show_finding
from perfloop.cli.options import (
    dsn_argument,
    exit_code,
    fail_on_option,
    json_option,
    seed_option,
    timeout_option,
    window_option,
    workload_option,
)
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import output, result_console, show, show_table
from perfloop.errors import BaselineNotFound, InvalidInput
from perfloop.model.baseline import Baseline, Comparison
from perfloop.model.snapshot import StatementCounters
from perfloop.model.units import bytes_text, count_text, seconds_text
from perfloop.model.value import to_json
from perfloop.tune.baselines import capture_baseline, compare_with_baseline
from perfloop.tune.report.baseline import baseline_json, comparison_json

SHOWN_STATEMENTS = 10


@click.group
def baseline() -> None:
    """Keep what a database costs and how it plans its statements; later, see what got worse.

    \b
    perfloop baseline capture postgresql://localhost/shop --name before-release
    perfloop baseline compare postgresql://localhost/shop --baseline before-release --fail-on high
    """


@baseline.command(short_help="Read a database and keep what it costs.")
@dsn_argument
@click.option("--name", help="What to call it; default: the moment of the capture.")
@click.option("--replace", is_flag=True, help="Take the place of the baseline that has this name.")
@workload_option
@window_option
@timeout_option
@json_option
@seed_option
def capture(
    dsn: str,
    name: str | None,
    replace: bool,
    workload: str | None,
    window_s: float | None,
    statement_timeout_s: float,
    as_json: bool,
    seed: int,
) -> None:
    """Read the database at DSN and keep its counters, plans, settings and sizes in the journal.

    \b
    perfloop baseline capture postgresql://localhost/shop
    perfloop baseline capture $DATABASE_URL --name before-release --window 60
    """
    with Journal() as journal:
        if name and not replace and any(each.name == name for each in journal.baselines()):
            raise InvalidInput(f"there is a baseline {name} already; choose another name, or --replace it")
        with Progress(quiet=as_json) as progress:
            captured = capture_baseline(
                dsn,
                progress,
                name=name,
                workload_source=workload,
                window_s=window_s,
                seed=seed,
                statement_timeout_s=statement_timeout_s,
            )
        journal.save_baseline(captured, replace=replace)
    if as_json:
        output(baseline_json(captured))
        return
    output(
        f"kept as {captured.name}: the counters of {len(captured.statements)} statements, "
        f"{len(captured.plans)} plans, {len(captured.tables)} tables, {len(captured.indexes)} indexes"
    )
    for each in captured.limitations:
        show(
            result_console(),
            f"{each.subject}: {each.reason}",
            lead=Text("not read", style="yellow"),
            indent=10,
        )


@baseline.command(short_help="See what got worse since.")
@dsn_argument
@click.option(
    "--baseline",
    "baseline_name",
    metavar="NAME",
    help="Compare with this baseline; default: the newest that was captured from this database.",
)
@window_option
@fail_on_option
@timeout_option
@json_option
def compare(
    dsn: str,
    baseline_name: str | None,
    window_s: float | None,
    fail_on: str | None,
    statement_timeout_s: float,
    as_json: bool,
) -> int:
    """Hold the database at DSN against a baseline: by default the newest that was captured from it.

    \b
    perfloop baseline compare postgresql://localhost/shop
    perfloop baseline compare $DATABASE_URL --baseline before-release --window 60 --fail-on high
    """
    with Journal() as journal:
        then = journal.baseline(baseline_name) if baseline_name else _newest(journal, dsn)
    with Progress(quiet=as_json, first_findings=0) as progress:
        comparison = compare_with_baseline(
            dsn, then, progress, window_s=window_s, statement_timeout_s=statement_timeout_s
        )
    if as_json:
        output(comparison_json(comparison))
    else:
        _show_comparison(comparison)
    return exit_code(comparison.findings, fail_on)


@baseline.command("list", short_help="The baselines, newest first.")
@json_option
def list_(as_json: bool) -> None:
    """List the baselines in the journal, newest first.

    \b
    perfloop baseline list
    """
    with Journal() as journal:
        found = journal.baselines()
    if as_json:
        keys = ("name", "target", "taken_at_s", "window_s")
        output(to_json([{key: getattr(each, key) for key in keys} for each in found]).decode())
        return
    if not found:
        output("no baselines yet; `perfloop baseline capture DSN` makes one")
        return
    rows = [
        (each.name, _ago(each), count_text(len(each.statements)), count_text(len(each.plans)), each.target)
        for each in found
    ]
    show_table(result_console(), ("baseline", "captured", "statements", "plans", "target"), rows)


@baseline.command("show", short_help="What is in a baseline.")
@click.argument("name")
@json_option
def show_(name: str, as_json: bool) -> None:
    """Show what the baseline NAME holds.

    \b
    perfloop baseline show before-release
    """
    with Journal() as journal:
        found = journal.baseline(name)
    if as_json:
        output(baseline_json(found))
    else:
        _show_baseline(found)


@baseline.command(short_help="Forget a baseline.")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the baseline NAME from the journal.

    \b
    perfloop baseline remove before-release
    """
    with Journal() as journal:
        journal.remove_baseline(name)
    output(f"removed {name}")


def _newest(journal: Journal, dsn: str) -> Baseline:
    target = safe_dsn(dsn)
    found = journal.baselines()
    here = next((each for each in found if each.target == target), None)
    if here is not None:
        return here
    names = ", ".join(each.name for each in found[:5])
    way_out = f"name one of {names} with --baseline" if names else "`perfloop baseline capture DSN` makes one"
    raise BaselineNotFound(f"no baseline was captured from {target}; {way_out}")


def _show_comparison(comparison: Comparison) -> None:
    console = result_console()
    show_comparison_line(console, comparison)
    if not comparison.findings:
        console.print("nothing is worse than it was")
    for finding in comparison.findings:
        show_finding(console, finding)


def _show_baseline(found: Baseline) -> None:
    console = result_console()
    counted = "since the reset" if found.window_s is None else f"over {seconds_text(found.window_s)}"
    size = bytes_text(sum(each.size_bytes for each in found.tables))
    about = f"{found.target}, PostgreSQL {found.fingerprint.major}, captured {_ago(found)}"
    console.print(Text.assemble((found.name, "bold"), f"  {about}"), soft_wrap=True)
    output(
        f"{len(found.tables)} tables of {size}, {len(found.indexes)} indexes, {len(found.plans)} plans, "
        f"{len(found.settings)} settings unlike the defaults"
    )
    top = sorted(found.statements, key=lambda each: -each.total_s)[:SHOWN_STATEMENTS]
    if top:
        output(f"\n{len(found.statements)} statements, counted {counted}")
        header = ("statement", "calls", "time", "per call", "blocks per call")
        show_table(console, header, map(_statement_row, top))


def _statement_row(each: StatementCounters) -> tuple[str, ...]:
    blocks = (each.hit_blocks + each.read_blocks) / max(1, each.calls)
    times = (seconds_text(each.total_s), seconds_text(each.mean_s))
    return (each.statement.label, count_text(each.calls), *times, f"{blocks:,.1f}")


def _ago(each: Baseline) -> str:
    return f"{seconds_text(max(0.0, time.time() - each.taken_at_s))} ago"
