"""`perfloop recover`: after a crash."""

from __future__ import annotations

import click

from perfloop.adapters.connection import connect, safe_dsn
from perfloop.adapters.servers.folders import sweep_stale_servers
from perfloop.adapters.store import Journal
from perfloop.cli.options import target_option
from perfloop.cli.terminal import output
from perfloop.tune.recover import RecoveryOutcome
from perfloop.tune.recover import recover as run_recovery

NOT_RECOVERED = 3


@click.command
@target_option
@click.option("--force", is_flag=True, help="Also undo what somebody has changed since.")
def recover(dsn: str | None, force: bool) -> int:
    """Finish or undo what a crash cut off, say which, and remove labs that were left behind.

    \b
    perfloop recover
    """
    told = False

    def tell(sentence: str) -> None:
        nonlocal told
        told = True
        output(sentence)

    for folder in sweep_stale_servers():
        tell(f"removed the lab left in {folder}")
    with Journal() as journal:

        def opener(target: str):  # type: ignore[no-untyped-def]  # psycopg's connection type is generic
            chosen = dsn if dsn and safe_dsn(dsn) == target else target
            return connect(chosen, read_only=False, statement_timeout_s=0)

        recoveries = run_recovery(journal, opener, report=tell, force=force)
    for each in recoveries:
        tell(f"{each.target}: {each.sentence}")
    if not told:
        output("nothing was cut off")
    return NOT_RECOVERED if any(each.outcome is RecoveryOutcome.LEFT for each in recoveries) else 0
