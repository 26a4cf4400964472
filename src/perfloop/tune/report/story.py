"""What a Study amounts to: how each trial ended, the result in one sentence, and the price."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from perfloop.model.outcome import Confirmation, StatementEffect, Study, StudyState, TrialRecord, Verdict
from perfloop.model.workload import StatementKind
from perfloop.tune.report.figures import change_text, effect_text, moved_text, value_text


class Ending(enum.Enum):
    """How a tried change ended; the order of listing."""

    KEPT = "kept"
    TAKEN_OUT = "taken out"
    """Kept at first, then found useless beside the others."""
    UNCLEAR = "unclear"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A trial with its recheck and its ending; `number` counts the trials from 1."""

    number: int
    trial: TrialRecord
    recheck: TrialRecord | None
    ending: Ending

    @property
    def reason(self) -> str:
        """Why it ended so."""
        if self.ending is Ending.TAKEN_OUT and self.recheck is not None:
            return f"kept at first, taken out when tried again beside the others: {self.recheck.reason}"
        return self.trial.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A measurement on a host that others used."""

    subject: str
    neighbour_ratio: float
    steal_ratio: float


def tried(study: Study) -> tuple[Tried, ...]:
    """All trials with how they ended, in the order of trying."""
    kept = study.kept()
    return tuple(
        Tried(
            number=number,
            trial=trial,
            recheck=_recheck(study, trial),
            ending=_ending(trial, is_kept=any(trial is each for each in kept)),
        )
        for number, trial in enumerate(study.trials, start=1)
    )


def result_sentence(study: Study) -> str:
    """The result in one sentence. Only the confirmation's figures are quoted in sum."""
    if study.confirmation is None:
        return _without_confirmation(study)
    effect = study.confirmation.effect("mean_s")
    if effect is None:
        return f"{_changes(len(study.kept()))} kept; their effect in sum was not measured."
    if effect.low <= 1 <= effect.high:
        return (
            f"{_changes(len(study.kept()))} kept, but together they made no proven difference "
            f"to the workload\u2019s mean time: {effect_text(effect)}."
        )
    values = ""
    if effect.control is not None and effect.treatment is not None:
        before, after = (value_text("mean_s", each) for each in (effect.control, effect.treatment))
        values = f": {before} → {after}"
    return f"The workload\u2019s mean time {moved_text(effect)}{values}."


def tally_sentence(study: Study) -> str:
    """How many changes were tried, and how they ended.

    Empty where nothing was tried.
    """
    endings = [each.ending for each in tried(study)]
    if not endings:
        return ""
    counts = [f"{endings.count(ending)} {ending.value}" for ending in Ending if ending in endings]
    return f"{_changes(len(endings))} tried: {', '.join(counts)}."


def writes(confirmation: Confirmation) -> tuple[StatementEffect, ...]:
    """The writing statements, which pay for what reading ones gain."""
    return tuple(each for each in confirmation.statements if each.statement.kind is StatementKind.WRITE)


def wal_change(confirmation: Confirmation) -> str:
    """The change of WAL bytes per call of the workload, or why there is none."""
    before, after = confirmation.control_work.wal_bytes, confirmation.treatment_work.wal_bytes
    if before <= 0:
        return "none written before" if after > 0 else "none written"
    return change_text(after / before)


def crowds(study: Study) -> tuple[Crowd, ...]:
    """The measurements that others disturbed, the confirmation first."""
    named = [("the confirmation", study.confirmation.host)] if study.confirmation else []
    named += [(f"trial {number}", trial.host) for number, trial in enumerate(study.trials, start=1)]
    return tuple(
        Crowd(subject=subject, neighbour_ratio=host.neighbour_ratio, steal_ratio=host.steal_ratio)
        for subject, host in named
        if host is not None and host.crowded
    )


def _without_confirmation(study: Study) -> str:
    state = {
        StudyState.RUNNING: " The study is still running.",
        StudyState.INTERRUPTED: " The study was interrupted.",
        StudyState.FAILED: " The study failed before its end.",
        StudyState.FINISHED: "",
    }[study.state]
    kept, count = len(study.kept()), len(study.trials)
    if kept:
        return f"{_changes(kept)} kept so far; nothing is quoted in sum before the confirmation.{state}"
    if count == 1:
        return f"The one change tried could not be shown to help, so nothing was kept.{state}"
    if count:
        return f"None of the {count} changes tried could be shown to help, so nothing was kept.{state}"
    return f"Nothing was tried.{state}" if state else "Nothing was found that is worth trying."


def _recheck(study: Study, trial: TrialRecord) -> TrialRecord | None:
    change = trial.proposal.change
    return next((each for each in study.rechecks if each.proposal.change == change), None)


def _ending(trial: TrialRecord, *, is_kept: bool) -> Ending:
    if is_kept:
        return Ending.KEPT
    if trial.verdict is Verdict.KEEP:
        return Ending.TAKEN_OUT
    return Ending.UNCLEAR if trial.verdict is Verdict.UNCLEAR else Ending.REVERTED


def _changes(number: int) -> str:
    return "1 change" if number == 1 else f"{number} changes"
