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

from perfloop.cli.later import LaterCommand
from perfloop.errors import PerfloopError

FAILED = 3
FAULT = 4
INTERRUPTED = 130
_AGAIN_AFTER_S = 0.05
_NAME = ("perfloop: ", "bold red")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="perfloop", prog_name="perfloop")
def cli() -> None:
    """Make a Python service on PostgreSQL faster, and prove it.

    \b
    perfloop analyze postgresql://localhost/shop      what is slow, read-only
    perfloop optimize postgresql://localhost/shop     what would help, tried in a lab
    perfloop apply latest                             do it, with its undo written down first
    """


for name, module, short_help in (
    ("analyze", "analyze", "What is slow, read-only."),
    ("explain", "explain", "How one statement is planned, and what would help it."),
    ("optimize", "optimize", "What would help, tried in a lab; the target is only read."),
    ("apply", "apply", "Bring the kept changes to the target, all or none."),
    ("undo", "apply", "Bring back what was there before."),
    ("report", "report", "What a study found, tried, kept and reverted."),
    ("studies", "studies", "The studies, and what is applied."),
    ("baseline", "baseline", "Keep how it is, and see later what got worse."),
    ("recover", "recover", "Finish or undo what a crash cut off."),
    ("jobs", "jobs", "The queues of background jobs, and what is wrong with them."),
    ("cache", "cache", "Let what is committed in a database clear a cache."),
    ("leaks", "leaks", "Which line of a program holds more and more memory."),
    ("supervise", "supervise", "Keep a fleet of workers alive, in the foreground."),
    ("startup", "startup", "Where the time of a program's start goes, and what would save it."),
    ("fleet", "fleet", "Look at a supervised fleet, and change it."),
):
    cli.add_command(LaterCommand(name, home=f"perfloop.cli.{module}", short_help=short_help))


def main() -> None:
    """Run the command line and turn what went wrong into one line and an exit code."""
    # What stops a service stops us as Ctrl-C does: labs are removed, and a cut apply is undone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _interrupt_again
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
        _leave(INTERRUPTED, ("interrupted", "bold"))
    except BrokenPipeError:
        # The reader of our output has gone, as with `| head`.
        _leave(0)
    except Exception as error:  # noqa: BLE001  # the outermost boundary: an exit code of 1 would read as --fail-on
        sentence = _sentence(error)
        if sentence is not None:
            _leave(FAILED, _NAME, sentence)
        traceback.print_exc()
        _leave(FAULT, _NAME, f"a fault of perfloop itself, {type(error).__name__}; please report the above")
    _leave(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Interrupt once; from then on there is only cleaning up, which a second Ctrl-C would cut short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _still_cleaning_up)
    raise KeyboardInterrupt


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Interrupt once more where the first came while a destructor ran, which no exception leaves."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_AFTER_S)


def _still_cleaning_up(number: int, frame: FrameType | None) -> None:
    # Not through the console: the signal may have come while it was printing.
    os.write(2, b"cleaning up; kill -9 leaves the rest to `perfloop recover`\n")


def _leave(code: int, *told: str | tuple[str, str]) -> NoReturn:
    """Exit, and let Python find nothing to complain of when it flushes what nobody can take."""
    if told:
        # Imported here: a help text and the completion of a shell need no console.
        from rich.text import Text

        from perfloop.cli.terminal import error_console

        error_console().print(Text.assemble(*told), soft_wrap=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _sentence(error: Exception) -> str | None:
    """What went wrong and the way out; None for what nobody foresaw."""
    if isinstance(error, PerfloopError):
        return str(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"cannot read or write: {place}{error.strerror or error}; make room or name another place"
    driver = sys.modules.get("psycopg")  # not imported: where it is not loaded, no error is its own
    if driver is None or not isinstance(error, driver.Error):
        return None
    fact = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, driver.errors.QueryCanceled):
        return f"a server said: {fact}; try again when it has less to do, or with a longer --timeout"
    return f"a server said: {fact}; see its log, and run perfloop again once it is up"
