"""Arguments and options that several commands share."""

from __future__ import annotations

import click

dsn_argument = click.argument("dsn", envvar="DATABASE_URL")
workload_option = click.option(
    "--workload",
    metavar="PATH",
    help="A server's log, a folder of logs or of .sql files, one .sql file or a pgbench script; "
    "default: pg_stat_statements.",
)
log_option = click.option(
    "--log",
    metavar="PATH",
    help="A server's log, or a folder of logs, whose real parameters stand in for $1, $2, ….",
)
log_line_prefix_option = click.option(
    "--log-line-prefix",
    metavar="TEXT",
    help="As log_line_prefix was when the log was written; default: what the target has, or its looks.",
)
seed_option = click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Of every random choice; the same seed, the same run.",
)
target_option = click.option(
    "--dsn",
    metavar="DSN",
    help="The target, where the journal's own (which never holds a password) cannot connect.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
