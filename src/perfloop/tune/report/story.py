"""What a Study amounts to: how each trial ended, the result in one sentence, and the order of telling."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from perfloop.model.explained import ExplainedPlan
from perfloop.model.outcome import (
    Effect,
    HostReading,
    StatementEffect,
    Study,
    StudyState,
    TrialRecord,
    Verdict,
)
from perfloop.model.workload import Statement, StatementKind
from perfloop.tune.report.charts import LogScale, ratio_scale, seconds_scale
from perfloop.tune.report.figures import METRIC_NAMES, effect_text, moved_text, value_text


class Ending(enum.Enum):
    """How a tried change ended; the order of listing. The values are words for people."""

    KEPT = "kept"
    TAKEN_OUT = "taken out"
    """Kept at first, then of no use beside the others."""
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
            return f"kept at first, then tried again beside the others: {self.recheck.reason}"
        return self.trial.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStatement:
    """A statement with its plan before, and the one with all that is kept where that is another."""

    statement: Statement
    before: ExplainedPlan
    after: ExplainedPlan | None

    @property
    def query_id(self) -> str:
        """Of the statement."""
        return self.statement.query_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A measurement on a host that others used."""

    subject: str
    host: HostReading


@dataclass(frozen=True, slots=True)
class StudyStory:
    """A Study as the pages tell it. A view: it holds nothing but the Study."""

    study: Study

    @property
    def result(self) -> str:
        """The result in one sentence."""
        return result_sentence(self.study)

    @property
    def tally(self) -> str:
        """How many changes were tried and how they ended; empty where nothing was tried."""
        endings = [each.ending for each in self.tried]
        counts = [f"{endings.count(ending)} {ending.value}" for ending in Ending if ending in endings]
        return f"{changes_text(len(endings))} tried: {', '.join(counts)}." if endings else ""

    @property
    def tried(self) -> tuple[Tried, ...]:
        """All trials with how they ended, in the order of trying."""
        kept = self.study.kept()
        return tuple(
            _tried(self.study, number, trial, is_kept=any(trial is each for each in kept))
            for number, trial in enumerate(self.study.trials, start=1)
        )

    @property
    def ranked(self) -> tuple[Tried, ...]:
        """By ending, and within one by effect; those that were not timed come last."""
        order = list(Ending)
        return tuple(
            sorted(
                self.tried,
                key=lambda each: (order.index(each.ending), each.trial.cpu.ratio if each.trial.cpu else 1e9),
            )
        )

    @property
    def kept(self) -> tuple[Tried, ...]:
        """What is in the final stack."""
        return tuple(each for each in self.ranked if each.ending is Ending.KEPT)

    @property
    def not_kept(self) -> tuple[Tried, ...]:
        """What is not in the final stack, for whatever reason."""
        return tuple(each for each in self.ranked if each.ending is not Ending.KEPT)

    @property
    def trial_scale(self) -> LogScale:
        """The axis of all trials' effects."""
        return ratio_scale([trial.cpu for trial in self.study.trials if trial.cpu is not None])

    @property
    def effects(self) -> tuple[Effect, ...]:
        """The confirmation's effects, the one that the result quotes first."""
        found = self.study.confirmation.effects if self.study.confirmation else ()
        order = list(METRIC_NAMES)
        return tuple(sorted(found, key=lambda each: order.index(each.metric) if each.metric in order else 9))

    @property
    def confirmed(self) -> tuple[StatementEffect, ...]:
        """The statements of the confirmation, those first that took the most time before."""
        found = self.study.confirmation.statements if self.study.confirmation else ()
        return tuple(sorted(found, key=lambda each: (-each.mix_share, each.statement.label)))

    @property
    def statement_scale(self) -> LogScale:
        """The axis of the confirmed statements' times before and after, in seconds."""
        times = [each.time for each in self.confirmed if each.time is not None]
        return seconds_scale(
            value for time in times for value in (time.control, time.treatment) if value is not None
        )

    @property
    def plans(self) -> tuple[PlannedStatement, ...]:
        """The kept plans, in the order of the statements on the page."""
        after = {each.query_id: each for each in self.study.plans_after}
        order = [each.statement.query_id for each in self.confirmed]
        statements = {each.query_id: each for each in self.study.statements}
        found = [
            PlannedStatement(statement=statements[each.query_id], before=each, after=after.get(each.query_id))
            for each in self.study.plans_before
            if each.query_id in statements
        ]
        return tuple(
            sorted(found, key=lambda each: order.index(each.query_id) if each.query_id in order else 999)
        )

    @property
    def planned(self) -> frozenset[str]:
        """The query ids of the statements whose plans are on the page."""
        return frozenset(each.query_id for each in self.study.plans_before)

    @property
    def writes(self) -> tuple[StatementEffect, ...]:
        """The writing statements, which pay for what reading ones gain."""
        return tuple(each for each in self.confirmed if each.statement.kind is StatementKind.WRITE)

    @property
    def finding_numbers(self) -> dict[str, int]:
        """The number under which the page lists each Finding, by its identity."""
        return {finding.identity: number for number, finding in enumerate(self.study.findings, start=1)}

    @property
    def crowds(self) -> tuple[Crowd, ...]:
        """The measurements that others disturbed, the confirmation first."""
        measured = [("the confirmation", self.study.confirmation.host)] if self.study.confirmation else []
        measured += [(f"trial {each.number}", each.trial.host) for each in self.tried]
        return tuple(
            Crowd(subject=subject, host=host)
            for subject, host in measured
            if host is not None and host.crowded
        )


def result_sentence(study: Study) -> str:
    """The result in one sentence. Only the confirmation's figures are quoted in sum."""
    if study.confirmation is None:
        return _without_confirmation(study)
    effect = study.confirmation.effect("mean_s")
    kept = changes_text(len(study.kept()))
    if effect is None:
        return f"{kept} kept; their effect in sum was not measured."
    if effect.low <= 1 <= effect.high:
        return (
            f"{kept} kept, but together they made no proven difference "
            f"to the workload\u2019s mean time: {effect_text(effect)}."
        )
    return f"The workload\u2019s mean time {moved_text(effect)}{_before_and_after(effect)}."


def direction(effect: Effect) -> str:
    """Whether the whole interval says "better", "worse", or neither: "same"."""
    if effect.low <= 1 <= effect.high:
        return "same"
    return "better" if (effect.ratio > 1) == effect.metric.endswith("_per_s") else "worse"


def changes_text(number: int) -> str:
    """A number of changes."""
    return "1 change" if number == 1 else f"{number} changes"


def _before_and_after(effect: Effect) -> str:
    if effect.control is None or effect.treatment is None:
        return ""
    return f": {value_text(effect.metric, effect.control)} → {value_text(effect.metric, effect.treatment)}"


def _without_confirmation(study: Study) -> str:
    state = {
        StudyState.RUNNING: " The study is still running.",
        StudyState.INTERRUPTED: " The study was interrupted.",
        StudyState.FAILED: " The study failed before its end.",
        StudyState.FINISHED: "",
    }[study.state]
    kept, count = len(study.kept()), len(study.trials)
    if kept:
        return f"{changes_text(kept)} kept so far; nothing is quoted in sum before the confirmation.{state}"
    if count == 1:
        return f"The one change tried could not be shown to help, so nothing was kept.{state}"
    if count:
        return f"None of the {count} changes tried could be shown to help, so nothing was kept.{state}"
    return f"Nothing was tried.{state}" if state else "Nothing was found that is worth trying."


def _tried(study: Study, number: int, trial: TrialRecord, *, is_kept: bool) -> Tried:
    change = trial.proposal.change
    recheck = next((each for each in study.rechecks if each.proposal.change == change), None)
    return Tried(number=number, trial=trial, recheck=recheck, ending=_ending(trial, is_kept=is_kept))


def _ending(trial: TrialRecord, *, is_kept: bool) -> Ending:
    if is_kept:
        return Ending.KEPT
    if trial.verdict is Verdict.KEEP:
        return Ending.TAKEN_OUT
    return Ending.UNCLEAR if trial.verdict is Verdict.UNCLEAR else Ending.REVERTED
