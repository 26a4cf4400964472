"""Arguments and options that several commands share."""

from __future__ import annotations

import click

dsn_argument = click.argument("dsn", envvar="DATABASE_URL")
workload_option = click.option(
    "--workload",
    metavar="PATH",
    help="A folder of .sql files, one .sql file or a pgbench script; default: pg_stat_statements.",
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
