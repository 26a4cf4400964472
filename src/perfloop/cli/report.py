"""`perfloop report`: what a study found."""

from __future__ import annotations

from pathlib import Path

import click

from perfloop.adapters.store import Journal
from perfloop.cli.terminal import OutputFile, output, write_file
from perfloop.cli.verdicts import show_study
from perfloop.tune.report.study import apply_sql, study_html, study_json, study_markdown, undo_sql

_FORMATS = {
    "html": study_html,
    "markdown": study_markdown,
    "json": study_json,
    "apply.sql": apply_sql,
    "undo.sql": undo_sql,
}


@click.command
@click.argument("study", default="latest")
@click.option("--format", "form", type=click.Choice(["text", *_FORMATS]), default="text", show_default=True)
@click.option(
    "--output",
    "path",
    type=OutputFile(),
    metavar="FILE",
    help="Write to a file instead of the terminal.",
)
def report(study: str, form: str, path: Path | None) -> None:
    """Show what STUDY found, tried, kept and reverted.

    \b
    perfloop report latest
    perfloop report latest --format html --output report.html
    perfloop report latest --format apply.sql
    """
    with Journal() as journal:
        found = journal.study(study)
    if form == "text":
        show_study(found)
        return
    text = _FORMATS[form](found)
    if path is None:
        output(text)
    else:
        write_file(path, text)
        output(f"wrote {path}")
