"""`perfloop studies`: what the journal holds."""

from __future__ import annotations

import click

from perfloop.adapters.store import Journal
from perfloop.cli.terminal import output
from perfloop.cli.verdicts import show_acts, show_studies
from perfloop.model.value import to_json


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def studies(as_json: bool) -> None:
    """List the studies in the journal, newest first, and what is applied.

    \b
    perfloop studies
    """
    with Journal() as journal:
        found, acts = journal.studies(), journal.acts()
    if as_json:
        output(to_json({"studies": found, "acts": acts}).decode())
        return
    if not found:
        output("no studies yet; `perfloop optimize DSN` makes one")
    show_studies(found)
    show_acts(acts)
