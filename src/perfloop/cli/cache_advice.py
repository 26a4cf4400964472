"""`perfloop cache advise`: which statements to keep the results of, and what a running cache is worth."""

from __future__ import annotations

import click

from perfloop.cli.cache_advised import show_advice
from perfloop.cli.options import json_option, log_line_prefix_option, seed_option, timeout_option
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import output, result_console
from perfloop.tune.cache_advice import CAPACITY, AdviceOptions
from perfloop.tune.cache_advice import advise as advise_on
from perfloop.tune.report.cache_advice import cache_advice_json


@click.command
@click.argument("dsn", envvar="DATABASE_URL", required=False)
@click.option(
    "--window",
    "--watch",
    "window_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Count calls and writes over this time from now, instead of since the last reset.",
)
@click.option(
    "--log",
    "--workload",
    "log",
    metavar="PATH",
    help="A server's log, or a folder of logs, with the parameters that are really asked for.",
)
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
    a log, else from pg_stats; a simulated cache says what hits and old results would come of it.

    \b
    perfloop cache advise postgresql://localhost/shop --window 60
    perfloop cache advise $DATABASE_URL --log /var/log/postgresql --capacity 50000
    perfloop cache advise $DATABASE_URL --json
    """
    if not dsn:
        raise click.UsageError("give the DSN of a database, here or as DATABASE_URL")
    options = AdviceOptions(
        window_s=window_s,
        log=log,
        log_line_prefix=log_line_prefix,
        capacity=capacity,
        seed=seed,
        statement_timeout_s=statement_timeout_s,
    )
    with Progress(quiet=as_json) as progress:
        advice = advise_on(dsn, options, progress)
    if as_json:
        output(cache_advice_json(advice, ()))
        return
    show_advice(result_console(), advice)
