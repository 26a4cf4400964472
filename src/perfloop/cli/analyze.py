"""`perfloop analyze`: read a target, rank what is slow."""

from __future__ import annotations

from pathlib import Path

import click

from perfloop.adapters.store import Journal
from perfloop.cli.findings import show_analysis
from perfloop.cli.options import (
    baseline_option,
    dsn_argument,
    exit_code,
    fail_on_option,
    html_option,
    json_option,
    log_line_prefix_option,
    log_option,
    redis_option,
    seed_option,
    timeout_option,
    window_option,
    workload_option,
)
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import output, write_file
from perfloop.tune.analysis import analyze_target
from perfloop.tune.baselines import compare_with_baseline, with_comparison
from perfloop.tune.report.analysis import analysis_html, analysis_json


@click.command
@dsn_argument
@workload_option
@log_option
@log_line_prefix_option
@window_option
@redis_option
@baseline_option
@json_option
@html_option
@fail_on_option
@timeout_option
@seed_option
def analyze(
    dsn: str,
    workload: str | None,
    log: str | None,
    log_line_prefix: str | None,
    window_s: float | None,
    redis_url: str | None,
    baseline_name: str | None,
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
    perfloop analyze $DATABASE_URL --redis redis://localhost:6379
    perfloop analyze $DATABASE_URL --json --fail-on high
    perfloop analyze $DATABASE_URL --baseline before-release
    """
    baseline = None
    if baseline_name is not None:
        with Journal() as journal:
            baseline = journal.baseline(baseline_name)
    with Progress(quiet=as_json, first_findings=0) as progress:
        analysis = analyze_target(
            dsn,
            progress,
            workload_source=workload,
            log=log,
            log_line_prefix=log_line_prefix,
            window_s=window_s,
            redis_url=redis_url,
            seed=seed,
            statement_timeout_s=statement_timeout_s,
        )
        if baseline is not None:
            comparison = compare_with_baseline(
                dsn,
                baseline,
                progress,
                window_s=window_s,
                statement_timeout_s=statement_timeout_s,
                snapshot=analysis.snapshot,
            )
            analysis = with_comparison(analysis, comparison)
    if as_json:
        output(analysis_json(analysis))
    else:
        show_analysis(analysis)
    if html_path is not None:
        write_file(html_path, analysis_html(analysis))
        if not as_json:
            output(f"wrote {html_path}")
    return exit_code(analysis.findings, fail_on)
