"""The `perfloop` command.

Exit codes: 0 done; 1 the condition of `--fail-on` is met; 2 the command was not understood; 3 it could
not be carried out, and the message says the way out; 4 a fault of perfloop itself; 130 interrupted, with
everything cleaned up.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import click
import psycopg
from rich.text import Text

import perfloop
from perfloop.cli.analyze import analyze
from perfloop.cli.apply import apply, undo
from perfloop.cli.baseline import baseline
from perfloop.cli.cache import cache
from perfloop.cli.explain import explain
from perfloop.cli.optimize import optimize
from perfloop.cli.recover import recover
from perfloop.cli.report import report, studies
from perfloop.cli.terminal import error_console
from perfloop.errors import PerfloopError

FAILED = 3
FAULT = 4
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


for command in (analyze, explain, optimize, apply, undo, report, studies, baseline, recover, cache):
    cli.add_command(command)


def main() -> None:
    """Run the command line and turn what went wrong into one line and an exit code."""
    # What stops a service stops us as Ctrl-C does: labs are removed, and a cut apply is undone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # The parser logs what it gives up; the findings and the list of skipped statements tell it better.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        code = cli.main(standalone_mode=False) or 0
        if sys.stdout is not None:  # as it is where the shell has closed it
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        _leave(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _leave(INTERRUPTED, Text("interrupted", style="bold"))
    except BrokenPipeError:
        # The reader of our output has gone, as with `| head`.
        _leave(0)
    except (PerfloopError, psycopg.Error, OSError) as error:
        _leave(FAILED, _told(_sentence(error)))
    except Exception as error:  # noqa: BLE001  # the outermost boundary: an exit code of 1 would read as --fail-on
        traceback.print_exc()
        _leave(FAULT, _told(f"a fault of perfloop itself, {type(error).__name__}; please report the above"))
    _leave(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Interrupt once; from then on there is only cleaning up, which a second Ctrl-C would cut short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _still_cleaning_up)
    raise KeyboardInterrupt


def _still_cleaning_up(number: int, frame: FrameType | None) -> None:
    # Not through the console: the signal may have come while it was printing.
    os.write(2, b"cleaning up; kill -9 leaves the rest to `perfloop recover`\n")


def _leave(code: int, told: Text | None = None) -> NoReturn:
    """Exit, and let Python find nothing to complain of when it flushes what nobody can take."""
    if told is not None:
        error_console().print(told, soft_wrap=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _told(sentence: str) -> Text:
    return Text.assemble(("perfloop: ", "bold red"), sentence)


def _sentence(error: BaseException) -> str:
    if isinstance(error, PerfloopError):
        return str(error)
    if isinstance(error, psycopg.Error):
        fact = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, psycopg.errors.QueryCanceled):
            return f"a server said: {fact}; try again when it has less to do, or with a longer --timeout"
        return f"a server said: {fact}; see its log, and run perfloop again once it is up"
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    fact = getattr(error, "strerror", None) or str(error)
    return f"cannot read or write: {place}{fact}; make room or name another place"
