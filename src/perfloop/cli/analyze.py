"""`perfloop analyze`: read a target, rank what is slow."""

from __future__ import annotations

from pathlib import Path

import click

from perfloop.cli.findings import show_analysis
from perfloop.cli.options import (
    dsn_argument,
    log_line_prefix_option,
    log_option,
    seed_option,
    workload_option,
)
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import OutputFile, output, write_file
from perfloop.model.advice import Severity
from perfloop.tune.analysis import analyze_target
from perfloop.tune.report.analysis import analysis_html, analysis_json

CONDITION_MET = 1


@click.command(short_help="What is slow, read-only.")
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option(
    "--html",
    "html_path",
    type=OutputFile(),
    metavar="FILE",
    help="Also write a self-contained HTML page.",
)
@click.option(
    "--fail-on",
    type=click.Choice([each.value for each in Severity]),
    help="Exit with 1 when there is a finding of this severity or above.",
)
@click.option(
    "--timeout",
    "statement_timeout_s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Limit of each statement that perfloop itself runs.",
)
@seed_option
def analyze(
    dsn: str,
    workload: str | None,
    log: str | None,
    log_line_prefix: str | None,
    window_s: float | None,
    as_json: bool,
    html_path: Path | None,
    fail_on: str | None,
    statement_timeout_s: float,
    seed: int,
) -> int:
    """Find what is slow in the database at DSN. Reads only; needs nothing but a connection string.

    DSN may also stand in the environment, as DATABASE_URL.

    \b
    perfloop analyze postgresql://localhost/shop
    perfloop analyze "host=/run/postgresql dbname=shop" --window 60
    perfloop analyze $DATABASE_URL --json --fail-on high
    """
    with Progress(quiet=as_json, first_findings=0) as progress:
        analysis = analyze_target(
            dsn,
            progress,
            workload_source=workload,
            log=log,
            log_line_prefix=log_line_prefix,
            window_s=window_s,
            seed=seed,
            statement_timeout_s=statement_timeout_s,
        )
    if as_json:
        output(analysis_json(analysis))
    else:
        show_analysis(analysis)
    if html_path is not None:
        write_file(html_path, analysis_html(analysis))
        if not as_json:
            output(f"wrote {html_path}")
    worst = min((finding.severity.rank for finding in analysis.findings), default=len(Severity))
    return CONDITION_MET if fail_on and worst <= Severity(fail_on).rank else 0
