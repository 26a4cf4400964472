"""The `perfloop` command.

Exit codes: 0 done; 1 the condition of `--fail-on` is met; 2 the command was not understood; 3 it could
not be carried out, and the message says the way out; 130 interrupted, with everything cleaned up.
"""

from __future__ import annotations

import os
import signal
import sys

import click
from rich.console import Console

import perfloop
from perfloop.cli.analyze import analyze
from perfloop.cli.apply import apply, undo
from perfloop.cli.optimize import optimize
from perfloop.cli.recover import recover
from perfloop.cli.report import report, studies
from perfloop.errors import PerfloopError

FAILED = 3
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(perfloop.__version__, prog_name="perfloop")
def cli() -> None:
    """Make a Python service on PostgreSQL faster, and prove it.

    \b
    perfloop analyze postgresql://localhost/shop      what is slow, read-only
    perfloop optimize postgresql://localhost/shop     what would help, tried in a lab
    perfloop apply latest                             do it, with its undo written down first
    """


for command in (analyze, optimize, apply, undo, report, studies, recover):
    cli.add_command(command)


def main() -> None:
    """Run the command line and turn perfloop's own errors into one line and an exit code."""
    console = Console(stderr=True, highlight=False)
    # What stops a service stops us as Ctrl-C does: labs are removed, and a cut apply is undone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        console.print("interrupted", style="bold")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, as with `| head`; Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except PerfloopError as error:
        console.print(f"[bold red]perfloop:[/] {_escaped(str(error))}", soft_wrap=True)
        sys.exit(FAILED)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
