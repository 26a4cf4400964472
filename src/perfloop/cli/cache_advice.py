"""`perfloop cache advise`: which statements to keep the results of, and what a running cache is worth."""

from __future__ import annotations

import os
from pathlib import Path

import click

from perfloop.cli.cache_advised import show_advice
from perfloop.cli.cache_used import show_usage
from perfloop.cli.options import (
    json_option,
    log_line_prefix_option,
    log_option,
    seed_option,
    timeout_option,
    window_option,
)
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import output, result_console
from perfloop.tune.cache_advice import CAPACITY, AdviceOptions
from perfloop.tune.cache_advice import advise as advise_on_target
from perfloop.tune.cache_advice_usage import read_usages
from perfloop.tune.cache_advice_values import CacheAdvice, UsageAdvice
from perfloop.tune.report.cache_advice import cache_advice_json


@click.command
@click.argument("dsn", required=False)
@click.option(
    "--usage",
    "usage_paths",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="What `write_usage` wrote of a running cache, to show beside it. May be repeated.",
)
@window_option
@log_option
@log_line_prefix_option
@click.option(
    "--capacity",
    type=click.IntRange(min=10),
    default=CAPACITY,
    show_default=True,
    metavar="ENTRIES",
    help="Of the cache that is simulated.",
)
@json_option
@timeout_option
@seed_option
def advise(
    dsn: str | None,
    usage_paths: tuple[Path, ...],
    window_s: float | None,
    log: str | None,
    log_line_prefix: str | None,
    capacity: int,
    as_json: bool,
    statement_timeout_s: float,
    seed: int,
) -> None:
    """Say which statements of the database at DSN are worth keeping in a cache. Reads only.

    Calls and their time come from pg_stat_statements, writes from the counters of the tables, parameters from
    a log, else from pg_stats; a simulated cache says what hits and old results would come of it. Without
    --usage, DSN may also stand in the environment, as DATABASE_URL.

    \b
    perfloop cache advise postgresql://localhost/shop --window 60
    perfloop cache advise $DATABASE_URL --log /var/log/postgresql --capacity 50000
    perfloop cache advise --usage cache-usage.json
    """
    if dsn is None and not usage_paths:
        dsn = os.environ.get("DATABASE_URL", "")
    if dsn is not None and not dsn.strip():
        raise click.UsageError("give the DSN of a database, or a profile of a running cache with --usage")
    usage = read_usages(usage_paths)
    options = AdviceOptions(
        window_s=window_s,
        log=log,
        log_line_prefix=log_line_prefix,
        capacity=capacity,
        seed=seed,
        statement_timeout_s=statement_timeout_s,
    )
    advice = None
    if dsn is not None:
        with Progress(quiet=as_json) as progress:
            advice = advise_on_target(dsn, options, progress)
    if as_json:
        output(cache_advice_json(advice, usage))
        return
    _show(advice, usage)


def _show(advice: CacheAdvice | None, usage: tuple[UsageAdvice, ...]) -> None:
    console = result_console()
    for number, each in enumerate(usage):
        if number:
            console.print()
        show_usage(console, each)
    if advice is not None:
        if usage:
            console.print()
        show_advice(console, advice)
