"""`perfloop apply` and `perfloop undo`: the two commands that change a target."""

from __future__ import annotations

import re
import time
from typing import Any

import click

from perfloop.adapters.connection import connect, safe_dsn
from perfloop.adapters.store import Journal
from perfloop.cli.options import target_option, yes_option
from perfloop.cli.terminal import output
from perfloop.cli.verdicts import show_changes
from perfloop.errors import InvalidInput, StudyNotFound
from perfloop.model.outcome import ActState, AppliedChange, Study
from perfloop.tune.apply import apply_study, server_changes
from perfloop.tune.preflight import ApplyPolicy
from perfloop.tune.session import Connect
from perfloop.tune.undo import undo_change, undo_study
from perfloop.tune.watch import observe, watch_study

_LATEST = "latest"
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[Any]):
    """A duration as 90s, 10m or 2h, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write it as 90s, 10m or 2h", param, ctx)
        return float(match[1]) * _UNITS_S[match[2]]


def session_opener(dsn: str) -> Connect:
    """Opens the sessions that act: they may write, and a build may take as long as it takes."""
    return lambda: connect(dsn, read_only=False, statement_timeout_s=0)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only with a yes; raises InvalidInput otherwise, as where nobody can be asked."""
    try:
        agreed = yes or click.confirm(question)
    except click.Abort:
        agreed = False
    if not agreed:
        raise InvalidInput("not confirmed, so nothing was changed; --yes answers for scripts")


@click.command
@click.argument("study")
@target_option
@yes_option
@click.option(
    "--restart",
    "restart_allowed",
    is_flag=True,
    help="Also write settings that take effect with the next restart, which you do.",
)
@click.option(
    "--other-major",
    "other_major_allowed",
    is_flag=True,
    help="Carry verdicts to a server of another major version than the lab's.",
)
@click.option(
    "--watch",
    "watch_s",
    type=Duration(),
    metavar="DURATION",
    help="Then compare live statements for so long (as 10m), and undo what hurts.",
)
def apply(
    study: str,
    dsn: str | None,
    yes: bool,
    restart_allowed: bool,
    other_major_allowed: bool,
    watch_s: float | None,
) -> None:
    """Bring the kept changes of STUDY to its target: all of them, or none.

    Every act is written to the journal with its exact undo before it happens. STUDY is a name, the
    beginning of one, or "latest".

    \b
    perfloop apply latest
    perfloop apply 20261121-4f2c --yes --watch 10m
    """
    policy = ApplyPolicy(restart_allowed=restart_allowed, other_major_allowed=other_major_allowed)
    with Journal() as journal:
        found = journal.study(study)
        target = dsn or found.target
        _refuse_nothing_kept(journal, found, asked=study)
        show_changes(found)
        confirm(f"Apply these to {safe_dsn(target)}?", yes=yes)
        opener = session_opener(target)
        before = None
        if watch_s is not None:
            output("watching what its statements cost before")
            before = observe(opener, watch_s=watch_s, sleep=time.sleep)
        apply_study(found, opener, journal, report=output, target=safe_dsn(target), policy=policy)
        output(f"applied; undo with: perfloop undo {found.study_id}")
        if watch_s is not None and before is not None:
            watch_study(
                found,
                opener,
                journal,
                before=before,
                report=output,
                watch_s=watch_s,
                clock=time.monotonic,
                sleep=time.sleep,
            )


@click.command
@click.argument("name", metavar="STUDY|CHANGE")
@target_option
@yes_option
@click.option("--force", is_flag=True, help="Also undo what somebody has changed since.")
def undo(name: str, dsn: str | None, yes: bool, force: bool) -> None:
    """Bring back what was there before STUDY was applied, or before the one CHANGE of that number.

    \b
    perfloop undo latest
    perfloop undo 7          the act number 7, as `perfloop studies` lists it
    """
    with Journal() as journal:
        act = next((each for each in journal.acts() if str(each.act_id) == name), None)
        study_id = act.study_id if act else journal.study(name).study_id
        place = _applied_to(journal, study_id, act, dsn, asked=name)
        what = act.change.title if act else f"all that study {study_id} applied"
        confirm(f"Undo {what} on {place}?", yes=yes)
        opener = session_opener(dsn or place)
        if act:
            undo_change(act.act_id, opener, journal, report=output, force=force)
        else:
            undo_study(study_id, opener, journal, report=output, target=place, force=force)


def _refuse_nothing_kept(journal: Journal, found: Study, *, asked: str) -> None:
    """Raise InvalidInput where there is nothing to apply; of the latest, with the one that it hides."""
    try:
        server_changes(found)
    except InvalidInput as error:
        others = journal.studies() if asked == _LATEST else ()
        older = next((each for each in others if _may_be_applied(each)), None)
        if older is None:
            raise
        raise InvalidInput(f"{error}; {_named(older)} did: perfloop apply {older.study_id}") from error


def _may_be_applied(study: Study) -> bool:
    try:
        return bool(server_changes(study))
    except InvalidInput:
        return False


def _named(study: Study) -> str:
    return f"study {study.study_id} of {study.target}"


def _applied_to(
    journal: Journal, study_id: str, act: AppliedChange | None, dsn: str | None, *, asked: str
) -> str:
    """The target as the journal has it, which need not be the study's: apply may have named another."""
    batches = [each for each in journal.batches(study_id) if each.state is ActState.APPLIED]
    if act is not None:
        batches = [each for each in batches if act in each.acts]
    places = sorted({each.target for each in batches})
    if not places:
        raise _nothing_applied(journal, study_id, asked)
    named = safe_dsn(dsn) if dsn else None
    if len(places) == 1 or named in places:
        return named if named in places and named is not None else places[0]
    raise InvalidInput(f"study {study_id} is applied to {' and to '.join(places)}; say which with --dsn")


def _nothing_applied(journal: Journal, study_id: str, asked: str) -> StudyNotFound:
    """With the study whose acts stand, where the latest one was asked for."""
    applied = {each.study_id for each in journal.batches() if each.state is ActState.APPLIED}
    others = journal.studies() if asked == _LATEST else ()
    older = next((each for each in others if each.study_id in applied), None)
    if older is None:
        return StudyNotFound(f"nothing of study {study_id} is applied; `perfloop studies` lists what is")
    return StudyNotFound(
        f"nothing of study {study_id} is applied, which is the latest; {_named(older)} is: "
        f"perfloop undo {older.study_id}"
    )
