"""apply.sql and undo.sql: the kept changes of a Study as psql scripts, of the statements that `acts` runs."""

from __future__ import annotations

from perfloop.model.advice import AlterSetting, Change, RewriteQuery, SettingScope
from perfloop.model.outcome import Study
from perfloop.tune import statements

_STOP = "\\set ON_ERROR_STOP on\n"
_PLACES = {
    SettingScope.SYSTEM: "postgresql.auto.conf",
    SettingScope.DATABASE: "the database",
    SettingScope.ROLE: "the role",
}


def apply_sql(study: Study) -> str:
    """The kept changes as a psql script; comments only where nothing was kept."""
    kept = _kept(study)
    if not kept:
        return _comment(f"Study {study.study_id} kept no change, so there is nothing to apply.")
    head = _comment(
        f"apply.sql of study {study.study_id}: {_changes(len(kept))} for {study.target}",
        "",
        "The changes stand in the order of trying. Run the file with psql --file on the target's",
        "database, and not as one transaction, in which concurrent builds refuse to stand. It stops at",
        "the first error; undo.sql then undoes what came before, and removes what a cut build left.",
        "",
        f"`perfloop apply {study.study_id}` runs the same statements, but looks at the target first and",
        "journals each act with what was there before. psql does not: `perfloop undo` will know nothing",
        "of what this file did.",
    )
    parts = [
        _comment(f"{number} of {len(kept)}: {change.title}") + _apply_part(change)
        for number, change in enumerate(kept, start=1)
    ]
    return "\n".join([f"{head}\n{_STOP}", *parts])


def undo_sql(study: Study) -> str:
    """What undoes that script, in reverse order. A setting is reset, since its earlier value is not known."""
    kept = _kept(study)
    if not kept:
        return _comment(f"Study {study.study_id} kept no change, so there is nothing to undo.")
    head = _comment(
        f"undo.sql of study {study.study_id}: takes back {_changes(len(kept))} on {study.target}",
        "",
        "The last change is undone first. Run the file with psql --file, and not as one transaction. It",
        "goes on after an error, so that it also undoes an apply.sql that was cut short: an index that",
        "was not dropped yet then exists already. It drops indexes by their names: if apply.sql stopped",
        "because a name was taken, take that DROP out first.",
        "",
        f"What `perfloop apply` did is undone by `perfloop undo {study.study_id}`: that brings back",
        "exactly what was there, and refuses where somebody has changed it since.",
    )
    parts = [
        _comment(f"undo {number} of {len(kept)}: {change.title}", *_assumption(change)) + _undo_part(change)
        for number, change in reversed(list(enumerate(kept, start=1)))
    ]
    return "\n".join([head, *parts])


def _apply_part(change: Change) -> str:
    """A rewritten statement stands in the service's code, so that the script has it as a comment only."""
    if not isinstance(change, RewriteQuery):
        return statements.apply_sql(change)
    assumed = [f"Assumes that {each}." for each in change.assumes]
    head = _comment("By hand, in the service's code; nothing of it runs here.", *assumed)
    return head + "".join(f"--   {line}".rstrip() + "\n" for line in change.after.splitlines())


def _undo_part(change: Change) -> str:
    if isinstance(change, RewriteQuery):
        return _comment("By hand, in the service's code: the statement as it was.")
    return statements.undo_sql(change, None)


def _kept(study: Study) -> tuple[Change, ...]:
    return tuple(trial.proposal.change for trial in study.kept())


def _assumption(change: Change) -> tuple[str, ...]:
    """A study does not hold what a setting was before: `perfloop apply` reads it when it acts."""
    if not isinstance(change, AlterSetting):
        return ()
    return (
        f"Assumes that {change.name} had no value in {_PLACES[change.scope]} before. If it had one, write",
        "that instead of RESET.",
    )


def _comment(*lines: str) -> str:
    """Comment lines. A line break inside a name would end the comment and run what follows it."""
    return "".join(f"-- {' '.join(line.split())}".rstrip() + "\n" for line in lines)


def _changes(number: int) -> str:
    return "1 change" if number == 1 else f"{number} changes"
