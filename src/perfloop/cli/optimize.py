"""`perfloop optimize`: the loop, in a lab."""

from __future__ import annotations

from pathlib import Path

import click

from perfloop.adapters.store import Journal
from perfloop.cli.options import (
    Size,
    dsn_argument,
    log_line_prefix_option,
    log_option,
    seed_option,
    workload_option,
)
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import OutputFile, output, write_file
from perfloop.cli.verdicts import show_study
from perfloop.tune.report.rewritings import by_hand
from perfloop.tune.report.study import study_html, study_json
from perfloop.tune.study import StudyOptions
from perfloop.tune.study import optimize as run_study
from perfloop.tune.weighing import Weighing


@click.command
@dsn_argument
@workload_option
@log_option
@log_line_prefix_option
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Count statements over this time from now, instead of since the last reset.",
)
@click.option(
    "--lab",
    "lab_dsn",
    metavar="DSN",
    help="A scratch server of yours with the right to create databases; default: one of perfloop's own.",
)
@click.option(
    "--keep-lab", is_flag=True, help="Leave the lab's data for a look; the report says where they are."
)
@click.option(
    "--max-lab-size",
    "max_lab_bytes",
    type=Size(),
    default="20GB",
    show_default=True,
    help="Refuse to copy a larger database.",
)
@click.option(
    "--max-index-size",
    "max_index_bytes",
    type=Size(),
    metavar="SIZE",
    help="Space for all new indexes together; default: half of what the tables take.",
)
@click.option(
    "--weigh",
    "weighing",
    type=click.Choice([each.value for each in Weighing]),
    default=Weighing.TIME.value,
    show_default=True,
    help="What statements count by: their share of the time, or each the same.",
)
@click.option(
    "--trials",
    "most_trials",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="Try at most so many changes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the study as JSON instead of text.")
@click.option(
    "--html",
    "html_path",
    type=OutputFile(),
    metavar="FILE",
    help="Also write the report as a self-contained HTML page.",
)
@seed_option
def optimize(
    dsn: str,
    workload: str | None,
    log: str | None,
    log_line_prefix: str | None,
    window_s: float | None,
    lab_dsn: str | None,
    keep_lab: bool,
    max_lab_bytes: int,
    max_index_bytes: int | None,
    weighing: str,
    most_trials: int,
    as_json: bool,
    html_path: Path | None,
    seed: int,
) -> None:
    """Try what would make the database at DSN faster, on a copy, with its own statements.

    The target is only read. What proves itself is kept in the study; `perfloop apply` brings it there.

    \b
    perfloop optimize postgresql://localhost/shop
    perfloop optimize postgresql://localhost/shop --workload queries/ --html report.html
    """
    options = StudyOptions(
        workload_source=workload,
        log=log,
        log_line_prefix=log_line_prefix,
        window_s=window_s,
        lab_dsn=lab_dsn,
        keep_lab=keep_lab,
        max_lab_bytes=max_lab_bytes,
        max_index_bytes=max_index_bytes,
        weighing=Weighing(weighing),
        most_trials=most_trials,
        seed=seed,
    )
    with Journal() as journal, Progress(quiet=as_json) as progress:
        study = run_study(dsn, options, journal, progress)
    if as_json:
        output(study_json(study))
    else:
        show_study(study)
        if len(study.kept()) > len(by_hand(study)):
            output(f"\nbring it to the target with: perfloop apply {study.study_id}")
    if html_path is not None:
        write_file(html_path, study_html(study))
        if not as_json:
            output(f"wrote {html_path}")
