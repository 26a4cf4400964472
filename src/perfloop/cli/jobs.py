"""`perfloop jobs`: the queues of background jobs, in numbers."""

from __future__ import annotations

import time
from collections import defaultdict

import click
from rich.console import Console
from rich.text import Text

from perfloop.adapters.jobs.reading import JobReading
from perfloop.adapters.jobs.watch import JobWatch
from perfloop.analyze.jobs import judge_queues
from perfloop.cli.findings import show_finding, show_limitation
from perfloop.cli.options import (
    exit_code,
    fail_on_option,
    json_option,
    redis_option,
    refuse_empty,
    timeout_option,
)
from perfloop.cli.terminal import output, result_console, show, show_table
from perfloop.errors import TargetUnreachable
from perfloop.model.advice import Finding
from perfloop.model.jobs import JobQueue
from perfloop.model.units import count_text, seconds_text
from perfloop.model.value import to_json

_TOLD_IN = {
    "oldest_age_s": "oldest",
    "stuck": "stuck",
    "scheduled": "later",
    "finished": "done",
    "failures": "failed",
    "run_time_s": "a job takes",
}
"""The columns that a system may not tell, by the field behind them."""
HEADER = ("queue", "waiting", "grew by", "running", *_TOLD_IN.values())
_UNKNOWN = "?"


@click.command
@click.argument("dsn", envvar="DATABASE_URL", required=False, callback=refuse_empty)
@redis_option
@click.option(
    "--watch",
    "watch_s",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Look again after so many seconds, until Ctrl-C, and say what grew.",
)
@json_option
@fail_on_option
@timeout_option
def jobs(
    dsn: str | None,
    redis_url: str | None,
    watch_s: float | None,
    as_json: bool,
    fail_on: str | None,
    statement_timeout_s: float,
) -> int:
    """Show the queues of background jobs, and what is wrong with them. Reads only.

    Those of procrastinate are in the database at DSN, those of Celery, RQ and Dramatiq in a Redis; one of the
    two is enough.

    DSN may also stand in the environment, as DATABASE_URL. With --json each look is one line.

    \b
    perfloop jobs postgresql://localhost/shop
    perfloop jobs --redis redis://localhost:6379
    perfloop jobs $DATABASE_URL --redis redis://localhost:6379/1 --watch 10
    perfloop jobs --redis redis://localhost:6379 --fail-on high
    """
    if dsn is None and redis_url is None:
        raise click.UsageError("give a DSN, --redis URL, or both; DATABASE_URL and REDIS_URL are not set")
    with JobWatch(dsn, redis_url=redis_url, statement_timeout_s=statement_timeout_s) as watch:
        while True:
            taken_at_s = time.time()
            reading = watch.read(now_s=taken_at_s)
            findings = judge_queues(reading.queues)
            if as_json:
                output(_line(reading, findings, taken_at_s))
            else:
                show_jobs(reading, findings, taken_at_s)
            code = exit_code(findings, fail_on)
            if watch_s is None and not code and _is_blind(reading, is_gate=fail_on is not None):
                first = reading.limitations[0]
                raise TargetUnreachable(f"{first.subject} could not be read; see above what would allow it")
            if watch_s is None or code:
                return code
            time.sleep(max(0.0, watch_s - (time.time() - taken_at_s)))


def _is_blind(reading: JobReading, *, is_gate: bool) -> bool:
    """Whether too little was read for a 0: nothing at all, or, where a job waits for it, not everything."""
    return bool(reading.limitations) and (is_gate or not reading.queues)


def _line(reading: JobReading, findings: tuple[Finding, ...], taken_at_s: float) -> str:
    told = {
        "taken_at_s": taken_at_s,
        "queues": reading.queues,
        "findings": findings,
        "limitations": reading.limitations,
    }
    return to_json(told).decode()


def show_jobs(reading: JobReading, findings: tuple[Finding, ...], taken_at_s: float) -> None:
    """Print a table for each system, then what is wrong, what could not be read, and what no system tells."""
    console = result_console()
    by_system: dict[str, list[JobQueue]] = defaultdict(list)
    for queue in reading.queues:
        by_system[queue.system].append(queue)
    console.print(Text(time.strftime("%H:%M:%S", time.localtime(taken_at_s)), style="dim"))
    if not by_system and not reading.limitations:
        console.print("no queue of procrastinate, Celery, RQ or Dramatiq is here")
    for system, queues in by_system.items():
        console.print(Text(system, style="bold"))
        show_table(console, HEADER, [_row(queue) for queue in queues])
        _show_unknown(console, queues)
    for finding in findings:
        show_finding(console, finding)
    for limitation in reading.limitations:
        show_limitation(console, limitation)


def _row(queue: JobQueue) -> tuple[str, ...]:
    return (
        queue.name,
        count_text(queue.depth),
        "" if queue.grown_by is None else f"{queue.grown_by:+,d}",
        count_text(queue.in_progress),
        _time(queue.oldest_age_s),
        _count(queue.stuck),
        _count(queue.scheduled),
        _count(queue.finished),
        _count(queue.failures),
        _time(queue.run_time_s),
    )


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else count_text(number)


def _time(duration_s: float | None) -> str:
    return _UNKNOWN if duration_s is None else "" if duration_s == 0 else seconds_text(duration_s)


def _show_unknown(console: Console, queues: list[JobQueue]) -> None:
    """Each reason once, with the columns that it is about."""
    columns: dict[str, list[str]] = defaultdict(list)
    for queue in queues:
        for field, reason in queue.unknown:
            if field in _TOLD_IN and _TOLD_IN[field] not in columns[reason]:
                columns[reason].append(_TOLD_IN[field])
    for reason, about in columns.items():
        if about:
            show(console, Text(f"{', '.join(about)}: {reason}", style="dim"), lead="  ? ", indent=4)
