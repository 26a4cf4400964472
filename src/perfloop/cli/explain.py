"""`perfloop explain`: how one statement is planned, what is wrong with that, what an index would change."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from perfloop.cli.options import Size, dsn_argument, html_option, json_option, seed_option, timeout_option
from perfloop.cli.plans import show_explanation
from perfloop.cli.progress import Progress
from perfloop.cli.terminal import output, result_console, write_file
from perfloop.errors import InvalidInput
from perfloop.model.explained import Explanation
from perfloop.tune.asked import ExplainOptions
from perfloop.tune.explained import explain_query, explain_text
from perfloop.tune.report.explained import explanations_html, explanations_json
from perfloop.validate.sql_folder import read_text

_QUERY_ID = re.compile(r"-?\d{4,20}|[0-9a-f]{16}")
_VALUE = re.compile(r"\$?(\d+)=(.+)", re.DOTALL)


class ParameterValue(click.ParamType[tuple[int, str]]):
    """A value for one `$n`."""

    name = "value"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        if isinstance(value, tuple):
            return value
        found = _VALUE.fullmatch(str(value))
        if found is None:
            self.fail(f"{value} is no value for a parameter; write 1=4711 or 2=\"'open'\"", param, ctx)
        return int(found[1]), found[2]


@click.command(context_settings={"ignore_unknown_options": True})
@dsn_argument
@click.argument("statement")
@click.option(
    "--param",
    "parameters",
    type=ParameterValue(),
    multiple=True,
    metavar="N=SQL",
    help="A value for $N, as SQL; the others are drawn from the columns' statistics.",
)
@click.option("--analyze", is_flag=True, help="Run it on the target, in a transaction that is rolled back.")
@click.option("--yes", is_flag=True, help="With --analyze: run it even if it writes.")
@click.option("--what-if", is_flag=True, help="Copy its tables into a lab, and try the best index there.")
@click.option(
    "--with-index",
    "with_indexes",
    multiple=True,
    metavar="TABLE(KEYS)",
    help="Try this index in the lab instead.",
)
@click.option(
    "--max-lab-size",
    "max_lab_bytes",
    type=Size(),
    default="20GB",
    show_default=True,
    help="Refuse to copy more into the lab.",
)
@timeout_option
@json_option
@html_option
@seed_option
def explain(
    dsn: str,
    statement: str,
    parameters: tuple[tuple[int, str], ...],
    analyze: bool,
    yes: bool,
    what_if: bool,
    with_indexes: tuple[str, ...],
    max_lab_bytes: int,
    statement_timeout_s: float,
    as_json: bool,
    html_path: Path | None,
    seed: int,
) -> None:
    """Show how STATEMENT is planned in the database at DSN, what is wrong with that, and why.

    STATEMENT is a query id of pg_stat_statements or the end of one, a file of SQL, or - for standard input.
    It is planned, not run.

    \b
    perfloop explain postgresql://localhost/shop 3871264519283746512
    perfloop explain $DATABASE_URL slow.sql --analyze --html slow.html
    perfloop explain $DATABASE_URL slow.sql --with-index "orders (user_id, placed_at desc)"
    """
    options = ExplainOptions(
        analyze=analyze,
        may_write=yes,
        parameters=parameters,
        what_if=what_if,
        with_indexes=with_indexes,
        max_lab_bytes=max_lab_bytes,
        seed=seed,
        statement_timeout_s=statement_timeout_s,
    )
    with Progress(quiet=as_json) as progress:
        explained = _explained(dsn, statement, options, progress)
    if as_json:
        output(explanations_json(explained))
    else:
        console = result_console()
        for number, each in enumerate(explained):
            if number:
                console.print()
            show_explanation(console, each)
    if html_path is not None:
        write_file(html_path, explanations_html(explained))
        if not as_json:
            output(f"\nwrote {html_path}")
    if analyze:
        _refuse_estimates(explained)


def _refuse_estimates(explained: tuple[Explanation, ...]) -> None:
    """Raise InvalidInput, after all is shown, where a statement was not run that should have been."""
    for each in explained:
        if not each.plans or not all(plan.is_measured for plan in each.plans):
            reason = next(iter(each.notes), "it was not run")
            raise InvalidInput(f"{each.statement.label}: {reason}")


def _explained(
    dsn: str, statement: str, options: ExplainOptions, progress: Progress
) -> tuple[Explanation, ...]:
    path = Path(statement)
    if statement == "-":
        return explain_text(dsn, sys.stdin.read(), "standard input", options, progress)
    if path.is_file():
        return explain_text(dsn, read_text(path), path.stem, options, progress)
    if _QUERY_ID.fullmatch(statement):
        return explain_query(dsn, statement, options, progress)
    raise InvalidInput(
        f"{statement} is no file, and no query id of pg_stat_statements; give one of them, or - and the SQL "
        "on standard input"
    )
