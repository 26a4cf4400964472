"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from perfloop.cli.terminal import OutputFile
from perfloop.model.advice import Finding, Severity
from perfloop.model.units import size_bytes

CONDITION_MET = 1


class Size(click.ParamType[Any]):
    """A size as PostgreSQL writes it."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return size_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def refuse_empty(context: click.Context, parameter: click.Parameter, dsn: str | None) -> str | None:
    """An unset variable in quotes would otherwise be the database that libpq takes by itself."""
    if dsn is not None and not dsn.strip():
        raise click.BadParameter("it is empty; is the variable set that it comes from?", context, parameter)
    return dsn


dsn_argument = click.argument("dsn", envvar="DATABASE_URL", callback=refuse_empty)
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
window_option = click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Count statements over this time from now, instead of since the last reset.",
)
baseline_option = click.option(
    "--baseline",
    "baseline_name",
    metavar="NAME",
    help="Also say what is worse than in this baseline; `perfloop baseline capture` makes one.",
)
timeout_option = click.option(
    "--timeout",
    "statement_timeout_s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Limit of each statement that perfloop itself runs.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
fleet_option = click.option(
    "--fleet",
    "fleet_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The fleet of this file; default: the one that runs.",
)
html_option = click.option(
    "--html",
    "html_path",
    type=OutputFile(),
    metavar="FILE",
    help="Also write a self-contained HTML page.",
)
fail_on_option = click.option(
    "--fail-on",
    type=click.Choice([each.value for each in Severity]),
    help="Exit with 1 when there is a finding of this severity or above.",
)


def exit_code(findings: Sequence[Finding], fail_on: str | None) -> int:
    """What `--fail-on` makes of the findings."""
    worst = min((finding.severity.rank for finding in findings), default=len(Severity))
    return CONDITION_MET if fail_on and worst <= Severity(fail_on).rank else 0


redis_option = click.option(
    "--redis",
    "redis_url",
    envvar="REDIS_URL",
    metavar="URL",
    help="The Redis or Valkey beside it, to check too; may also stand in the environment, as REDIS_URL.",
)
